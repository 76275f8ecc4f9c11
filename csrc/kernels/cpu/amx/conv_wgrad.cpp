// The weight gradient of training's convolutions on AMX, for maps of bfloat16; see kernels/cpu/conv.h.
//
// For each tap it is a product of matrices with the pixels for its depth: dy with channels for rows, and z in pairs of
// pixels, moved by the tap. Pixels are counted through the rows of z's window; where that has padding, dy is zero. Of z
// there are two copies, whose pairs begin with even and with odd pixels, so that every tap finds its pairs. Some rows
// are taken at a time; sums stay in registers while these are multiplied and are added up in memory.
#include "kernels/cpu/amx/table.h"
#include "kernels/cpu/amx/windows.h"
#include "kernels/cpu/pack.h"

namespace srgan_fast::cpu::SRGAN_FAST_LEVEL {
namespace {

template <Geometry kGeometry>
struct Wgrad {
    using Arguments = ConvWgrad<float>;
    using Windows = SourceWindows<kGeometry>;
    static constexpr int kTaps = Windows::kTaps, kPlanes = Windows::kPlanes;
    static constexpr std::int64_t kSegments = 64;  // of a chunk, at most

    static Windows windows(const Arguments& a) { return {a.gradient.width, deep(a.source.channels)}; }
    static std::int64_t rows(const Arguments& a) { return a.batch * a.gradient.height; }

    static std::int64_t groups(const Arguments& a) {
        return (padded(a.gradient.channels) + kChannelGroup - 1) / kChannelGroup;
    }
    static std::int64_t splits(const Arguments& a, int threads) {
        return smaller(rows(a), (threads + groups(a) - 1) / groups(a));
    }
    // Shares of the groups: few, so that z is made seldom.
    static std::int64_t tasks(const Arguments& a, int threads) {
        return a.splits * smaller(groups(a), (threads + a.splits - 1) / a.splits);
    }

    // Pixels, counted through windows, that are multiplied before sums go to memory: many where there are many sums.
    static std::int64_t chunk_pixels(const Arguments& a) {
        return a.source.channels * a.gradient.channels <= 128 * 128 ? 1024 : 2048;
    }
    static std::int64_t chunk_rows(const Arguments& a) {
        const std::int64_t each = smaller(chunk_pixels(a) / windows(a).pitch(), (kSegments - 1) * a.gradient.height);
        return each < 1 ? 1 : each;
    }

    static std::int64_t whole(std::int64_t pixels) { return (pixels + kTileDepth - 1) / kTileDepth * kTileDepth; }

    // Some rows of an image: what is multiplied of them, in tiles.
    struct Segment {
        std::int64_t rows, pixels;  // whole tiles of pixels
        const Bf16* gradients;      // [16 channels][32 pixels]: tiles of 16 x 32
        const Bf16* pairs;          // [plane][copy][16 channels][pair]: rows of 16 pairs
    };

    static std::int64_t segments(const Arguments& a) { return most_segments(chunk_rows(a), a.gradient.height); }
    // Of a copy of a plane; beside those of its pixels the last tile multiplies some by zeros.
    static std::int64_t pairs(const Windows& w, std::int64_t rows) { return w.plane(rows) / 2 + 1; }
    static std::int64_t pairs_size(const Windows& w, std::int64_t rows) {
        return kPlanes * 2 * pairs(w, rows) * 2 * w.depth;
    }
    static std::int64_t gradients_size(const Windows& w, std::int64_t rows, std::int64_t channels) {
        return whole(w.results(rows)) * channels;
    }
    // Pixels of dy as it is read.
    static std::int64_t gradient_pixels(const Windows& w, std::int64_t rows) { return rows * w.pitch() + kTileDepth; }

