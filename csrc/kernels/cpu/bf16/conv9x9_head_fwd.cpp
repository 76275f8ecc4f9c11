// 9x9 convolution from RGB on AMX. For each row of the kernel, a pixel needs 27 consecutive values of an image row, and
// its neighbour's start 3 values further: tiles with overlapping rows. Values beyond the 27 are multiplied by zeros.
//
// Image values are split into two bfloat16, the rounded value and the remainder, since rounding them would lose more
// than everything else; the layer is a hundredth of the network.
#include "kernels/cpu/bf16/map_blocks.h"
#include "kernels/cpu/bf16/table.h"

namespace srgan_fast::cpu::SRGAN_FAST_LEVEL {
namespace {

constexpr int kSize = 9, kRadius = 4, kColours = 3, kRows = kMapBlockRows;
using Blocks = MapTiling<Conv9x9Head>;

// Image rows that a block reads, up to the end of the last pixel's tile, in whole vectors.
constexpr int kWindowRows = kRows + kSize - 1;
constexpr int kWindowValues = ((kTileRows - 1) * kColours + kTileDepth + kLanes - 1) / kLanes * kLanes;
struct Window {
    alignas(kAlignment) Bf16 rounded[kWindowRows][kWindowValues], rest[kWindowRows][kWindowValues];
};

std::int64_t tasks_of(const Conv9x9Head& a, int threads) {
    constexpr std::int64_t kTaskBlocks = 32;  // about 50 microseconds, so that threads finish at about the same time
    return Blocks(a).tasks(kTaskBlocks, threads);
}

std::int64_t scratch_of(const Conv9x9Head&, std::int64_t) { return kPipelineBytes + std::int64_t(sizeof(Window)); }

void fill(const Conv9x9Head& a, std::int64_t y, std::int64_t x, Window& window) {
    const std::int64_t there = (a.width + kRadius - (x - kRadius)) * kColours;  // with the zeros after the row
    for (int i = 0; i < kWindowRows; ++i) {
        const float* const row = static_cast<const float*>(a.in[y + i]) + (x - kRadius) * kColours;
        for (int k = 0; k < kWindowValues; k += kLanes) {
            const Vec value = k + kLanes <= there ? read(row + k) : read_part(row + k, static_cast<int>(there - k));
            write(window.rounded[i] + k, value);
            write(window.rest[i] + k, value - read(window.rounded[i] + k));
        }
    }
}

void run(const Conv9x9Head& a, std::int64_t task, std::int64_t tasks, void* scratch) {
    const Blocks::Run blocks = Blocks(a).of(a, task, tasks);
    if (blocks.count() == 0) return;
    Window& window = *reinterpret_cast<Window*>(static_cast<std::byte*>(scratch) + kPipelineBytes);
    const WeightTiles weights(a.weights, kSize, kTileDepth);
    run_blocks<Epilogue::kPlain, true>(
        a, static_cast<float*>(scratch),
        [&](const auto& next) {
            for (std::int64_t t = blocks.begin; t < blocks.end; ++t) {
                const std::int64_t y = blocks.y(t), x = blocks.x(t);
                fill(a, y, x, window);
                for (std::int64_t c = 0; c < a.out_channels; c += kBlockColumns) next(y, x, c);
            }
        },
        [&](auto n, const MapBlock& block, const auto& meanwhile) SRGAN_FAST_INLINE_LAMBDA {
            const Bf16* tiles = weights.at(block.channel, 0);
            for (int ky = 0; ky < kSize; ++ky, tiles += kTileElements) {
                for (const auto* rows : {window.rounded, window.rest})
                    multiply_tiles<kRows, n>(rows[ky], rows[ky + 1], kColours * sizeof(Bf16), tiles, weights.group());
                meanwhile();
            }
        });
}

std::int64_t packed_bytes(std::int64_t, std::int64_t out_channels) {
    return kSize * padded(out_channels) * kTileDepth * static_cast<std::int64_t>(sizeof(Bf16));
}

void pack(const float* weight, std::int64_t, std::int64_t out_channels, void* packed) {
    Bf16* tile = static_cast<Bf16*>(packed);
    for (std::int64_t first = 0; first < out_channels; first += kTileColumns)
        for (int ky = 0; ky < kSize; ++ky, tile += kTileElements)
            fill_tile(tile, [&](int k, int column) {
                const std::int64_t o = first + column;
                if (k >= kSize * kColours || o >= out_channels) return 0.0f;
                return weight[((o * kColours + k % kColours) * kSize + ky) * kSize + k / kColours];
            });
}

}  // namespace

LayerKernel<Conv9x9Head> conv9x9_head() { return {{tasks_of, scratch_of, run}, 1, packed_bytes, pack}; }

}  // namespace srgan_fast::cpu::SRGAN_FAST_LEVEL
