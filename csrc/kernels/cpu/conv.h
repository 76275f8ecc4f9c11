// Convolutions for training: prologue, convolution and epilogue, forward and both gradients.
//
// The input z of the convolution is never stored. It is computed from a map x that an earlier convolution wrote, as
// tiles are read:
//
//     z = a(s * (x - c) + b)               per channel: what a BatchNorm and a PReLU, LeakyReLU or ReLU do; or
//     z = s * (x - c) + b + residual       written to `sum` as a side output; or
//     z = pixel_shuffle(a(s * (x - c) + b))
//
// and is zero outside the image, whatever s, c and b are. The output y gets a bias and optionally an activation with a
// single slope; the moments of each channel are computed while it is in registers.
//
// In the backward pass, the gradient of y is a map g plus, per channel, the gradients of the moments:
//
//     dy = g + offset + factor * (y - mean),    or  dy = y > 0 ? g : slope * g  after an activation
//
// computed as it is read. The data gradient's epilogue also differentiates the prologue: it writes the gradient of x
// (and of the residual), and sums the gradients of s, b and the activation's slope.
//
// Maps are dense NHWC of float, double or bfloat16. All three convolutions use Winograd's algorithm in float or double:
// F(6x6, 3x3), F(4x4, 5x5), and for stride 2 F(3x3, 2x2) over the four phases of the input (49 multiplications for 9
// outputs instead of 81). bfloat16 is multiplied directly (bf16/conv_fwd.cpp), on AMX or, for stride 2, with AVX-512's
// dot products.
#pragma once

#include <cstdint>

#include "kernels/cpu/kernels.h"
#include "kernels/cpu/max_pool.h"

namespace srgan_fast::cpu {

enum class Geometry { k3x3, k3x3Stride2, k5x5 };  // zero padding of 1, 1, 2

// Per-channel vectors in arguments are padded to this length with zeros: kernels read whole vectors.
[[gnu::always_inline]] constexpr std::int64_t padded(std::int64_t channels) {
    return (channels + kChannelBlock - 1) / kChannelBlock * kChannelBlock;
}

// Moments of a task: padded(channels) means, as many sums of squared deviations, the number of pixels.
[[gnu::always_inline]] constexpr std::int64_t moments_size(std::int64_t channels) {
    return 2 * padded(channels) + kChannelBlock;
}

// Source of z. `center`, `scale`, `shift` and `slope` have as many values as x has channels, followed by kChannelBlock
// zeros.
template <typename S>
struct Source {
    const void* x;
    std::int64_t height, width, channels;  // of z
    bool shuffle;                          // x is [N][height / 2][width / 2][4 * channels]; see Conv3x3::shuffle
    bool affine;                           // false: z = x, and the four vectors are not read
    const S *center, *scale, *shift, *slope;
    const void* residual;  // or null; then there is no activation. Only of k3x3, not shuffled
    void* sum;             // or null if z is not needed. Only written by the forward call of k3x3
};

// Source of dy.
template <typename S>
struct Gradient {
    const void* g;
    std::int64_t height, width, channels;
    const void* y;                    // of the forward call; null: dy = g
    const S *mean, *offset, *factor;  // padded like a Source's vectors; or null: dy = y > 0 ? g : slope * g
    S slope;
};

// Layout of weights: elements between output channels, input channels, rows, columns.
struct WeightStrides {
    std::int64_t out, in, row, column;
};

template <typename S>
struct ConvForward {
    Geometry geometry;
    std::int64_t batch;
    Source<S> source;
    std::int64_t height, width, channels;  // of y
    const S* weights;                      // packed by ConvPack
    const S* bias;                         // padded(channels)
    bool activate;
    S slope;
    void* y;
    S* moments;  // [tasks][moments_size(channels)]: moments of each task's pixels; or null
};

template <typename S>
struct ConvDgrad {
    Geometry geometry;
    std::int64_t batch;
    Gradient<S> gradient;
    Source<S> source;
    const S* weights;          // packed by ConvPack, backward
    const void* sum_gradient;  // of the source's `sum`, or null
    void* x_gradient;
    void* residual_gradient;  // or null without a residual
    S* sums;  // [tasks][3][padded(channels of x)]: gradients of scale, shift, slope; or null if not affine
};

template <typename S>
struct ConvWgrad {
    Geometry geometry;
    std::int64_t batch;
    Source<S> source;
    Gradient<S> gradient;
    std::int64_t splits;  // splits of the tiles, from wgrad_splits; each computes partial sums
    S* weight;            // [splits] times out * in * taps * taps elements
    WeightStrides strides;
    S* bias;  // [splits][padded(out)], or null
};

// Packs weights in the order in which GEMMs read them, for most levels in the Winograd domain. For the data gradient
// they are flipped in space, and input and output are exchanged.
template <typename S>
struct ConvPack {
    Geometry geometry;
    bool backward;
    const S* weight;
    WeightStrides strides;
    std::int64_t in_channels, out_channels;
    S* packed;
};

// Training kernels for one map type; S is float for bfloat16.
template <typename S>
struct ConvTable {
    Kernel<ConvForward<S>> forward;
    Kernel<ConvDgrad<S>> dgrad;
    Kernel<ConvWgrad<S>> wgrad;  // its number of tasks is a multiple of `splits`
    Kernel<ConvPack<S>> pack;
    std::int64_t (*packed_size)(const ConvPack<S>&);  // elements
    // Number of splits of a weight gradient's tiles that gives all threads work.
    std::int64_t (*wgrad_splits)(const ConvWgrad<S>&, int threads);
    Kernel<MaxPool> max_pool;
};

const ConvTable<float>& conv_float(Isa isa);
const ConvTable<float>& conv_bf16(Isa isa);
const ConvTable<double>& conv_double(Isa isa);

}  // namespace srgan_fast::cpu
