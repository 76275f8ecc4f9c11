// Data gradient of training convolutions for bfloat16 maps; see kernels/cpu/conv.h and conv_fwd.cpp.
//
// It is the forward kernel with dy as input and flipped taps; with stride 2, z has four phases, each with its own taps
// over the same window of dy.
#include "kernels/cpu/bf16/table.h"
#include "kernels/cpu/bf16/windows.h"
#include "kernels/cpu/level/through_prologue.h"

namespace srgan_fast::cpu::SRGAN_FAST_LEVEL {
namespace {

template <Geometry kGeometry>
struct Dgrad {
    using Arguments = ConvDgrad<float>;
    using Windows = GradientWindows<kGeometry>;
    static constexpr int kStep = Form<kGeometry>::kStep, kPhases = Windows::kPhases;

    // Size of the phase of even rows and columns, the largest one.
    static std::int64_t height(const Arguments& a) { return (a.source.height + kStep - 1) / kStep; }
    static Windows windows(const Arguments& a) { return {(a.source.width + kStep - 1) / kStep, {a.gradient.channels}}; }

    static std::int64_t tasks(const Arguments& a, int threads) {
        const Windows w = windows(a);
        const std::int64_t depth = deep(a.gradient.channels);
        return tasks_of_rows(a.batch * height(a), w.pitch() * depth * 2, window_budget(depth, a.source.channels),
                             threads);
    }

    static std::int64_t scratch(const Arguments& a, std::int64_t tasks) {
        const std::int64_t rows = (a.batch * height(a) + tasks - 1) / tasks;
        return kPipelineBytes + aligned_bytes(windows_size(windows(a), rows, height(a)) * 2);
    }

    static Prologue prologue_of(const Source<float>& s) {
        return !s.affine ? Prologue::kPlain : s.residual ? Prologue::kResidual : Prologue::kAffine;
    }

    // Per-channel values of kN vectors of channels, used while a task's results are finished; for a shuffled z, of all
    // four phases.
    template <int kN>
    struct Channels {
        Affine<float> affine[4][kN];
        PrologueSums<float> sums[4][kN];
        int there[kN];
    };

    // Consecutive results: pixels of x, the first at `offset`, `step` elements apart; and their sums.
    struct Run {
        std::int64_t offset, step, count;
        const float* sums;
        std::int64_t sums_step;
        int phase;  // of a shuffled z
    };

    template <int kN, bool kWhole, Prologue kPrologue>
    static SRGAN_FAST_INLINE void finish_run(const Arguments& a, Run r, Channels<kN>& channels) {
        const auto* const x = static_cast<const Bf16*>(a.source.x);
        const auto* const sum_gradient = static_cast<const Bf16*>(a.sum_gradient);
        Affine<float> affine[kN];
        PrologueSums<float> mine[kN];
        int there[kN];
#pragma GCC unroll 2
        for (int n = 0; n < kN; ++n) {
            affine[n] = channels.affine[r.phase][n], mine[n] = channels.sums[r.phase][n];
            there[n] = kWhole ? kLanes : channels.there[n];
        }
        for (; r.count > 0; --r.count, r.offset += r.step, r.sums += r.sums_step) {
            Vec g[kN], values[kN];
#pragma GCC unroll 2
            for (int n = 0; n < kN; ++n) {
                const std::int64_t offset = r.offset + n * kLanes;
                g[n] = values[n] = load(r.sums + n * kLanes);
                if constexpr (kPrologue == Prologue::kResidual)
                    if (sum_gradient) g[n] += read<kWhole>(sum_gradient + offset, there[n]);
                if constexpr (kPrologue != Prologue::kPlain)
                    values[n] =
                        through_prologue<kPrologue>(affine[n], read<kWhole>(x + offset, there[n]), g[n], mine[n]);
            }
            if constexpr (kPrologue == Prologue::kResidual)
                write_block<kWhole>(static_cast<Bf16*>(a.residual_gradient) + r.offset, g, there);
            write_block<kWhole>(static_cast<Bf16*>(a.x_gradient) + r.offset, values, there);
        }
        if constexpr (kPrologue != Prologue::kPlain)
#pragma GCC unroll 2
            for (int n = 0; n < kN; ++n) channels.sums[r.phase][n] = mine[n];
    }

    // A part of a block.
    template <int kN, bool kWhole, Prologue kPrologue>
    [[gnu::noinline]] static void finish(const Arguments& a, const Windows& w, const Block& b, int part,
                                         std::int64_t channel, Channels<kN>& channels) {
        if (a.source.shuffle && kStep == 1)
            finish<kN, kWhole, kPrologue, 2>(a, w, b, part, channel, channels);
        else
            finish<kN, kWhole, kPrologue, 1>(a, w, b, part, channel, channels);
    }

    // Neighbours in a shuffled z are in different channels of x: kApart is 2 if a part contains only even or only odd
    // ones.
    template <int kN, bool kWhole, Prologue kPrologue, int kApart>
    static SRGAN_FAST_INLINE void finish(const Arguments& a, const Windows& w, const Block& b, int part,
                                         std::int64_t channel, Channels<kN>& channels) {
        const Source<float>& s = a.source;
        const Strides strides = strides_of(s, b.image, channel);
        const std::int64_t down = b.phase / 2, right = b.phase % 2;
        const auto visit = [&](std::int64_t row, std::int64_t column, std::int64_t count,
                               const float* sums) SRGAN_FAST_INLINE_LAMBDA {
            const std::int64_t skipped = (column ^ part) % kApart;
            const std::int64_t y = kStep * row + down, x = kStep * (column + skipped) + right;
            if (y >= s.height) return;
            Run run{strides(y, x),
                    kStep * s.channels,
                    (count - skipped + kApart - 1) / kApart,
                    sums + skipped * kBlockColumns,
                    kApart * kBlockColumns,
                    0};
            if (s.shuffle) {
                run.offset = Shuffled(s, b.image, y, x, channel).offset, run.step = 4 * s.channels;
                run.phase = static_cast<int>((y & 1) * 2 + (x & 1));
            }
            finish_run<kN, kWhole, kPrologue>(a, run, channels);
        };
        each_run<kParts / kApart>(b, part / kApart, w.pitch(), (s.width - right + kStep - 1) / kStep, visit);
    }

