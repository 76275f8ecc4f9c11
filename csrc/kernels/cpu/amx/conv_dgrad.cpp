// The data gradient of training's convolutions on AMX, for maps of bfloat16; see kernels/cpu/conv.h.
//
// The forward kernel with dy for its input and its taps turned around; stride 2 has four phases of z, each with taps
// of its own over the same window of dy.
#include "kernels/cpu/amx/table.h"
#include "kernels/cpu/amx/windows.h"
#include "kernels/cpu/level/through_prologue.h"

namespace srgan_fast::cpu::SRGAN_FAST_LEVEL {
namespace {

template <Geometry kGeometry>
struct Dgrad {
    using Arguments = ConvDgrad<float>;
    using Windows = GradientWindows<kGeometry>;
    static constexpr int kStep = Form<kGeometry>::kStep, kPhases = Windows::kPhases;
    static constexpr std::int64_t kTaps = Windows::kTaps * Windows::kTaps;

    // Of the phase of even rows and columns, the largest.
    static std::int64_t height(const Arguments& a) { return (a.source.height + kStep - 1) / kStep; }
    static Windows windows(const Arguments& a) {
        return {(a.source.width + kStep - 1) / kStep, deep(a.gradient.channels)};
    }

    static std::int64_t tasks(const Arguments& a, int threads) {
        const Windows w = windows(a);
        return tasks_of_rows(a.batch * height(a), w.pitch() * w.depth * 2, window_budget(w.depth, a.source.channels),
                             threads);
    }

    static std::int64_t scratch(const Arguments& a, std::int64_t tasks) {
        const std::int64_t rows = (a.batch * height(a) + tasks - 1) / tasks;
        return kPipelineBytes + aligned_bytes(windows_size(windows(a), rows, height(a)) * 2);
    }

    // Calls put(y, x, dz) for some of a block's pixels of z and a vector of channels.
    template <typename Put>
    static SRGAN_FAST_INLINE void each_pixel(const Arguments& a, const Windows& w, const Block& b, std::int64_t begin,
                                             std::int64_t end, std::int64_t vector, const Put& put) {
        const float* const sums = b.sums + vector * kLanes;
        std::int64_t i = (b.from + begin) / w.pitch(), j = (b.from + begin) % w.pitch();
        for (std::int64_t p = begin; p < smaller(end, b.count); ++p, ++j) {
            if (j == w.pitch()) j = 0, ++i;
            const std::int64_t y = kStep * (b.row + i) + b.phase / 2, x = kStep * j + b.phase % 2;
            if (y < a.source.height && x < a.source.width && j < w.width) put(y, x, load(sums + p * kBlockColumns));
        }
    }

    enum class Shape { kPlain, kAffine, kResidual, kShuffled, kShuffledAffine };

    static Shape shape_of(const Source<float>& s) {
        if (s.shuffle) return s.affine ? Shape::kShuffledAffine : Shape::kShuffled;
        return !s.affine ? Shape::kPlain : s.residual ? Shape::kResidual : Shape::kAffine;
    }

    // A part of a block: some pixels of one of its vectors of channels, or all of those that were shuffled from the
    // same channels.
    template <bool kWhole, Shape kShape>
    [[gnu::noinline]] static void finish(const Arguments& a, const Windows& w, const Block& b, int part,
                                         std::int64_t first, float* prologue_sums) {
        constexpr int kSplit = kParts / 2;
        const Source<float>& s = a.source;
        const std::int64_t vector = part / kSplit, c = first + vector * kLanes;
        if (c >= s.channels) return;
        const int count = static_cast<int>(smaller<std::int64_t>(kLanes, s.channels - c)), index = part % kSplit;
        if constexpr (kShape == Shape::kShuffled || kShape == Shape::kShuffledAffine) {
            static_assert(kSplit == 4);
            constexpr bool kAffine = kShape == Shape::kShuffledAffine;
            const std::int64_t channel = index * s.channels + c;
            Affine<float> affine;
            if constexpr (kAffine) affine = Affine<float>(s, channel);
            PrologueSums<float> mine(prologue_sums, padded(4 * s.channels), kAffine ? channel : 0, kAffine ? count : 0);
            each_pixel(a, w, b, 0, kBlockRows, vector,
                       [&](std::int64_t y, std::int64_t x, Vec g) SRGAN_FAST_INLINE_LAMBDA {
                           if ((y & 1) * 2 + (x & 1) != index) return;
                           const std::int64_t offset = Shuffled(s, b.image, y, x, c).offset;
                           if constexpr (kAffine)
                               through_prologue<Bf16, kWhole, Prologue::kAffine>(a, offset, count, affine, g, mine);
                           else
                               write<kWhole>(static_cast<Bf16*>(a.x_gradient) + offset, g, count);
                       });
            if constexpr (kAffine) mine.put(count);
        } else {
            const std::int64_t begin = index * (kBlockRows / kSplit), end = begin + kBlockRows / kSplit;
            const Strides strides = strides_of(s, b.image, c);
            if constexpr (kShape == Shape::kPlain) {
                each_pixel(a, w, b, begin, end, vector,
                           [&](std::int64_t y, std::int64_t x, Vec g) SRGAN_FAST_INLINE_LAMBDA {
                               write<kWhole>(static_cast<Bf16*>(a.x_gradient) + strides(y, x), g, count);
                           });
            } else {
                constexpr Prologue kPrologue = kShape == Shape::kResidual ? Prologue::kResidual : Prologue::kAffine;
                const Affine<float> affine(s, c);
                PrologueSums<float> mine(prologue_sums, padded(s.channels), c, count);
                each_pixel(a, w, b, begin, end, vector,
                           [&](std::int64_t y, std::int64_t x, Vec g) SRGAN_FAST_INLINE_LAMBDA {
                               through_prologue<Bf16, kWhole, kPrologue>(a, strides(y, x), count, affine, g, mine);
                           });
                mine.put(count);
            }
        }
    }

