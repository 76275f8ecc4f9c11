// 9x9 convolution to RGB after a pixel shuffle, computed before the shuffle: there, the four neighbouring output pixels
// are 12 output channels of a 5x5 convolution of the 4 * C input channels (of whose 25 taps 16 to 25 are used,
// depending on the phases). As Winograd F(4x4, 5x5) this needs 3072 multiplications per output pixel at 64 channels
// instead of 15552, and the 12 channels (padded to 16) fill a vector, which 3 would not.
#include "kernels/cpu/level/pixels.h"
#include "kernels/cpu/level/products.h"
#include "kernels/cpu/level/table.h"
#include "kernels/cpu/level/tiles.h"
#include "kernels/cpu/level/transforms.h"

namespace srgan_fast::cpu::SRGAN_FAST_LEVEL {
namespace {

using W = Winograd45;
constexpr int kPoints2 = W::kPoints * W::kPoints;
constexpr int kOutputs = static_cast<int>(kTailOutputs);

// Input channels are processed in blocks whose products are accumulated: the transformed inputs of a block of 24 tiles
// are 393 KB; those of all 256 channels would exceed the L2 cache.
constexpr std::int64_t kTiles = 24, kDepth = 64;

std::int64_t tasks_of(const Conv9x9Tail& a, int threads) { return Tiling(a).tasks(kTiles, threads); }

std::int64_t scratch_of(const Conv9x9Tail& a, std::int64_t tasks) {
    const std::int64_t tiles = Tiling(a).most_tiles(a, tasks);
    return kPoints2 * (tiles * (kDepth + kOutputs) + 2 * kSkew) * static_cast<std::int64_t>(sizeof(float));
}

void transform_inputs(const Conv9x9Tail& a, const Tiles<>& tiles, std::int64_t first, std::int64_t count, float* v) {
    const std::int64_t pixel = a.in_channels, point_stride = tiles.count() * count + kSkew;
    for (std::int64_t t = tiles.begin; t < tiles.end; ++t, v += count) {
        const void* const* rows = a.in + tiles.y(t);
        const std::ptrdiff_t left = (tiles.x(t) - W::kRadius) * pixel + first;
        for (std::int64_t c = 0; c < count; c += kLanes)
            transform_input<W>(
                [&](int i, int j) { return load(static_cast<const float*>(rows[i]) + left + j * pixel + c); },
                [&](int i, int j, Vec x) { store(v + (i * W::kPoints + j) * point_stride + c, x); });
    }
}

void transform_outputs(const Conv9x9Tail& a, const Tiles<>& tiles, const float* m) {
    const std::int64_t point_stride = tiles.count() * kOutputs + kSkew;
    const Pixels pixels(a);
    alignas(kAlignment) float tile[kTile][kTile][kOutputs];
    for (std::int64_t t = tiles.begin; t < tiles.end; ++t, m += kOutputs) {
        const std::int64_t y = tiles.y(t), x = tiles.x(t);
        for (int c = 0; c < kOutputs; c += kLanes)
            transform_output<W>([&](int i, int j) { return load(m + (i * W::kPoints + j) * point_stride + c); },
                                [&](int i, const Vec* values) {
                                    for (int j = 0; j < kTile; ++j) store(&tile[i][j][c], values[j]);
                                });
        for (std::int64_t i = 0; i < smaller(a.rows - y, kTile); ++i)
            for (std::int64_t j = 0; j < smaller(a.width - x, kTile); ++j) pixels.write(y + i, x + j, tile[i][j]);
    }
}

void run(const Conv9x9Tail& a, std::int64_t task, std::int64_t tasks, void* scratch) {
    const Tiles<> tiles = Tiling(a).of(a, task, tasks);
    const std::int64_t count = tiles.count();
    if (count == 0) return;
    float* const products = static_cast<float*>(scratch);
    float* const inputs = products + kPoints2 * (count * kOutputs + kSkew);
    const float* weights = static_cast<const float*>(a.weights);
    for (std::int64_t first = 0; first < a.in_channels; first += kDepth) {
        const std::int64_t depth = smaller(kDepth, a.in_channels - first);
        transform_inputs(a, tiles, first, depth, inputs);
        for (int p = 0; p < kPoints2; ++p, weights += depth * kOutputs) {
            float* const out = products + p * (count * kOutputs + kSkew);
            const float* const in = inputs + p * (count * depth + kSkew);
            if (first == 0)
                product<false>(count, kOutputs, in, weights, depth, out, kOutputs);
            else
                product<true>(count, kOutputs, in, weights, depth, out, kOutputs);
        }
    }
    transform_outputs(a, tiles, products);
}

std::int64_t packed_bytes(std::int64_t in_channels, std::int64_t) {
    return packed_tail_size(in_channels) * static_cast<std::int64_t>(sizeof(float));
}

void pack(const float* weight, std::int64_t in_channels, std::int64_t, void* packed) {
    pack_tail(weight, in_channels, kPanel, static_cast<float*>(packed));
}

}  // namespace

LayerKernel<Conv9x9Tail> conv9x9_tail() { return {{tasks_of, scratch_of, run}, kTile, packed_bytes, pack}; }

}  // namespace srgan_fast::cpu::SRGAN_FAST_LEVEL