    struct Scratch {
        float* sums;   // [tap][channel of dy][channel of z]
        Bf16* window;  // of z, then of dy, as they are read
        Bf16 *gradients, *pairs;
    };
    static std::int64_t sums_size(const Arguments& a, std::int64_t channels) {
        return kTaps * kTaps * channels * windows(a).depth;
    }
    static std::int64_t window_size(const Arguments& a, std::int64_t channels) {
        const Windows w = windows(a);
        const std::int64_t rows = chunk_rows(a), gradients = gradient_pixels(w, rows) * deep(channels);
        return w.size(rows) > gradients ? w.size(rows) : gradients;
    }
    static std::int64_t all_gradients_size(const Arguments& a, std::int64_t channels) {
        return (chunk_rows(a) * windows(a).pitch() + segments(a) * kTileDepth) * channels;
    }
    static std::int64_t all_pairs_size(const Arguments& a) {
        const Windows w = windows(a);
        return pairs_size(w, chunk_rows(a)) + segments(a) * pairs_size(w, 1);
    }
    // Channels of dy of a task, at most.
    static std::int64_t most_channels(const Arguments& a, std::int64_t tasks) {
        const std::int64_t shares = tasks / a.splits;
        return smaller((groups(a) + shares - 1) / shares * kChannelGroup, padded(a.gradient.channels));
    }
    static std::int64_t scratch(const Arguments& a, std::int64_t tasks) {
        const std::int64_t channels = most_channels(a, tasks);
        return aligned_bytes(sums_size(a, channels) * 4) + aligned_bytes(window_size(a, channels) * 2) +
               aligned_bytes(all_gradients_size(a, channels) * 2) + aligned_bytes(all_pairs_size(a) * 2);
    }

    // z's pixels in pairs, those that begin with even ones and those that begin with odd ones.
    static void make_pairs(const Windows& w, std::int64_t rows, Bf16* window, Bf16* to) {
        const std::int64_t plane = w.plane(rows), count = pairs(w, rows);
        for (int p = 0; p < kPlanes; ++p, window += plane * w.depth) {
            Target{window, plane * kTileDepth, w.depth}.zero(plane - kBlockRows, kBlockRows);
            for (int copy = 0; copy < 2; ++copy)
                for (std::int64_t c = 0; c < w.depth; c += kLanes) {
                    const Bf16* from = Target{window, plane * kTileDepth, w.depth}.at(c) + copy * kTileDepth;
                    std::int64_t i = 0;
                    for (; 2 * i + copy + 1 < plane; ++i, from += 2 * kTileDepth, to += kTileDepth)
                        put_pair(to, pair_of(from, from + kTileDepth));
                    for (; i < count; ++i, to += kTileDepth) put_pair(to, Words{});
                }
        }
    }

    // dy's pixels as the depth of tiles.
    static void make_gradients(std::int64_t pixels, std::int64_t channels, const Target& window, Bf16* to) {
        for (std::int64_t c = 0; c < channels; c += kLanes) {
            const Bf16* from = window.at(c);
            for (std::int64_t p = 0; p < pixels; p += kTileDepth) {
                Words rows[16];
                for (int i = 0; i < 16; ++i, from += 2 * kTileDepth) rows[i] = pair_of(from, from + kTileDepth);
                transpose(rows);
                for (int i = 0; i < 16; ++i, to += kTileDepth) put_pair(to, rows[i]);
            }
        }
    }

    // What is multiplied of the rows row .. row + rows of an image, and of dy's channels from `first` on.
    static Segment make_segment(const Arguments& a, const Windows& w, std::int64_t image, std::int64_t row,
                                std::int64_t rows, std::int64_t first, std::int64_t channels, float* bias,
                                const Scratch& s) {
        const std::int64_t pixels = whole(w.results(rows)), read = gradient_pixels(w, rows);
        w.fill_from(a.source, image, row, rows, false, s.window);
        make_pairs(w, rows, s.window, s.pairs);
        const Target target{s.window, read * kTileDepth, deep(channels)};
        for (std::int64_t i = 0; i < rows; ++i)
            fill(a.gradient, {row + i, 0, 1, w.pitch(), a.gradient.height, a.gradient.width}, image, first, bias,
                 {s.window + i * w.pitch() * kTileDepth, target.block, target.depth});
        target.zero(rows * w.pitch(), kTileDepth);
        make_gradients(pixels, channels, target, s.gradients);
        return {rows, pixels, s.gradients, s.pairs};
    }

    // A block of sums, of channels c of dy and d of z.
    template <int kM>
    static void multiply(const Windows& w, const Segment* list, std::int64_t count, std::int64_t c, std::int64_t d,
                         int tap, float* sums, bool first) {
        const std::int64_t shift = w.shift(tap / kTaps, tap % kTaps), blocks = w.depth / kTileColumns;
        const std::int64_t copy = Windows::plane_of(tap / kTaps, tap % kTaps) * 2 + shift % 2;
        first ? zero_sums<kM, 2>() : load_sums<kM, 2>(sums, w.depth);
        for (const Segment* s = list; s < list + count; ++s) {
            const std::int64_t all = pairs(w, s->rows) * kTileDepth;
            const Bf16* a = s->gradients + c * s->pixels;
            const Bf16* b = s->pairs + (copy * blocks + d / kTileColumns) * all + shift / 2 * kTileDepth;
            for (std::int64_t p = 0; p < s->pixels; p += kTileDepth, a += kTileElements, b += kTileElements)
                multiply_tiles<kM, 2>(a, a + kTileRows * s->pixels, kTileBytes, b, all);
        }
        store_sums<kM, 2>(sums, w.depth);
    }

