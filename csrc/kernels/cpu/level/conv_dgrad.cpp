// The data gradient of training's convolutions; see kernels/cpu/conv.h.
//
// It is the forward kernel with the filter turned around, dy for its input, and the prologue's backward pass for its
// epilogue. For stride 2 each of the four phases of z has outputs of its own, from the same transformed dy.
#include "kernels/cpu/level/geometry.h"
#include "kernels/cpu/level/products.h"
#include "kernels/cpu/level/table.h"
#include "kernels/cpu/level/through_prologue.h"
#include "kernels/cpu/pack.h"

namespace srgan_fast::cpu::SRGAN_FAST_LEVEL {
namespace {

template <Geometry kGeometry, typename X>
struct Dgrad {
    using S = Scalar<X>;
    using V = Simd<S>;
    using W = typename Form<kGeometry>::W;
    using P = Points<kGeometry>;
    using Arguments = ConvDgrad<S>;
    static constexpr int kSide = P::kSide, kOutputs = W::kOutputs, kStep = Form<kGeometry>::kStep;
    static constexpr std::int64_t kSkew = kSkewOf<S>;

    // Over the pixels of a phase; the phase of the even rows and columns is the largest.
    static TileGrid grid(const Arguments& a) {
        return {a.batch, (a.source.height + kStep - 1) / kStep, (a.source.width + kStep - 1) / kStep, kOutputs};
    }

    static std::int64_t tasks(const Arguments& a, int threads) {
        return grid(a).tasks(tiles_together(a.gradient.channels, a.source.channels * P::kPhases), threads);
    }

    static std::int64_t scratch(const Arguments& a, std::int64_t tasks) {
        const std::int64_t tiles = (grid(a).total + tasks - 1) / tasks;
        const std::int64_t group = smaller(padded(a.source.channels), kChannelGroup);
        const std::int64_t size = static_cast<std::int64_t>(sizeof(S));
        return aligned_bytes(kSide * kSide * (tiles * padded(a.gradient.channels) + kSkew) * size) +
               aligned_bytes(kSide * kSide * (tiles * group + kSkew) * size);
    }

    static void transform(const Arguments& a, const TileGrid& tiles, std::int64_t begin, std::int64_t end, S* v) {
        const std::int64_t depth = padded(a.gradient.channels), stride = (end - begin) * depth + kSkew;
        constexpr int kBefore = kStep == 1 ? W::kRadius : 0;
        for (std::int64_t t = begin; t < end; ++t, v += depth) {
            const TileGrid::Place at = tiles[t];
            for (std::int64_t c = 0; c < depth; c += kLanesOf<S>) {
                alignas(kAlignment) V d[kSide * kSide];
                read_window<kSide, kOutputs, X>(a.gradient, at.image, at.y * kOutputs - kBefore,
                                                at.x * kOutputs - kBefore, c, d);
                transform_input<W, V>([&](int i, int j) SRGAN_FAST_INLINE_LAMBDA { return d[i * kSide + j]; },
                                      [&](int i, int j, V value)
                                          SRGAN_FAST_INLINE_LAMBDA { store(v + (i * kSide + j) * stride + c, value); });
            }
        }
    }

