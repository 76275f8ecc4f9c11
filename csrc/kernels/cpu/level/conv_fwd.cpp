// The forward convolution of training; see kernels/cpu/conv.h.
//
// As in the engine's kernel, a task takes some tiles through three steps in the second-level cache: prologue and input
// transform, a matrix product for each point, output transform and epilogue.
#include "kernels/cpu/level/geometry.h"
#include "kernels/cpu/level/products.h"
#include "kernels/cpu/level/source_tiles.h"
#include "kernels/cpu/level/table.h"
#include "kernels/cpu/pack.h"

namespace srgan_fast::cpu::SRGAN_FAST_LEVEL {
namespace {

template <Geometry kGeometry, typename X>
struct Forward {
    using S = Scalar<X>;
    using V = Simd<S>;
    using W = typename Form<kGeometry>::W;
    using P = Points<kGeometry>;
    using Arguments = ConvForward<S>;
    using Inputs = SourceTiles<kGeometry, X>;
    static constexpr int kSide = P::kSide, kOutputs = W::kOutputs;
    static constexpr std::int64_t kSkew = kSkewOf<S>;

    static TileGrid grid(const Arguments& a) { return {a.batch, a.height, a.width, kOutputs}; }

    static std::int64_t tasks(const Arguments& a, int threads) {
        return grid(a).tasks(tiles_together(a.source.channels, a.channels), threads);
    }

    static std::int64_t scratch(const Arguments& a, std::int64_t tasks) {
        const std::int64_t tiles = (grid(a).total + tasks - 1) / tasks;
        const std::int64_t group = smaller(padded(a.channels), kChannelGroup);
        const std::int64_t size = static_cast<std::int64_t>(sizeof(S));
        return aligned_bytes(Inputs::size(a.source, tiles) * size) +
               aligned_bytes(kSide * kSide * (tiles * group + kSkew) * size) + 3 * padded(a.channels) * size;
    }

    // The pixels of z that belong to this tile and to no other.
    static void write_sum(const Arguments& a, const TileGrid::Place& at, std::int64_t c, const V* d) {
        const Source<S>& s = a.source;
        const int count = static_cast<int>(smaller<std::int64_t>(kLanesOf<S>, s.channels - c));
        if (count <= 0) return;
        for (int i = 0; i < kOutputs; ++i)
            for (int j = 0; j < kOutputs; ++j) {
                const std::int64_t y = at.y * kOutputs + i, x = at.x * kOutputs + j;
                if (y >= s.height || x >= s.width) continue;
                X* const target = static_cast<X*>(s.sum) + strides_of(s, at.image, c)(y, x);
                const V value = d[(i + W::kRadius) * kSide + j + W::kRadius];
                if (count == kLanesOf<S>)
                    write(target, value);
                else
                    write_part(target, value, count);
            }
    }

    // Sums of a channel's differences from its first value in the task, and of their squares.
    struct Moments {
        S *first, *sum, *squares;
    };

    template <bool kWhole, bool kActivate, bool kMoments>
    static void finish(const Arguments& a, const TileGrid::Place& at, std::int64_t c, bool first,
                       const Moments& moments, const V* y) {
        const std::int64_t top = at.y * kOutputs, left = at.x * kOutputs;
        const int rows = static_cast<int>(smaller<std::int64_t>(a.height - top, kOutputs));
        const int columns = static_cast<int>(smaller<std::int64_t>(a.width - left, kOutputs));
        const int count = static_cast<int>(smaller<std::int64_t>(kLanesOf<S>, a.channels - c));
        const V bias = load(a.bias + c), slope = broadcast(a.slope);
        V start{}, sum{}, squares{};
        if constexpr (kMoments) {
            if (first) store(moments.first + c, y[0] + bias);
            start = load(moments.first + c);
            if (!first) sum = load(moments.sum + c), squares = load(moments.squares + c);
        }
        X* const out = static_cast<X*>(a.y) + strides_of(a, at.image, c)(top, left);
        const std::int64_t row_stride = a.width * a.channels;
        const auto put = [&](int i, int j) SRGAN_FAST_INLINE_LAMBDA {
            V value = y[i * kOutputs + j] + bias;
            if constexpr (kActivate) value = value > S(0) ? value : value * slope;
            if constexpr (kMoments) {
                const V difference = value - start;
                sum += difference;
                squares += difference * difference;
            }
            write<kWhole>(out + i * row_stride + j * a.channels, value, count);
        };
        if (rows == kOutputs && columns == kOutputs) {
#pragma GCC unroll 4
            for (int i = 0; i < kOutputs; ++i)
#pragma GCC unroll 4
                for (int j = 0; j < kOutputs; ++j) {
                    __builtin_prefetch(out + i * row_stride + (j + kOutputs) * a.channels, 1);
                    put(i, j);
                }
        } else {
            for (int i = 0; i < rows; ++i)
                for (int j = 0; j < columns; ++j) put(i, j);
        }
        if constexpr (kMoments) store(moments.sum + c, sum), store(moments.squares + c, squares);
    }

