// Loads and stores of maps: any map type as vectors of the compute type, whole or partial.
#pragma once

#include "kernels/cpu/conv.h"
#include "kernels/cpu/level/vec.h"

namespace srgan_fast::cpu::SRGAN_FAST_LEVEL {

// Map elements X are computed with as S.
template <typename X>
struct ScalarOf {
    using Type = X;
};
template <>
struct ScalarOf<Bf16> {
    using Type = float;
};
template <typename X>
using Scalar = typename ScalarOf<X>::Type;

template <typename S>
struct Unaligned;
template <>
struct Unaligned<float> {
    typedef float Type __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));
};
template <>
struct Unaligned<double> {
    typedef double Type __attribute__((vector_size(kLanes * 4), aligned(8), may_alias));
};
typedef std::uint16_t Halves __attribute__((vector_size(kLanes * 2), aligned(2), may_alias));
typedef std::uint32_t Words __attribute__((vector_size(kLanes * 4)));

template <typename X>
SRGAN_FAST_INLINE Simd<X> read(const X* p) {
    return *reinterpret_cast<const typename Unaligned<X>::Type*>(p);
}
SRGAN_FAST_INLINE Words widen(Halves halves) {
#ifdef __AVX512F__
    return (Words)_mm512_maskz_cvtepu16_epi32(0xffff, (__m256i)halves);  // as one vector
#else
    return __builtin_convertvector(halves, Words);
#endif
}
SRGAN_FAST_INLINE Vec read(const Bf16* p) { return (Vec)(widen(*reinterpret_cast<const Halves*>(p)) << 16); }

template <typename X>
SRGAN_FAST_INLINE void write(X* p, Simd<X> v) {
    *reinterpret_cast<typename Unaligned<X>::Type*>(p) = v;
}
// Rounds to nearest even; NaN stays NaN.
SRGAN_FAST_INLINE void write(Bf16* p, Vec v) {
#ifdef __AVX512BF16__
    *reinterpret_cast<__m256i_u*>(p) = (__m256i)_mm512_cvtneps_pbh((__m512)v);
#else
    const Words bits = (Words)v;
    const Words rounded = bits + 0x7fff + (bits >> 16 & 1);
    const Words nan = (Words)(v != v);
    *reinterpret_cast<Halves*>(p) =
        __builtin_convertvector(((rounded & ~nan) | ((bits | 0x400000) & nan)) >> 16, Halves);
#endif
}

// Loads the first `count` elements, followed by zeros. Uses masks where available: going through memory, a vector load
// after partial stores would stall.
#ifdef __AVX512BW__
inline __mmask16 first_lanes(int count) { return static_cast<__mmask16>((1u << (count < 0 ? 0 : count)) - 1); }
inline Vec read_part(const float* p, int count) { return (Vec)_mm512_maskz_loadu_ps(first_lanes(count), p); }
inline Vec read_part(const Bf16* p, int count) {
    return (Vec)(widen((Halves)_mm256_maskz_loadu_epi16(first_lanes(count), p)) << 16);
}
inline void write_part(float* p, Vec v, int count) { _mm512_mask_storeu_ps(p, first_lanes(count), (__m512)v); }
#endif
template <typename X>
inline Simd<Scalar<X>> read_part(const X* p, int count) {
    alignas(kAlignment) X part[kLanes]{};
    for (int i = 0; i < count; ++i) part[i] = p[i];
    return read(part);
}
template <typename X>
inline void write_part(X* p, Simd<Scalar<X>> v, int count) {
    alignas(kAlignment) X part[kLanes];
    write(part, v);
    for (int i = 0; i < count; ++i) p[i] = part[i];
}

template <bool kWhole, typename X>
SRGAN_FAST_INLINE Simd<Scalar<X>> read(const X* p, int count) {
    if constexpr (kWhole) return read(p);
    return read_part(p, count);
}
template <bool kWhole, typename X>
SRGAN_FAST_INLINE void write(X* p, Simd<Scalar<X>> v, int count) {
    if constexpr (kWhole) return write(p, v);
    write_part(p, v, count);
}

}  // namespace srgan_fast::cpu::SRGAN_FAST_LEVEL