    // Gradients dz of a tile's pixels of one phase, and one vector of channels.
    template <bool kWhole, Prologue kPrologue>
    static void finish(const Arguments& a, const TileGrid::Place& at, int phase, std::int64_t c, S* sums, const V* dz) {
        const Source<S>& s = a.source;
        const int count = static_cast<int>(smaller<std::int64_t>(kLanesOf<S>, s.channels - c));
        const std::int64_t top = kStep * at.y * kOutputs + (kStep == 2 ? 1 - phase / 2 : 0);
        const std::int64_t left = kStep * at.x * kOutputs + (kStep == 2 ? 1 - phase % 2 : 0);
        const int rows = static_cast<int>(smaller<std::int64_t>((s.height - top + kStep - 1) / kStep, kOutputs));
        const int columns = static_cast<int>(smaller<std::int64_t>((s.width - left + kStep - 1) / kStep, kOutputs));
        const Strides strides = strides_of(s, at.image, c);
        const std::int64_t start = strides(top, left);
        X* const gradient = static_cast<X*>(a.x_gradient);
        const auto each = [&](const auto& put) SRGAN_FAST_INLINE_LAMBDA {
            if (rows == kOutputs && columns == kOutputs) {
#pragma GCC unroll 4
                for (int i = 0; i < kOutputs; ++i)
#pragma GCC unroll 4
                    for (int j = 0; j < kOutputs; ++j) {
                        const std::int64_t offset = start + kStep * (i * strides.row + j * strides.pixel);
                        const std::int64_t next = offset + kStep * kOutputs * strides.pixel;
                        __builtin_prefetch(gradient + next, 1);
                        if (kPrologue != Prologue::kPlain) __builtin_prefetch(static_cast<const X*>(s.x) + next);
                        put(offset, dz[i * kOutputs + j]);
                    }
            } else {
                for (int i = 0; i < rows; ++i)
                    for (int j = 0; j < columns; ++j)
                        put(start + kStep * (i * strides.row + j * strides.pixel), dz[i * kOutputs + j]);
            }
        };
        if constexpr (kPrologue == Prologue::kPlain) {
            each([&](std::int64_t offset, V g)
                     SRGAN_FAST_INLINE_LAMBDA { write<kWhole>(gradient + offset, g, count); });
        } else {
            const Affine<S> affine(s, c);
            PrologueSums<S> mine;
            mine.take(sums + c, padded(s.channels), count);
            each([&](std::int64_t offset, V g) SRGAN_FAST_INLINE_LAMBDA {
                through_prologue<X, kWhole, kPrologue>(a, offset, count, affine, g, mine);
            });
            mine.put(sums + c, padded(s.channels), count);
        }
    }

    // The same where z is shuffled, which its four phases undo one after the other.
    template <bool kWhole, bool kAffine>
    static void finish_shuffled(const Arguments& a, const TileGrid::Place& at, int phase, std::int64_t c, S* sums,
                                const V* dz) {
        const Source<S>& s = a.source;
        const int count = static_cast<int>(smaller<std::int64_t>(kLanesOf<S>, s.channels - c));
        const std::int64_t length = padded(4 * s.channels);
        for (int quarter = 0; quarter < 4; ++quarter) {
            const std::int64_t channel = quarter * s.channels + c;
            Affine<S> affine;
            PrologueSums<S> mine;
            if constexpr (kAffine) affine = Affine<S>(s, channel), mine.take(sums + channel, length, count);
            for (int i = 0; i < kOutputs; ++i)
                for (int j = 0; j < kOutputs; ++j) {
                    const std::int64_t y = kStep * (at.y * kOutputs + i) + (kStep == 2 ? 1 - phase / 2 : 0);
                    const std::int64_t x = kStep * (at.x * kOutputs + j) + (kStep == 2 ? 1 - phase % 2 : 0);
                    if (y >= s.height || x >= s.width || (y & 1) * 2 + (x & 1) != quarter) continue;
                    const std::int64_t offset = Shuffled(s, at.image, y, x, c).offset;
                    if constexpr (kAffine)
                        through_prologue<X, kWhole, Prologue::kAffine>(a, offset, count, affine, dz[i * kOutputs + j],
                                                                       mine);
                    else
                        write<kWhole>(static_cast<X*>(a.x_gradient) + offset, dz[i * kOutputs + j], count);
                }
            if constexpr (kAffine) mine.put(sums + channel, length, count);
        }
    }

    template <bool kWhole>
    static void finish(const Arguments& a, const TileGrid::Place& at, int phase, std::int64_t c, S* sums, const V* dz) {
        if (a.source.shuffle)
            a.source.affine ? finish_shuffled<kWhole, true>(a, at, phase, c, sums, dz)
                            : finish_shuffled<kWhole, false>(a, at, phase, c, sums, dz);
        else if (!a.source.affine)
            finish<kWhole, Prologue::kPlain>(a, at, phase, c, sums, dz);
        else if (a.source.residual)
            finish<kWhole, Prologue::kResidual>(a, at, phase, c, sums, dz);
        else
            finish<kWhole, Prologue::kAffine>(a, at, phase, c, sums, dz);
    }

