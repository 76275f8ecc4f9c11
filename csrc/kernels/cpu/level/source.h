// The prologues: windows of z and of dy, computed where they are read. Outside the image they are zero.
#pragma once

#include "kernels/cpu/conv.h"
#include "kernels/cpu/level/maps.h"

namespace srgan_fast::cpu::SRGAN_FAST_LEVEL {

// Where pixels stand in a map that is not shuffled: elements to the first pixel of the image, of a row, of a pixel.
struct Strides {
    std::int64_t image, row, pixel;

    SRGAN_FAST_INLINE std::int64_t operator()(std::int64_t y, std::int64_t x) const {
        return image + y * row + x * pixel;
    }
};

// kSide x kSide pixels from (y, x) in steps of kStep; `at(offset)` computes the one that stands there. Tiles are read
// from left to right, kAdvance pixels apart, too far apart in memory for the processor to see it coming:
// `ahead(offset)` fetches what the next one will need.
template <int kSide, int kStep, int kAdvance, typename V, typename At, typename Ahead>
SRGAN_FAST_INLINE void window(std::int64_t y, std::int64_t x, std::int64_t height, std::int64_t width,
                              const Strides& strides, const At& at, const Ahead& ahead, V* d) {
    constexpr std::int64_t kReach = (kSide - 1) * kStep;
    if (y >= 0 && x >= 0 && y + kReach < height && x + kReach < width) {
        std::int64_t offset = strides(y, x);
#pragma GCC unroll 1
        for (int i = 0; i < kSide; ++i, offset += kStep * strides.row)
#pragma GCC unroll 8
            for (int j = 0; j < kSide; ++j) {
                if (j + kAdvance >= kSide) ahead(offset + (j + kAdvance) * kStep * strides.pixel);
                d[i * kSide + j] = at(offset + j * kStep * strides.pixel);
            }
        return;
    }
    for (int i = 0; i < kSide; ++i)
        for (int j = 0; j < kSide; ++j) {
            const std::int64_t row = y + i * kStep, column = x + j * kStep;
            const bool inside = row >= 0 && column >= 0 && row < height && column < width;
            d[i * kSide + j] = inside ? at(strides(row, column)) : V{};
        }
}

// What a prologue knows of one vector of channels.
template <typename S>
struct Affine {
    Simd<S> center{}, scale{}, shift{}, slope{};

    Affine() = default;
    Affine(const Source<S>& source, std::int64_t channel)
        : center(read(source.center + channel)),
          scale(read(source.scale + channel)),
          shift(read(source.shift + channel)),
          slope(read(source.slope + channel)) {}

    SRGAN_FAST_INLINE Simd<S> before(Simd<S> x) const { return (x - center) * scale + shift; }
    SRGAN_FAST_INLINE Simd<S> operator()(Simd<S> x) const {
        const Simd<S> u = before(x);
        return u > S(0) ? u : u * slope;
    }
};

// Where pixel (y, x), channel c of a shuffled z stands in x.
struct Shuffled {
    std::int64_t offset, channel;

