// Windows: the pixels that some rows of results depend on, including padding, so that a tap is an offset and 16
// neighbouring results are 16 rows of a tile at any position. Results are numbered through the window's rows, including
// unused ones at padding columns: narrow images waste a few columns instead of half a tile.
#pragma once

#include <cstring>

#include "kernels/cpu/bf16/blocks.h"
#include "kernels/cpu/bf16/rows.h"
#include "kernels/cpu/level/geometry.h"

namespace srgan_fast::cpu::SRGAN_FAST_LEVEL {

// Bytes of windows and buffers per task; they should stay in the L2 cache beside a block's weights. Twice as much with
// many weights, so that more pixels share them while they are streamed.
constexpr std::int64_t window_budget(std::int64_t depth, std::int64_t channels) {
    return depth * channels <= 128 * 256 ? 384 << 10 : 768 << 10;
}

// Number of tasks for `rows` rows of `row_bytes` each: a multiple of the number of threads.
inline std::int64_t tasks_of_rows(std::int64_t rows, std::int64_t row_bytes, std::int64_t budget, int threads) {
    const std::int64_t each = budget / row_bytes < 1 ? 1 : budget / row_bytes, tasks = (rows + each - 1) / each;
    return smaller(rows, (tasks + threads - 1) / threads * threads);
}

// Position of each tap's operands in a window, for the first result.
struct Taps {
    int count = 0;
    int weight[25];           // index of the tap, or of a tile in narrow weights
    std::int64_t offset[25];  // elements
};

// Mapping of pixels' channels to the GEMM's depth. Normally in blocks of kTileDepth, with one multiplication per tap.
// Narrow, if a kernel row of all channels fits in two tiles: then a multiplication covers adjacent values of such a
// row, and weights after its end are zero. The engine, whose channels are multiples of 16, packs the first form with
// the same function.
template <Geometry kGeometry>
struct Depth {
    static constexpr int kTaps = Form<kGeometry>::kTaps;
    std::int64_t channels;

    bool narrow() const {
        return Form<kGeometry>::kStep == 1 && channels < kLanes && kTaps * channels <= 2 * kTileDepth;
    }
    std::int64_t pixel() const { return narrow() ? channels : kTileDepth; }  // elements per pixel
    std::int64_t blocks() const { return narrow() ? 1 : deep(channels) / kTileDepth; }
    // Tiles of weights per block; per row of narrow weights.
    int tiles() const { return kTaps * (narrow() ? row_tiles() : kTaps); }
    int row_tiles() const { return static_cast<int>(deep(kTaps * channels) / kTileDepth); }

    std::int64_t elements(std::int64_t pixels) const {
        return narrow() ? deep(pixels * channels + 2 * kTileDepth) : pixels * deep(channels);
    }
    // Zeroes what tiles read beyond a narrow window's pixels, since zero times NaN is NaN.
    void zero_behind(Bf16* window, std::int64_t pixels, std::int64_t all) const {
        std::memset(static_cast<void*>(window + pixels * channels), 0,
                    static_cast<std::size_t>(elements(all) - pixels * channels) * sizeof(Bf16));
    }
    // Taps of narrow windows with that many pixels per row.
    Taps taps(std::int64_t pitch) const {
        Taps taps;
        for (; taps.count < tiles(); ++taps.count) {
            taps.weight[taps.count] = taps.count;
            taps.offset[taps.count] =
                taps.count / row_tiles() * pitch * channels + taps.count % row_tiles() * kTileDepth;
        }
        return taps;
    }
    WeightTiles weights(const void* packed) const { return {packed, tiles(), blocks() * kTileDepth}; }
};

// Windows of z, for a forward call or a weight gradient. Stride 2 uses four planes, one per parity of row and column.
template <Geometry kGeometry>
struct SourceWindows {
    static constexpr int kTaps = Form<kGeometry>::kTaps, kStep = Form<kGeometry>::kStep, kRadius = kTaps / 2;
    static constexpr int kPlanes = kStep == 2 ? 4 : 1;
    static constexpr std::int64_t kMoreRows = kStep == 2 ? 1 : kTaps - 1;
    std::int64_t width;  // of the result
    Depth<kGeometry> depth;

