// Weight packing for the kernels: transformed to the Winograd domain in double, rounded once, and arranged in the order
// in which the GEMMs read them.
#pragma once

#include <cstdint>

#include "kernels/cpu/kernels.h"

namespace srgan_fast::cpu {

inline constexpr std::int64_t kChannelGroup = 64;  // output channels whose products are stored at a time
inline constexpr std::int64_t kDepthBlock = 64;    // input channels whose products are accumulated at a time
inline constexpr std::int64_t kTailOutputs = 16;   // 2 x 2 pixels of 3 colours, padded to whole vectors

// Number of elements of the packed weights.
std::int64_t packed_head_size(std::int64_t out_channels);
std::int64_t packed_tail_size(std::int64_t channels);

// `weight` is [out][in][3][3]; `packed` is float, or bfloat16 bits: [group of output channels][block of input
// channels][Winograd point][panel]. Channel counts are multiples of kChannelBlock; `panel` is the number of output
// channels that the GEMM computes at a time.
void pack_conv3x3(const float* weight, std::int64_t in_channels, std::int64_t out_channels, std::int64_t panel,
                  float* packed);
void pack_conv3x3(const float* weight, std::int64_t in_channels, std::int64_t out_channels, std::int64_t panel,
                  std::uint16_t* packed);

// `weight` is [out][3][9][9].
void pack_head(const float* weight, std::int64_t out_channels, std::int64_t panel, float* packed);

// `weight` is [3][channels][9][9], of the convolution after the shuffle.
void pack_tail(const float* weight, std::int64_t channels, std::int64_t panel, float* packed);

// Tap row * 5 + column of the same convolution before the shuffle, from input channel `in` of 4 * channels to output
// `out` of 12; see Conv9x9Tail.
float tail_tap(const float* weight, std::int64_t channels, std::int64_t in, std::int64_t out, std::int64_t tap);

}  // namespace srgan_fast::cpu
