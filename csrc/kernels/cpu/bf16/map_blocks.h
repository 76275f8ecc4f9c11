// Blocks of a bfloat16 map: two rows of 16 pixels by 32 channels, multiplied one by one; the epilogue of the previous
// block runs meanwhile.
#pragma once

#include <type_traits>

#include "kernels/cpu/bf16/blocks.h"
#include "kernels/cpu/level/tiles.h"

namespace srgan_fast::cpu::SRGAN_FAST_LEVEL {

inline constexpr int kMapBlockRows = kBlockRows / kTileRows;

template <typename Arguments>
using MapTiling = Tiling<Arguments, kMapBlockRows, kTileRows>;

// First pixel and channel of a block.
struct MapBlock {
    std::int64_t y, x, channel;
    const float* sums;
};

enum class Epilogue { kPlain, kResiduals, kShuffle, kFloats };  // kFloats: results stay float

// Writes a part of a block's results, kN * 16 channels: consecutive pixels of a row.
template <int kN, Epilogue kEpilogue, bool kPRelu, typename Arguments>
[[gnu::noinline]] void finish(const Arguments& a, const MapBlock& b, int part) {
    constexpr int kPartsOfRow = kParts / kMapBlockRows, kPixels = kTileRows / kPartsOfRow;
    const std::int64_t row = part / kPartsOfRow, first = part % kPartsOfRow * kPixels;
    const std::int64_t y = b.y + row, x = b.x + first, count = smaller<std::int64_t>(kPixels, a.width - x);
    if (y >= a.rows) return;
    constexpr bool kShuffles = kEpilogue == Epilogue::kShuffle;
    using Result = std::conditional_t<kEpilogue == Epilogue::kFloats, float, Bf16>;
    std::int64_t pixel = a.out_channels, factor = 1;
    if constexpr (kShuffles) factor = a.shuffle, pixel /= factor * factor;
    Vec bias[kN], slope[kN];
    Result* out[kN];
    for (int n = 0; n < kN; ++n) {
        const std::int64_t c = b.channel + n * kLanes;
        bias[n] = load(a.bias + c);
        if constexpr (kPRelu) slope[n] = load(a.slope + c);
        const std::int64_t phase = kShuffles ? c / pixel : 0;
        out[n] = static_cast<Result*>(a.out[factor * y + phase / factor]) + (factor * x + phase % factor) * pixel + c -
                 phase * pixel;
    }
    const float* sums = b.sums + (row * kTileRows + first) * kBlockColumns;
    for (std::int64_t p = 0; p < count; ++p, sums += kBlockColumns)
#pragma GCC unroll 2
        for (int n = 0; n < kN; ++n) {
            Vec value = load(sums + n * kLanes) + bias[n];
            if constexpr (kPRelu) value = value > 0.0f ? value : value * slope[n];
            if constexpr (kEpilogue == Epilogue::kResiduals)
                for (std::int64_t k = 0; k < a.residual_count; ++k) {
                    const auto* const from = static_cast<const Bf16*>(a.residuals[k].rows[y]);
                    value += read(from + (x + p) * pixel + b.channel + n * kLanes) * a.residuals[k].scale;
                }
            if constexpr (kEpilogue == Epilogue::kFloats)
                store(out[n] + p * pixel, value);
            else
                write(out[n] + p * factor * pixel, value);
        }
}

// Processes 32 channels from `channel` on, or the last 16.
template <typename Arguments, typename Call>
SRGAN_FAST_INLINE void with_columns(const Arguments& a, std::int64_t channel, const Call& call) {
    if (channel + kTileColumns < a.out_channels)
        call(std::integral_constant<int, 2>());
    else
        call(std::integral_constant<int, 1>());
}

// Computes the blocks that each(next) passes to next(y, x, channel). multiply(kN, block, meanwhile) accumulates a
// block's products of kN tiles of channels in the registers.
template <Epilogue kEpilogue, bool kPRelu, typename Arguments, typename Each, typename Multiply>
void run_blocks(const Arguments& a, float* memory, const Each& each, const Multiply& multiply) {
    const auto part = [&](const MapBlock& b, int index) SRGAN_FAST_INLINE_LAMBDA {
        with_columns(a, b.channel, [&](auto n) { finish<n, kEpilogue, kPRelu>(a, b, index); });
    };
    Pipeline<MapBlock, decltype(part)> pipeline(memory, part);
    const TileRegisters registers;
    each([&](std::int64_t y, std::int64_t x, std::int64_t channel) {
        const MapBlock block{y, x, channel, nullptr};
        with_columns(a, channel, [&](auto n) {
            pipeline.next(block, [&](float* sums, const auto& meanwhile) SRGAN_FAST_INLINE_LAMBDA {
                zero_sums<kMapBlockRows, n>();
                multiply(n, block, meanwhile);
                store_sums<kMapBlockRows, n>(sums, kBlockSums);
            });
        });
    });
    pipeline.finish();
}

}  // namespace srgan_fast::cpu::SRGAN_FAST_LEVEL
