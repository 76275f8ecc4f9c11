// The data gradient's epilogue: from dz at a pixel of z on through the prologue, to the gradient of x and of the
// residual, and the sums that are the gradients of scale, shift and slope.
#pragma once

#include "kernels/cpu/level/source.h"

namespace srgan_fast::cpu::SRGAN_FAST_LEVEL {

enum class Prologue { kPlain, kAffine, kResidual };

// What is summed up for a vector of channels.
template <typename S>
struct PrologueSums {
    using V = Simd<S>;
    S* scale;
    S* shift;
    S* slope;
    V scales, shifts, slopes;

    PrologueSums(S* sums, std::int64_t stride, std::int64_t channel, int count)
        : scale(sums + channel), shift(scale + stride), slope(shift + stride) {
        if (count == kLanesOf<S>)
            scales = read(scale), shifts = read(shift), slopes = read(slope);
        else
            scales = read_part(scale, count), shifts = read_part(shift, count), slopes = read_part(slope, count);
    }
    // Other channels may stand right behind the last one of a phase.
    void put(int count) const {
        if (count == kLanesOf<S>)
            write(scale, scales), write(shift, shifts), write(slope, slopes);
        else
            write_part(scale, scales, count), write_part(shift, shifts, count), write_part(slope, slopes, count);
    }
};

// One pixel of z, which stands at `offset` in x.
template <typename X, bool kWhole, Prologue kPrologue, typename S>
SRGAN_FAST_INLINE void through_prologue(const ConvDgrad<S>& a, std::int64_t offset, int count, const Affine<S>& affine,
                                        Simd<S> g, PrologueSums<S>& sums) {
    const Simd<S> value = read<kWhole>(static_cast<const X*>(a.source.x) + offset, count);
    if constexpr (kPrologue == Prologue::kResidual) {
        if (a.sum_gradient) g += read<kWhole>(static_cast<const X*>(a.sum_gradient) + offset, count);
        write<kWhole>(static_cast<X*>(a.residual_gradient) + offset, g, count);
    } else {
        const Simd<S> u = affine.before(value);
        sums.slopes += u > S(0) ? Simd<S>{} : g * u;
        g = u > S(0) ? g : g * affine.slope;
    }
    write<kWhole>(static_cast<X*>(a.x_gradient) + offset, g * affine.scale, count);
    sums.scales += g * (value - affine.center);
    sums.shifts += g;
}

}  // namespace srgan_fast::cpu::SRGAN_FAST_LEVEL
