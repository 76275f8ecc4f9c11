// Vector type of the level that is being compiled, using compilers' vector extensions: one source for SSE2, AVX2,
// AVX-512 and NEON. Everything is in a namespace named after the level, so that no function compiled for a high level
// can be linked into a lower one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#ifdef __AVX512F__
#include <immintrin.h>
#endif

#define SRGAN_FAST_INLINE inline __attribute__((always_inline))
#define SRGAN_FAST_INLINE_LAMBDA __attribute__((always_inline))

namespace srgan_fast::cpu::SRGAN_FAST_LEVEL {

#if defined(__AVX512F__)
inline constexpr int kLanes = 16;
inline constexpr int kRegisters = 32;
#elif defined(__AVX2__)
inline constexpr int kLanes = 8;
inline constexpr int kRegisters = 16;
#elif defined(__aarch64__)
inline constexpr int kLanes = 4;
inline constexpr int kRegisters = 32;
#else
inline constexpr int kLanes = 4;
inline constexpr int kRegisters = 16;
#endif

typedef float Vec __attribute__((vector_size(kLanes * sizeof(float)), may_alias));

SRGAN_FAST_INLINE Vec load(const float* p) { return *reinterpret_cast<const Vec*>(p); }
SRGAN_FAST_INLINE void store(float* p, Vec v) { *reinterpret_cast<Vec*>(p) = v; }
// Subtracting +0 is the identity, which the compiler knows; adding +0 would turn -0 into 0, so it would be computed.
SRGAN_FAST_INLINE Vec broadcast(float x) { return x - Vec{}; }

// Training also computes in double, with the same templates: `Simd<S>` is a vector of scalars S, with half as many
// lanes for double.
typedef double VecD __attribute__((vector_size(kLanes * sizeof(float)), may_alias));

SRGAN_FAST_INLINE VecD load(const double* p) { return *reinterpret_cast<const VecD*>(p); }
SRGAN_FAST_INLINE void store(double* p, VecD v) { *reinterpret_cast<VecD*>(p) = v; }
SRGAN_FAST_INLINE VecD broadcast(double x) { return x - VecD{}; }

// Non-temporal stores, for data written once in whole lines and read much later; `flush_stream` makes them visible to
// other threads.
#ifdef __AVX512F__
SRGAN_FAST_INLINE void stream(float* p, Vec v) { _mm512_stream_ps(p, (__m512)v); }
SRGAN_FAST_INLINE void stream(double* p, VecD v) { _mm512_stream_pd(p, (__m512d)v); }
SRGAN_FAST_INLINE void flush_stream() { _mm_sfence(); }
#else
SRGAN_FAST_INLINE void stream(float* p, Vec v) { store(p, v); }
SRGAN_FAST_INLINE void stream(double* p, VecD v) { store(p, v); }
SRGAN_FAST_INLINE void flush_stream() {}
#endif

template <typename S>
struct SimdOf {
    using Type = Vec;
};
template <>
struct SimdOf<double> {
    using Type = VecD;
};
template <typename S>
using Simd = typename SimdOf<S>::Type;

// A pair of adjacent k, as the processor's dot product reads them; also the storage type of bfloat16 maps.
struct Bf16 {
    std::uint16_t bits;
};

template <typename T>
constexpr T smaller(T a, T b) {
    return a < b ? a : b;
}
template <typename T>
constexpr T larger(T a, T b) {
    return a > b ? a : b;
}

// Transposes as many vectors as they have lanes: step `kStep` exchanges blocks of that size.
template <int kStep, typename V, int kCount>
SRGAN_FAST_INLINE void transpose(V (&rows)[kCount]) {
    if constexpr (kStep < kCount) {
#pragma GCC unroll 16
        for (int r = 0; r < kCount; ++r) {
            if (r & kStep) continue;
            const V a = rows[r], b = rows[r + kStep];
            const auto mix = [&]<int... kLane>(std::integer_sequence<int, kLane...>) SRGAN_FAST_INLINE_LAMBDA {
                rows[r] = __builtin_shufflevector(a, b, (kLane & kStep ? kCount + kLane - kStep : kLane)...);
                rows[r + kStep] = __builtin_shufflevector(a, b, (kLane & kStep ? kCount + kLane : kLane + kStep)...);
            };
            mix(std::make_integer_sequence<int, kCount>());
        }
        transpose<2 * kStep>(rows);
    }
}

// Register block of the GEMMs: kRowBlock pixels times kPanelVectors vectors of output channels; each step loads weights
// and broadcasts a pixel's channel for kRowBlock * kPanelVectors multiply-adds. 6 x 4 uses 29 of 32 registers, 6 x 2
// uses 15 of 16.
inline constexpr int kRowBlock = 6;
inline constexpr int kPanelVectors = kRegisters == 32 ? 4 : 2;
inline constexpr std::int64_t kPanel = kPanelVectors * kLanes;

// Scalars per vector, and output channels per panel, by the GEMM's scalar type.
template <typename S>
inline constexpr int kLanesOf = kLanes;
template <>
inline constexpr int kLanesOf<double> = kLanes / 2;
template <typename S>
inline constexpr std::int64_t kPanelOf = kPanelVectors * kLanesOf<S>;

// Padding in floats between the matrices of two Winograd points. Without it, points of a tile would often be a multiple
// of 4 KB apart, in the same few sets of the L1 cache.
inline constexpr std::int64_t kSkew = 16;

}  // namespace srgan_fast::cpu::SRGAN_FAST_LEVEL
