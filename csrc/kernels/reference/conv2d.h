// Definition of the convolutions, independent of a kernel's algorithm and layout: dense maps [height][width][channels],
// summed in double and rounded to float once.
//
// A 9x9 head is a conv2d of 3 channels; a 9x9 tail is a pixel_shuffle followed by a conv2d to 3 channels.
#pragma once

#include <cstdint>
#include <span>

namespace srgan_fast::reference {

// A stride-1, same-size convolution with zero padding, and its epilogue.
struct Conv2d {
    std::int64_t in_channels, out_channels;
    std::int64_t size;              // of the square kernel; odd
    std::span<const float> weight;  // [out_channels][in_channels][size][size]
    std::span<const float> bias;    // out_channels
    std::span<const float> slope;   // PReLU slopes: out_channels, or empty for none
};

// A map with the result's shape that is added to it.
struct Residual {
    std::span<const float> values;
    float scale;
};

// out = prelu(conv(in) + bias) + sum of scale * residual.
void conv2d(const Conv2d& conv, std::int64_t height, std::int64_t width, std::span<const float> in,
            std::span<const Residual> residuals, std::span<float> out);

// Channel (c * factor + dy) * factor + dx of pixel (y, x) becomes channel c of pixel (factor * y + dy, factor * x +
// dx), as in PyTorch. `height` and `width` are those of `in`, `channels` those of `out`.
void pixel_shuffle(std::int64_t height, std::int64_t width, std::int64_t channels, std::int64_t factor,
                   std::span<const float> in, std::span<float> out);

}  // namespace srgan_fast::reference
