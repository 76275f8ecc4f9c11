// Blocks of results: their weights, and finishing one block while the next is multiplied.
#pragma once

#ifdef SRGAN_FAST_DOT_PRODUCTS
#include "kernels/cpu/bf16/dot_products.h"
#else
#include "kernels/cpu/bf16/amx_tiles.h"
#endif

namespace srgan_fast::cpu::SRGAN_FAST_LEVEL {

// Channels padded to whole tiles of the GEMM's depth.
constexpr std::int64_t deep(std::int64_t channels) { return (channels + kTileDepth - 1) / kTileDepth * kTileDepth; }

// Weights in tiles: [16 output channels][32 input channels][tap], each tile in pairs of input channels; for a data
// gradient, output and input are exchanged.
struct WeightTiles {
    const Bf16* tiles;
    std::int64_t taps, blocks;  // taps of a kernel; blocks of input channels

    WeightTiles(const void* packed, std::int64_t taps, std::int64_t depth)
        : tiles(static_cast<const Bf16*>(packed)), taps(taps), blocks(depth / kTileDepth) {}

    std::int64_t group() const { return taps * blocks * kTileElements; }  // elements per 16 output channels
    const Bf16* at(std::int64_t channel, std::int64_t block) const {
        return tiles + channel / kTileColumns * group() + block * taps * kTileElements;
    }
};

// Writes a tile of weights from values at(k, column).
template <typename At>
void fill_tile(Bf16* tile, const At& at) {
    for (int k = 0; k < kTileDepth; ++k) {
        alignas(kAlignment) float values[kTileColumns];
        alignas(kAlignment) Bf16 row[kTileColumns];
        for (int column = 0; column < kTileColumns; ++column) values[column] = at(k, column);
        write(row, load(values));
        for (int column = 0; column < kTileColumns; ++column)
            tile[k / 2 * kTileDepth + 2 * column + k % 2] = row[column];
    }
}

inline constexpr int kParts = 8;
inline constexpr std::int64_t kPipelineBytes = 2 * kBlockRows * kBlockColumns * 4;

// Multiplies blocks one by one, and finishes the previous one meanwhile: part(block, index) is called for each of
// kParts parts of every block. A Block holds the position of its results and its `sums`.
template <typename Block, typename Part>
class Pipeline {
  public:
    // `memory`: kPipelineBytes, the sums of two blocks.
    Pipeline(float* memory, const Part& part) : memory_(memory), part_(part) {}

    // multiply(sums, meanwhile) computes the block's sums.
    template <typename Multiply>
    SRGAN_FAST_INLINE void next(Block block, const Multiply& multiply) {
        float* const sums = memory_ + turn_ * kBlockRows * kBlockColumns;
        turn_ = 1 - turn_;
        multiply(sums, [&]() SRGAN_FAST_INLINE_LAMBDA {
            if (parts_ < kParts) part_(before_, parts_++);
        });
        finish();
        block.sums = sums;
        before_ = block, parts_ = 0;
    }
    SRGAN_FAST_INLINE void finish() {
        while (parts_ < kParts) part_(before_, parts_++);
    }

  private:
    float* memory_;
    const Part& part_;
    Block before_{};
    int turn_ = 0, parts_ = kParts;
};

}  // namespace srgan_fast::cpu::SRGAN_FAST_LEVEL