    template <int kPhase>
    static void run_phase(const Arguments& a, const TileGrid& tiles, std::int64_t begin, std::int64_t end,
                          const S* inputs, S* products, const S*& weights, S* sums) {
        const std::int64_t count = end - begin, depth = padded(a.gradient.channels);
        const std::int64_t channels = padded(a.source.channels), input_stride = count * depth + kSkew;
        for (std::int64_t group = 0; group < channels; group += kChannelGroup) {
            const std::int64_t width = smaller(kChannelGroup, channels - group), stride = count * width + kSkew;
            for (int p = 0; p < kSide * kSide; ++p) {
                if (P::slot(p / kSide, p % kSide, kPhase) < 0) continue;
                product<false>(count, width, inputs + p * input_stride, weights, depth, products + p * stride, width);
                weights += depth * width;
            }
            for (std::int64_t t = 0; t < count; ++t)
                for (std::int64_t c = 0; c < width && group + c < a.source.channels; c += kLanesOf<S>) {
                    alignas(kAlignment) V dz[kOutputs * kOutputs];
                    const S* const m = products + t * width + c;
                    transform_output<W, V>(
                        [&](int i, int j) SRGAN_FAST_INLINE_LAMBDA {
                            return P::slot(i, j, kPhase) < 0 ? V{} : load(m + (i * kSide + j) * stride);
                        },
                        [&](int i, const V* row) SRGAN_FAST_INLINE_LAMBDA {
                            for (int j = 0; j < kOutputs; ++j) dz[i * kOutputs + j] = row[j];
                        });
                    if (group + c + kLanesOf<S> <= a.source.channels)
                        finish<true>(a, tiles[begin + t], kPhase, group + c, sums, dz);
                    else
                        finish<false>(a, tiles[begin + t], kPhase, group + c, sums, dz);
                }
        }
    }

    static void run(const Arguments& a, std::int64_t task, std::int64_t tasks, void* scratch) {
        const TileGrid tiles = grid(a);
        const std::int64_t begin = tiles.total * task / tasks, end = tiles.total * (task + 1) / tasks;
        const std::int64_t count = end - begin, depth = padded(a.gradient.channels);
        const std::int64_t size = static_cast<std::int64_t>(sizeof(S));
        S* const inputs = static_cast<S*>(scratch);
        S* const products = reinterpret_cast<S*>(static_cast<char*>(scratch) +
                                                 aligned_bytes(kSide * kSide * (count * depth + kSkew) * size));
        S* sums = nullptr;
        if (a.source.affine) {
            const std::int64_t length = 3 * padded(a.source.shuffle ? 4 * a.source.channels : a.source.channels);
            sums = a.sums + task * length;
            for (std::int64_t i = 0; i < length; ++i) sums[i] = S(0);
        }
        if (count == 0) return;
        transform(a, tiles, begin, end, inputs);
        const S* weights = a.weights;
        run_phase<0>(a, tiles, begin, end, inputs, products, weights, sums);
        if constexpr (P::kPhases == 4) {
            run_phase<1>(a, tiles, begin, end, inputs, products, weights, sums);
            run_phase<2>(a, tiles, begin, end, inputs, products, weights, sums);
            run_phase<3>(a, tiles, begin, end, inputs, products, weights, sums);
        }
    }
};

template <typename X>
Kernel<ConvDgrad<Scalar<X>>> kernel() {
    return kernel_of<Dgrad, X, ConvDgrad<Scalar<X>>>();
}

}  // namespace

Kernel<ConvDgrad<float>> conv_dgrad(float) { return kernel<float>(); }
Kernel<ConvDgrad<float>> conv_dgrad(Bf16) { return kernel<Bf16>(); }
Kernel<ConvDgrad<double>> conv_dgrad(double) { return kernel<double>(); }

}  // namespace srgan_fast::cpu::SRGAN_FAST_LEVEL
