// The forward convolution of training on AMX, for maps of bfloat16; see kernels/cpu/conv.h.
//
// It is the direct form: with many times the products of AVX-512 there is nothing to gain from Winograd's, and z and
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

    static std::int64_t scratch(const Arguments& a, std::int64_t tasks) {
        const std::int64_t rows = (a.batch * a.height + tasks - 1) / tasks;
        return kPipelineBytes + aligned_bytes(3 * padded(a.channels) * 4) +
               aligned_bytes(windows_size(windows(a), rows, a.height) * 2);
    }

    // Sums of a channel's differences from its first value in the task, and of their squares.
    struct Moments {
        float *first, *sum, *squares;
    };

    enum class Epilogue { kPlain, kActivate, kMoments };

    // Writes a part of a block's results, of kN vectors of channels.
    template <int kN, bool kWhole, Epilogue kEpilogue>
    [[gnu::noinline]] static void finish(const Arguments& a, const Block& b, int part, std::int64_t pitch,
                                         std::int64_t channel, const Moments& moments) {
        constexpr std::int64_t kPixels = kBlockRows / kParts;
        const std::int64_t end = smaller((part + 1) * kPixels, b.count);
        std::int64_t p = part * kPixels, i = (b.from + p) / pitch, j = (b.from + p) % pitch;
        Vec bias[kN], start[kN], sum[kN], squares[kN];
        int there[kN];
        const Vec slope = broadcast(a.slope);
        for (int n = 0; n < kN; ++n) {
            const std::int64_t c = channel + n * kLanes;
            there[n] = static_cast<int>(smaller<std::int64_t>(kLanes, a.channels - c));
            bias[n] = load(a.bias + c);
            if constexpr (kEpilogue == Epilogue::kMoments) {
                start[n] = load(moments.first + c), sum[n] = load(moments.sum + c);
                squares[n] = load(moments.squares + c);
            }
        }
        Bf16* const out = static_cast<Bf16*>(a.y) + strides_of(a, b.image, channel)(b.row, 0);
        for (; p < end; ++p, ++j) {
            if (j == pitch) j = 0, ++i;
            if (j >= a.width) continue;
            Bf16* const to = out + (i * a.width + j) * a.channels;
            Vec values[kN];
#pragma GCC unroll 2
            for (int n = 0; n < kN; ++n) {
                Vec& value = values[n];
                value = load(b.sums + p * kBlockColumns + n * kLanes) + bias[n];
                if constexpr (kEpilogue == Epilogue::kActivate) value = value > 0.0f ? value : value * slope;
                if constexpr (kEpilogue == Epilogue::kMoments) {
                    const Vec difference = value - start[n];
                    sum[n] += difference;
                    squares[n] += difference * difference;
                }
                if constexpr (kN == 1 || !kWhole) write<kWhole>(to + n * kLanes, value, there[n]);
            }
            if constexpr (kN == 2 && kWhole) write_line(to, values[0], values[1]);
        }
        if constexpr (kEpilogue == Epilogue::kMoments)
            for (int n = 0; n < kN; ++n) {
                store(moments.sum + channel + n * kLanes, sum[n]);
                store(moments.squares + channel + n * kLanes, squares[n]);
            }
    }

    // The task's rows from `begin` to `end`, kN * 16 channels.
    template <int kN, bool kWhole, Epilogue kEpilogue>
    static void run_group(const Arguments& a, const Windows& w, const WeightTiles& weights, std::int64_t begin,
                          std::int64_t end, std::int64_t channel, const Bf16* window, const Moments& moments,
                          float* memory) {
        bool first = true;
        const auto part = [&](const Block& b, int index) SRGAN_FAST_INLINE_LAMBDA {
            if (kEpilogue == Epilogue::kMoments && first) {
                first = false;
                for (std::int64_t c = channel; c < channel + kN * kLanes; c += kLanes) {
                    store(moments.first + c, load(b.sums + c - channel) + load(a.bias + c));
                    store(moments.sum + c, Vec{}), store(moments.squares + c, Vec{});
                }
            }
            finish<kN, kWhole, kEpilogue>(a, b, index, w.pitch(), channel, moments);
        };
        Pipeline<Block, decltype(part)> pipeline(memory, part);
        each_segment(begin, end, a.height, [&](std::int64_t image, std::int64_t row, std::int64_t rows) {
            const std::int64_t results = w.results(rows), block = w.plane(rows) * kTileDepth;
            const Taps taps = w.taps(rows);
            for (std::int64_t from = 0; from < results; from += kBlockRows)
                pipeline.next({image, row, from, smaller<std::int64_t>(kBlockRows, results - from), 0, nullptr},
                              [&](float* sums, const auto& meanwhile) SRGAN_FAST_INLINE_LAMBDA {
                                  multiply_block<kN>(weights, channel, taps, window + from * kTileDepth, block, sums,
                                                     meanwhile);
                              });
            window += w.size(rows);
        });
        pipeline.finish();
    }

    template <int kN, bool kWhole, typename... Rest>
    static void run_group(const Arguments& a, const Rest&... rest) {
        if (a.moments)
            run_group<kN, kWhole, Epilogue::kMoments>(a, rest...);
        else if (a.activate)
            run_group<kN, kWhole, Epilogue::kActivate>(a, rest...);
        else
            run_group<kN, kWhole, Epilogue::kPlain>(a, rest...);
    }

    static void run(const Arguments& a, std::int64_t task, std::int64_t tasks, void* scratch) {
        const std::int64_t total = a.batch * a.height, begin = total * task / tasks, end = total * (task + 1) / tasks;
        const std::int64_t channels = padded(a.channels);
        float* const sums = static_cast<float*>(scratch);
        float* const vectors = sums + 2 * kBlockRows * kBlockColumns;
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
        for (std::int64_t c = 0; c < channels; c += kBlockColumns) {
            const auto run = [&](auto vectors) {
                if (c + vectors * kLanes <= a.channels)
                    run_group<vectors, true>(a, w, weights, begin, end, c, window, moments, sums);
                else
                    run_group<vectors, false>(a, w, weights, begin, end, c, window, moments, sums);
            };
            c + kTileColumns < channels ? run(std::integral_constant<int, 2>()) : run(std::integral_constant<int, 1>());
        }
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
