// Windows: the pixels that some rows of a result are computed from, with the convolution's padding, so that a tap is an
// offset and 16 neighbouring results are 16 rows of a tile wherever they stand. Results are counted through a window's
// rows, those of the padding columns included, which nobody reads: narrow images cost a few columns instead of half a
// tile.
#pragma once

#include "kernels/cpu/amx/rows.h"
#include "kernels/cpu/level/geometry.h"

namespace srgan_fast::cpu::SRGAN_FAST_LEVEL {

// Bytes of windows and the like that a task should not exceed, since they should stay in the second-level cache beside
// a block's weights; twice as much where there are so many weights that more pixels must share what streams through.
constexpr std::int64_t window_budget(std::int64_t depth, std::int64_t channels) {
    return depth * channels <= 128 * 256 ? 384 << 10 : 768 << 10;
}

// Into how many tasks `rows` rows of `row_bytes` each are cut: the same number for each thread.
inline std::int64_t tasks_of_rows(std::int64_t rows, std::int64_t row_bytes, std::int64_t budget, int threads) {
    const std::int64_t each = budget / row_bytes < 1 ? 1 : budget / row_bytes, tasks = (rows + each - 1) / each;
    return smaller(rows, (tasks + threads - 1) / threads * threads);
}

// Of z, for a forward call or a weight gradient. Stride 2 reads four planes, one for each parity of row and column.
template <Geometry kGeometry>
struct SourceWindows {
    static constexpr int kTaps = Form<kGeometry>::kTaps, kStep = Form<kGeometry>::kStep, kRadius = kTaps / 2;
    static constexpr int kPlanes = kStep == 2 ? 4 : 1;
    static constexpr std::int64_t kMoreRows = kStep == 2 ? 1 : kTaps - 1;
    std::int64_t width, depth;  // of the result; of a pixel

    std::int64_t pitch() const { return width + kMoreRows; }
    std::int64_t plane(std::int64_t rows) const { return (rows + kMoreRows) * pitch(); }  // pixels
    // Elements for `rows` rows of results. A tile may reach over the end by a block.
    std::int64_t size(std::int64_t rows) const { return (kPlanes * plane(rows) + kBlockRows) * depth; }
    // Results that are counted, those of padding columns included.
    std::int64_t results(std::int64_t rows) const { return (rows - 1) * pitch() + width; }
    // Pixels from a result's place to what its tap multiplies, and in which plane.
    static constexpr int plane_of(int ky, int kx) { return kStep == 2 ? ky % 2 * 2 + kx % 2 : 0; }
    std::int64_t shift(int ky, int kx) const { return ky / kStep * pitch() + kx / kStep; }

    void fill_from(const Source<float>& s, std::int64_t image, std::int64_t row, std::int64_t rows, bool sum,
                   Bf16* to) const {
        for (int a = 0; a < kPlanes; ++a)
            for (std::int64_t i = 0; i < rows + kMoreRows; ++i, to += pitch() * depth) {
                const std::int64_t y = kStep * (row + i) - kRadius + a / 2;
                const bool own = sum && y >= row && y < row + rows;
                fill(s, {y, a % 2 - kRadius, kStep, pitch(), s.height, s.width}, image, depth, own, to);
            }
    }
};

// Of dy, for a data gradient: the rows that the rows of z, or of a phase of z, are computed from. Each phase has taps
// of its own.
template <Geometry kGeometry>
struct GradientWindows {
    static constexpr int kTaps = Form<kGeometry>::kTaps, kStep = Form<kGeometry>::kStep, kRadius = kTaps / 2;
    static constexpr int kPhases = Form<kGeometry>::kPhases;
    static constexpr std::int64_t kMoreRows = kStep == 2 ? 1 : kTaps - 1;
    std::int64_t width, depth;  // of a phase of z, the widest; of a pixel

    std::int64_t pitch() const { return width + kMoreRows; }
    std::int64_t size(std::int64_t rows) const { return ((rows + kMoreRows) * pitch() + kBlockRows) * depth; }
    std::int64_t results(std::int64_t rows) const { return (rows - 1) * pitch() + width; }

    void fill_from(const Gradient<float>& g, std::int64_t image, std::int64_t row, std::int64_t rows, Bf16* to) const {
        constexpr std::int64_t kBefore = kStep == 2 ? 0 : kRadius;
        for (std::int64_t i = 0; i < rows + kMoreRows; ++i, to += pitch() * depth)
            fill(g, {row + i - kBefore, -kBefore, 1, pitch(), g.height, g.width}, image, 0, g.channels, depth, nullptr,
                 to);
    }

    // Calls work(index of the tap, pixels from a result's place) for the taps that give dz of a phase. For stride 2
    // phase p has row parity p / 2 and column parity p % 2; results in rows of the other parity than the middle tap's
    // lie between two rows of dy.
    template <typename Work>
    void each_tap(int phase, const Work& work) const {
        for (int ky = 0; ky < kTaps; ++ky)
            for (int kx = 0; kx < kTaps; ++kx) {
                if constexpr (kStep == 1) {
                    work(ky * kTaps + kx, (kTaps - 1 - ky) * pitch() + kTaps - 1 - kx);
                } else {
                    if ((ky + phase / 2) % 2 == 0 || (kx + phase % 2) % 2 == 0) continue;
                    work(ky * kTaps + kx, (ky == 0 ? pitch() : 0) + (kx == 0 ? 1 : 0));
                }
            }
    }
};

// Weights in tiles: [16 output channels][tap][32 input channels], each tile in pairs of input channels; "output" and
// "input" are the other way round for a data gradient.
struct WeightTiles {
    const Bf16* tiles;
    std::int64_t taps, depth;

    WeightTiles(const float* packed, std::int64_t taps, std::int64_t depth)
        : tiles(reinterpret_cast<const Bf16*>(packed)), taps(taps), depth(depth) {}

    std::int64_t block() const { return taps * (depth / kTileDepth) * kTileElements; }  // from 16 channels to the next
    const Bf16* at(std::int64_t channel, std::int64_t tap) const {
        return tiles + channel / kTileColumns * block() + tap * (depth / kTileDepth) * kTileElements;
    }
};

// A block of results: kBlockRows counted pixels by kN * 16 channels from `channel` on, summed up over taps and left in
// `sums`, kBlockColumns floats a pixel. each_tap calls its argument with a tap's index and what the first pixel
// multiplies it with.
template <int kN, typename EachTap>
SRGAN_FAST_INLINE void multiply_block(const WeightTiles& weights, std::int64_t channel, const EachTap& each_tap,
                                      float* sums) {
    const std::int64_t depth = weights.depth;
    const TileWalk walk{depth / kTileDepth, kTileRows * depth, depth * 2,    kTileDepth,
                        weights.block(),    kTileBytes,        kTileElements};
    zero_sums<2, kN>();
    each_tap([&](std::int64_t tap, const Bf16* pixels)
                 SRGAN_FAST_INLINE_LAMBDA { multiply_tiles<2, kN>(pixels, weights.at(channel, tap), walk); });
    store_sums<2, kN>(sums, kBlockColumns);
}

}  // namespace srgan_fast::cpu::SRGAN_FAST_LEVEL
