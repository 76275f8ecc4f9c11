// Small GEMMs with accumulators in registers: out[row][channel] = sum over k of a[row][k] * b[k][channel].
#pragma once

#include "kernels/cpu/kernels.h"
#include "kernels/cpu/level/vec.h"

namespace srgan_fast::cpu::SRGAN_FAST_LEVEL {

// Accumulator type for operands T.
template <typename T>
struct SumOf {
    using Type = T;
};
template <>
struct SumOf<Bf16> {
    using Type = float;
};
template <typename T>
using Sum = typename SumOf<T>::Type;

template <typename T>
inline constexpr int kGroup = 1;  // values of k per multiply-add
template <>
inline constexpr int kGroup<Bf16> = 2;

// Products accumulated in registers before they are added to the sums in memory: the rounding error of a sequential sum
// grows with its length.
inline constexpr std::int64_t kDepthOfSums = 64;

// Depth: number of values of k in the matrices, of which the first `used` are accumulated; the others are zero.
struct Depth {
    std::int64_t held, used;

    constexpr Depth(std::int64_t held) : held(held), used(held) {}
    constexpr Depth(std::int64_t held, std::int64_t used) : held(held), used(used) {}
};

// kRows rows and kVectors vectors over `depth` values of k; a is [kRows][depth], b [depth / group][kVectors *
// kLanes][group]. kDepth is the depth if known at compile time: then rows are at constant offsets, and addresses need
// no registers.
template <int kRows, int kVectors, bool kAccumulate, int kDepth, typename T>
SRGAN_FAST_INLINE void product_block(const T* a, const T* b, Depth any_depth, Sum<T>* out, std::ptrdiff_t out_stride,
                                     const T* ahead) {
    const std::int64_t held = kDepth ? kDepth : any_depth.held, depth = kDepth ? kDepth : any_depth.used;
    constexpr int kLanes = kLanesOf<T>;
    constexpr std::int64_t kLine = kAlignment / static_cast<std::int64_t>(sizeof(T)) / kGroup<T>;
    for (std::int64_t begin = 0; begin < depth; begin += kDepthOfSums) {
        Simd<T> acc[kRows][kVectors]{};
        const std::int64_t end = kDepth ? kDepth : smaller(begin + kDepthOfSums, depth);
        for (std::int64_t k = begin; k < end; k += kGroup<T>) {
            __builtin_prefetch(ahead + k * kLine);
            if constexpr (kGroup<T> == 1) {
                Simd<T> w[kVectors];
#pragma GCC unroll 8
                for (int v = 0; v < kVectors; ++v) w[v] = load(b + k * kVectors * kLanes + v * kLanes);
#pragma GCC unroll 16
                for (int r = 0; r < kRows; ++r) {
                    const Simd<T> x = broadcast(a[r * held + k]);
#pragma GCC unroll 8
                    for (int v = 0; v < kVectors; ++v) acc[r][v] += x * w[v];
                }
            } else {
#ifdef __AVX512BF16__
                __m512bh w[kVectors];
#pragma GCC unroll 8
                for (int v = 0; v < kVectors; ++v)
                    w[v] = (__m512bh)_mm512_load_si512(b + k * kVectors * kLanes + v * 2 * kLanes);
#pragma GCC unroll 16
                for (int r = 0; r < kRows; ++r) {
                    int pair;
                    __builtin_memcpy(&pair, a + r * held + k, sizeof pair);
                    const __m512bh x = (__m512bh)_mm512_set1_epi32(pair);
#pragma GCC unroll 8
                    for (int v = 0; v < kVectors; ++v) acc[r][v] = (Vec)_mm512_dpbf16_ps((__m512)acc[r][v], x, w[v]);
                }
#endif
            }
        }
        const bool more = kAccumulate || begin > 0;
#pragma GCC unroll 16
        for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 8
            for (int v = 0; v < kVectors; ++v) {
                Sum<T>* const sum = out + r * out_stride + v * kLanes;
                store(sum, more ? load(sum) + acc[r][v] : acc[r][v]);
            }
    }
}

// Remaining rows after the last whole block.
template <int kRows, int kVectors, bool kAccumulate, int kDepth, typename T>
SRGAN_FAST_INLINE void product_rest(std::int64_t rows, const T* a, const T* b, Depth depth, Sum<T>* out,
                                    std::ptrdiff_t out_stride, const T* ahead) {
    if constexpr (kRows > 0) {
        if (rows == kRows) {
            product_block<kRows, kVectors, kAccumulate, kDepth>(a, b, depth, out, out_stride, ahead);
        } else {
            product_rest<kRows - 1, kVectors, kAccumulate, kDepth>(rows, a, b, depth, out, out_stride, ahead);
        }
    }
}

template <int kVectors, bool kAccumulate, int kDepth, typename T>
void product_panel(std::int64_t rows, const T* a, const T* b, Depth depth, Sum<T>* out, std::ptrdiff_t out_stride) {
    constexpr int kLanes = kLanesOf<T>;
    // With few vectors, more rows keep enough independent sums in flight to hide the latency of an addition.
    constexpr int kBlock = kVectors == 1 ? 2 * kRowBlock : kRowBlock;
    // While a block is computed, part of the next weights is prefetched: a cache line per k.
    const T* ahead = b + depth.held * kVectors * kLanes;
    std::int64_t r = 0;
    for (; r + kBlock <= rows;
         r += kBlock, ahead += depth.held / kGroup<T> * (kAlignment / static_cast<std::int64_t>(sizeof(T))))
        product_block<kBlock, kVectors, kAccumulate, kDepth>(a + r * depth.held, b, depth, out + r * out_stride,
                                                             out_stride, ahead);
    product_rest<kBlock - 1, kVectors, kAccumulate, kDepth>(rows - r, a + r * depth.held, b, depth,
                                                            out + r * out_stride, out_stride, ahead);
}

// All panels: a is [rows][depth], b is [panel][depth / group][panel width][group]; the last panel may be narrower.
template <bool kAccumulate, int kDepth, typename T>
SRGAN_FAST_INLINE void product_of(std::int64_t rows, std::int64_t channels, const T* a, const T* b, Depth depth,
                                  Sum<T>* out, std::ptrdiff_t out_stride) {
    constexpr std::int64_t kPanel = kPanelOf<T>;
    std::int64_t c = 0;
    for (; c + kPanel <= channels; c += kPanel)
        product_panel<kPanelVectors, kAccumulate, kDepth>(rows, a, b + c * depth.held, depth, out + c, out_stride);
    const T* const last = b + c * depth.held;
    switch ((channels - c) / kLanesOf<T>) {
        case 1: return product_panel<1, kAccumulate, kDepth>(rows, a, last, depth, out + c, out_stride);
        case 2: return product_panel<2, kAccumulate, kDepth>(rows, a, last, depth, out + c, out_stride);
        case 3: return product_panel<3, kAccumulate, kDepth>(rows, a, last, depth, out + c, out_stride);
        default: return;
    }
}

template <bool kAccumulate, typename T>
SRGAN_FAST_INLINE void product(std::int64_t rows, std::int64_t channels, const T* a, const T* b, Depth depth,
                               Sum<T>* out, std::ptrdiff_t out_stride) {
    if (depth.used == 64) return product_of<kAccumulate, 64>(rows, channels, a, b, depth, out, out_stride);
    product_of<kAccumulate, 0>(rows, channels, a, b, depth, out, out_stride);
}

}  // namespace srgan_fast::cpu::SRGAN_FAST_LEVEL
