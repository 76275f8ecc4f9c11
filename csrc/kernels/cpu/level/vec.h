// The vector type of the level that is being compiled, through the compilers' vector extension: one source for SSE2,
// AVX2, AVX-512 and NEON. Everything here lives in a namespace named after the level, so that no function compiled for
// a high level can be linked into a lower one.
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
// Minus zero changes nothing, which the compiler knows; plus zero would turn -0 into 0, so it would be computed.
SRGAN_FAST_INLINE Vec broadcast(float x) { return x - Vec{}; }

// Training also computes in double precision, by the same templates: `Simd<S>` is the vector of scalars S, half as many
// lanes for double.
typedef double VecD __attribute__((vector_size(kLanes * sizeof(float)), may_alias));

SRGAN_FAST_INLINE VecD load(const double* p) { return *reinterpret_cast<const VecD*>(p); }
SRGAN_FAST_INLINE void store(double* p, VecD v) { *reinterpret_cast<VecD*>(p) = v; }
SRGAN_FAST_INLINE VecD broadcast(double x) { return x - VecD{}; }

// Past the caches, for what is written once in whole lines and read much later; `flush_stream` makes it visible to
// others.
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

// A pair of neighbouring k as the processor's dot product takes them; also how bfloat16 maps are stored.
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

// As many vectors as they have lanes, rows to columns: in step `kStep`, blocks of so many change places.
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

// The register block of the inner products: kRowBlock pixels times kPanelVectors vectors of output channels, each
// product being one load of weights, one broadcast of a pixel's channel and kRowBlock * kPanelVectors multiply-adds.
// 6 x 4 fills 29 of 32 registers, 6 x 2 fills 15 of 16.
inline constexpr int kRowBlock = 6;
inline constexpr int kPanelVectors = kRegisters == 32 ? 4 : 2;
inline constexpr std::int64_t kPanel = kPanelVectors * kLanes;

// Scalars in a vector, and output channels in a panel, by the scalar that products are computed in.
template <typename S>
inline constexpr int kLanesOf = kLanes;
template <>
inline constexpr int kLanesOf<double> = kLanes / 2;
template <typename S>
inline constexpr std::int64_t kPanelOf = kPanelVectors * kLanesOf<S>;

// Floats between the matrices of two Winograd points beyond their own size. Without them the points of a tile would lie
// a multiple of 4 KB apart at many tile counts, in the same few sets of the first-level cache.
inline constexpr std::int64_t kSkew = 16;

}  // namespace srgan_fast::cpu::SRGAN_FAST_LEVEL
