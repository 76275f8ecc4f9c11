// The data gradient of training's convolutions on AMX, for maps of bfloat16; see kernels/cpu/conv.h.
//
// The forward kernel with dy for its input and each filter turned around; stride 2 has four phases of z, each with taps
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
        const std::int64_t segments = smaller(rows, (rows + height(a) - 2) / height(a) + 1);
        return kBlockRows * kBlockColumns * 4 +
               aligned_bytes((windows(a).size(rows) + segments * windows(a).size(0)) * 2);
    }

    // Where a block's results belong: `count` of those counted from `from`, in rows from `row` on.
    struct Block {
        std::int64_t image, row, from, count, pitch;
        int phase;
    };

    // Calls put(y, x, dz) for a block's pixels of z and a vector of channels.
    template <typename Put>
    static SRGAN_FAST_INLINE void each_pixel(const Arguments& a, const Block& b, const float* sums, const Put& put) {
        std::int64_t i = b.from / b.pitch, j = b.from % b.pitch;
        for (std::int64_t p = 0; p < b.count; ++p, ++j) {
            if (j == b.pitch) j = 0, ++i;
            const std::int64_t y = kStep * (b.row + i) + b.phase / 2, x = kStep * j + b.phase % 2;
            if (y < a.source.height && x < a.source.width && j < b.pitch - Windows::kMoreRows)
                put(y, x, load(sums + p * kBlockColumns));
        }
    }

    template <bool kWhole, Prologue kPrologue>
    static void finish(const Arguments& a, const Block& b, std::int64_t c, float* prologue_sums, const float* sums) {
        const Source<float>& s = a.source;
        const int count = static_cast<int>(smaller<std::int64_t>(kLanes, s.channels - c));
        const Strides strides = strides_of(s, b.image, c);
        if constexpr (kPrologue == Prologue::kPlain) {
            each_pixel(a, b, sums, [&](std::int64_t y, std::int64_t x, Vec g) SRGAN_FAST_INLINE_LAMBDA {
                write<kWhole>(static_cast<Bf16*>(a.x_gradient) + strides(y, x), g, count);
            });
        } else {
            const Affine<float> affine(s, c);
            PrologueSums<float> mine(prologue_sums, padded(s.channels), c, count);
            each_pixel(a, b, sums, [&](std::int64_t y, std::int64_t x, Vec g) SRGAN_FAST_INLINE_LAMBDA {
                through_prologue<Bf16, kWhole, kPrologue>(a, strides(y, x), count, affine, g, mine);
            });
            mine.put(count);
        }
    }

    // The same where z is shuffled, which its four phases undo one after the other.
    template <bool kWhole, bool kAffine>
    static void finish_shuffled(const Arguments& a, const Block& b, std::int64_t c, float* prologue_sums,
                                const float* sums) {
        const Source<float>& s = a.source;
        const int count = static_cast<int>(smaller<std::int64_t>(kLanes, s.channels - c));
        for (int quarter = 0; quarter < 4; ++quarter) {
            const std::int64_t channel = quarter * s.channels + c;
            Affine<float> affine;
            if constexpr (kAffine) affine = Affine<float>(s, channel);
            PrologueSums<float> mine(prologue_sums, padded(4 * s.channels), kAffine ? channel : 0, kAffine ? count : 0);
            each_pixel(a, b, sums, [&](std::int64_t y, std::int64_t x, Vec g) SRGAN_FAST_INLINE_LAMBDA {
                if ((y & 1) * 2 + (x & 1) != quarter) return;
                const std::int64_t offset = Shuffled(s, b.image, y, x, c).offset;
                if constexpr (kAffine)
                    through_prologue<Bf16, kWhole, Prologue::kAffine>(a, offset, count, affine, g, mine);
                else
                    write<kWhole>(static_cast<Bf16*>(a.x_gradient) + offset, g, count);
            });
            if constexpr (kAffine) mine.put(count);
        }
    }

    template <bool kWhole>
    static void finish(const Arguments& a, const Block& b, std::int64_t c, float* prologue_sums, const float* sums) {
        if (a.source.shuffle)
            a.source.affine ? finish_shuffled<kWhole, true>(a, b, c, prologue_sums, sums)
                            : finish_shuffled<kWhole, false>(a, b, c, prologue_sums, sums);
        else if (!a.source.affine)
            finish<kWhole, Prologue::kPlain>(a, b, c, prologue_sums, sums);
        else if (a.source.residual)
            finish<kWhole, Prologue::kResidual>(a, b, c, prologue_sums, sums);
        else
            finish<kWhole, Prologue::kAffine>(a, b, c, prologue_sums, sums);
    }

    template <int kN>
    static void run_block(const Arguments& a, const Windows& w, const WeightTiles& weights, std::int64_t begin,
                          std::int64_t end, std::int64_t channel, const Bf16* window, float* prologue_sums,
                          float* sums) {
        Taps taps[kPhases];
        for (int phase = 0; phase < kPhases; ++phase) taps[phase] = w.taps(phase);
        each_segment(begin, end, height(a), [&](std::int64_t image, std::int64_t row, std::int64_t rows) {
            const std::int64_t results = w.results(rows);
            for (std::int64_t from = 0; from < results; from += kBlockRows)
                for (int phase = 0; phase < kPhases; ++phase) {
                    multiply_block<kN>(weights, channel, taps[phase], window + from * kTileDepth,
                                       w.pixels(rows) * kTileDepth, sums);
                    const Block block{image,     row,  from, smaller<std::int64_t>(kBlockRows, results - from),
                                      w.pitch(), phase};
                    for (int n = 0; n < kN && channel + n * kLanes < a.source.channels; ++n) {
                        const std::int64_t c = channel + n * kLanes;
                        c + kLanes <= a.source.channels ? finish<true>(a, block, c, prologue_sums, sums + n * kLanes)
                                                        : finish<false>(a, block, c, prologue_sums, sums + n * kLanes);
                    }
                }
            window += w.size(rows);
        });
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
        Bf16* const window = reinterpret_cast<Bf16*>(sums + kBlockRows * kBlockColumns);
        const Windows w = windows(a);
        Bf16* next = window;
        each_segment(begin, end, height(a), [&](std::int64_t image, std::int64_t row, std::int64_t rows) {
            w.fill_from(a.gradient, image, row, rows, next);
            next += w.size(rows);
        });
        const TileRegisters registers;
        const WeightTiles weights(a.weights, kTaps, w.depth);
        const std::int64_t channels = padded(a.source.channels);
        for (std::int64_t c = 0; c < channels; c += kBlockColumns)
            c + kTileColumns < channels ? run_block<2>(a, w, weights, begin, end, c, window, prologue_sums, sums)
                                        : run_block<1>(a, w, weights, begin, end, c, window, prologue_sums, sums);
    }
};

}  // namespace

Kernel<ConvDgrad<float>> conv_dgrad() { return kernel_of<Dgrad, ConvDgrad<float>>(); }

}  // namespace srgan_fast::cpu::SRGAN_FAST_LEVEL
