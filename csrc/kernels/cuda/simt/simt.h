// CUDA kernels without a GPU: host versions of intrinsics.cuh, and launch(), which runs the threads of a block as
// fibers in an order drawn from a seed. What the GPU leaves undefined (a missing barrier, a copy that was not waited
// for, lanes that do not converge) becomes an Error or NaN, and the sanitizers see every access.
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <stdexcept>

#include "kernels/cuda/intrinsics.cuh"

#define SRGAN_FAST_DEVICE inline
#define SRGAN_FAST_GLOBAL(threads, blocks)

namespace srgan_fast::cuda::simt {

struct Dim3 {
    unsigned x = 1, y = 1, z = 1;
};

struct Options {
    // Determines the order of blocks and threads, and when copies read their source; errors state it.
    std::uint64_t seed = 0;
    // Shared memory limit of a block; by default that of compute capability 9.0.
    std::size_t shared_limit = 227 * 1024;
};

// A kernel did something undefined. launch() throws it when all threads of the block are unwound.
class Error : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

// Runs `kernel`, which calls the kernel's body with its arguments, once per thread of each block. `threads` is a
// multiple of the warp size 32, one-dimensional. Exceptions of the body are rethrown. Several host threads may launch
// at the same time.
void launch(Dim3 grid, int threads, std::size_t shared_bytes, const Options& options,
            const std::function<void()>& kernel);

// Implementation of the intrinsics below, on the current fiber.
namespace detail {
std::byte* shared_memory();
void sync_threads();
void sync_group(int group, int threads);
void sync_warp();
float shuffle_xor(float value, int mask);
void copy_async_16(void* shared, const void* global, bool valid);
void copy_async_commit();
void copy_async_wait(int pending);
void load_matrices(std::uint32_t (&to)[4], const void* row, bool transposed);
void multiply_add_bf16(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1);
void multiply_add_half(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1);
void multiply_add_tf32(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1);
void multiply_group(float (&d)[8][4], const std::uint32_t (&a)[4], const std::byte* rows, int k, bool half);
void order_products();
void commit_products();
void wait_for_products(int pending);
void show_to_products();
}  // namespace detail

}  // namespace srgan_fast::cuda::simt

// As in CUDA; of the current fiber.
inline constinit thread_local srgan_fast::cuda::simt::Dim3 threadIdx{0, 0, 0}, blockIdx{0, 0, 0};
inline constinit thread_local srgan_fast::cuda::simt::Dim3 blockDim{}, gridDim{};

