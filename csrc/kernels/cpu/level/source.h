// The prologues: windows of z and of dy, computed where they are read. Outside the image they are zero.
#pragma once

#include "kernels/cpu/conv.h"
#include "kernels/cpu/level/maps.h"

namespace srgan_fast::cpu::SRGAN_FAST_LEVEL {

// kSide x kSide pixels from (y, x) in steps of kStep; `at(y, x)` computes one that lies in the image.
template <int kSide, int kStep, typename V, typename At>
SRGAN_FAST_INLINE void window(std::int64_t y, std::int64_t x, std::int64_t height, std::int64_t width, const At& at,
                              V* d) {
    constexpr std::int64_t kReach = (kSide - 1) * kStep;
    if (y >= 0 && x >= 0 && y + kReach < height && x + kReach < width) {
#pragma GCC unroll 1
        for (int i = 0; i < kSide; ++i)
#pragma GCC unroll 8
            for (int j = 0; j < kSide; ++j) d[i * kSide + j] = at(y + i * kStep, x + j * kStep);
        return;
    }
    for (int i = 0; i < kSide; ++i)
        for (int j = 0; j < kSide; ++j) {
            const std::int64_t row = y + i * kStep, column = x + j * kStep;
            const bool inside = row >= 0 && column >= 0 && row < height && column < width;
            d[i * kSide + j] = inside ? at(row, column) : V{};
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

// Where pixel (y, x), channel c of z stands in x.
template <typename S>
struct Place {
    std::int64_t offset, channel;

    SRGAN_FAST_INLINE static Place shuffled(const Source<S>& s, std::int64_t image, std::int64_t y, std::int64_t x,
                                            std::int64_t c) {
        const std::int64_t channel = ((y & 1) * 2 + (x & 1)) * s.channels + c;
        return {((image * (s.height >> 1) + (y >> 1)) * (s.width >> 1) + (x >> 1)) * 4 * s.channels + channel, channel};
    }
    SRGAN_FAST_INLINE static std::int64_t plain(const Source<S>& s, std::int64_t image, std::int64_t y, std::int64_t x,
                                                std::int64_t c) {
        return ((image * s.height + y) * s.width + x) * s.channels + c;
    }
};

template <int kSide, int kStep, bool kWhole, typename X, typename S>
void read_source(const Source<S>& s, std::int64_t image, std::int64_t y, std::int64_t x, std::int64_t c, Simd<S>* d) {
    const X* const map = static_cast<const X*>(s.x);
    const int count = static_cast<int>(smaller<std::int64_t>(kLanesOf<S>, s.channels - c));
    const auto run = [&](const auto& at)
                         SRGAN_FAST_INLINE_LAMBDA { window<kSide, kStep>(y, x, s.height, s.width, at, d); };
    if (s.shuffle) {
        Affine<S> phases[4];
        if (!s.affine)
            return run([&](std::int64_t row, std::int64_t column) SRGAN_FAST_INLINE_LAMBDA {
                return read<kWhole>(map + Place<S>::shuffled(s, image, row, column, c).offset, count);
            });
        for (int i = 0; i < 4; ++i) phases[i] = Affine<S>(s, i * s.channels + c);
        return run([&](std::int64_t row, std::int64_t column) SRGAN_FAST_INLINE_LAMBDA {
            return phases[(row & 1) * 2 + (column & 1)](
                read<kWhole>(map + Place<S>::shuffled(s, image, row, column, c).offset, count));
        });
    }
    if (!s.affine)
        return run([&](std::int64_t row, std::int64_t column) SRGAN_FAST_INLINE_LAMBDA {
            return read<kWhole>(map + Place<S>::plain(s, image, row, column, c), count);
        });
    const Affine<S> affine(s, c);
    if (s.residual) {
        const X* const residual = static_cast<const X*>(s.residual);
        return run([&](std::int64_t row, std::int64_t column) SRGAN_FAST_INLINE_LAMBDA {
            const std::int64_t offset = Place<S>::plain(s, image, row, column, c);
            return affine.before(read<kWhole>(map + offset, count)) + read<kWhole>(residual + offset, count);
        });
    }
    run([&](std::int64_t row, std::int64_t column) SRGAN_FAST_INLINE_LAMBDA {
        return affine(read<kWhole>(map + Place<S>::plain(s, image, row, column, c), count));
    });
}

// Channels c .. of a window of z.
template <int kSide, int kStep, typename X, typename S>
SRGAN_FAST_INLINE void read_window(const Source<S>& s, std::int64_t image, std::int64_t y, std::int64_t x,
                                   std::int64_t c, Simd<S>* d) {
    if (c + kLanesOf<S> <= s.channels)
        read_source<kSide, kStep, true, X>(s, image, y, x, c, d);
    else
        read_source<kSide, kStep, false, X>(s, image, y, x, c, d);
}

template <int kSide, bool kWhole, typename X, typename S>
void read_gradient(const Gradient<S>& a, std::int64_t image, std::int64_t y, std::int64_t x, std::int64_t c,
                   Simd<S>* d) {
    const X* const g = static_cast<const X*>(a.g);
    const X* const out = static_cast<const X*>(a.y);
    const int count = static_cast<int>(smaller<std::int64_t>(kLanesOf<S>, a.channels - c));
    const auto run = [&](const auto& at) SRGAN_FAST_INLINE_LAMBDA {
        window<kSide, 1>(
            y, x, a.height, a.width,
            [&](std::int64_t row, std::int64_t column)
                SRGAN_FAST_INLINE_LAMBDA { return at(((image * a.height + row) * a.width + column) * a.channels + c); },
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
template <int kSide, typename X, typename S>
SRGAN_FAST_INLINE void read_window(const Gradient<S>& a, std::int64_t image, std::int64_t y, std::int64_t x,
                                   std::int64_t c, Simd<S>* d) {
    if (c + kLanesOf<S> <= a.channels)
        read_gradient<kSide, true, X>(a, image, y, x, c, d);
    else
        read_gradient<kSide, false, X>(a, image, y, x, c, d);
}

}  // namespace srgan_fast::cpu::SRGAN_FAST_LEVEL
