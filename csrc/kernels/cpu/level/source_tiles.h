// The tiles of z in the Winograd domain: what the forward call and the weight gradient multiply with.
#pragma once

#include "kernels/cpu/level/geometry.h"
#include "kernels/cpu/level/source.h"

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

    // Where the matrix of point (i, j) begins: [tile][slot][channel].
    static std::int64_t point(int i, int j, std::int64_t depth, std::int64_t tiles) {
        return P::before(i, j) * depth * tiles + (i * kSide + j) * kSkewOf<S>;
    }

    // Transforms the tiles begin .. end; `seen(place, channel, window)` is shown each window before.
    template <typename Seen>
    static void transform(const Source<S>& source, const TileGrid& tiles, std::int64_t begin, std::int64_t end, S* v,
                          const Seen& seen) {
        const std::int64_t depth = padded(source.channels), count = end - begin;
        for (std::int64_t t = begin; t < end; ++t) {
            const TileGrid::Place at = tiles[t];
            for (int phase = 0; phase < P::kPhases; ++phase) {
                const std::int64_t y = kStep * at.y * kOutputs - (kStep == 1 ? W::kRadius : 1 - phase / 2);
                const std::int64_t x = kStep * at.x * kOutputs - (kStep == 1 ? W::kRadius : 1 - phase % 2);
                for (std::int64_t c = 0; c < depth; c += kLanesOf<S>) {
                    alignas(kAlignment) V d[kSide * kSide];
                    read_window<kSide, kStep, kOutputs, X>(source, at.image, y, x, c, d);
                    seen(at, c, d);
                    transform_input<W, V>(
                        [&](int i, int j) SRGAN_FAST_INLINE_LAMBDA { return d[i * kSide + j]; },
                        [&](int i, int j, V value) SRGAN_FAST_INLINE_LAMBDA {
                            const int slot = P::slot(i, j, phase);
                            if (slot < 0) return;
                            store(v + point(i, j, depth, count) + ((t - begin) * P::slots(i, j) + slot) * depth + c,
                                  value);
                        });
                }
            }
        }
    }
};

}  // namespace srgan_fast::cpu::SRGAN_FAST_LEVEL
