// The data gradient of training's convolutions; see kernels/cpu/conv.h.
//
// It is the forward kernel with the filter turned around, dy for its input, and the prologue's backward pass for its
// epilogue. For stride 2 each of the four phases of z has outputs of its own, from the same transformed dy.
#include "kernels/cpu/level/geometry.h"
#include "kernels/cpu/level/products.h"
#include "kernels/cpu/level/source.h"
#include "kernels/cpu/level/table.h"
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
                read_window<kSide, X>(a.gradient, at.image, at.y * kOutputs - kBefore, at.x * kOutputs - kBefore, c, d);
                transform_input<W, V>([&](int i, int j) SRGAN_FAST_INLINE_LAMBDA { return d[i * kSide + j]; },
                                      [&](int i, int j, V value)
                                          SRGAN_FAST_INLINE_LAMBDA { store(v + (i * kSide + j) * stride + c, value); });
            }
        }
    }

    enum class Kind { kPlain, kAffine, kResidual };

    // Gradients dz of a tile's pixels of one phase, and one vector of channels.
    template <bool kWhole, Kind kKind>
    static void finish(const Arguments& a, const TileGrid::Place& at, int phase, std::int64_t c, S* sums, const V* dz) {
        const Source<S>& s = a.source;
        const int count = static_cast<int>(smaller<std::int64_t>(kLanesOf<S>, s.channels - c));
        const X* const map = static_cast<const X*>(s.x);
        X* const gradient = static_cast<X*>(a.x_gradient);
        const std::int64_t stride = padded(s.shuffle ? 4 * s.channels : s.channels);
        Affine<S> affine;
        V scales{}, shifts{}, slopes{};
        if constexpr (kKind != Kind::kPlain) {
            if (!s.shuffle) {
                affine = Affine<S>(s, c);
                scales = read(sums + c), shifts = read(sums + stride + c), slopes = read(sums + 2 * stride + c);
            }
        }
        for (int i = 0; i < kOutputs; ++i) {
            const std::int64_t y = kStep * (at.y * kOutputs + i) + (kStep == 2 ? 1 - phase / 2 : 0);
            if (y >= s.height) break;
            for (int j = 0; j < kOutputs; ++j) {
                const std::int64_t x = kStep * (at.x * kOutputs + j) + (kStep == 2 ? 1 - phase % 2 : 0);
                if (x >= s.width) break;
                V g = dz[i * kOutputs + j];
                std::int64_t offset = Place<S>::plain(s, at.image, y, x, c), channel = c;
                if (s.shuffle) {
                    const auto place = Place<S>::shuffled(s, at.image, y, x, c);
                    offset = place.offset, channel = place.channel;
                }
                if constexpr (kKind == Kind::kPlain) {
                    write<kWhole>(gradient + offset, g, count);
                } else {
                    if (s.shuffle) affine = Affine<S>(s, channel);
                    const V value = read<kWhole>(map + offset, count);
                    V slope_gradient{};
                    if constexpr (kKind == Kind::kResidual) {
                        if (a.sum_gradient) g += read<kWhole>(static_cast<const X*>(a.sum_gradient) + offset, count);
                        if (a.residual_gradient) write<kWhole>(static_cast<X*>(a.residual_gradient) + offset, g, count);
                    } else {
                        const V u = affine.before(value);
                        slope_gradient = u > S(0) ? V{} : g * u;
                        g = u > S(0) ? g : g * affine.slope;
                    }
                    write<kWhole>(gradient + offset, g * affine.scale, count);
                    const V scale_gradient = g * (value - affine.center);
                    if (s.shuffle) {
                        add(sums + channel, scale_gradient, count);
                        add(sums + stride + channel, g, count);
                        add(sums + 2 * stride + channel, slope_gradient, count);
                    } else {
                        scales += scale_gradient, shifts += g, slopes += slope_gradient;
                    }
                }
            }
        }
        if constexpr (kKind != Kind::kPlain) {
            if (!s.shuffle)
                write(sums + c, scales), write(sums + stride + c, shifts), write(sums + 2 * stride + c, slopes);
        }
    }

    // The channels of the next phase stand right behind the last one of this.
    static SRGAN_FAST_INLINE void add(S* sum, V value, int count) {
        if (count == kLanesOf<S>)
            write(sum, read(sum) + value);
        else
            write_part(sum, read_part(sum, count) + value, count);
    }

    template <bool kWhole>
    static void finish(const Arguments& a, const TileGrid::Place& at, int phase, std::int64_t c, S* sums, const V* dz) {
        if (!a.source.affine)
            finish<kWhole, Kind::kPlain>(a, at, phase, c, sums, dz);
        else if (a.source.residual)
            finish<kWhole, Kind::kResidual>(a, at, phase, c, sums, dz);
        else
            finish<kWhole, Kind::kAffine>(a, at, phase, c, sums, dz);
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
    using A = ConvDgrad<Scalar<X>>;
    return {[](const A& a, int threads) {
                return with_geometry(a.geometry, [&](auto g) { return Dgrad<g.value, X>::tasks(a, threads); });
            },
            [](const A& a, std::int64_t tasks) {
                return with_geometry(a.geometry, [&](auto g) { return Dgrad<g.value, X>::scratch(a, tasks); });
            },
            [](const A& a, std::int64_t task, std::int64_t tasks, void* scratch) {
                with_geometry(a.geometry, [&](auto g) { Dgrad<g.value, X>::run(a, task, tasks, scratch); });
            }};
}

}  // namespace

Kernel<ConvDgrad<float>> conv_dgrad(float) { return kernel<float>(); }
Kernel<ConvDgrad<float>> conv_dgrad(Bf16) { return kernel<Bf16>(); }
Kernel<ConvDgrad<double>> conv_dgrad(double) { return kernel<double>(); }

}  // namespace srgan_fast::cpu::SRGAN_FAST_LEVEL
