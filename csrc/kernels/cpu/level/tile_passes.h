// Winograd transforms of a tile with many channels, in two passes, rows then columns, each over some channels, with the
// intermediate values in the L1 cache. So pixels are read and written row by row with adjacent channels, as they are in
// memory, which the hardware prefetcher detects. One vector of channels at a time, a tile's pixels would be too far
// apart for that, and each would be a cache miss.
#pragma once

#include "kernels/cpu/level/geometry.h"

namespace srgan_fast::cpu::SRGAN_FAST_LEVEL {

// One dimension of a tile with all its phases: pixels from left to right, and points, phase 1 after phase 0. Phase 1's
// point at infinity has no products and is omitted.
template <Geometry kGeometry>
struct Line {
    using W = typename Form<kGeometry>::W;
    static constexpr int kStep = Form<kGeometry>::kStep, kSide = W::kPoints;
    static constexpr int kPixels = kStep * kSide, kOutputs = kStep * W::kOutputs;
    static constexpr int kPoints = kStep == 1 ? kSide : 2 * kSide - 1;
    static constexpr int kBefore = kStep == 1 ? W::kRadius : 1;  // pixels of a window before its tile's outputs

    static constexpr int phase(int point) { return point / kSide; }
    static constexpr int point(int point) { return point % kSide; }

    // B^T of each phase: kPixels to kPoints.
    template <typename V>
    static SRGAN_FAST_INLINE void input(const V* d, V* v) {
        if constexpr (kStep == 1) {
            W::input(d, v);
        } else {
            V phases[2][kSide], last[kSide];
#pragma GCC unroll 8
            for (int i = 0; i < kPixels; ++i) phases[i % 2][i / 2] = d[i];
            W::input(phases[0], v);
            W::input(phases[1], last);
#pragma GCC unroll 8
            for (int i = 0; i + 1 < kSide; ++i) v[kSide + i] = last[i];
        }
    }

    // A^T of each phase of the input's gradient: kPoints to kOutputs. Phase 1 has the even ones.
    template <typename V>
    static SRGAN_FAST_INLINE void output(const V* m, V* y) {
        if constexpr (kStep == 1) {
            W::output(m, y);
        } else {
            V phases[2][W::kOutputs], last[kSide];
#pragma GCC unroll 8
            for (int i = 0; i < kSide; ++i) last[i] = i + 1 < kSide ? m[kSide + i] : V{};
            W::output(m, phases[0]);
            W::output(last, phases[1]);
#pragma GCC unroll 8
            for (int i = 0; i < kOutputs; ++i) y[i] = phases[1 - i % 2][i / 2];
        }
    }
};

// Channels that go through both passes at a time.
inline constexpr std::int64_t kPassChannels = 64;

// From pixels to points, channels first .. last: `read(i, begin, end, take)` calls take(c, pixels) for row i and each
// vector of channels, `step` transforms kFrom values to kTo, `put(c, i, j, value)` receives a point.
template <int kFrom, int kTo, typename S, typename Step, typename Read, typename Put>
SRGAN_FAST_INLINE void rows_then_columns(std::int64_t channels, const Step& step, const Read& read, const Put& put) {
    constexpr std::int64_t kLanes = kLanesOf<S>;
    using V = Simd<S>;
    for (std::int64_t begin = 0; begin < channels; begin += kPassChannels) {
        const std::int64_t end = smaller(begin + kPassChannels, channels);
        alignas(kAlignment) V half[kPassChannels / kLanes][kFrom][kTo];
        for (int i = 0; i < kFrom; ++i)
            read(i, begin, end, [&](std::int64_t c, const V* pixels) SRGAN_FAST_INLINE_LAMBDA {
                V points[kTo];
                step(pixels, points);
                V* const target = half[(c - begin) / kLanes][i];
#pragma GCC unroll 8
                for (int j = 0; j < kTo; ++j) target[j] = points[j];
            });
        for (std::int64_t c = begin; c < end; c += kLanes)
#pragma GCC unroll 8
            for (int j = 0; j < kTo; ++j) {
                V from[kFrom], to[kTo];
#pragma GCC unroll 8
                for (int i = 0; i < kFrom; ++i) from[i] = half[(c - begin) / kLanes][i][j];
                step(from, to);
#pragma GCC unroll 8
                for (int i = 0; i < kTo; ++i) put(c, i, j, to[i]);
            }
    }
}

// From points to pixels, `channels` <= kChannelGroup: `fetch(c, i, j)` returns a point, `write(i, c, pixels)` receives
// a vector of channels of each of `rows` rows.
template <int kFrom, int kTo, typename S, typename Step, typename Fetch, typename Write>
SRGAN_FAST_INLINE void columns_then_rows(std::int64_t channels, int rows, const Step& step, const Fetch& fetch,
                                         const Write& write) {
    constexpr std::int64_t kLanes = kLanesOf<S>;
    using V = Simd<S>;
    alignas(kAlignment) V half[kPassChannels / kLanes][kTo][kFrom];
    for (std::int64_t c = 0; c < channels; c += kLanes)
#pragma GCC unroll 8
        for (int j = 0; j < kFrom; ++j) {
            V from[kFrom], to[kTo];
#pragma GCC unroll 8
            for (int i = 0; i < kFrom; ++i) from[i] = fetch(c, i, j);
            step(from, to);
#pragma GCC unroll 8
            for (int i = 0; i < kTo; ++i) half[c / kLanes][i][j] = to[i];
        }
    for (int i = 0; i < rows; ++i)
        for (std::int64_t c = 0; c < channels; c += kLanes) {
            V pixels[kTo];
            step(half[c / kLanes][i], pixels);
            write(i, c, pixels);
        }
}

}  // namespace srgan_fast::cpu::SRGAN_FAST_LEVEL
