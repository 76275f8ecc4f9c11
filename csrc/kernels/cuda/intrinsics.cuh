// GPU instructions that the kernels use, as functions that also exist on the host: with nvcc these are the
// instructions; without it csrc/kernels/cuda/simt runs the same kernel bodies thread by thread. Fragment layouts are
// those of the PTX ISA (warp-level matrix instructions: mma.m16n8k16 of 16 bits, m16n8k8 of TF32, and ldmatrix of 8x8
// 16-bit elements, or 8x4 32-bit elements).
//
// Kernels also read threadIdx, blockIdx, blockDim and gridDim, which the host defines, too.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace srgan_fast::cuda {

struct Bf16 {
    std::uint16_t bits;
};
struct Half {
    std::uint16_t bits;
};

// 16 bytes that are moved at once: 8 16-bit elements, or 4 floats.
struct alignas(16) Vec16 {
    std::uint32_t word[4];
};

struct Pair {
    float low, high;
};

}  // namespace srgan_fast::cuda

#ifdef __CUDACC__

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#define SRGAN_FAST_DEVICE __device__ __forceinline__
#define SRGAN_FAST_GLOBAL(threads, blocks) __global__ __launch_bounds__(threads, blocks)
#define SRGAN_FAST_CONSTANT const __grid_constant__

namespace srgan_fast::cuda {

// The block's dynamic shared memory.
SRGAN_FAST_DEVICE std::byte* shared_memory() {
    extern __shared__ __align__(1024) std::byte memory[];
    return memory;
}

// Returns the value, but hides from the compiler that it is the same each time: what is computed from it in a loop is
// recomputed instead of kept in registers.
SRGAN_FAST_DEVICE int afresh(int value) {
    asm volatile("" : "+r"(value));
    return value;
}

SRGAN_FAST_DEVICE void sync_threads() { __syncthreads(); }
SRGAN_FAST_DEVICE void sync_warp() { __syncwarp(); }
// Barrier number `group` for one of the groups of `threads` consecutive threads that the block is divided into. Unlike
// sync_threads(), warps may reach it from different places.
SRGAN_FAST_DEVICE void sync_group(int group, int threads) {
    asm volatile("bar.sync %0, %1;" ::"r"(group + 1), "r"(threads) : "memory");
}

// For kernels that may start before their predecessor in the stream has ended (launch.cuh): waits for its end, and
// allows the successor to start. Before compute capability 9.0 kernels start one after the other.
SRGAN_FAST_DEVICE void wait_for_previous_kernel() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
SRGAN_FAST_DEVICE void let_next_kernel_begin() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// Value of the lane whose index differs in the bits of `mask`; all lanes of the warp call it together.
SRGAN_FAST_DEVICE float shuffle_xor(float value, int mask) { return __shfl_xor_sync(0xffffffffu, value, mask); }

SRGAN_FAST_DEVICE std::uint32_t shared_address(const void* p) {
    return static_cast<std::uint32_t>(__cvta_generic_to_shared(p));
}

// Adds 1 to a counter in global memory; returns its value before. What the thread wrote before it in global memory can
// be seen by threads that see the counter's new value.
SRGAN_FAST_DEVICE int count_up(int* counter) {
    __threadfence();
    const int before = atomicAdd(counter, 1);
    __threadfence();
    return before;
}
// Reads a value that another block of this launch wrote.
SRGAN_FAST_DEVICE float written_value(const float* value) { return __ldcg(value); }

// Starts an asynchronous copy of 16 bytes, or of zeros, from global to shared memory; complete after commit, wait and a
// barrier.
SRGAN_FAST_DEVICE void copy_async_16(void* shared, const void* global, bool valid) {
    const int size = valid ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global), "r"(size)
                 : "memory");
}
// Closes this thread's group of copies.
SRGAN_FAST_DEVICE void copy_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits until at most the `pending` latest groups of this thread are in flight.
template <int pending>
SRGAN_FAST_DEVICE void copy_async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

// Loads four 8x8 matrices of 16-bit elements: lanes 8i..8i+7 pass the addresses of the i-th one's rows (16 bytes each,
// aligned); lane l gets elements 2 (l % 4) and the next of row l / 4 of each matrix.
SRGAN_FAST_DEVICE void load_matrices(std::uint32_t (&to)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(shared_address(row))
                 : "memory");
}
// The same, with each matrix transposed: lane l gets elements l / 4 of rows 2 (l % 4) and the next.
SRGAN_FAST_DEVICE void load_matrices_transposed(std::uint32_t (&to)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(shared_address(row))
                 : "memory");
}

