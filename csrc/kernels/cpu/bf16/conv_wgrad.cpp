// Weight gradient of training convolutions for bfloat16 maps; see kernels/cpu/conv.h and conv_fwd.cpp.
//
// For each tap it is a GEMM with pixels as depth: rows are channels of dy, columns are channels of z, shifted by the
// tap. The instructions multiply pairs of adjacent depths: here a pixel of the first half of a task's rows and its
// counterpart in the second half, so that both shift by any tap. Pixels are numbered through the rows of z's window; dy
// is zero at its padding. Some rows are processed at a time; sums stay in registers meanwhile, are accumulated in
// memory, and are written to their destination with the last rows.
#include "kernels/cpu/bf16/table.h"
#include "kernels/cpu/bf16/windows.h"
#include "kernels/cpu/pack.h"

namespace srgan_fast::cpu::SRGAN_FAST_LEVEL {
namespace {

template <Geometry kGeometry>
struct Wgrad {
    using Arguments = ConvWgrad<float>;
    using Windows = SourceWindows<kGeometry>;
    static constexpr int kTaps = Windows::kTaps, kPlanes = Windows::kPlanes;
    static constexpr std::int64_t kSegments = 64;  // most segments of a chunk
    static constexpr std::int64_t kTilePairs = kTileDepth / 2;

    static Windows windows(const Arguments& a) { return {a.gradient.width, {a.source.channels}}; }
    // Channels of z, padded to whole tiles.
    static std::int64_t columns(const Windows& w) { return padded(w.depth.channels); }
    static std::int64_t rows(const Arguments& a) { return a.batch * a.gradient.height; }

    static std::int64_t groups(const Arguments& a) {
        return (padded(a.gradient.channels) + kChannelGroup - 1) / kChannelGroup;
    }
    static std::int64_t splits(const Arguments& a, int threads) {
        return smaller(rows(a), (threads + groups(a) - 1) / groups(a));
    }
    // Splits of the groups: few, so that z is computed rarely.
    static std::int64_t tasks(const Arguments& a, int threads) {
        return a.splits * smaller(groups(a), (threads + a.splits - 1) / a.splits);
    }

    // Pairs of pixels, numbered through windows, that are multiplied before sums are stored to memory: more of them if
    // there are more sums.
    static std::int64_t chunk_pixels(const Arguments& a) {
        return a.source.channels * a.gradient.channels <= 128 * 128 ? 512 : 1024;
    }
    static std::int64_t chunk_rows(const Arguments& a) {
        const std::int64_t each =
            smaller(chunk_pixels(a) / windows(a).pitch(), (kSegments - 2) / 2 * a.gradient.height);
        return each < 1 ? 1 : each;
    }

    static std::int64_t whole(std::int64_t pixels) { return (pixels + kTilePairs - 1) / kTilePairs * kTilePairs; }

    // Rows of an image and as many rows of another, whose pairs of pixels are multiplied.
    struct Segment {
        std::int64_t plane, pixels;  // pairs per window plane; multiplied pairs, in whole tiles
        const Bf16* gradients;       // [16 channels][16 pixels]: tiles
        const Bf16* windows;         // [plane][16 channels][pixel]: rows of 16 pairs
    };

    // Most segments of a chunk: either half may continue in the next image.
    static std::int64_t segments(const Arguments& a) { return 2 * most_segments(chunk_rows(a), a.gradient.height); }
    // Pairs of a window's plane, including those that a tile reads beyond its end.
    static std::int64_t plane(const Windows& w, std::int64_t rows) {
        return (rows + Windows::kMoreRows) * w.pitch() + kTilePairs;
    }
    static std::int64_t window_size(const Windows& w, std::int64_t rows) {
        return kPlanes * plane(w, rows) * columns(w) * 2;
    }
    static std::int64_t gradient_pixels(const Windows& w, std::int64_t rows) { return rows * w.pitch() + kTilePairs; }
    static std::int64_t gradients_size(const Windows& w, std::int64_t rows, std::int64_t channels) {
        return whole(w.results(rows)) * channels * 2;
    }

