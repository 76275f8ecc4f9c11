// Data gradient of training convolutions; see kernels/cpu/conv.h.
//
// It is the forward kernel with flipped kernels, dy as input, and the gradient of the prologue as epilogue. For stride
// 2 each of the four phases of z has its own outputs, from the same transformed dy.
#include "kernels/cpu/level/geometry.h"
#include "kernels/cpu/level/products.h"
#include "kernels/cpu/level/table.h"
#include "kernels/cpu/level/through_prologue.h"
#include "kernels/cpu/level/tile_passes.h"
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
    using L = Line<kGeometry>;
    static constexpr std::int64_t kSkew = kSkewOf<S>;

    // Tiles of a phase's pixels; the phase of even rows and columns is the largest.
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
               aligned_bytes(L::kPoints * L::kPoints * (tiles * group + kSkew) * size);
    }

    static void transform(const Arguments& a, const TileGrid& tiles, std::int64_t begin, std::int64_t end, S* v) {
        const std::int64_t depth = padded(a.gradient.channels), stride = (end - begin) * depth + kSkew;
        constexpr int kBefore = kStep == 1 ? W::kRadius : 0;
        for (std::int64_t t = begin; t < end; ++t, v += depth) {
            const TileGrid::Place at = tiles[t];
            const Window<kSide> window(a.gradient, at.image, at.y * kOutputs - kBefore, at.x * kOutputs - kBefore,
                                       to_next_tile(a.gradient, tiles, t, end, kOutputs));
            rows_then_columns<kSide, kSide, S>(
                depth, [](const V* d, V* to) SRGAN_FAST_INLINE_LAMBDA { W::input(d, to); },
                [&](int i, std::int64_t first, std::int64_t last, const auto& take)
                    SRGAN_FAST_INLINE_LAMBDA { read_row<X>(a.gradient, window, i, first, last, take); },
                [&](std::int64_t c, int i, int j, V value)
                    SRGAN_FAST_INLINE_LAMBDA { store(v + (i * kSide + j) * stride + c, value); });
        }
    }

    // Channels first .. first + width of a tile of dz; `m` holds their products, `stride` from point to point.
    template <Prologue kPrologue, bool kShuffle>
    static void finish(const Arguments& a, const TileGrid::Place& at, std::int64_t ahead, std::int64_t first,
                       std::int64_t width, S* sums, const S* m, std::int64_t stride) {
        const Source<S>& s = a.source;
        const std::int64_t top = at.y * L::kOutputs, left = at.x * L::kOutputs;
        const int rows = static_cast<int>(smaller<std::int64_t>(s.height - top, L::kOutputs));
        const int columns = static_cast<int>(smaller<std::int64_t>(s.width - left, L::kOutputs));
        const Strides strides = strides_of(s, at.image, 0);
        const std::int64_t length = padded(kShuffle ? 4 * s.channels : s.channels);
        constexpr int kInTurn = kShuffle ? 2 : 1;  // phases that pixels of a row alternate between
        columns_then_rows<L::kPoints, L::kOutputs, S>(
            width, rows, [](const V* from, V* to) SRGAN_FAST_INLINE_LAMBDA { L::output(from, to); },
            [&](std::int64_t c, int i, int j)
                SRGAN_FAST_INLINE_LAMBDA { return load(m + (i * L::kPoints + j) * stride + c); },
            [&](int i, std::int64_t c, const V* pixels) SRGAN_FAST_INLINE_LAMBDA {
                const int count = static_cast<int>(smaller<std::int64_t>(kLanesOf<S>, s.channels - first - c));
                if (count <= 0) return;
                const std::int64_t y = top + i, channel = first + c;
#pragma GCC unroll 2
                for (int phase = 0; phase < kInTurn; ++phase) {
                    const std::int64_t source =
                        kShuffle ? ((y & 1) * 2 + ((left + phase) & 1)) * s.channels + channel : channel;
                    Affine<S> affine;
                    PrologueSums<S> mine;
                    if constexpr (kPrologue != Prologue::kPlain)
                        affine = Affine<S>(s, source), mine.take(sums + source, length, count);
                    const auto put = [&](int j, auto whole) SRGAN_FAST_INLINE_LAMBDA {
                        const std::int64_t offset = kShuffle ? Shuffled(s, at.image, y, left + j, channel).offset
                                                             : strides(y, left + j) + channel;
                        __builtin_prefetch(static_cast<X*>(a.x_gradient) + offset + ahead, 1);
                        if constexpr (kPrologue != Prologue::kPlain)
                            __builtin_prefetch(static_cast<const X*>(s.x) + offset + ahead);
                        if constexpr (kPrologue == Prologue::kPlain)
                            write<whole.value>(static_cast<X*>(a.x_gradient) + offset, pixels[j], count);
                        else
                            through_prologue<X, whole.value, kPrologue>(a, offset, count, affine, pixels[j], mine);
                    };
                    if (columns == L::kOutputs && count == kLanesOf<S>) {
#pragma GCC unroll 8
                        for (int j = phase; j < L::kOutputs; j += kInTurn) put(j, std::true_type());
                    } else {
#pragma GCC unroll 8
                        for (int j = phase; j < L::kOutputs; j += kInTurn)
                            if (j < columns) put(j, std::false_type());
                    }
                    if constexpr (kPrologue != Prologue::kPlain) mine.put(sums + source, length, count);
                }
            });
    }

    using Finish = void (*)(const Arguments&, const TileGrid::Place&, std::int64_t, std::int64_t, std::int64_t, S*,
                            const S*, std::int64_t);
    static Finish finish_of(const Source<S>& s) {
        if (s.shuffle) return s.affine ? finish<Prologue::kAffine, true> : finish<Prologue::kPlain, true>;
        if (!s.affine) return finish<Prologue::kPlain, false>;
        return s.residual ? finish<Prologue::kResidual, false> : finish<Prologue::kAffine, false>;
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
        const std::int64_t channels = padded(a.source.channels), input_stride = count * depth + kSkew;
        const Finish end_of = finish_of(a.source);
        for (std::int64_t group = 0; group < channels; group += kChannelGroup) {
            const std::int64_t width = smaller(kChannelGroup, channels - group), stride = count * width + kSkew;
            const S* phase_weights = a.weights;
            for (int phase = 0; phase < P::kPhases; ++phase) {
                const S* weights = phase_weights + group * P::of_phase(phase) * depth;
                for (int p = 0; p < kSide * kSide; ++p) {
                    const int i = p / kSide, j = p % kSide;
                    if (P::slot(i, j, phase) < 0) continue;
                    const int point = (phase / 2 * kSide + i) * L::kPoints + phase % 2 * kSide + j;
                    product<false>(count, width, inputs + p * input_stride, weights, {depth, a.gradient.channels},
                                   products + point * stride, width);
                    weights += depth * width;
                }
                phase_weights += channels * P::of_phase(phase) * depth;
            }
            for (std::int64_t t = 0; t < count; ++t)
                end_of(a, tiles[begin + t], to_next_tile(a.source, tiles, begin + t, end, L::kOutputs), group, width,
                       sums, products + t * width, stride);
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
