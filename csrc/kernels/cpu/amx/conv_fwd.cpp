// The forward convolution of training on AMX, for maps of bfloat16; see kernels/cpu/conv.h.
//
// It is the direct form: with 16 times the products of AVX-512 there is nothing to gain from Winograd's, and z and
// weights are rounded to bfloat16 as by every library. A task makes the window of some rows of z, then multiplies all
// of it by one block of channels after the other.
#include "kernels/cpu/amx/table.h"
#include "kernels/cpu/amx/windows.h"

namespace srgan_fast::cpu::SRGAN_FAST_LEVEL {
namespace {

template <Geometry kGeometry>
struct Forward {
    using Arguments = ConvForward<float>;
    using Windows = SourceWindows<kGeometry>;
    static constexpr std::int64_t kTaps = Windows::kTaps * Windows::kTaps;

    static Windows windows(const Arguments& a) { return {a.width, deep(a.source.channels)}; }

    static std::int64_t tasks(const Arguments& a, int threads) {
        const Windows w = windows(a);
        const std::int64_t row = Windows::kPlanes * w.pitch() * w.depth * 2;
        return tasks_of_rows(a.batch * a.height, row, window_budget(w.depth, a.channels), threads);
    }

    // Elements of the windows of `rows` rows, wherever they begin.
    static std::int64_t window_size(const Arguments& a, std::int64_t rows) {
        const std::int64_t segments = smaller(rows, (rows + a.height - 2) / a.height + 1);
        return windows(a).size(rows) + segments * windows(a).size(0);
    }

    static std::int64_t scratch(const Arguments& a, std::int64_t tasks) {
        const std::int64_t rows = (a.batch * a.height + tasks - 1) / tasks;
        return kBlockRows * kBlockColumns * 4 + aligned_bytes(3 * padded(a.channels) * 4) +
               aligned_bytes(window_size(a, rows) * 2);
    }

    // Sums of a channel's differences from its first value in the task, and of their squares.
    struct Moments {
        float *first, *sum, *squares;
    };

    // Writes a block's results: `count` of those counted from `from`.
    template <int kN, bool kWhole, bool kActivate, bool kMoments>
    static void finish(const Arguments& a, std::int64_t image, std::int64_t row, std::int64_t pitch, std::int64_t from,
                       std::int64_t count, std::int64_t channel, bool first, const Moments& moments,
                       const float* sums) {
        Vec bias[kN], start[kN], sum[kN]{}, squares[kN]{};
        const Vec slope = broadcast(a.slope);
        int there[kN];
        for (int n = 0; n < kN; ++n) {
            const std::int64_t c = channel + n * kLanes;
            there[n] = static_cast<int>(smaller<std::int64_t>(kLanes, a.channels - c));
            bias[n] = load(a.bias + c);
            if constexpr (kMoments) {
                if (first) {
                    store(moments.first + c, load(sums + n * kLanes) + bias[n]);
                    store(moments.sum + c, Vec{}), store(moments.squares + c, Vec{});
                }
                start[n] = load(moments.first + c), sum[n] = load(moments.sum + c);
                squares[n] = load(moments.squares + c);
            }
        }
        std::int64_t i = from / pitch, j = from % pitch;
        Bf16* const out = static_cast<Bf16*>(a.y) + strides_of(a, image, channel)(row, 0);
        for (std::int64_t p = 0; p < count; ++p, ++j) {
            if (j == pitch) j = 0, ++i;
            if (j >= a.width) continue;
            Bf16* const to = out + (i * a.width + j) * a.channels;
#pragma GCC unroll 2
            for (int n = 0; n < kN; ++n) {
                Vec value = load(sums + p * kBlockColumns + n * kLanes) + bias[n];
                if constexpr (kActivate) value = value > 0.0f ? value : value * slope;
                if constexpr (kMoments) {
                    const Vec difference = value - start[n];
                    sum[n] += difference;
                    squares[n] += difference * difference;
                }
                write<kWhole>(to + n * kLanes, value, there[n]);
            }
        }
        if constexpr (kMoments)
            for (int n = 0; n < kN; ++n)
                store(moments.sum + channel + n * kLanes, sum[n]),
                    store(moments.squares + channel + n * kLanes, squares[n]);
    }