    struct Scratch {
        float* sums;  // [32 channels of dy][32 channels of z][tap]: blocks of tiles
        Bf16* read;   // dy in its original order
        Bf16 *gradients, *windows;
    };
    static std::int64_t blocks(std::int64_t channels) { return (channels + kBlockColumns - 1) / kBlockColumns; }
    static std::int64_t sums_size(const Arguments& a, std::int64_t channels) {
        return blocks(channels) * blocks(columns(windows(a))) * kTaps * kTaps * kBlockRows * kBlockColumns;
    }
    static std::int64_t read_size(const Arguments& a, std::int64_t channels) {
        return gradient_pixels(windows(a), chunk_rows(a)) * channels * 2;
    }
    static std::int64_t all_gradients_size(const Arguments& a, std::int64_t channels) {
        return (chunk_rows(a) * windows(a).pitch() + segments(a) * kTilePairs) * channels * 2;
    }
    static std::int64_t all_windows_size(const Arguments& a) {
        return window_size(windows(a), chunk_rows(a)) + segments(a) * window_size(windows(a), 0);
    }
    // Most channels of dy per task.
    static std::int64_t most_channels(const Arguments& a, std::int64_t tasks) {
        const std::int64_t shares = tasks / a.splits;
        return smaller((groups(a) + shares - 1) / shares * kChannelGroup, padded(a.gradient.channels));
    }
    static std::int64_t scratch(const Arguments& a, std::int64_t tasks) {
        const std::int64_t channels = most_channels(a, tasks);
        return aligned_bytes(sums_size(a, channels) * 4) + aligned_bytes(read_size(a, channels) * 2) +
               aligned_bytes(all_gradients_size(a, channels) * 2) + aligned_bytes(all_windows_size(a) * 2);
    }

    // Rearranges pairs of pixels of dy as the depth of tiles.
    static void make_gradients(std::int64_t pixels, std::int64_t channels, std::int64_t block, const Bf16* read,
                               Bf16* to) {
        for (std::int64_t c = 0; c < channels; c += kTileRows, read += block)
            for (const Bf16* from = read; from < read + pixels * kTileDepth;) {
                Words rows[16];
                for (int i = 0; i < 16; ++i, from += kTileDepth) rows[i] = *reinterpret_cast<const PairWords*>(from);
                transpose(rows);
                for (int i = 0; i < 16; ++i, to += kTileDepth) put_pair(to, rows[i]);
            }
    }

    // A row of the batch's images.
    struct Place {
        std::int64_t image, row;
    };

    // Prepares `rows` rows from `first` on and `second_rows`, not more, from `second` on, with dy's channels from
    // `channel` on.
    static Segment make_segment(const Arguments& a, const Windows& w, const Place& first, std::int64_t rows,
                                const Place& second, std::int64_t second_rows, std::int64_t channel,
                                std::int64_t channels, float* bias, const Scratch& s) {
        const std::int64_t plane = Wgrad::plane(w, rows), pixels = whole(w.results(rows));
        const auto fill_windows = [&](const Place& at, std::int64_t count, auto target) {
            Bf16* const to = target.to;
            w.each_row(a.source, at.row, count, [&](int p, std::int64_t i, const Run& run, bool) {
                target.to = to + p * plane * columns(w) * 2 + i * w.pitch() * kTileDepth;
                fill(a.source, run, at.image, false, target);
            });
        };
        fill_windows(first, rows, PairTarget<false>{s.windows, plane * kTileDepth, columns(w)});
        if (second_rows > 0)
            fill_windows(second, second_rows, PairTarget<true>{s.windows, plane * kTileDepth, columns(w)});
        for (int p = 0; p < kPlanes; ++p)
            PairTarget<false>{s.windows + p * plane * columns(w) * 2, plane * kTileDepth, columns(w)}.zero(
                plane - kTilePairs, kTilePairs);
        const std::int64_t block = gradient_pixels(w, rows) * kTileDepth;
        const auto read = [&](const Place& at, std::int64_t count, auto target) {
            for (std::int64_t i = 0; i < count; ++i, target.to += w.pitch() * kTileDepth)
                fill(a.gradient, {at.row + i, 0, 1, w.pitch(), a.gradient.height, a.gradient.width}, at.image, channel,
                     bias, target);
        };
        read(first, rows, PairTarget<false>{s.read, block, channels});
        read(second, second_rows, PairTarget<true>{s.read, block, channels});
        PairTarget<false>{s.read, block, channels}.zero(rows * w.pitch(), kTilePairs);
        make_gradients(pixels, channels, block, s.read, s.gradients);
        return {plane, pixels, s.gradients, s.windows};
    }

