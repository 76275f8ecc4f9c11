// 9x9 convolution to RGB after a pixel shuffle on AMX, computed before the shuffle as a 5x5 convolution to 12 channels;
// see level/conv9x9_tail_fwd.cpp. Direct convolution: 12 of a tile's 16 columns are used, and four rows of 16 pixels
// share the weights while they are streamed.
#include "kernels/cpu/bf16/blocks.h"
#include "kernels/cpu/bf16/table.h"
#include "kernels/cpu/level/pixels.h"
#include "kernels/cpu/level/tiles.h"

namespace srgan_fast::cpu::SRGAN_FAST_LEVEL {
namespace {

constexpr int kTaps = 5, kRadius = 2, kRows = 4, kOutputs = 12;
using Blocks = Tiling<Conv9x9Tail, kRows, kTileRows>;

std::int64_t tasks_of(const Conv9x9Tail& a, int threads) {
    constexpr std::int64_t kTaskBlocks = 8;  // about 60 microseconds, so that threads finish at about the same time
    return Blocks(a).tasks(kTaskBlocks, threads);
}

std::int64_t scratch_of(const Conv9x9Tail&, std::int64_t) { return kPipelineBytes; }

// Position of a block's first pixel.
struct Block {
    std::int64_t y, x;
    const float* sums;  // kTileColumns per pixel
};

template <typename Meanwhile>
SRGAN_FAST_INLINE void multiply(const Conv9x9Tail& a, const WeightTiles& weights, std::int64_t y, std::int64_t x,
                                float* sums, const Meanwhile& meanwhile) {
    const std::int64_t pixel = a.in_channels, pixel_bytes = pixel * static_cast<std::int64_t>(sizeof(Bf16));
    const Bf16* rows[kRows + kTaps - 1];
    for (int i = 0; i < kRows + kTaps - 1; ++i) rows[i] = static_cast<const Bf16*>(a.in[y + i]) + (x - kRadius) * pixel;
    tile_zero<0>(), tile_zero<1>(), tile_zero<2>(), tile_zero<3>();
    for (std::int64_t k = 0; k < weights.blocks; ++k) {
        const Bf16* tiles = weights.at(0, k);
        for (int ky = 0; ky < kTaps; ++ky)
            for (int kx = 0; kx < kTaps; ++kx, tiles += kTileElements) {
                const std::int64_t tap = kx * pixel + k * kTileDepth;
                tile_load<4>(tiles, kTileBytes);
                tile_load<5>(rows[ky] + tap, pixel_bytes);
                tile_multiply_add<0, 5, 4>();
                tile_load<6>(rows[ky + 1] + tap, pixel_bytes);
                tile_multiply_add<1, 6, 4>();
                tile_load<7>(rows[ky + 2] + tap, pixel_bytes);
                tile_multiply_add<2, 7, 4>();
                tile_load<5>(rows[ky + 3] + tap, pixel_bytes);
                tile_multiply_add<3, 5, 4>();
                meanwhile();
            }
    }
    constexpr std::int64_t kTileSums = kTileRows * kTileColumns;
    tile_store<0>(sums, kTileBytes), tile_store<1>(sums + kTileSums, kTileBytes);
    tile_store<2>(sums + 2 * kTileSums, kTileBytes), tile_store<3>(sums + 3 * kTileSums, kTileBytes);
}

// Writes a part of a block's results: consecutive pixels of a row.
[[gnu::noinline]] void finish(const Conv9x9Tail& a, const Pixels& pixels, const Block& b, int part) {
    constexpr int kPartsOfRow = kParts / kRows, kPixels = kTileRows / kPartsOfRow;
    const std::int64_t row = part / kPartsOfRow, first = part % kPartsOfRow * kPixels;
    const std::int64_t y = b.y + row, x = b.x + first;
    if (y >= a.rows) return;
    const float* sums = b.sums + (row * kTileRows + first) * kTileColumns;
    for (std::int64_t p = 0; p < smaller<std::int64_t>(kPixels, a.width - x); ++p, sums += kTileColumns)
        pixels.write(y, x + p, sums);
}

void run(const Conv9x9Tail& a, std::int64_t task, std::int64_t tasks, void* scratch) {
    const Blocks::Run blocks = Blocks(a).of(a, task, tasks);
    if (blocks.count() == 0) return;
    const Pixels pixels(a);
    const auto part = [&](const Block& b, int index) SRGAN_FAST_INLINE_LAMBDA { finish(a, pixels, b, index); };
    Pipeline<Block, decltype(part)> pipeline(static_cast<float*>(scratch), part);
    const WeightTiles weights(a.weights, kTaps * kTaps, a.in_channels);
    const TileRegisters registers;
    for (std::int64_t t = blocks.begin; t < blocks.end; ++t) {
        const std::int64_t y = blocks.y(t), x = blocks.x(t);
        pipeline.next({y, x, nullptr}, [&](float* sums, const auto& meanwhile)
                                           SRGAN_FAST_INLINE_LAMBDA { multiply(a, weights, y, x, sums, meanwhile); });
    }
    pipeline.finish();
}

std::int64_t packed_bytes(std::int64_t channels, std::int64_t) {
    return kTaps * kTaps * 4 * channels * kTileColumns * static_cast<std::int64_t>(sizeof(Bf16));
}

void pack(const float* weight, std::int64_t channels, std::int64_t, void* packed) {
    Bf16* tile = static_cast<Bf16*>(packed);
    for (std::int64_t first = 0; first < 4 * channels; first += kTileDepth)
        for (int tap = 0; tap < kTaps * kTaps; ++tap, tile += kTileElements)
            fill_tile(tile, [&](int k, int column) {
                return column < kOutputs ? tail_tap(weight, channels, first + k, column, tap) : 0.0f;
            });
}

}  // namespace

LayerKernel<Conv9x9Tail> conv9x9_tail() { return {{tasks_of, scratch_of, run}, kTile, packed_bytes, pack}; }

}  // namespace srgan_fast::cpu::SRGAN_FAST_LEVEL
