// Prologues: rows of z and of dy, computed as they are read. They are zero outside the image.
#pragma once

#include <type_traits>

#include "kernels/cpu/conv.h"
#include "kernels/cpu/level/geometry.h"
#include "kernels/cpu/level/maps.h"

namespace srgan_fast::cpu::SRGAN_FAST_LEVEL {

// Layout of pixels in an unshuffled map: elements to the image's first pixel, per row, per pixel.
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

// Whether a map has pixels as before a shuffle, with four pixels of z in each.
template <typename A>
constexpr bool is_shuffled(const A&) {
    return false;
}
template <typename S>
constexpr bool is_shuffled(const Source<S>& s) {
    return s.shuffle;
}

// Elements from the position of a tile in a map to that of the next one before `end`; tiles are `side` pixels high and
// wide.
template <typename A>
SRGAN_FAST_INLINE std::int64_t to_next_tile(const A& map, const TileGrid& tiles, std::int64_t tile, std::int64_t end,
                                            std::int64_t side) {
    const TileGrid::Place from = tiles[tile], to = tiles[smaller(tile + 1, end - 1)];
    const std::int64_t rows = (to.image - from.image) * map.height + (to.y - from.y) * side;
    return (rows * map.width + (to.x - from.x) * side * (is_shuffled(map) ? 2 : 1)) * map.channels;
}

// Per-channel values of a prologue for one vector of channels.
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

// Position in x of pixel (y, x), channel c of a shuffled z.
struct Shuffled {
    std::int64_t offset, channel;

    template <typename S>
    SRGAN_FAST_INLINE Shuffled(const Source<S>& s, std::int64_t image, std::int64_t y, std::int64_t x, std::int64_t c)
        : channel(((y & 1) * 2 + (x & 1)) * s.channels + c) {
        offset = ((image * (s.height >> 1) + (y >> 1)) * (s.width >> 1) + (x >> 1)) * 4 * s.channels + channel;
    }
};

// The pixels that a tile depends on: kSide rows of kSide pixels of a map, which may extend beyond it. The same columns
// of each row are inside, at the same offsets, so they are computed once.
template <int kSide>
struct Window {
    std::int64_t image, y, x;    // of the first pixel
    std::int64_t ahead;          // elements to the window that is read next
    std::int64_t column[kSide];  // elements from the row's start; 0 for columns outside
    bool inside[kSide], all_inside;

    template <typename A>
    Window(const A& map, std::int64_t image, std::int64_t y, std::int64_t x, std::int64_t ahead)
        : image(image), y(y), x(x), ahead(ahead), all_inside(x >= 0 && x + kSide <= map.width) {
        for (int j = 0; j < kSide; ++j) {
            const std::int64_t at = x + j;
            inside[j] = at >= 0 && at < map.width;
            column[j] = !inside[j] ? 0 : is_shuffled(map) ? (at / 2 * 4 + at % 2) * map.channels : at * map.channels;
        }
    }