    // Sums in scratch memory: a block's tiles one after the other.
    static constexpr SumPlaces kInScratch{kTileColumns, kTileRows * kTileColumns, 2 * kTileRows * kTileColumns};
    static std::int64_t scratch_sums(const Windows& w, std::int64_t c, std::int64_t d, int tap) {
        const std::int64_t block = c / kBlockRows * blocks(columns(w)) + d / kBlockColumns;
        return (block * kTaps * kTaps + tap) * kBlockRows * kBlockColumns;
    }

    // Multiplies a block of sums, channels c of dy and d of z; `from`: the sums so far in scratch memory, or null.
    template <int kM, int kN>
    static void multiply(const Windows& w, const Segment* list, std::int64_t count, std::int64_t c, std::int64_t d,
                         int tap, const float* from, float* to, const SumPlaces& places) {
        const std::int64_t shift = w.shift(tap / kTaps, tap % kTaps) * kTileDepth;
        const int plane = Windows::plane_of(tap / kTaps, tap % kTaps);
        sum_products<kM, kN>(
            kM * kTileRows, from, kInScratch, to, places,
            [&](const auto& step) SRGAN_FAST_INLINE_LAMBDA {
                for (const Segment* s = list; s < list + count; ++s) {
                    const std::int64_t right = s->plane * kTileDepth;
                    const Bf16* a = s->gradients + c * s->pixels * 2;
                    const Bf16* b = s->windows + plane * s->plane * columns(w) * 2 + d / kTileColumns * right + shift;
                    for (std::int64_t p = 0; p < s->pixels; p += kTilePairs, a += kTileElements, b += kTileElements)
                        step(a, a + kTileRows * s->pixels * 2, kTileBytes, b, right);
                }
            },
            []() SRGAN_FAST_INLINE_LAMBDA {});
    }

    // Whether whole tiles can be stored directly in the destination.
    static bool direct(const Arguments& a) {
        return a.strides.in == 1 && a.source.channels % kTileColumns == 0 && a.gradient.channels % kTileRows == 0;
    }

    // `out`: null, or the destination of the final sums.
    static void multiply_all(const Arguments& a, const Windows& w, const Segment* list, std::int64_t count,
                             std::int64_t channels, bool first, float* sums, float* out) {
        const SumPlaces places = out ? SumPlaces{a.strides.out, kTileColumns, kTileRows * a.strides.out} : kInScratch;
        for (std::int64_t d = 0; d < columns(w); d += kBlockColumns)
            for (std::int64_t c = 0; c < channels; c += kBlockRows)
                for (int tap = 0; tap < kTaps * kTaps; ++tap) {
                    float* const own = sums + scratch_sums(w, c, d, tap);
                    float* const to = !out ? own
                                           : out + c * a.strides.out + tap / kTaps * a.strides.row +
                                                 tap % kTaps * a.strides.column + d;
                    const auto run = [&](auto rows, auto vectors) {
                        multiply<rows, vectors>(w, list, count, c, d, tap, first ? nullptr : own, to, places);
                    };
                    const std::integral_constant<int, 1> one;
                    const std::integral_constant<int, 2> two;
                    if (c + kTileRows < channels)
                        d + kTileColumns < columns(w) ? run(two, two) : run(two, one);
                    else
                        d + kTileColumns < columns(w) ? run(one, two) : run(one, one);
                }
    }