    template <typename S>
    SRGAN_FAST_INLINE Shuffled(const Source<S>& s, std::int64_t image, std::int64_t y, std::int64_t x, std::int64_t c)
        : channel(((y & 1) * 2 + (x & 1)) * s.channels + c) {
        offset = ((image * (s.height >> 1) + (y >> 1)) * (s.width >> 1) + (x >> 1)) * 4 * s.channels + channel;
    }
};

template <typename A>
SRGAN_FAST_INLINE Strides strides_of(const A& a, std::int64_t image, std::int64_t c) {
    return {image * a.height * a.width * a.channels + c, a.width * a.channels, a.channels};
}

template <int kSide, int kStep, bool kWhole, typename X, typename S>
void read_shuffled(const Source<S>& s, std::int64_t image, std::int64_t y, std::int64_t x, std::int64_t c, Simd<S>* d) {
    const X* const map = static_cast<const X*>(s.x);
    const int count = static_cast<int>(smaller<std::int64_t>(kLanesOf<S>, s.channels - c));
    Affine<S> phases[4];
    if (s.affine)
        for (int i = 0; i < 4; ++i) phases[i] = Affine<S>(s, i * s.channels + c);
    for (int i = 0; i < kSide; ++i)
        for (int j = 0; j < kSide; ++j) {
            const std::int64_t row = y + i * kStep, column = x + j * kStep;
            if (row < 0 || column < 0 || row >= s.height || column >= s.width) {
                d[i * kSide + j] = Simd<S>{};
                continue;
            }
            const Simd<S> value = read<kWhole>(map + Shuffled(s, image, row, column, c).offset, count);
            d[i * kSide + j] = s.affine ? phases[(row & 1) * 2 + (column & 1)](value) : value;
        }
}

template <int kSide, int kStep, int kAdvance, bool kWhole, typename X, typename S>
void read_source(const Source<S>& s, std::int64_t image, std::int64_t y, std::int64_t x, std::int64_t c, Simd<S>* d) {
    if (s.shuffle) return read_shuffled<kSide, kStep, kWhole, X>(s, image, y, x, c, d);
    const X* const map = static_cast<const X*>(s.x);
    const int count = static_cast<int>(smaller<std::int64_t>(kLanesOf<S>, s.channels - c));
    const auto run = [&](const auto& at, const auto& ahead) SRGAN_FAST_INLINE_LAMBDA {
        window<kSide, kStep, kAdvance>(y, x, s.height, s.width, strides_of(s, image, c), at, ahead, d);
    };
    const auto ahead = [&](std::int64_t offset) SRGAN_FAST_INLINE_LAMBDA { __builtin_prefetch(map + offset); };
    if (!s.affine)
        return run([&](std::int64_t offset) SRGAN_FAST_INLINE_LAMBDA { return read<kWhole>(map + offset, count); },
                   ahead);
    const Affine<S> affine(s, c);
    if (s.residual) {
        const X* const residual = static_cast<const X*>(s.residual);
        return run(
            [&](std::int64_t offset) SRGAN_FAST_INLINE_LAMBDA {
                return affine.before(read<kWhole>(map + offset, count)) + read<kWhole>(residual + offset, count);
            },
            ahead);
    }
    run([&](std::int64_t offset) SRGAN_FAST_INLINE_LAMBDA { return affine(read<kWhole>(map + offset, count)); }, ahead);
}

// Channels c .. of a window of z; see `window`.
template <int kSide, int kStep, int kAdvance, typename X, typename S>
SRGAN_FAST_INLINE void read_window(const Source<S>& s, std::int64_t image, std::int64_t y, std::int64_t x,
                                   std::int64_t c, Simd<S>* d) {
    if (c + kLanesOf<S> <= s.channels)
        read_source<kSide, kStep, kAdvance, true, X>(s, image, y, x, c, d);
    else
        read_source<kSide, kStep, kAdvance, false, X>(s, image, y, x, c, d);
}

template <int kSide, int kAdvance, bool kWhole, typename X, typename S>
void read_gradient(const Gradient<S>& a, std::int64_t image, std::int64_t y, std::int64_t x, std::int64_t c,
                   Simd<S>* d) {
    const X* const g = static_cast<const X*>(a.g);
    const X* const out = static_cast<const X*>(a.y);
    const int count = static_cast<int>(smaller<std::int64_t>(kLanesOf<S>, a.channels - c));
    const auto run = [&](const auto& at) SRGAN_FAST_INLINE_LAMBDA {
        window<kSide, 1, kAdvance>(
            y, x, a.height, a.width, strides_of(a, image, c), at,
            [&](std::int64_t offset) SRGAN_FAST_INLINE_LAMBDA {
                __builtin_prefetch(g + offset);
                if (out) __builtin_prefetch(out + offset);
            },
            d);
    };
    if (!out) return run([&](std::int64_t offset) SRGAN_FAST_INLINE_LAMBDA { return read<kWhole>(g + offset, count); });
    if (a.mean) {
        const Simd<S> mean = read(a.mean + c), offsets = read(a.offset + c), factor = read(a.factor + c);
        return run([&](std::int64_t offset) SRGAN_FAST_INLINE_LAMBDA {
            return read<kWhole>(g + offset, count) + offsets + factor * (read<kWhole>(out + offset, count) - mean);
        });
    }
    const Simd<S> slope = broadcast(a.slope);
    run([&](std::int64_t offset) SRGAN_FAST_INLINE_LAMBDA {
        const Simd<S> v = read<kWhole>(g + offset, count);
        return read<kWhole>(out + offset, count) > S(0) ? v : v * slope;
    });
}

// Channels c .. of a window of dy.
template <int kSide, int kAdvance, typename X, typename S>
SRGAN_FAST_INLINE void read_window(const Gradient<S>& a, std::int64_t image, std::int64_t y, std::int64_t x,
                                   std::int64_t c, Simd<S>* d) {
    if (c + kLanesOf<S> <= a.channels)
        read_gradient<kSide, kAdvance, true, X>(a, image, y, x, c, d);
    else
        read_gradient<kSide, kAdvance, false, X>(a, image, y, x, c, d);
}

}  // namespace srgan_fast::cpu::SRGAN_FAST_LEVEL