    // The task's rows from `begin` to `end`, kN * 16 channels.
    template <int kN, bool kWhole, Prologue kPrologue>
    static void run_group(const Arguments& a, const Windows& w, const WeightTiles& weights, std::int64_t begin,
                          std::int64_t end, std::int64_t channel, const Bf16* window, float* prologue_sums,
                          float* memory) {
        const Source<float>& s = a.source;
        Channels<kN> channels;
        for (int n = 0; n < kN; ++n) {
            const std::int64_t c = channel + n * kLanes;
            channels.there[n] = static_cast<int>(smaller<std::int64_t>(kLanes, s.channels - c));
            if constexpr (kPrologue != Prologue::kPlain)
                for (int phase = 0; phase < (s.shuffle ? 4 : 1); ++phase)
                    channels.affine[phase][n] = Affine<float>(s, phase * s.channels + c);
        }
        Taps taps[kPhases];
        for (int phase = 0; phase < kPhases; ++phase) taps[phase] = w.taps(phase);
        const auto part = [&](const Block& b, int index) SRGAN_FAST_INLINE_LAMBDA {
            finish<kN, kWhole, kPrologue>(a, w, b, index, channel, channels);
        };
        Pipeline<Block, decltype(part)> pipeline(memory, part);
        const std::int64_t pixel = w.depth.pixel();
        each_segment(begin, end, height(a), [&](std::int64_t image, std::int64_t row, std::int64_t rows) {
            const std::int64_t results = w.results(rows), block = w.pixels(rows) * kTileDepth;
            for (std::int64_t from = 0; from < results; from += kBlockRows) {
                const std::int64_t count = smaller<std::int64_t>(kBlockRows, results - from);
                for (int phase = 0; phase < kPhases; ++phase)
                    pipeline.next({image, row, from, count, phase, nullptr},
                                  [&](float* sums, const auto& meanwhile) SRGAN_FAST_INLINE_LAMBDA {
                                      multiply_block<kN>(weights, channel, taps[phase], window + from * pixel, pixel,
                                                         block, count, sums, meanwhile);
                                  });
            }
            window += w.size(rows);
        });
        pipeline.finish();
        if constexpr (kPrologue != Prologue::kPlain) {
            const std::int64_t length = padded(s.shuffle ? 4 * s.channels : s.channels);
            for (int phase = 0; phase < (s.shuffle ? 4 : 1); ++phase)
                for (int n = 0; n < kN; ++n)
                    channels.sums[phase][n].put(prologue_sums + phase * s.channels + channel + n * kLanes, length,
                                                channels.there[n]);
        }
    }

    template <int kN, bool kWhole, typename... Rest>
    static void run_group(const Arguments& a, const Rest&... rest) {
        switch (prologue_of(a.source)) {
            case Prologue::kPlain: return run_group<kN, kWhole, Prologue::kPlain>(a, rest...);
            case Prologue::kAffine: return run_group<kN, kWhole, Prologue::kAffine>(a, rest...);
            default: return run_group<kN, kWhole, Prologue::kResidual>(a, rest...);
        }
    }

    static void run(const Arguments& a, std::int64_t task, std::int64_t tasks, void* scratch) {
        const std::int64_t total = a.batch * height(a), begin = total * task / tasks, end = total * (task + 1) / tasks;
        float* const prologue_sums =
            a.source.affine ? a.sums + task * 3 * padded(a.source.shuffle ? 4 * a.source.channels : a.source.channels)
                            : nullptr;
        float* const sums = static_cast<float*>(scratch);
        Bf16* const window = reinterpret_cast<Bf16*>(sums + 2 * kBlockRows * kBlockColumns);
        const Windows w = windows(a);
        Bf16* next = window;
        each_segment(begin, end, height(a), [&](std::int64_t image, std::int64_t row, std::int64_t rows) {
            w.fill_from(a.gradient, image, row, rows, next);
            next += w.size(rows);
        });
        const TileRegisters registers;
        const WeightTiles weights = w.depth.weights(a.weights);
        const std::int64_t channels = padded(a.source.channels);
        for (std::int64_t c = 0; c < channels; c += kBlockColumns) {
            const auto run = [&](auto vectors) {
                if (c + vectors * kLanes <= a.source.channels)
                    run_group<vectors, true>(a, w, weights, begin, end, c, window, prologue_sums, sums);
                else
                    run_group<vectors, false>(a, w, weights, begin, end, c, window, prologue_sums, sums);
            };
            c + kTileColumns < channels ? run(std::integral_constant<int, 2>()) : run(std::integral_constant<int, 1>());
        }
    }
};

}  // namespace

Kernel<ConvDgrad<float>> conv_dgrad() { return kernel_of<Dgrad, ConvDgrad<float>>(); }

}  // namespace srgan_fast::cpu::SRGAN_FAST_LEVEL