    std::int64_t pitch() const { return width + kMoreRows; }
    // Pixels of a plane, including those that a tile reads beyond its end.
    std::int64_t plane(std::int64_t rows) const { return (rows + kMoreRows) * pitch() + kBlockRows; }
    // Elements for `rows` rows of results: [plane][block of kTileDepth channels][pixel][channel], so that a tile of
    // pixels is contiguous and all taps of a block find it in the L1 cache.
    std::int64_t size(std::int64_t rows) const { return kPlanes * depth.elements(plane(rows)); }
    // Number of results, including unused ones at padding columns.
    std::int64_t results(std::int64_t rows) const { return (rows - 1) * pitch() + width; }
    // Plane of a tap's operands, and their offset in pixels from the result's position.
    static constexpr int plane_of(int ky, int kx) { return kStep == 2 ? ky % 2 * 2 + kx % 2 : 0; }
    std::int64_t shift(int ky, int kx) const { return ky / kStep * pitch() + kx / kStep; }

    Taps taps(std::int64_t rows) const {
        if (depth.narrow()) return depth.taps(pitch());
        Taps taps;
        for (int ky = 0; ky < kTaps; ++ky)
            for (int kx = 0; kx < kTaps; ++kx, ++taps.count) {
                taps.weight[taps.count] = taps.count;
                taps.offset[taps.count] = plane_of(ky, kx) * depth.elements(plane(rows)) + shift(ky, kx) * kTileDepth;
            }
        return taps;
    }

    // Calls fill(plane, row of the plane, run, whether results are computed for that row).
    template <typename Fill>
    void each_row(const Source<float>& s, std::int64_t row, std::int64_t rows, const Fill& fill) const {
        for (std::int64_t i = 0; i < rows + kMoreRows; ++i)
            for (int a = 0; a < kPlanes; ++a) {
                const std::int64_t y = kStep * (row + i) - kRadius + a / 2;
                fill(a, i, Run{y, a % 2 - kRadius, kStep, pitch(), s.height, s.width}, y >= row && y < row + rows);
            }
    }

    void fill_from(const Source<float>& s, std::int64_t image, std::int64_t row, std::int64_t rows, bool sum,
                   Bf16* to) const {
        const std::int64_t pixels = plane(rows), plane_size = depth.elements(pixels);
        each_row(s, row, rows, [&](int a, std::int64_t i, const Run& run, bool own) {
            Bf16* const place = to + a * plane_size + i * pitch() * depth.pixel();
            if (depth.narrow())
                fill(s, run, image, sum && own, NarrowTarget{place, depth.channels});
            else
                fill(s, run, image, sum && own, Target{place, pixels * kTileDepth, deep(depth.channels)});
        });
        if (depth.narrow()) depth.zero_behind(to, (rows + kMoreRows) * pitch(), pixels);
    }
};

// Windows of dy, for a data gradient: the rows that rows of z, or of a phase of z, depend on.
template <Geometry kGeometry>
struct GradientWindows {
    static constexpr int kTaps = Form<kGeometry>::kTaps, kStep = Form<kGeometry>::kStep, kRadius = kTaps / 2;
    static constexpr int kPhases = Form<kGeometry>::kPhases;
    static constexpr std::int64_t kMoreRows = kStep == 2 ? 1 : kTaps - 1;
    std::int64_t width;  // of a phase of z, the widest
    Depth<kGeometry> depth;

    std::int64_t pitch() const { return width + kMoreRows; }
    std::int64_t pixels(std::int64_t rows) const { return (rows + kMoreRows) * pitch() + kBlockRows; }
    std::int64_t size(std::int64_t rows) const { return depth.elements(pixels(rows)); }
    std::int64_t results(std::int64_t rows) const { return (rows - 1) * pitch() + width; }

    void fill_from(const Gradient<float>& g, std::int64_t image, std::int64_t row, std::int64_t rows, Bf16* to) const {
        constexpr std::int64_t kBefore = kStep == 2 ? 0 : kRadius;
        for (std::int64_t i = 0; i < rows + kMoreRows; ++i) {
            const Run run{row + i - kBefore, -kBefore, 1, pitch(), g.height, g.width};
            Bf16* const place = to + i * pitch() * depth.pixel();
            if (depth.narrow())
                fill(g, run, image, 0, nullptr, NarrowTarget{place, depth.channels});
            else
                fill(g, run, image, 0, nullptr, Target{place, pixels(rows) * kTileDepth, deep(depth.channels)});
        }
        if (depth.narrow()) depth.zero_behind(to, (rows + kMoreRows) * pitch(), pixels(rows));
    }

