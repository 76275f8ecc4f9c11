// Prepares rows of z and dy for multiplication: bfloat16, pixel by pixel, with zeros outside the image.
#pragma once

#include <cstring>
#include <type_traits>

#include "kernels/cpu/bf16/tiles.h"
#include "kernels/cpu/level/source.h"

namespace srgan_fast::cpu::SRGAN_FAST_LEVEL {

// Writes 32 channels, a cache line if aligned.
SRGAN_FAST_INLINE void write_line(Bf16* p, Vec first, Vec second) {
    _mm512_storeu_si512(p, (__m512i)_mm512_cvtne2ps_pbh((__m512)second, (__m512)first));
}

// Writes kN vectors of channels of a pixel, only the first `there` elements.
template <bool kWhole, int kN>
SRGAN_FAST_INLINE void write_block(Bf16* p, const Vec (&values)[kN], const int (&there)[kN]) {
    if constexpr (kWhole && kN == 2) return write_line(p, values[0], values[1]);
#pragma GCC unroll 2
    for (int n = 0; n < kN; ++n) write<kWhole>(p + n * kLanes, values[n], there[n]);
}

// `count` pixels of row y, from column `x` in steps of `step`, of an image height x width.
struct Run {
    std::int64_t y, x, step, count, height, width;

    // The pixels inside the image; none if begin >= end.
    std::int64_t begin() const {
        if (y < 0 || y >= height) return count;
        return x >= 0 ? 0 : (-x + step - 1) / step;
    }
    std::int64_t end() const {
        if (y < 0 || y >= height || x >= width) return 0;
        return smaller(count, (width - x + step - 1) / step);
    }
};

// Destination of a run's pixels: blocks of kTileDepth channels are `block` elements apart, pixels of a block are
// adjacent.
struct Target {
    Bf16* to;
    std::int64_t block, depth;  // depth: channels, padded with zeros

    Bf16* at(std::int64_t channel) const { return to + channel / kTileDepth * block + channel % kTileDepth; }
    // A vector of channels; `at` is that of the first pixel.
    SRGAN_FAST_INLINE void put(Bf16* at, std::int64_t pixel, Vec value) const { write(at + pixel * kTileDepth, value); }
    void zero(std::int64_t first, std::int64_t pixels) const {
        if (pixels <= 0) return;
        for (std::int64_t c = 0; c < depth; c += kTileDepth)
            std::memset(static_cast<void*>(at(c) + first * kTileDepth), 0,
                        static_cast<std::size_t>(pixels) * kTileDepth * sizeof(Bf16));
    }
};

// Fewer than 16 channels, pixels without gaps. Each is written as a whole vector, whose excess the next one overwrites:
// from left to right, with room for one more vector at the end.
struct NarrowTarget {
    Bf16* to;
    std::int64_t depth;

    Bf16* at(std::int64_t) const { return to; }
    SRGAN_FAST_INLINE void put(Bf16* at, std::int64_t pixel, Vec value) const { write(at + pixel * depth, value); }
    void zero(std::int64_t first, std::int64_t pixels) const {
        if (pixels > 0)
            std::memset(static_cast<void*>(to + first * depth), 0,
                        static_cast<std::size_t>(pixels * depth) * sizeof(Bf16));
    }
};

// Pairs of pixels, 16 channels at a time: first pixels are written first and zero the second ones, second pixels are
// merged in.
template <bool kSecond>
struct PairTarget {
    Bf16* to;
    std::int64_t block, depth;  // blocks of 16 channels

