// Rows of z and of dy as AMX multiplies them: bfloat16, pixel after pixel, with zeros wherever the image ends.
#pragma once

#include <cstring>

#include "kernels/cpu/amx/tiles.h"
#include "kernels/cpu/level/source.h"

namespace srgan_fast::cpu::SRGAN_FAST_LEVEL {

// Channels of a pixel in a window: whole tiles deep.
constexpr std::int64_t deep(std::int64_t channels) { return (channels + kTileDepth - 1) / kTileDepth * kTileDepth; }

// `count` pixels of row y, from column `x` in steps of `step`, of an image height x width.
struct Run {
    std::int64_t y, x, step, count, height, width;

    // Those inside the image; none where begin >= end.
    std::int64_t begin() const {
        if (y < 0 || y >= height) return count;
        return x >= 0 ? 0 : (-x + step - 1) / step;
    }
    std::int64_t end() const {
        if (y < 0 || y >= height || x >= width) return 0;
        return smaller(count, (width - x + step - 1) / step);
    }
};

// Fills a run's pixels, each `depth` elements long: value(channel, whole, count, work) calls work(at) for one vector of
// channels after the other, where at(x, to) writes that vector of column x.
inline void zero_pixels(Bf16* to, std::int64_t pixels, std::int64_t depth) {
    if (pixels > 0) std::memset(static_cast<void*>(to), 0, static_cast<std::size_t>(pixels * depth) * sizeof(Bf16));
}

template <typename Each>
SRGAN_FAST_INLINE void fill_run(const Run& run, std::int64_t channels, std::int64_t depth, Bf16* to, const Each& each) {
    const std::int64_t begin = run.begin(), end = run.end();
    if (begin >= end) return zero_pixels(to, run.count, depth);
    zero_pixels(to, begin, depth);
    zero_pixels(to + end * depth, run.count - end, depth);
    for (std::int64_t c = 0; c < depth; c += kLanes) {
        if (c < channels) {
            each(c, begin, end);
        } else {
            for (std::int64_t j = begin; j < end; ++j) write(to + j * depth + c, Vec{});
        }
    }
}

// A run of z. Where the source has a residual and `own` pixels, z is also written to its `sum`.
template <bool kWhole>
void fill_vector(const Source<float>& s, const Run& run, std::int64_t image, std::int64_t c, std::int64_t begin,
                 std::int64_t end, std::int64_t depth, bool own, Bf16* to) {
    const Bf16* const map = static_cast<const Bf16*>(s.x);
    const int count = static_cast<int>(smaller<std::int64_t>(kLanes, s.channels - c));
    to += c;
    if (s.shuffle) {
        Affine<float> phases[2];
        const std::int64_t first = (run.y & 1) * 2;
        if (s.affine)
            for (int i = 0; i < 2; ++i) phases[i] = Affine<float>(s, (first + i) * s.channels + c);
        for (std::int64_t j = begin; j < end; ++j) {
            const std::int64_t x = run.x + j * run.step;
            const Vec value = read<kWhole>(map + Shuffled(s, image, run.y, x, c).offset, count);
            write(to + j * depth, s.affine ? phases[x & 1](value) : value);
        }
        return;
    }
    const Strides strides = strides_of(s, image, c);
    const std::int64_t start = strides(run.y, run.x), pitch = run.step * s.channels;
    if (!s.affine) {
        for (std::int64_t j = begin; j < end; ++j) write(to + j * depth, read<kWhole>(map + start + j * pitch, count));
        return;
    }
    const Affine<float> affine(s, c);
    if (!s.residual) {
        for (std::int64_t j = begin; j < end; ++j)
            write(to + j * depth, affine(read<kWhole>(map + start + j * pitch, count)));
        return;
    }
    const Bf16* const residual = static_cast<const Bf16*>(s.residual);
    Bf16* const sum = own ? static_cast<Bf16*>(s.sum) : nullptr;
    for (std::int64_t j = begin; j < end; ++j) {
        const std::int64_t offset = start + j * pitch;
        const Vec value = affine.before(read<kWhole>(map + offset, count)) + read<kWhole>(residual + offset, count);
        write(to + j * depth, value);
        if (sum) write<kWhole>(sum + offset, value, count);
    }
}

inline void fill(const Source<float>& s, const Run& run, std::int64_t image, std::int64_t depth, bool own, Bf16* to) {
    if (!s.affine && !s.shuffle && s.channels == depth && run.step == 1) {
        const std::int64_t begin = run.begin(), end = run.end();
        if (begin >= end) return zero_pixels(to, run.count, depth);
        zero_pixels(to, begin, depth);
        std::memcpy(static_cast<void*>(to + begin * depth),
                    static_cast<const Bf16*>(s.x) + strides_of(s, image, 0)(run.y, run.x + begin),
                    static_cast<std::size_t>((end - begin) * depth) * sizeof(Bf16));
        return zero_pixels(to + end * depth, run.count - end, depth);
    }
    fill_run(run, s.channels, depth, to, [&](std::int64_t c, std::int64_t begin, std::int64_t end) {
        c + kLanes <= s.channels ? fill_vector<true>(s, run, image, c, begin, end, depth, own, to)
                                 : fill_vector<false>(s, run, image, c, begin, end, depth, own, to);
    });
}

// Of dy, channels first .. first + channels. Sums of what is inside go to `bias`, if it is not null.
template <bool kWhole>
void fill_vector(const Gradient<float>& a, const Run& run, std::int64_t image, std::int64_t first, std::int64_t c,
                 std::int64_t begin, std::int64_t end, std::int64_t depth, float* bias, Bf16* to) {
    const Bf16* const g = static_cast<const Bf16*>(a.g);
    const Bf16* const out = static_cast<const Bf16*>(a.y);
    const std::int64_t channel = first + c;
    const int count = static_cast<int>(smaller<std::int64_t>(kLanes, a.channels - channel));
    const Strides strides = strides_of(a, image, channel);
    const std::int64_t start = strides(run.y, run.x), pitch = run.step * a.channels;
    to += c;
    const auto put = [&](const auto& at) SRGAN_FAST_INLINE_LAMBDA {
        Vec sum{};
        for (std::int64_t j = begin; j < end; ++j) {
            const Vec value = at(start + j * pitch);
            sum += value;
            write(to + j * depth, value);
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

inline void fill(const Gradient<float>& a, const Run& run, std::int64_t image, std::int64_t first,
                 std::int64_t channels, std::int64_t depth, float* bias, Bf16* to) {
    const std::int64_t there = smaller(channels, a.channels - first);
    fill_run(run, there, depth, to, [&](std::int64_t c, std::int64_t begin, std::int64_t end) {
        first + c + kLanes <= a.channels ? fill_vector<true>(a, run, image, first, c, begin, end, depth, bias, to)
                                         : fill_vector<false>(a, run, image, first, c, begin, end, depth, bias, to);
    });
}

// Consecutive rows of a batch's images: visit(image, row, rows) for what lies in each image.
template <typename Visit>
void each_segment(std::int64_t begin, std::int64_t end, std::int64_t height, const Visit& visit) {
    while (begin < end) {
        const std::int64_t image = begin / height, row = begin % height, rows = smaller(end - begin, height - row);
        visit(image, row, rows);
        begin += rows;
    }
}

}  // namespace srgan_fast::cpu::SRGAN_FAST_LEVEL