    // The task's rows from `begin` to `end`, kN * 16 channels.
    template <int kN, bool kWhole, Shape kShape>
    static void run_group(const Arguments& a, const Windows& w, const WeightTiles& weights, std::int64_t begin,
                          std::int64_t end, std::int64_t channel, const Bf16* window, float* prologue_sums,
                          float* memory) {
        Taps taps[kPhases];
        for (int phase = 0; phase < kPhases; ++phase) taps[phase] = w.taps(phase);
        const auto part = [&](const Block& b, int index) SRGAN_FAST_INLINE_LAMBDA {
            finish<kWhole, kShape>(a, w, b, index, channel, prologue_sums);
        };
        Pipeline<Block, decltype(part)> pipeline(memory, part);
        each_segment(begin, end, height(a), [&](std::int64_t image, std::int64_t row, std::int64_t rows) {
            const std::int64_t results = w.results(rows), block = w.pixels(rows) * kTileDepth;
            for (std::int64_t from = 0; from < results; from += kBlockRows)
                for (int phase = 0; phase < kPhases; ++phase)
                    pipeline.next({image, row, from, smaller<std::int64_t>(kBlockRows, results - from), phase, nullptr},
                                  [&](float* sums, const auto& meanwhile) SRGAN_FAST_INLINE_LAMBDA {
                                      multiply_block<kN>(weights, channel, taps[phase], window + from * kTileDepth,
                                                         block, sums, meanwhile);
                                  });
            window += w.size(rows);
        });
        pipeline.finish();
    }

    template <int kN, bool kWhole, typename... Rest>
    static void run_group(const Arguments& a, const Rest&... rest) {
        switch (shape_of(a.source)) {
            case Shape::kPlain: return run_group<kN, kWhole, Shape::kPlain>(a, rest...);
            case Shape::kAffine: return run_group<kN, kWhole, Shape::kAffine>(a, rest...);
            case Shape::kResidual: return run_group<kN, kWhole, Shape::kResidual>(a, rest...);
            case Shape::kShuffled: return run_group<kN, kWhole, Shape::kShuffled>(a, rest...);
            default: return run_group<kN, kWhole, Shape::kShuffledAffine>(a, rest...);
        }
    }

    static void run(const Arguments& a, std::int64_t task, std::int64_t tasks, void* scratch) {
        const std::int64_t total = a.batch * height(a), begin = total * task / tasks, end = total * (task + 1) / tasks;
        float* prologue_sums = nullptr;
        if (a.source.affine) {
            const std::int64_t length = 3 * padded(a.source.shuffle ? 4 * a.source.channels : a.source.channels);
            prologue_sums = a.sums + task * length;
            for (std::int64_t i = 0; i < length; ++i) prologue_sums[i] = 0.0f;
        }
        float* const sums = static_cast<float*>(scratch);
        Bf16* const window = reinterpret_cast<Bf16*>(sums + 2 * kBlockRows * kBlockColumns);
        const Windows w = windows(a);
        Bf16* next = window;
        each_segment(begin, end, height(a), [&](std::int64_t image, std::int64_t row, std::int64_t rows) {
            w.fill_from(a.gradient, image, row, rows, next);
            next += w.size(rows);
        });
        const TileRegisters registers;
        const WeightTiles weights(a.weights, kTaps, w.depth);
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