    Bf16* at(std::int64_t channel) const { return to + channel / kTileColumns * block; }
    SRGAN_FAST_INLINE void put(Bf16* at, std::int64_t pixel, Vec value) const {
        auto& pair = *reinterpret_cast<PairWords*>(at + pixel * kTileDepth);
        const Words word = widen((Halves)_mm512_cvtneps_pbh((__m512)value));
        pair = kSecond ? pair | word << 16 : word;
    }
    void zero(std::int64_t first, std::int64_t pixels) const {
        if (kSecond || pixels <= 0) return;
        for (std::int64_t c = 0; c < depth; c += kTileColumns)
            std::memset(static_cast<void*>(at(c) + first * kTileDepth), 0,
                        static_cast<std::size_t>(pixels) * kTileDepth * sizeof(Bf16));
    }
};

// Writes zeros outside the image and after the last channel; each(channel, begin, end) writes the rest, one vector of
// channels at a time.
template <typename Target, typename Each>
SRGAN_FAST_INLINE void fill_run(const Run& run, std::int64_t channels, const Target& target, const Each& each) {
    const std::int64_t begin = run.begin(), end = run.end();
    if (begin >= end) return target.zero(0, run.count);
    target.zero(0, begin);
    for (std::int64_t c = 0; c < target.depth; c += kLanes) {
        if (c < channels) {
            each(c, begin, end);
        } else {
            Bf16* const to = target.at(c);
            for (std::int64_t j = begin; j < end; ++j) target.put(to, j, Vec{});
        }
    }
    target.zero(end, run.count - end);  // last, since a target may write beyond a pixel
}

// One vector of channels of a run of z. If the source has a residual and the run is `own`, z is also written to `sum`.
template <bool kWhole, typename Target>
void fill_vector(const Source<float>& s, const Run& run, std::int64_t image, std::int64_t c, std::int64_t begin,
                 std::int64_t end, bool own, const Target& target) {
    Bf16* const to = target.at(c);
    const Bf16* const map = static_cast<const Bf16*>(s.x);
    const int count = static_cast<int>(smaller<std::int64_t>(kLanes, s.channels - c));
    if (s.shuffle) {
        Affine<float> phases[2];
        const std::int64_t first = (run.y & 1) * 2;
        if (s.affine)
            for (int i = 0; i < 2; ++i) phases[i] = Affine<float>(s, (first + i) * s.channels + c);
        for (std::int64_t j = begin; j < end; ++j) {
            const std::int64_t x = run.x + j * run.step;
            const Vec value = read<kWhole>(map + Shuffled(s, image, run.y, x, c).offset, count);
            target.put(to, j, s.affine ? phases[x & 1](value) : value);
        }
        return;
    }
    const Strides strides = strides_of(s, image, c);
    const std::int64_t start = strides(run.y, run.x), pitch = run.step * s.channels;
    if (!s.affine) {
        for (std::int64_t j = begin; j < end; ++j) target.put(to, j, read<kWhole>(map + start + j * pitch, count));
        return;
    }
    const Affine<float> affine(s, c);
    if (!s.residual) {
        for (std::int64_t j = begin; j < end; ++j)
            target.put(to, j, affine(read<kWhole>(map + start + j * pitch, count)));
        return;
    }
    const Bf16* const residual = static_cast<const Bf16*>(s.residual);
    Bf16* const sum = own ? static_cast<Bf16*>(s.sum) : nullptr;
    for (std::int64_t j = begin; j < end; ++j) {
        const std::int64_t offset = start + j * pitch;
        const Vec value = affine.before(read<kWhole>(map + offset, count)) + read<kWhole>(residual + offset, count);
        target.put(to, j, value);
        if (sum) write<kWhole>(sum + offset, value, count);
    }
}

// A run of z.
template <typename To>
void fill(const Source<float>& s, const Run& run, std::int64_t image, bool own, const To& target) {
    if (std::is_same_v<To, Target> && !s.affine && !s.shuffle && s.channels % kTileDepth == 0) {  // plain copy
        const std::int64_t begin = run.begin(), end = run.end();
        if (begin >= end) return target.zero(0, run.count);
        target.zero(0, begin), target.zero(end, run.count - end);
        const Strides strides = strides_of(s, image, 0);
        const Bf16* from = static_cast<const Bf16*>(s.x) + strides(run.y, run.x + begin * run.step);
        for (std::int64_t j = begin; j < end; ++j, from += run.step * strides.pixel)
            for (std::int64_t c = 0; c < s.channels; c += kTileDepth)
                std::memcpy(static_cast<void*>(target.at(c) + j * kTileDepth), from + c, kTileBytes);
        return;
    }
    fill_run(run, s.channels, target, [&](std::int64_t c, std::int64_t begin, std::int64_t end) {
        c + kLanes <= s.channels ? fill_vector<true, To>(s, run, image, c, begin, end, own, target)
                                 : fill_vector<false, To>(s, run, image, c, begin, end, own, target);
    });
}

// One vector of channels of a run of dy; the target's channels begin at `first`. Pixels inside the image are added to
// `bias` unless it is null.
template <bool kWhole, typename Target>
void fill_vector(const Gradient<float>& a, const Run& run, std::int64_t image, std::int64_t channel, std::int64_t begin,
                 std::int64_t end, std::int64_t first, float* bias, const Target& target) {
    Bf16* const to = target.at(channel - first);
    const Bf16* const g = static_cast<const Bf16*>(a.g);
    const Bf16* const out = static_cast<const Bf16*>(a.y);
    const int count = static_cast<int>(smaller<std::int64_t>(kLanes, a.channels - channel));
    const Strides strides = strides_of(a, image, channel);
    const std::int64_t start = strides(run.y, run.x), pitch = run.step * a.channels;
    const auto put = [&](const auto& at) SRGAN_FAST_INLINE_LAMBDA {
        Vec sum{};
        for (std::int64_t j = begin; j < end; ++j) {
            const Vec value = at(start + j * pitch);
            sum += value;
            target.put(to, j, value);
        }
        if (bias) store(bias + channel, load(bias + channel) + sum);
    };
    if (!out) return put([&](std::int64_t offset) SRGAN_FAST_INLINE_LAMBDA { return read<kWhole>(g + offset, count); });
    if (a.mean) {
        const Vec mean = read(a.mean + channel), offsets = read(a.offset + channel), factor = read(a.factor + channel);
        return put([&](std::int64_t offset) SRGAN_FAST_INLINE_LAMBDA {
            return read<kWhole>(g + offset, count) + offsets + factor * (read<kWhole>(out + offset, count) - mean);
        });
    }
    const Vec slope = broadcast(a.slope);
    put([&](std::int64_t offset) SRGAN_FAST_INLINE_LAMBDA {
        const Vec v = read<kWhole>(g + offset, count);
        return read<kWhole>(out + offset, count) > 0.0f ? v : v * slope;
    });
}

// A run of dy, with channels from `first` on.
template <typename To>
void fill(const Gradient<float>& a, const Run& run, std::int64_t image, std::int64_t first, float* bias,
          const To& target) {
    fill_run(run, smaller(target.depth, a.channels - first), target,
             [&](std::int64_t c, std::int64_t begin, std::int64_t end) {
                 first + c + kLanes <= a.channels
                     ? fill_vector<true, To>(a, run, image, first + c, begin, end, first, bias, target)
                     : fill_vector<false, To>(a, run, image, first + c, begin, end, first, bias, target);
             });
}

// Most images that so many consecutive rows may belong to.
constexpr std::int64_t most_segments(std::int64_t rows, std::int64_t height) {
    return smaller(rows, (rows + height - 2) / height + 1);
}

// Consecutive rows of a batch's images: visit(image, row, rows) for each image's part.
template <typename Visit>
void each_segment(std::int64_t begin, std::int64_t end, std::int64_t height, const Visit& visit) {
    while (begin < end) {
        const std::int64_t image = begin / height, row = begin % height, rows = smaller(end - begin, height - row);
        visit(image, row, rows);
        begin += rows;
    }
}

}  // namespace srgan_fast::cpu::SRGAN_FAST_LEVEL
