// The prologues: rows of z and of dy, computed where they are read. Outside the image they are zero.
#pragma once

#include <type_traits>

#include "kernels/cpu/conv.h"
#include "kernels/cpu/level/geometry.h"
#include "kernels/cpu/level/maps.h"

namespace srgan_fast::cpu::SRGAN_FAST_LEVEL {

// Where pixels stand in a map that is not shuffled: elements to the first pixel of the image, of a row, of a pixel.
struct Strides {
    std::int64_t image, row, pixel;

    SRGAN_FAST_INLINE std::int64_t operator()(std::int64_t y, std::int64_t x) const {
        return image + y * row + x * pixel;
    }
};

template <typename A>
SRGAN_FAST_INLINE Strides strides_of(const A& a, std::int64_t image, std::int64_t c) {
    return {image * a.height * a.width * a.channels + c, a.width * a.channels, a.channels};
}

// Elements from where one tile of a map stands to where another does; tiles are `side` pixels high and wide.
template <typename A>
SRGAN_FAST_INLINE std::int64_t distance(const A& a, const TileGrid::Place& from, const TileGrid::Place& to,
                                        std::int64_t side, bool shuffled) {
    const std::int64_t rows = (to.image - from.image) * a.height + (to.y - from.y) * side;
    return (rows * a.width + (to.x - from.x) * side * (shuffled ? 2 : 1)) * a.channels;
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

// Neighbouring pixels of a row: where each stands, and whether it is inside the image.
template <int kCount>
struct Places {
    std::int64_t offset[kCount];
    bool inside[kCount], all_inside;

    // Columns x .. of an image that wide; `at(column)` is where one stands.
    template <typename At>
    SRGAN_FAST_INLINE Places(std::int64_t x, std::int64_t width, const At& at)
        : all_inside(x >= 0 && x + kCount <= width) {
        for (int j = 0; j < kCount; ++j) {
            inside[j] = x + j >= 0 && x + j < width;
            offset[j] = inside[j] ? at(x + j) : 0;
        }
    }
};

// Channels of a row's pixels: `take(c, pixels)` is given one vector after the other, from `first` to `last`.
// `read(c, whole, count)` gives what reads such a vector, `count` channels of it: `at(offset, j)` for pixel j.
// `fetch(offset)` brings what the next row of pixels will be read from to the cache.
template <int kCount, typename S, typename Read, typename Fetch, typename Take>
SRGAN_FAST_INLINE void read_pixels(const Places<kCount>& places, std::int64_t channels, std::int64_t first,
                                   std::int64_t last, const Read& read, const Fetch& fetch, const Take& take) {
    constexpr int kLanes = kLanesOf<S>;
    const auto vector = [&](std::int64_t c, auto whole) SRGAN_FAST_INLINE_LAMBDA {
        const auto at = read(c, whole, static_cast<int>(smaller<std::int64_t>(kLanes, channels - c)));
        Simd<S> pixels[kCount];
        if (places.all_inside) {
#pragma GCC unroll 8
            for (int j = 0; j < kCount; ++j) {
                pixels[j] = at(places.offset[j] + c, j);
                if (j >= kCount - 7) fetch(places.offset[j] + c);
            }
        } else {
#pragma GCC unroll 8
            for (int j = 0; j < kCount; ++j) {
                pixels[j] = places.inside[j] ? at(places.offset[j] + c, j) : Simd<S>{};
                if (j >= kCount - 7) fetch(places.offset[j] + c);
            }
        }
        take(c, pixels);
    };
    std::int64_t c = first;
    for (; c < smaller(last, channels - kLanes + 1); c += kLanes) vector(c, std::true_type());
    for (; c < last; c += kLanes) vector(c, std::false_type());
}

template <int kCount, typename S, typename Take>
void read_nothing(std::int64_t first, std::int64_t last, const Take& take) {
    const Simd<S> nothing[kCount]{};
    for (std::int64_t c = first; c < last; c += kLanesOf<S>) take(c, nothing);
}

template <int kCount, typename X, typename S, typename Take>
void read_shuffled(const Source<S>& s, std::int64_t image, std::int64_t y, std::int64_t x, std::int64_t first,
                   std::int64_t last, std::int64_t ahead, const Take& take) {
    const X* const map = static_cast<const X*>(s.x);
    const Places<kCount> places(x, s.width, [&](std::int64_t column) SRGAN_FAST_INLINE_LAMBDA {
        return Shuffled(s, image, y, column, 0).offset;
    });
    const auto fetch = [&](std::int64_t offset) SRGAN_FAST_INLINE_LAMBDA { __builtin_prefetch(map + offset + ahead); };
    const auto run = [&](const auto& read) SRGAN_FAST_INLINE_LAMBDA {
        read_pixels<kCount, S>(places, s.channels, first, last, read, fetch, take);
    };
    if (!s.affine)
        return run([&](std::int64_t, auto whole, int count) SRGAN_FAST_INLINE_LAMBDA {
            return [=](std::int64_t offset, int)
                       SRGAN_FAST_INLINE_LAMBDA { return read<whole.value>(map + offset, count); };
        });
    // Neighbouring pixels are of two phases by turns.
    const std::int64_t even = ((y & 1) * 2 + (x & 1)) * s.channels, odd = ((y & 1) * 2 + ((x + 1) & 1)) * s.channels;
    run([&](std::int64_t c, auto whole, int count) SRGAN_FAST_INLINE_LAMBDA {
        return [=, evens = Affine<S>(s, even + c), odds = Affine<S>(s, odd + c)](std::int64_t offset, int j)
                   SRGAN_FAST_INLINE_LAMBDA {
                       const Simd<S> value = read<whole.value>(map + offset, count);
                       return j % 2 == 0 ? evens(value) : odds(value);
                   };
    });
}

// Channels first .. last of pixels (y, x) .. (y, x + kCount - 1) of z; see `read_pixels`.
template <int kCount, typename X, typename S, typename Take>
void read_row(const Source<S>& s, std::int64_t image, std::int64_t y, std::int64_t x, std::int64_t first,
              std::int64_t last, std::int64_t ahead, const Take& take) {
    if (y < 0 || y >= s.height) return read_nothing<kCount, S>(first, last, take);
    if (s.shuffle) return read_shuffled<kCount, X>(s, image, y, x, first, last, ahead, take);
    const X* const map = static_cast<const X*>(s.x);
    const Strides strides = strides_of(s, image, 0);
    const Places<kCount> places(x, s.width,
                                [&](std::int64_t column) SRGAN_FAST_INLINE_LAMBDA { return strides(y, column); });
    const auto fetch = [&](std::int64_t offset) SRGAN_FAST_INLINE_LAMBDA { __builtin_prefetch(map + offset + ahead); };
    const auto run = [&](const auto& read) SRGAN_FAST_INLINE_LAMBDA {
        read_pixels<kCount, S>(places, s.channels, first, last, read, fetch, take);
    };
    if (!s.affine)
        return run([&](std::int64_t, auto whole, int count) SRGAN_FAST_INLINE_LAMBDA {
            return [=](std::int64_t offset, int)
                       SRGAN_FAST_INLINE_LAMBDA { return read<whole.value>(map + offset, count); };
        });
    if (s.residual) {
        const X* const residual = static_cast<const X*>(s.residual);
        return run([&](std::int64_t c, auto whole, int count) SRGAN_FAST_INLINE_LAMBDA {
            return [=, affine = Affine<S>(s, c)](std::int64_t offset, int) SRGAN_FAST_INLINE_LAMBDA {
                return affine.before(read<whole.value>(map + offset, count)) +
                       read<whole.value>(residual + offset, count);
            };
        });
    }
    run([&](std::int64_t c, auto whole, int count) SRGAN_FAST_INLINE_LAMBDA {
        return [=, affine = Affine<S>(s, c)](std::int64_t offset, int)
                   SRGAN_FAST_INLINE_LAMBDA { return affine(read<whole.value>(map + offset, count)); };
    });
}

// The same of dy.
template <int kCount, typename X, typename S, typename Take>
void read_row(const Gradient<S>& a, std::int64_t image, std::int64_t y, std::int64_t x, std::int64_t first,
              std::int64_t last, std::int64_t ahead, const Take& take) {
    if (y < 0 || y >= a.height) return read_nothing<kCount, S>(first, last, take);
    const X* const g = static_cast<const X*>(a.g);
    const X* const out = static_cast<const X*>(a.y);
    const Strides strides = strides_of(a, image, 0);
    const Places<kCount> places(x, a.width,
                                [&](std::int64_t column) SRGAN_FAST_INLINE_LAMBDA { return strides(y, column); });
    const auto fetch = [&](std::int64_t offset) SRGAN_FAST_INLINE_LAMBDA {
        __builtin_prefetch(g + offset + ahead);
        if (out) __builtin_prefetch(out + offset + ahead);
    };
    const auto run = [&](const auto& read) SRGAN_FAST_INLINE_LAMBDA {
        read_pixels<kCount, S>(places, a.channels, first, last, read, fetch, take);
    };
    if (!out)
        return run([&](std::int64_t, auto whole, int count) SRGAN_FAST_INLINE_LAMBDA {
            return [=](std::int64_t offset, int)
                       SRGAN_FAST_INLINE_LAMBDA { return read<whole.value>(g + offset, count); };
        });
    if (a.mean)
        return run([&](std::int64_t c, auto whole, int count) SRGAN_FAST_INLINE_LAMBDA {
            return [=, mean = read(a.mean + c), more = read(a.offset + c), factor = read(a.factor + c)](
                       std::int64_t offset, int) SRGAN_FAST_INLINE_LAMBDA {
                return read<whole.value>(g + offset, count) + more +
                       factor * (read<whole.value>(out + offset, count) - mean);
            };
        });
    run([&](std::int64_t, auto whole, int count) SRGAN_FAST_INLINE_LAMBDA {
        return [=, slope = broadcast(a.slope)](std::int64_t offset, int) SRGAN_FAST_INLINE_LAMBDA {
            const Simd<S> value = read<whole.value>(g + offset, count);
            return read<whole.value>(out + offset, count) > S(0) ? value : value * slope;
        };
    });
}

}  // namespace srgan_fast::cpu::SRGAN_FAST_LEVEL
