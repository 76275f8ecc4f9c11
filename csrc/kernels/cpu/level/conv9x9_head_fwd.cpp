// 9x9 convolution from RGB, direct: each kernel row over neighbouring pixels is a GEMM with a depth of 27 contiguous
// values.
#include "kernels/cpu/level/table.h"
#include "kernels/cpu/level/vec.h"
#include "kernels/cpu/pack.h"

namespace srgan_fast::cpu::SRGAN_FAST_LEVEL {
namespace {

constexpr int kSize = 9, kRadius = 4, kColours = 3, kDepth = kSize * kColours;

template <int kPixels, int kVectors>
SRGAN_FAST_INLINE void pixels_of(const Conv9x9Head& a, std::int64_t y, std::int64_t x, std::int64_t channel) {
    const float* w = static_cast<const float*>(a.weights) + channel * kSize * kDepth;
    Vec acc[kPixels][kVectors];
#pragma GCC unroll 16
    for (int p = 0; p < kPixels; ++p)
#pragma GCC unroll 8
        for (int v = 0; v < kVectors; ++v) acc[p][v] = load(a.bias + channel + v * kLanes);
    for (int dy = 0; dy < kSize; ++dy) {
        const float* const line = static_cast<const float*>(a.in[y + dy]) + (x - kRadius) * kColours;
        for (int k = 0; k < kDepth; ++k, w += kVectors * kLanes) {
            Vec weights[kVectors];
#pragma GCC unroll 8
            for (int v = 0; v < kVectors; ++v) weights[v] = load(w + v * kLanes);
#pragma GCC unroll 16
            for (int p = 0; p < kPixels; ++p) {
                const Vec value = broadcast(line[p * kColours + k]);
#pragma GCC unroll 8
                for (int v = 0; v < kVectors; ++v) acc[p][v] += value * weights[v];
            }
        }
    }
    float* const out = static_cast<float*>(a.out[y]) + x * a.out_channels + channel;
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
        const Vec slope = load(a.slope + channel + v * kLanes);
#pragma GCC unroll 16
        for (int p = 0; p < kPixels; ++p) {
            const Vec value = acc[p][v];
            store(out + p * a.out_channels + v * kLanes, value > 0.0f ? value : value * slope);
        }
    }
}

template <int kVectors>
void row_of(const Conv9x9Head& a, std::int64_t y, std::int64_t channel) {
    std::int64_t x = 0;
    for (; x + kRowBlock <= a.width; x += kRowBlock) pixels_of<kRowBlock, kVectors>(a, y, x, channel);
    for (; x < a.width; ++x) pixels_of<1, kVectors>(a, y, x, channel);
}

std::int64_t tasks_of(const Conv9x9Head& a, int) { return a.rows; }

std::int64_t scratch_of(const Conv9x9Head&, std::int64_t) { return 0; }

void run(const Conv9x9Head& a, std::int64_t task, std::int64_t tasks, void*) {
    for (std::int64_t y = a.rows * task / tasks; y < a.rows * (task + 1) / tasks; ++y) {
        std::int64_t c = 0;
        for (; c + kPanel <= a.out_channels; c += kPanel) row_of<kPanelVectors>(a, y, c);
        switch ((a.out_channels - c) / kLanes) {
            case 1: row_of<1>(a, y, c); break;
            case 2: row_of<2>(a, y, c); break;
            case 3: row_of<3>(a, y, c); break;
            default: break;
        }
    }
}

std::int64_t packed_bytes(std::int64_t, std::int64_t out_channels) {
    return packed_head_size(out_channels) * static_cast<std::int64_t>(sizeof(float));
}

void pack(const float* weight, std::int64_t, std::int64_t out_channels, void* packed) {
    pack_head(weight, out_channels, kPanel, static_cast<float*>(packed));
}

}  // namespace

LayerKernel<Conv9x9Head> conv9x9_head() { return {{tasks_of, scratch_of, run}, 1, packed_bytes, pack}; }

}  // namespace srgan_fast::cpu::SRGAN_FAST_LEVEL