    static void finish(const Arguments& a, const TileGrid::Place& at, std::int64_t c, bool first,
                       const Moments& moments, const V* y) {
        const bool whole = c + kLanesOf<S> <= a.channels;
        if (a.moments)
            return whole ? finish<true, false, true>(a, at, c, first, moments, y)
                         : finish<false, false, true>(a, at, c, first, moments, y);
        if (a.activate)
            return whole ? finish<true, true, false>(a, at, c, first, moments, y)
                         : finish<false, true, false>(a, at, c, first, moments, y);
        whole ? finish<true, false, false>(a, at, c, first, moments, y)
              : finish<false, false, false>(a, at, c, first, moments, y);
    }

    static void run(const Arguments& a, std::int64_t task, std::int64_t tasks, void* scratch) {
        const TileGrid tiles = grid(a);
        const std::int64_t begin = tiles.total * task / tasks, end = tiles.total * (task + 1) / tasks;
        const std::int64_t count = end - begin, depth = padded(a.source.channels), channels = padded(a.channels);
        if (count == 0) {
            if (a.moments) a.moments[task * moments_size(a.channels) + 2 * channels] = S(0);
            return;
        }
        S* const inputs = static_cast<S*>(scratch);
        const std::int64_t size = static_cast<std::int64_t>(sizeof(S));
        char* const behind = static_cast<char*>(scratch) + aligned_bytes(Inputs::size(a.source, count) * size);
        S* const products = reinterpret_cast<S*>(behind);
        const std::int64_t widest = smaller(channels, kChannelGroup);
        S* const sums = reinterpret_cast<S*>(behind + aligned_bytes(kSide * kSide * (count * widest + kSkew) * size));
        const Moments moments{sums, sums + channels, sums + 2 * channels};
        Inputs::transform(a.source, tiles, begin, end, inputs,
                          [&](const TileGrid::Place& at, std::int64_t c, const V* d) SRGAN_FAST_INLINE_LAMBDA {
                              if constexpr (kGeometry == Geometry::k3x3)
                                  if (a.source.sum) write_sum(a, at, c, d);
                          });
        const S* weights = a.weights;
        for (std::int64_t group = 0; group < channels; group += kChannelGroup) {
            const std::int64_t width = smaller(kChannelGroup, channels - group), stride = count * width + kSkew;
            for (int p = 0; p < kSide * kSide; ++p) {
                const std::int64_t deep = P::slots(p / kSide, p % kSide) * depth;
                product<false>(count, width, inputs + Inputs::point(p / kSide, p % kSide, depth, count), weights, deep,
                               products + p * stride, width);
                weights += deep * width;
            }
            for (std::int64_t t = 0; t < count; ++t)
                for (std::int64_t c = 0; c < width && group + c < a.channels; c += kLanesOf<S>) {
                    alignas(kAlignment) V y[kOutputs * kOutputs];
                    const S* const m = products + t * width + c;
                    transform_output<W, V>([&](int i, int j)
                                               SRGAN_FAST_INLINE_LAMBDA { return load(m + (i * kSide + j) * stride); },
                                           [&](int i, const V* row) SRGAN_FAST_INLINE_LAMBDA {
                                               for (int j = 0; j < kOutputs; ++j) y[i * kOutputs + j] = row[j];
                                           });
                    finish(a, tiles[begin + t], group + c, t == 0, moments, y);
                }
        }
        if (a.moments) write_moments(a, tiles, begin, end, moments, a.moments + task * moments_size(a.channels));
    }

    static void write_moments(const Arguments& a, const TileGrid& tiles, std::int64_t begin, std::int64_t end,
                              const Moments& moments, S* out) {
        std::int64_t pixels = 0;
        for (std::int64_t t = begin; t < end; ++t)
            pixels += smaller<std::int64_t>(kOutputs, a.height - tiles[t].y * kOutputs) *
                      smaller<std::int64_t>(kOutputs, a.width - tiles[t].x * kOutputs);
        const std::int64_t channels = padded(a.channels);
        out[2 * channels] = static_cast<S>(pixels);
        for (std::int64_t c = 0; c < a.channels; ++c) {
            const S mean = moments.sum[c] / static_cast<S>(pixels);
            out[c] = moments.first[c] + mean;
            out[channels + c] = moments.squares[c] - mean * moments.sum[c];
        }
    }
};

template <typename X>
Kernel<ConvForward<Scalar<X>>> kernel() {
    return kernel_of<Forward, X, ConvForward<Scalar<X>>>();
}

}  // namespace

Kernel<ConvForward<float>> conv_fwd(float) { return kernel<float>(); }
Kernel<ConvForward<float>> conv_fwd(Bf16) { return kernel<Bf16>(); }
Kernel<ConvForward<double>> conv_fwd(double) { return kernel<double>(); }

}  // namespace srgan_fast::cpu::SRGAN_FAST_LEVEL