    static void run(const Arguments& a, std::int64_t task, std::int64_t tasks, void* scratch) {
        const std::int64_t shares = tasks / a.splits, split = task / shares, share = task % shares;
        const std::int64_t first = groups(a) * share / shares * kChannelGroup;
        const std::int64_t last =
            smaller(groups(a) * (share + 1) / shares * kChannelGroup, padded(a.gradient.channels));
        const std::int64_t channels = last - first, begin = rows(a) * split / a.splits;
        const std::int64_t end = rows(a) * (split + 1) / a.splits, half = (end - begin + 1) / 2;
        const Windows w = windows(a);
        char* memory = static_cast<char*>(scratch);
        const auto take = [&](std::int64_t bytes) {
            char* const taken = memory;
            memory += aligned_bytes(bytes);
            return taken;
        };
        const std::int64_t most = most_channels(a, tasks), height = a.gradient.height;
        Scratch s{};
        s.sums = reinterpret_cast<float*>(take(sums_size(a, most) * 4));
        s.read = reinterpret_cast<Bf16*>(take(read_size(a, most) * 2));
        s.gradients = reinterpret_cast<Bf16*>(take(all_gradients_size(a, most) * 2));
        s.windows = reinterpret_cast<Bf16*>(take(all_windows_size(a) * 2));
        float* const bias = a.bias ? a.bias + split * padded(a.gradient.channels) : nullptr;
        if (bias)
            for (std::int64_t c = first; c < last; ++c) bias[c] = 0.0f;
        float* const out = a.weight + split * a.gradient.channels * a.source.channels * kTaps * kTaps;
        const TileRegisters registers;
        for (std::int64_t chunk = 0; chunk < half; chunk += chunk_rows(a)) {
            const std::int64_t chunk_end = smaller(chunk + chunk_rows(a), half);
            Segment list[kSegments];
            std::int64_t count = 0;
            Scratch next = s;
            for (std::int64_t i = chunk, rows; i < chunk_end; i += rows) {
                const Place one{(begin + i) / height, (begin + i) % height};
                const Place two{(begin + half + i) / height, (begin + half + i) % height};
                rows = smaller(chunk_end - i, height - (one.row > two.row ? one.row : two.row));
                const std::int64_t there = smaller(rows, end - begin - half - i);
                list[count++] = make_segment(a, w, one, rows, two, there, first, channels, bias, next);
                next.gradients += gradients_size(w, rows, channels);
                next.windows += window_size(w, rows);
            }
            const bool at_last = chunk_end == half && direct(a);
            multiply_all(a, w, list, count, channels, chunk == 0, s.sums,
                         at_last ? out + first * a.strides.out : nullptr);
        }
        if (!direct(a)) write_weights(a, w, first, channels, s.sums, out);
    }

    static void write_weights(const Arguments& a, const Windows& w, std::int64_t first, std::int64_t channels,
                              const float* sums, float* out) {
        const std::int64_t there = smaller(channels, a.gradient.channels - first);
        for (std::int64_t c = 0; c < there; ++c)
            for (int tap = 0; tap < kTaps * kTaps; ++tap) {
                float* const to =
                    out + (first + c) * a.strides.out + tap / kTaps * a.strides.row + tap % kTaps * a.strides.column;
                for (std::int64_t d = 0; d < a.source.channels; d += kTileColumns) {
                    const float* const from =
                        sums + scratch_sums(w, c, d, tap) + c % kBlockRows / kTileRows * kInScratch.below +
                        c % kTileRows * kInScratch.row + d % kBlockColumns / kTileColumns * kInScratch.right;
                    for (std::int64_t i = 0; i < smaller<std::int64_t>(kTileColumns, a.source.channels - d); ++i)
                        to[(d + i) * a.strides.in] = from[i];
                }
            }
    }
};

}  // namespace

Kernel<ConvWgrad<float>> conv_wgrad() { return kernel_of<Wgrad, ConvWgrad<float>>(); }

std::int64_t conv_wgrad_splits(const ConvWgrad<float>& a, int threads) {
    return with_geometry(a.geometry, [&](auto g) { return Wgrad<g.value>::splits(a, threads); });
}

}  // namespace srgan_fast::cpu::SRGAN_FAST_LEVEL