namespace srgan_fast::cuda {

SRGAN_FAST_DEVICE std::byte* shared_memory() { return simt::detail::shared_memory(); }

SRGAN_FAST_DEVICE int afresh(int value) { return value; }

SRGAN_FAST_DEVICE void sync_threads() { simt::detail::sync_threads(); }
SRGAN_FAST_DEVICE void sync_group(int group, int threads) { simt::detail::sync_group(group, threads); }
SRGAN_FAST_DEVICE void sync_warp() { simt::detail::sync_warp(); }
SRGAN_FAST_DEVICE void wait_for_previous_kernel() {}  // launches end before they return
SRGAN_FAST_DEVICE void let_next_kernel_begin() {}
// Blocks run one after the other.
SRGAN_FAST_DEVICE int count_up(int* counter) { return (*counter)++; }
SRGAN_FAST_DEVICE float written_value(const float* value) { return *value; }
SRGAN_FAST_DEVICE float shuffle_xor(float value, int mask) { return simt::detail::shuffle_xor(value, mask); }

SRGAN_FAST_DEVICE void copy_async_16(void* shared, const void* global, bool valid) {
    simt::detail::copy_async_16(shared, global, valid);
}
SRGAN_FAST_DEVICE void copy_async_commit() { simt::detail::copy_async_commit(); }
template <int pending>
SRGAN_FAST_DEVICE void copy_async_wait() {
    static_assert(pending >= 0);
    simt::detail::copy_async_wait(pending);
}

SRGAN_FAST_DEVICE void load_matrices(std::uint32_t (&to)[4], const void* row) {
    simt::detail::load_matrices(to, row, false);
}
SRGAN_FAST_DEVICE void load_matrices_transposed(std::uint32_t (&to)[4], const void* row) {
    simt::detail::load_matrices(to, row, true);
}

template <typename T>
SRGAN_FAST_DEVICE void multiply_add(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1);
template <>
SRGAN_FAST_DEVICE void multiply_add<Bf16>(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                                          std::uint32_t b1) {
    simt::detail::multiply_add_bf16(d, a, b0, b1);
}
template <>
SRGAN_FAST_DEVICE void multiply_add<Half>(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                                          std::uint32_t b1) {
    simt::detail::multiply_add_half(d, a, b0, b1);
}
template <>
SRGAN_FAST_DEVICE void multiply_add<float>(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                                           std::uint32_t b1) {
    simt::detail::multiply_add_tf32(d, a, b0, b1);
}

// Warpgroup multiplications: queued, and computed only when they are waited for, from the contents of shared memory at
// that time. Until then the sums are NaN, and writes to them or to the fragments are errors (simt.cpp).
inline constexpr bool kWarpgroups = false;
template <typename T>
SRGAN_FAST_DEVICE void multiply_group(float (&d)[8][4], const std::uint32_t (&a)[4], const std::byte* rows, int k) {
    static_assert(std::is_same_v<T, Bf16> || std::is_same_v<T, Half>);
    simt::detail::multiply_group(d, a, rows, k, std::is_same_v<T, Half>);
}
SRGAN_FAST_DEVICE void order_products() { simt::detail::order_products(); }
SRGAN_FAST_DEVICE void commit_products() { simt::detail::commit_products(); }
template <int pending>
SRGAN_FAST_DEVICE void wait_for_products() {
    static_assert(pending >= 0);
    simt::detail::wait_for_products(pending);
}
SRGAN_FAST_DEVICE void show_to_products() { simt::detail::show_to_products(); }

SRGAN_FAST_DEVICE float square_root(float value) { return std::sqrt(value); }

template <typename T>
SRGAN_FAST_DEVICE std::uint32_t bits_of(T value) {
    if constexpr (std::is_same_v<T, float>)
        return std::bit_cast<std::uint32_t>(value);
    else
        return value.bits;
}
template <typename T>
SRGAN_FAST_DEVICE T of_bits(std::uint32_t bits) {
    if constexpr (std::is_same_v<T, float>)
        return std::bit_cast<float>(bits);
    else
        return {static_cast<std::uint16_t>(bits)};
}
SRGAN_FAST_DEVICE float round_to_tf32(float value) {
    const std::uint32_t bits = std::bit_cast<std::uint32_t>(value), magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return std::bit_cast<float>(0x7fffffffu & ~0x1fffu);
    if (magnitude == 0x7f800000u) return value;
    return std::bit_cast<float>((bits + 0x1000u) & ~0x1fffu);
}

template <typename T>
SRGAN_FAST_DEVICE float widen(T value);
template <>
SRGAN_FAST_DEVICE float widen<Bf16>(Bf16 value) {
    return std::bit_cast<float>(static_cast<std::uint32_t>(value.bits) << 16);
}
template <>
SRGAN_FAST_DEVICE float widen<Half>(Half value) {
    const std::uint32_t sign = (value.bits & 0x8000u) << 16, magnitude = value.bits & 0x7fffu;
    if (magnitude > 0x7c00u) return std::bit_cast<float>(0x7fffffffu);
    if (magnitude == 0x7c00u) return std::bit_cast<float>(sign | 0x7f800000u);
    if (magnitude >= 0x0400u) return std::bit_cast<float>(sign | ((magnitude << 13) + 0x38000000u));
    const float subnormal = static_cast<float>(magnitude) * 0x1p-24f;
    return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(subnormal));
}

// Converts any NaN to the one that the GPU returns.
template <typename T>
SRGAN_FAST_DEVICE T narrow(float value);
template <>
SRGAN_FAST_DEVICE Bf16 narrow<Bf16>(float value) {
    const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return {0x7fff};
    return {static_cast<std::uint16_t>((bits + 0x7fffu + (bits >> 16 & 1)) >> 16)};
}
template <>
SRGAN_FAST_DEVICE Half narrow<Half>(float value) {
    const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
    const std::uint32_t sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
    std::uint32_t rounded;
    if (magnitude > 0x7f800000u) return {0x7fff};
    if (magnitude >= 0x47800000u) {  // 2^16
        rounded = 0x7c00;
    } else if (magnitude >= 0x38800000u) {  // 2^-14, the smallest normal number
        rounded = (magnitude - 0x38000000u + 0xfffu + (magnitude >> 13 & 1)) >> 13;
    } else {
        // Near 0.5, floats are as far apart as subnormal halves: the addition rounds as the half must be rounded.
        rounded = std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) - 0x3f000000u;
    }
    return {static_cast<std::uint16_t>(sign | rounded)};
}

template <typename T>
SRGAN_FAST_DEVICE Pair widen_pair(std::uint32_t word) {
    return {widen(T{static_cast<std::uint16_t>(word)}), widen(T{static_cast<std::uint16_t>(word >> 16)})};
}
template <typename T>
SRGAN_FAST_DEVICE std::uint32_t narrow_pair(float low, float high) {
    return narrow<T>(low).bits | static_cast<std::uint32_t>(narrow<T>(high).bits) << 16;
}

}  // namespace srgan_fast::cuda