// d += a b for a row-major 16x16 and b column-major 16x8, in the fragments of mma.m16n8k16; for floats, which must be
// rounded to TF32, a 16x8 and b 8x8, in those of m16n8k8.
template <typename T>
SRGAN_FAST_DEVICE void multiply_add(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1);
template <>
SRGAN_FAST_DEVICE void multiply_add<Bf16>(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                                          std::uint32_t b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
template <>
SRGAN_FAST_DEVICE void multiply_add<Half>(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                                          std::uint32_t b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
template <>
SRGAN_FAST_DEVICE void multiply_add<float>(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                                           std::uint32_t b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Multiplication by a warpgroup, four consecutive warps: d += a b for 64 rows, each warp's 16 in the fragments of
// mma.m16n8k16, and b of 64 columns in shared memory: rows of b's transpose are 128 bytes each, 64 elements, of which
// step k uses those from 16 k on; 16-byte units are permuted as by tile_offset<64>, and `rows` is a multiple of 1024
// bytes. It is asynchronous: until it is waited for, neither d nor a may be accessed. Only for compute capability 9.0,
// in code compiled for 90a; elsewhere kWarpgroups is false and these functions are not called.
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
inline constexpr bool kWarpgroups = true;

template <typename T>
SRGAN_FAST_DEVICE void multiply_group(float (&d)[8][4], const std::uint32_t (&a)[4], const std::byte* rows, int k) {
    // Eight rows are 1024 bytes; 128-byte swizzle.
    const std::uint64_t b = (shared_address(rows) + 32u * static_cast<unsigned>(k)) >> 4 | std::uint64_t{1} << 16 |
                            std::uint64_t{1024 >> 4} << 32 | std::uint64_t{1} << 62;
#define SRGAN_FAST_SUMS(i) "+f"(d[i][0]), "+f"(d[i][1]), "+f"(d[i][2]), "+f"(d[i][3])
#define SRGAN_FAST_PRODUCT(type)                                                                                       \
    asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32." type "." type                                           \
                 " {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, "   \
                 "%21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, {%32, %33, %34, %35}, %36, 1, 1, 1, 0;"      \
                 : SRGAN_FAST_SUMS(0), SRGAN_FAST_SUMS(1), SRGAN_FAST_SUMS(2), SRGAN_FAST_SUMS(3), SRGAN_FAST_SUMS(4), \
                   SRGAN_FAST_SUMS(5), SRGAN_FAST_SUMS(6), SRGAN_FAST_SUMS(7)                                          \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b)                                                  \
                 : "memory")
    if constexpr (std::is_same_v<T, Bf16>)
        SRGAN_FAST_PRODUCT("bf16");
    else
        SRGAN_FAST_PRODUCT("f16");
#undef SRGAN_FAST_SUMS
#undef SRGAN_FAST_PRODUCT
}
// Makes earlier writes to d and a visible to the multiplications that follow.
SRGAN_FAST_DEVICE void order_products() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
// Closes a group of multiplications, and waits until at most the `pending` latest groups are in flight.
SRGAN_FAST_DEVICE void commit_products() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int pending>
SRGAN_FAST_DEVICE void wait_for_products() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(pending) : "memory");
}
// Makes this thread's writes to shared memory visible to multiplications after the next barrier.
SRGAN_FAST_DEVICE void show_to_products() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
#else
inline constexpr bool kWarpgroups = false;

template <typename T>
SRGAN_FAST_DEVICE void multiply_group(float (&)[8][4], const std::uint32_t (&)[4], const std::byte*, int) {}
SRGAN_FAST_DEVICE void order_products() {}
SRGAN_FAST_DEVICE void commit_products() {}
template <int pending>
SRGAN_FAST_DEVICE void wait_for_products() {}
SRGAN_FAST_DEVICE void show_to_products() {}
#endif

SRGAN_FAST_DEVICE float square_root(float value) { return sqrtf(value); }

template <typename T>
SRGAN_FAST_DEVICE std::uint32_t bits_of(T value) {
    if constexpr (std::is_same_v<T, float>)
        return __float_as_uint(value);
    else
        return value.bits;
}
template <typename T>
SRGAN_FAST_DEVICE T of_bits(std::uint32_t bits) {
    if constexpr (std::is_same_v<T, float>)
        return __uint_as_float(bits);
    else
        return {static_cast<std::uint16_t>(bits)};
}

// Rounds to 10 fraction bits, to nearest, ties away from zero; the other bits of the float are zero.
SRGAN_FAST_DEVICE float round_to_tf32(float value) {
    std::uint32_t bits;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(value));
    return __uint_as_float(bits);
}

template <typename T>
SRGAN_FAST_DEVICE float widen(T value);
template <>
SRGAN_FAST_DEVICE float widen<Bf16>(Bf16 value) {
    return __uint_as_float(static_cast<std::uint32_t>(value.bits) << 16);
}
template <>
SRGAN_FAST_DEVICE float widen<Half>(Half value) {
    return __half2float(__ushort_as_half(value.bits));
}

// Rounds to nearest, ties to even.
template <typename T>
SRGAN_FAST_DEVICE T narrow(float value);
template <>
SRGAN_FAST_DEVICE Bf16 narrow<Bf16>(float value) {
    return {__bfloat16_as_ushort(__float2bfloat16_rn(value))};
}
template <>
SRGAN_FAST_DEVICE Half narrow<Half>(float value) {
    return {__half_as_ushort(__float2half_rn(value))};
}

// Packs two elements in a word, the first in the low bits.
template <typename T>
SRGAN_FAST_DEVICE Pair widen_pair(std::uint32_t word) {
    return {widen(T{static_cast<std::uint16_t>(word)}), widen(T{static_cast<std::uint16_t>(word >> 16)})};
}
template <typename T>
SRGAN_FAST_DEVICE std::uint32_t narrow_pair(float low, float high);
template <>
SRGAN_FAST_DEVICE std::uint32_t narrow_pair<Bf16>(float low, float high) {
    std::uint32_t word;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
    return word;
}
template <>
SRGAN_FAST_DEVICE std::uint32_t narrow_pair<Half>(float low, float high) {
    std::uint32_t word;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
    return word;
}

}  // namespace srgan_fast::cuda

#else
#define SRGAN_FAST_CONSTANT const
#include "kernels/cuda/simt/simt.h"
#endif
