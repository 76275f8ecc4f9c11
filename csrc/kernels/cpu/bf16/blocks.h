// Blocks of results: the weights that they are multiplied with, and how one is finished while the next is multiplied.
#pragma once

#ifdef SRGAN_FAST_DOT_PRODUCTS
#include "kernels/cpu/bf16/dot_products.h"
#else
#include "kernels/cpu/bf16/amx_tiles.h"
#endif

namespace srgan_fast::cpu::SRGAN_FAST_LEVEL {

// Channels of a product: whole tiles deep.
constexpr std::int64_t deep(std::int64_t channels) { return (channels + kTileDepth - 1) / kTileDepth * kTileDepth; }

// Weights in tiles: [16 output channels][32 input channels][tap], each tile in pairs of input channels; "output" and
// "input" are the other way round for a data gradient.
struct WeightTiles {
    const Bf16* tiles;
    std::int64_t taps, blocks;  // of a filter; of input channels

    WeightTiles(const void* packed, std::int64_t taps, std::int64_t depth)
        : tiles(static_cast<const Bf16*>(packed)), taps(taps), blocks(depth / kTileDepth) {}

    std::int64_t group() const { return taps * blocks * kTileElements; }  // from 16 output channels to the next
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

// Multiplies one block after the other and finishes the one before it meanwhile: part(block, index) is called for each
// of kParts parts of every block. A Block says where results belong, and by its `sums` where they are.
template <typename Block, typename Part>
class Pipeline {
  public:
    // `memory`: kPipelineBytes, two blocks' sums.
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