    static void multiply_all(const Windows& w, const Segment* list, std::int64_t count, std::int64_t channels,
                             bool first, float* sums) {
        for (std::int64_t c = 0; c < channels; c += kBlockRows)
            for (std::int64_t d = 0; d < w.depth; d += kBlockColumns)
                for (int tap = 0; tap < kTaps * kTaps; ++tap) {
                    float* const to = sums + (tap * channels + c) * w.depth + d;
                    c + kTileRows < channels ? multiply<2>(w, list, count, c, d, tap, to, first)
                                             : multiply<1>(w, list, count, c, d, tap, to, first);
                }
    }

    static void run(const Arguments& a, std::int64_t task, std::int64_t tasks, void* scratch) {
        const std::int64_t shares = tasks / a.splits, split = task / shares, share = task % shares;
        const std::int64_t first = groups(a) * share / shares * kChannelGroup;
        const std::int64_t last =
            smaller(groups(a) * (share + 1) / shares * kChannelGroup, padded(a.gradient.channels));
        const std::int64_t channels = last - first, begin = rows(a) * split / a.splits;
        const std::int64_t end = rows(a) * (split + 1) / a.splits;
        const Windows w = windows(a);
        char* memory = static_cast<char*>(scratch);
        const auto take = [&](std::int64_t bytes) {
            char* const taken = memory;
            memory += aligned_bytes(bytes);
            return taken;
        };
        const std::int64_t most = most_channels(a, tasks);
        Scratch s{};
        s.sums = reinterpret_cast<float*>(take(sums_size(a, most) * 4));
        s.window = reinterpret_cast<Bf16*>(take(window_size(a, most) * 2));
        s.gradients = reinterpret_cast<Bf16*>(take(all_gradients_size(a, most) * 2));
        s.pairs = reinterpret_cast<Bf16*>(take(all_pairs_size(a) * 2));
        float* const bias = a.bias ? a.bias + split * padded(a.gradient.channels) : nullptr;
        if (bias)
            for (std::int64_t c = first; c < last; ++c) bias[c] = 0.0f;
        const TileRegisters registers;
        for (std::int64_t row = begin; row < end; row += chunk_rows(a)) {
            Segment list[kSegments];
            std::int64_t count = 0;
            Scratch next = s;
            each_segment(row, smaller(row + chunk_rows(a), end), a.gradient.height,
                         [&](std::int64_t image, std::int64_t top, std::int64_t rows) {
                             list[count++] = make_segment(a, w, image, top, rows, first, channels, bias, next);
                             next.gradients += gradients_size(w, rows, channels);
                             next.pairs += pairs_size(w, rows);
                         });
            multiply_all(w, list, count, channels, row == begin, s.sums);
        }
        write_weights(a, w, first, channels, s.sums,
                      a.weight + split * a.gradient.channels * a.source.channels * kTaps * kTaps);
    }

    static void write_weights(const Arguments& a, const Windows& w, std::int64_t first, std::int64_t channels,
                              const float* sums, float* out) {
        const std::int64_t there = smaller(channels, a.gradient.channels - first);
        for (std::int64_t c = 0; c < there; ++c)
            for (int tap = 0; tap < kTaps * kTaps; ++tap) {
                const float* const from = sums + (tap * channels + c) * w.depth;
                float* const to =
                    out + (first + c) * a.strides.out + tap / kTaps * a.strides.row + tap % kTaps * a.strides.column;
                for (std::int64_t d = 0; d < a.source.channels; ++d) to[d * a.strides.in] = from[d];
            }
    }
};

}  // namespace

Kernel<ConvWgrad<float>> conv_wgrad() { return kernel_of<Wgrad, ConvWgrad<float>>(); }

std::int64_t conv_wgrad_splits(const ConvWgrad<float>& a, int threads) {
    return with_geometry(a.geometry, [&](auto g) { return Wgrad<g.value>::splits(a, threads); });
}

}  // namespace srgan_fast::cpu::SRGAN_FAST_LEVEL