    // Start of row i of the window.
    template <typename A>
    std::int64_t row(const A& map, int i) const {
        const std::int64_t line = y + i, whole = image * map.height + (is_shuffled(map) ? line / 2 * 2 : line);
        return (whole * map.width + (is_shuffled(map) ? line % 2 * 2 : 0)) * map.channels;
    }
};

// Reads channels of a window's row: `take(c, pixels)` receives one vector after the other, from `first` to `last`.
// `read(c, whole, count)` returns a reader of such a vector, `count` channels of it: `at(offset, j)` for pixel j at
// `offset`. `fetch(offset)` prefetches that position for the next window.
template <int kSide, typename S, typename Read, typename Fetch, typename Take>
SRGAN_FAST_INLINE void read_pixels(const Window<kSide>& window, std::int64_t row, std::int64_t channels,
                                   std::int64_t first, std::int64_t last, const Read& read, const Fetch& fetch,
                                   const Take& take) {
    constexpr int kLanes = kLanesOf<S>, kFirstFetched = kSide > 7 ? 1 : 0;  // windows overlap by at least one pixel
    const auto vector = [&](std::int64_t c, auto whole) SRGAN_FAST_INLINE_LAMBDA {
        const auto at = read(c, whole, static_cast<int>(smaller<std::int64_t>(kLanes, channels - c)));
        const std::int64_t start = row + c;
        Simd<S> pixels[kSide];
        if (window.all_inside) {
#pragma GCC unroll 8
            for (int j = 0; j < kSide; ++j) {
                pixels[j] = at(start + window.column[j], j);
                if (j >= kFirstFetched) fetch(start + window.column[j] + window.ahead);
            }
        } else {
#pragma GCC unroll 8
            for (int j = 0; j < kSide; ++j) {
                pixels[j] = window.inside[j] ? at(start + window.column[j], j) : Simd<S>{};
                if (j >= kFirstFetched) fetch(start + window.column[j] + window.ahead);
            }
        }
        take(c, pixels);
    };
    std::int64_t c = first;
    for (; c < smaller(last, channels - kLanes + 1); c += kLanes) vector(c, std::true_type());
    for (; c < last; c += kLanes) vector(c, std::false_type());
}

template <int kSide, typename S, typename Take>
void read_nothing(std::int64_t first, std::int64_t last, const Take& take) {
    const Simd<S> nothing[kSide]{};
    for (std::int64_t c = first; c < last; c += kLanesOf<S>) take(c, nothing);
}

// Channels first .. last of row i of a window of z; see `read_pixels`.
template <typename X, int kSide, typename S, typename Take>
void read_row(const Source<S>& s, const Window<kSide>& window, int i, std::int64_t first, std::int64_t last,
              const Take& take) {
    const std::int64_t y = window.y + i, x = window.x;
    if (y < 0 || y >= s.height) return read_nothing<kSide, S>(first, last, take);
    const X* const map = static_cast<const X*>(s.x);
    const X* const residual = static_cast<const X*>(s.residual);
    const auto fetch = [&](std::int64_t offset) SRGAN_FAST_INLINE_LAMBDA { __builtin_prefetch(map + offset); };
    const auto run = [&](const auto& read, const auto& fetch) SRGAN_FAST_INLINE_LAMBDA {
        read_pixels<kSide, S>(window, window.row(s, i), s.channels, first, last, read, fetch, take);
    };
    if (!s.affine)
        return run(
            [&](std::int64_t, auto whole, int count) SRGAN_FAST_INLINE_LAMBDA {
                return [=](std::int64_t offset, int)
                           SRGAN_FAST_INLINE_LAMBDA { return read<whole.value>(map + offset, count); };
            },
            fetch);
    if (s.shuffle) {  // neighbouring pixels alternate between two phases
        const std::int64_t even = (y % 2 * 2 + (x & 1)) * s.channels, odd = (y % 2 * 2 + ((x + 1) & 1)) * s.channels;
        return run(
            [&](std::int64_t c, auto whole, int count) SRGAN_FAST_INLINE_LAMBDA {
                return [=, evens = Affine<S>(s, even + c), odds = Affine<S>(s, odd + c)](std::int64_t offset, int j)
                           SRGAN_FAST_INLINE_LAMBDA {
                               const Simd<S> value = read<whole.value>(map + offset, count);
                               return j % 2 == 0 ? evens(value) : odds(value);
                           };
            },
            fetch);
    }
    if (residual)
        return run(
            [&](std::int64_t c, auto whole, int count) SRGAN_FAST_INLINE_LAMBDA {
                return [=, affine = Affine<S>(s, c)](std::int64_t offset, int) SRGAN_FAST_INLINE_LAMBDA {
                    return affine.before(read<whole.value>(map + offset, count)) +
                           read<whole.value>(residual + offset, count);
                };
            },
            [&](std::int64_t offset) SRGAN_FAST_INLINE_LAMBDA {
                __builtin_prefetch(map + offset);
                __builtin_prefetch(residual + offset);
            });
    run(
        [&](std::int64_t c, auto whole, int count) SRGAN_FAST_INLINE_LAMBDA {
            return [=, affine = Affine<S>(s, c)](std::int64_t offset, int)
                       SRGAN_FAST_INLINE_LAMBDA { return affine(read<whole.value>(map + offset, count)); };
        },
        fetch);
}

// The same for dy.
template <typename X, int kSide, typename S, typename Take>
void read_row(const Gradient<S>& a, const Window<kSide>& window, int i, std::int64_t first, std::int64_t last,
              const Take& take) {
    if (window.y + i < 0 || window.y + i >= a.height) return read_nothing<kSide, S>(first, last, take);
    const X* const g = static_cast<const X*>(a.g);
    const X* const out = static_cast<const X*>(a.y);
    const auto run = [&](const auto& read, const auto& fetch) SRGAN_FAST_INLINE_LAMBDA {
        read_pixels<kSide, S>(window, window.row(a, i), a.channels, first, last, read, fetch, take);
    };
    if (!out)
        return run(
            [&](std::int64_t, auto whole, int count) SRGAN_FAST_INLINE_LAMBDA {
                return [=](std::int64_t offset, int)
                           SRGAN_FAST_INLINE_LAMBDA { return read<whole.value>(g + offset, count); };
            },
            [&](std::int64_t offset) SRGAN_FAST_INLINE_LAMBDA { __builtin_prefetch(g + offset); });
    const auto fetch = [&](std::int64_t offset) SRGAN_FAST_INLINE_LAMBDA {
        __builtin_prefetch(g + offset);
        __builtin_prefetch(out + offset);
    };
    if (a.mean)
        return run(
            [&](std::int64_t c, auto whole, int count) SRGAN_FAST_INLINE_LAMBDA {
                return [=, mean = read(a.mean + c), more = read(a.offset + c), factor = read(a.factor + c)](
                           std::int64_t offset, int) SRGAN_FAST_INLINE_LAMBDA {
                    return read<whole.value>(g + offset, count) + more +
                           factor * (read<whole.value>(out + offset, count) - mean);
                };
            },
            fetch);
    run(
        [&](std::int64_t, auto whole, int count) SRGAN_FAST_INLINE_LAMBDA {
            return [=, slope = broadcast(a.slope)](std::int64_t offset, int) SRGAN_FAST_INLINE_LAMBDA {
                const Simd<S> value = read<whole.value>(g + offset, count);
                return read<whole.value>(out + offset, count) > S(0) ? value : value * slope;
            };
        },
        fetch);
}

}  // namespace srgan_fast::cpu::SRGAN_FAST_LEVEL
