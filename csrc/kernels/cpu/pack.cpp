#include "kernels/cpu/pack.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>

#include "kernels/cpu/winograd.h"

namespace srgan_fast::cpu {
namespace {

// out[kPoints][kPoints] = G kernel G^T, with a [kTaps][kTaps] kernel.
template <int kPoints, int kTaps>
std::array<double, kPoints * kPoints> transform(const FilterRow<kTaps> (&g)[kPoints], const double* filter) {
    std::array<double, kPoints * kTaps> half{};
    for (int p = 0; p < kPoints; ++p)
        for (int i = 0; i < kTaps; ++i)
            for (int j = 0; j < kTaps; ++j) half[p * kTaps + j] += g[p].tap[i] * filter[i * kTaps + j];
    std::array<double, kPoints * kPoints> out{};
    for (int p = 0; p < kPoints; ++p)
        for (int q = 0; q < kPoints; ++q)
            for (int j = 0; j < kTaps; ++j) out[p * kPoints + q] += half[p * kTaps + j] * g[q].tap[j];
    return out;
}

void put(float& target, double value) { target = static_cast<float>(value); }

// Rounds to nearest even; weights are finite.
void put(std::uint16_t& target, double value) {
    const auto bits = std::bit_cast<std::uint32_t>(static_cast<float>(value));
    target = static_cast<std::uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// Offset of element (k, channel) of a [depth] x [channels] matrix in panels with groups of `group` adjacent k.
std::int64_t panel_offset(std::int64_t k, std::int64_t channel, std::int64_t depth, std::int64_t channels,
                          std::int64_t panel, std::int64_t group) {
    const std::int64_t start = channel / panel * panel, width = std::min(panel, channels - start);
    return start * depth + k / group * width * group + (channel - start) * group + k % group;
}

template <int kPoints, typename T>
void pack_conv3x3_as(const FilterRow<3> (&form)[kPoints], const float* weight, std::int64_t in_channels,
                     std::int64_t out_channels, std::int64_t panel, std::int64_t group, T* packed) {
    constexpr int kPoints2 = kPoints * kPoints;
    for (std::int64_t first = 0; first < out_channels; first += kChannelGroup) {
        const std::int64_t channels = std::min(kChannelGroup, out_channels - first);
        T* const target = packed + first * in_channels * kPoints2;
        // Output channels innermost: they are adjacent in memory.
        for (std::int64_t place = 0; place < in_channels * channels; ++place) {
            const std::int64_t i = place / channels, o = first + place % channels;
            const std::int64_t begin = i / kDepthBlock * kDepthBlock;
            const std::int64_t depth = std::min(kDepthBlock, in_channels - begin);
            std::array<double, 9> filter;
            std::copy_n(weight + (o * in_channels + i) * 9, 9, filter.begin());
            const auto points = transform<kPoints, 3>(form, filter.data());
            T* const block = target + begin * channels * kPoints2;
            const std::int64_t offset = panel_offset(i - begin, o - first, depth, channels, panel, group);
            for (int p = 0; p < kPoints2; ++p) put(block[p * depth * channels + offset], points[p]);
        }
    }
}

}  // namespace

std::int64_t packed_head_size(std::int64_t out_channels) { return 243 * out_channels; }

std::int64_t packed_tail_size(std::int64_t channels) { return 64 * 4 * channels * kTailOutputs; }

void pack_conv3x3(const float* weight, std::int64_t in_channels, std::int64_t out_channels, std::int64_t panel,
                  float* packed) {
    pack_conv3x3_as<8>(kFilter63, weight, in_channels, out_channels, panel, 1, packed);
}

void pack_conv3x3(const float* weight, std::int64_t in_channels, std::int64_t out_channels, std::int64_t panel,
                  std::uint16_t* packed) {
    pack_conv3x3_as<6>(kFilter43, weight, in_channels, out_channels, panel, 2, packed);
}

void pack_head(const float* weight, std::int64_t out_channels, std::int64_t panel, float* packed) {
    for (std::int64_t o = 0; o < out_channels; ++o)
        for (std::int64_t c = 0; c < 3; ++c)
            for (std::int64_t y = 0; y < 9; ++y)
                for (std::int64_t x = 0; x < 9; ++x)
                    packed[panel_offset(y * 27 + x * 3 + c, o, 243, out_channels, panel, 1)] =
                        weight[((o * 3 + c) * 9 + y) * 9 + x];
}

float tail_tap(const float* weight, std::int64_t channels, std::int64_t in, std::int64_t out, std::int64_t tap) {
    const std::int64_t in_y = in / channels / 2, in_x = in / channels % 2, c = in % channels;
    const std::int64_t out_y = out / 6, out_x = out / 3 % 2, colour = out % 3;
    // For output 2Y + out, tap j of the 5x5 kernel reads the shuffled pixel 2(Y + j - 2) + in.
    const std::int64_t y = 2 * (tap / 5 - 2) + in_y - out_y + 4, x = 2 * (tap % 5 - 2) + in_x - out_x + 4;
    return y >= 0 && y < 9 && x >= 0 && x < 9 ? weight[((colour * channels + c) * 9 + y) * 9 + x] : 0.0f;
}

void pack_tail(const float* weight, std::int64_t channels, std::int64_t panel, float* packed) {
    constexpr int kPoints2 = 64;
    constexpr std::int64_t kDepth = 64;  // input channels per block; see conv9x9_tail_fwd.cpp
    std::fill_n(packed, packed_tail_size(channels), 0.0f);
    const std::int64_t in_channels = 4 * channels;
    for (std::int64_t i = 0; i < in_channels; ++i) {
        const std::int64_t first = i / kDepth * kDepth, depth = std::min(kDepth, in_channels - first);
        for (std::int64_t o = 0; o < 12; ++o) {
            std::array<double, 25> filter;
            for (int tap = 0; tap < 25; ++tap) filter[tap] = tail_tap(weight, channels, i, o, tap);
            const auto points = transform<8, 5>(kFilter45, filter.data());
            float* const target = packed + first * kTailOutputs * kPoints2;
            const std::int64_t offset = panel_offset(i - first, o, depth, kTailOutputs, panel, 1);
            for (int p = 0; p < kPoints2; ++p) put(target[p * depth * kTailOutputs + offset], points[p]);
        }
    }
}

}  // namespace srgan_fast::cpu