    template <int kN, bool kWhole, typename... Rest>
    static void finish_as(const Arguments& a, Rest... rest) {
        if (a.moments) return finish<kN, kWhole, false, true>(a, rest...);
        a.activate ? finish<kN, kWhole, true, false>(a, rest...) : finish<kN, kWhole, false, false>(a, rest...);
    }

    template <int kN>
    static void run_block(const Arguments& a, const Windows& w, const WeightTiles& weights, std::int64_t begin,
                          std::int64_t end, std::int64_t channel, const Bf16* window, const Moments& moments,
                          float* sums) {
        bool first = true;
        each_segment(begin, end, a.height, [&](std::int64_t image, std::int64_t row, std::int64_t rows) {
            const std::int64_t results = w.results(rows), block = w.plane(rows) * kTileDepth;
            const Taps taps = w.taps(rows);
            for (std::int64_t from = 0; from < results; from += kBlockRows, first = false) {
                multiply_block<kN>(weights, channel, taps, window + from * kTileDepth, block, sums);
                const std::int64_t count = smaller<std::int64_t>(kBlockRows, results - from);
                if (channel + kN * kLanes <= a.channels)
                    finish_as<kN, true>(a, image, row, w.pitch(), from, count, channel, first, moments, sums);
                else
                    finish_as<kN, false>(a, image, row, w.pitch(), from, count, channel, first, moments, sums);
            }
            window += w.size(rows);
        });
    }

    static void run(const Arguments& a, std::int64_t task, std::int64_t tasks, void* scratch) {
        const std::int64_t total = a.batch * a.height, begin = total * task / tasks, end = total * (task + 1) / tasks;
        const std::int64_t channels = padded(a.channels);
        float* const sums = static_cast<float*>(scratch);
        float* const vectors = sums + kBlockRows * kBlockColumns;
        const Moments moments{vectors, vectors + channels, vectors + 2 * channels};
        Bf16* const window =
            reinterpret_cast<Bf16*>(reinterpret_cast<char*>(vectors) + aligned_bytes(3 * channels * 4));
        const Windows w = windows(a);
        Bf16* next = window;
        each_segment(begin, end, a.height, [&](std::int64_t image, std::int64_t row, std::int64_t rows) {
            w.fill_from(a.source, image, row, rows, a.source.sum != nullptr, next);
            next += w.size(rows);
        });
        const TileRegisters registers;
        const WeightTiles weights(a.weights, kTaps, w.depth);
        for (std::int64_t c = 0; c < channels; c += kBlockColumns)
            c + kTileColumns < channels ? run_block<2>(a, w, weights, begin, end, c, window, moments, sums)
                                        : run_block<1>(a, w, weights, begin, end, c, window, moments, sums);
        if (a.moments) write_moments(a, (end - begin) * a.width, moments, a.moments + task * moments_size(a.channels));
    }

    static void write_moments(const Arguments& a, std::int64_t pixels, const Moments& moments, float* out) {
        const std::int64_t channels = padded(a.channels);
        const float count = static_cast<float>(pixels);
        out[2 * channels] = count;
        if (pixels == 0) return;
        for (std::int64_t c = 0; c < a.channels; ++c) {
            const float mean = moments.sum[c] / count;
            out[c] = moments.first[c] + mean;
            out[channels + c] = moments.squares[c] - mean * moments.sum[c];
        }
    }
};

}  // namespace

Kernel<ConvForward<float>> conv_fwd() { return kernel_of<Forward, ConvForward<float>>(); }

}  // namespace srgan_fast::cpu::SRGAN_FAST_LEVEL
