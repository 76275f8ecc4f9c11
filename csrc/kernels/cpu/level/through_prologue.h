// Epilogue of the data gradient: from dz at a pixel of z through the prologue to the gradients of x and of the
// residual, and to the sums that are the gradients of scale, shift and slope.
#pragma once

#include "kernels/cpu/level/source.h"

namespace srgan_fast::cpu::SRGAN_FAST_LEVEL {

enum class Prologue { kPlain, kAffine, kResidual };

// Sums for a vector of channels: gradients of scale, shift and slope.
template <typename S>
struct PrologueSums {
    Simd<S> scales{}, shifts{}, slopes{};

    // Stores sums of `count` channels, in three rows `stride` apart. Other channels may follow directly.
    void take(const S* sums, std::int64_t stride, int count) {
        scales = take(sums, count), shifts = take(sums + stride, count), slopes = take(sums + 2 * stride, count);
    }
    void put(S* sums, std::int64_t stride, int count) const {
        put(sums, scales, count), put(sums + stride, shifts, count), put(sums + 2 * stride, slopes, count);
    }

  private:
    static Simd<S> take(const S* sums, int count) { return count == kLanesOf<S> ? read(sums) : read_part(sums, count); }
    static void put(S* sums, Simd<S> value, int count) {
        count == kLanesOf<S> ? write(sums, value) : write_part(sums, value, count);
    }
};

// Gradient of x from that of z, g, at a pixel where x is `value`.
template <Prologue kPrologue, typename V, typename S>
SRGAN_FAST_INLINE V through_prologue(const Affine<S>& affine, V value, V g, PrologueSums<S>& sums) {
    if constexpr (kPrologue == Prologue::kAffine) {
        const V u = affine.before(value);
        sums.slopes += u > S(0) ? V{} : g * u;
        g = u > S(0) ? g : g * affine.slope;
    }
    sums.scales += g * (value - affine.center);
    sums.shifts += g;
    return g * affine.scale;
}

// One pixel of z, at `offset` in x.
template <typename X, bool kWhole, Prologue kPrologue, typename S>
SRGAN_FAST_INLINE void through_prologue(const ConvDgrad<S>& a, std::int64_t offset, int count, const Affine<S>& affine,
                                        Simd<S> g, PrologueSums<S>& sums) {
    if constexpr (kPrologue == Prologue::kResidual) {
        if (a.sum_gradient) g += read<kWhole>(static_cast<const X*>(a.sum_gradient) + offset, count);
        write<kWhole>(static_cast<X*>(a.residual_gradient) + offset, g, count);
    }
    const Simd<S> value = read<kWhole>(static_cast<const X*>(a.source.x) + offset, count);
    write<kWhole>(static_cast<X*>(a.x_gradient) + offset, through_prologue<kPrologue>(affine, value, g, sums), count);
}

}  // namespace srgan_fast::cpu::SRGAN_FAST_LEVEL