    // Taps of a phase of dz. For stride 2, phase p has row parity p / 2 and column parity p % 2: even rows of z
    // coincide with rows of dy and use the middle tap, odd ones lie between two of them.
    Taps taps(int phase) const {
        if (depth.narrow()) return depth.taps(pitch());
        Taps taps;
        for (int ky = 0; ky < kTaps; ++ky)
            for (int kx = 0; kx < kTaps; ++kx) {
                std::int64_t pixels = (kTaps - 1 - ky) * pitch() + kTaps - 1 - kx;
                if constexpr (kStep == 2) {
                    if ((ky + phase / 2) % 2 == 0 || (kx + phase % 2) % 2 == 0) continue;
                    pixels = (ky == 0 ? pitch() : 0) + (kx == 0 ? 1 : 0);
                }
                taps.weight[taps.count] = ky * kTaps + kx;
                taps.offset[taps.count++] = pixels * kTileDepth;
            }
        return taps;
    }
};

// Elements of the windows for `rows` consecutive rows of images of a height, at any position.
template <typename Windows>
std::int64_t windows_size(const Windows& w, std::int64_t rows, std::int64_t height) {
    return w.size(rows) + most_segments(rows, height) * w.size(0);
}

// Computes a block of results: `count` of kBlockRows pixels by kN * 16 channels from `channel` on, stored in `sums`,
// kBlockColumns floats per pixel. `window` is the position of the first result; pixels are `pixel` elements apart,
// blocks of channels `block`. meanwhile() is called between multiplications: other work while the tile unit is busy.
template <int kN, typename Meanwhile>
SRGAN_FAST_INLINE void multiply_block(const WeightTiles& weights, std::int64_t channel, const Taps& taps,
                                      const Bf16* window, std::int64_t pixel, std::int64_t block, std::int64_t count,
                                      float* sums, const Meanwhile& meanwhile) {
    sum_products<2, kN>(
        count, nullptr, kBlockSums, sums, kBlockSums,
        [&](const auto& step) SRGAN_FAST_INLINE_LAMBDA {
            const Bf16* from = window;
            for (std::int64_t k = 0; k < weights.blocks; ++k, from += block) {
                const Bf16* const tiles = weights.at(channel, k);
                for (int t = 0; t < taps.count; ++t) {
                    const Bf16* const pixels = from + taps.offset[t];
                    step(pixels, pixels + kTileRows * pixel, pixel * 2, tiles + taps.weight[t] * kTileElements,
                         weights.group());
                }
            }
        },
        meanwhile);
}

// Position of a block's results: `count` results numbered from `from`, in rows from `row` on; and their sums.
struct Block {
    std::int64_t image, row, from, count;
    int phase;
    const float* sums;
};

// One of kParts parts of a block, as runs of adjacent results: visit(y, x, count, sums) for `count` results from row y,
// column x on. `pitch`: numbered results per row, of which `width` are used.
template <int kParts, typename Visit>
SRGAN_FAST_INLINE void each_run(const Block& b, int part, std::int64_t pitch, std::int64_t width, const Visit& visit) {
    constexpr std::int64_t kPixels = kBlockRows / kParts;
    const std::int64_t end = smaller((part + 1) * kPixels, b.count);
    const auto from = static_cast<std::uint32_t>(b.from + part * kPixels), across = static_cast<std::uint32_t>(pitch);
    std::int64_t y = b.row + from / across, x = from % across;
    for (std::int64_t p = part * kPixels; p < end; ++y) {
        const std::int64_t counted = smaller(end - p, pitch - x), wanted = smaller(counted, width - x);
        if (wanted > 0) visit(y, x, wanted, b.sums + p * kBlockColumns);
        p += counted, x = 0;
    }
}

}  // namespace srgan_fast::cpu::SRGAN_FAST_LEVEL
