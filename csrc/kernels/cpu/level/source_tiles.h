// Tiles of z in the Winograd domain: an operand of the forward call and of the weight gradient.
#pragma once

#include "kernels/cpu/level/geometry.h"
#include "kernels/cpu/level/source.h"
#include "kernels/cpu/level/tile_passes.h"

namespace srgan_fast::cpu::SRGAN_FAST_LEVEL {

template <Geometry kGeometry, typename X>
struct SourceTiles {
    using S = Scalar<X>;
    using V = Simd<S>;
    using W = typename Form<kGeometry>::W;
    using P = Points<kGeometry>;
    static constexpr int kSide = P::kSide, kOutputs = W::kOutputs, kStep = Form<kGeometry>::kStep;

    static std::int64_t size(const Source<S>& source, std::int64_t tiles) {
        return P::kSlots * padded(source.channels) * tiles + kSide * kSide * kSkewOf<S>;
    }

    // Start of the matrix of point (i, j): [tile][slot][channel].
    static std::int64_t point(int i, int j, std::int64_t depth, std::int64_t tiles) {
        return P::before(i, j) * depth * tiles + (i * kSide + j) * kSkewOf<S>;
    }

    // Transforms the tiles begin .. end; `seen(place, i, c, pixels)` receives each vector of channels of row i of a
    // window.
    template <typename Seen>
    static void transform(const Source<S>& source, const TileGrid& tiles, std::int64_t begin, std::int64_t end, S* v,
                          const Seen& seen) {
        using L = Line<kGeometry>;
        const std::int64_t depth = padded(source.channels), count = end - begin;
        for (std::int64_t t = begin; t < end; ++t) {
            const TileGrid::Place at = tiles[t];
            const std::int64_t y = L::kStep * at.y * kOutputs - L::kBefore, x = L::kStep * at.x * kOutputs - L::kBefore;
            const Window<L::kPixels> window(source, at.image, y, x, to_next_tile(source, tiles, t, end, L::kOutputs));
            rows_then_columns<L::kPixels, L::kPoints, S>(
                depth, [](const V* d, V* to) SRGAN_FAST_INLINE_LAMBDA { L::input(d, to); },
                [&](int i, std::int64_t first, std::int64_t last, const auto& take) SRGAN_FAST_INLINE_LAMBDA {
                    read_row<X>(source, window, i, first, last,
                                [&](std::int64_t c, const V* pixels) SRGAN_FAST_INLINE_LAMBDA {
                                    seen(at, i, c, pixels);
                                    take(c, pixels);
                                });
                },
                [&](std::int64_t c, int row, int column, V value) SRGAN_FAST_INLINE_LAMBDA {
                    const int i = L::point(row), j = L::point(column);
                    const int slot = P::slot(i, j, L::phase(row) * 2 + L::phase(column));
                    store(v + point(i, j, depth, count) + ((t - begin) * P::slots(i, j) + slot) * depth + c, value);
                });
        }
    }
};

}  // namespace srgan_fast::cpu::SRGAN_FAST_LEVEL
