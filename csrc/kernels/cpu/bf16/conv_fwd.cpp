// Forward convolution of training for bfloat16 maps, with bfloat16 multiplication; see kernels/cpu/conv.h.
//
// Direct convolution: AMX multiplies so fast that Winograd does not pay, and z and weights are rounded to bfloat16 as
// in other libraries. A task fills the window for some rows of z, then multiplies it with one block of channels after
// the other.
#include "kernels/cpu/bf16/table.h"
#include "kernels/cpu/bf16/windows.h"

namespace srgan_fast::cpu::SRGAN_FAST_LEVEL {
namespace {

template <Geometry kGeometry>
struct Forward {
    using Arguments = ConvForward<float>;
    using Windows = SourceWindows<kGeometry>;

    static Windows windows(const Arguments& a) { return {a.width, {a.source.channels}}; }

    static std::int64_t tasks(const Arguments& a, int threads) {
        const Windows w = windows(a);
        const std::int64_t depth = deep(a.source.channels), row = Windows::kPlanes * w.pitch() * depth * 2;
        return tasks_of_rows(a.batch * a.height, row, window_budget(depth, a.channels), threads);
    }

    static std::int64_t scratch(const Arguments& a, std::int64_t tasks) {
        const std::int64_t rows = (a.batch * a.height + tasks - 1) / tasks;
        return kPipelineBytes + aligned_bytes(windows_size(windows(a), rows, a.height) * 2);
    }

    enum class Epilogue { kPlain, kActivate, kMoments };

    // Per-channel values of kN vectors of channels, used while a task's results are finished; for moments, sums of the
    // differences from the channel's first value in the task, and of their squares.
    template <int kN>
    struct Channels {
        Vec bias[kN], first[kN], sum[kN], squares[kN];
        int there[kN];

        Channels(const Arguments& a, std::int64_t channel) {
            for (int n = 0; n < kN; ++n) {
                const std::int64_t c = channel + n * kLanes;
                bias[n] = load(a.bias + c), sum[n] = squares[n] = Vec{};
                there[n] = static_cast<int>(smaller<std::int64_t>(kLanes, a.channels - c));
            }
        }
    };

    // Writes a part of a block's results.
    template <int kN, bool kWhole, Epilogue kEpilogue>
    [[gnu::noinline]] static void finish(const Arguments& a, const Block& b, int part, std::int64_t pitch,
                                         std::int64_t channel, Channels<kN>& channels) {
        Channels<kN> c = channels;
        const Vec slope = broadcast(a.slope);
        const Strides strides = strides_of(a, b.image, channel);
        each_run<kParts>(b, part, pitch, a.width,
                         [&](std::int64_t y, std::int64_t x, std::int64_t count, const float* sums)
                             SRGAN_FAST_INLINE_LAMBDA {
                                 Bf16* to = static_cast<Bf16*>(a.y) + strides(y, x);
                                 for (std::int64_t p = 0; p < count; ++p, to += a.channels, sums += kBlockColumns) {
                                     Vec values[kN];
#pragma GCC unroll 2
                                     for (int n = 0; n < kN; ++n) {
                                         Vec& value = values[n];
                                         value = load(sums + n * kLanes) + c.bias[n];
                                         if constexpr (kEpilogue == Epilogue::kActivate)
                                             value = value > 0.0f ? value : value * slope;
                                         if constexpr (kEpilogue == Epilogue::kMoments) {
                                             const Vec difference = value - c.first[n];
                                             c.sum[n] += difference;
                                             c.squares[n] += difference * difference;
                                         }
                                     }
                                     write_block<kWhole>(to, values, c.there);
                                 }
                             });
        if constexpr (kEpilogue == Epilogue::kMoments)
            for (int n = 0; n < kN; ++n) channels.sum[n] = c.sum[n], channels.squares[n] = c.squares[n];
    }

    // The task's rows from `begin` to `end`, kN * 16 channels.
    template <int kN, bool kWhole, Epilogue kEpilogue>
    static void run_group(const Arguments& a, const Windows& w, const WeightTiles& weights, std::int64_t begin,
                          std::int64_t end, std::int64_t channel, const Bf16* window, float* moments, float* memory) {
        Channels<kN> channels(a, channel);
        bool first = true;
        const auto part = [&](const Block& b, int index) SRGAN_FAST_INLINE_LAMBDA {
            if (kEpilogue == Epilogue::kMoments && first) {
                first = false;
                for (int n = 0; n < kN; ++n) channels.first[n] = load(b.sums + n * kLanes) + channels.bias[n];
            }
            finish<kN, kWhole, kEpilogue>(a, b, index, w.pitch(), channel, channels);
        };
        Pipeline<Block, decltype(part)> pipeline(memory, part);
        const std::int64_t pixel = w.depth.pixel();
        each_segment(begin, end, a.height, [&](std::int64_t image, std::int64_t row, std::int64_t rows) {
            const std::int64_t results = w.results(rows), block = w.plane(rows) * kTileDepth;
            const Taps taps = w.taps(rows);
            for (std::int64_t from = 0; from < results; from += kBlockRows) {
                const std::int64_t count = smaller<std::int64_t>(kBlockRows, results - from);
                pipeline.next({image, row, from, count, 0, nullptr},
                              [&](float* sums, const auto& meanwhile) SRGAN_FAST_INLINE_LAMBDA {
                                  multiply_block<kN>(weights, channel, taps, window + from * pixel, pixel, block, count,
                                                     sums, meanwhile);
                              });
            }
            window += w.size(rows);
        });
        pipeline.finish();
        if constexpr (kEpilogue == Epilogue::kMoments) {
            const Vec count = broadcast(static_cast<float>((end - begin) * a.width));
            for (int n = 0; n < kN; ++n) {
                const Vec mean = channels.sum[n] / count;
                store(moments + channel + n * kLanes, channels.first[n] + mean);
                store(moments + padded(a.channels) + channel + n * kLanes,
                      channels.squares[n] - mean * channels.sum[n]);
            }
        }
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
        Bf16* const window = reinterpret_cast<Bf16*>(sums + 2 * kBlockRows * kBlockColumns);
        float* const moments = a.moments ? a.moments + task * moments_size(a.channels) : nullptr;
        if (moments) moments[2 * channels] = static_cast<float>((end - begin) * a.width);
        const Windows w = windows(a);
        Bf16* next = window;
        each_segment(begin, end, a.height, [&](std::int64_t image, std::int64_t row, std::int64_t rows) {
            w.fill_from(a.source, image, row, rows, a.source.sum != nullptr, next);
            next += w.size(rows);
        });
        const TileRegisters registers;
        const WeightTiles weights = w.depth.weights(a.weights);
        for (std::int64_t c = 0; c < channels; c += kBlockColumns) {
            const auto run = [&](auto vectors) {
                if (c + vectors * kLanes <= a.channels)
                    run_group<vectors, true>(a, w, weights, begin, end, c, window, moments, sums);
                else
                    run_group<vectors, false>(a, w, weights, begin, end, c, window, moments, sums);
            };
            c + kTileColumns < channels ? run(std::integral_constant<int, 2>()) : run(std::integral_constant<int, 1>());
        }
    }
};

}  // namespace

Kernel<ConvForward<float>> conv_fwd() { return kernel_of<Forward, ConvForward<float>>(); }

}  // namespace srgan_fast::cpu::SRGAN_FAST_LEVEL
