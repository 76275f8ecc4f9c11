// Forward convolution of training; see kernels/cpu/conv.h.
//
// As in the engine's kernel, a task processes some tiles in three steps in the L2 cache: prologue and input transform,
// a GEMM per point, output transform and epilogue.
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

    // Writes those pixels of z in row i of a window that belong to its tile only.
    static SRGAN_FAST_INLINE void write_sum(const Arguments& a, const TileGrid::Place& at, int i, std::int64_t c,
                                            const V* pixels) {
        const Source<S>& s = a.source;
        const int count = static_cast<int>(smaller<std::int64_t>(kLanesOf<S>, s.channels - c));
        const std::int64_t y = at.y * kOutputs + i - W::kRadius;
        if (count <= 0 || i < W::kRadius || i >= W::kRadius + kOutputs || y >= s.height) return;
        X* const row = static_cast<X*>(s.sum) + strides_of(s, at.image, c)(y, at.x * kOutputs);
        const int columns = static_cast<int>(smaller<std::int64_t>(s.width - at.x * kOutputs, kOutputs));
        const auto put = [&](int j) SRGAN_FAST_INLINE_LAMBDA {
            X* const target = row + j * s.channels;
            if (count == kLanesOf<S>)
                write(target, pixels[j + W::kRadius]);
            else
                write_part(target, pixels[j + W::kRadius], count);
        };
        if (columns == kOutputs) {
#pragma GCC unroll 8
            for (int j = 0; j < kOutputs; ++j) put(j);
        } else {
#pragma GCC unroll 8
            for (int j = 0; j < kOutputs; ++j)
                if (j < columns) put(j);
        }
    }

    // Sums of a channel's differences from its first value in the task, and of their squares.
    struct Moments {
        S *first, *sum, *squares;
    };

    // Channels first .. first + width of a tile of y; `m` holds their products, `stride` from point to point.
    template <bool kActivate, bool kMoments>
    static void finish(const Arguments& a, const TileGrid::Place& at, std::int64_t ahead, std::int64_t first,
                       std::int64_t width, bool first_tile, const Moments& moments, const S* m, std::int64_t stride) {
        const std::int64_t top = at.y * kOutputs, left = at.x * kOutputs;
        const int rows = static_cast<int>(smaller<std::int64_t>(a.height - top, kOutputs));
        const int columns = static_cast<int>(smaller<std::int64_t>(a.width - left, kOutputs));
        const Strides strides = strides_of(a, at.image, first);
        const V slope = broadcast(a.slope);
        columns_then_rows<kSide, kOutputs, S>(
            width, rows, [](const V* from, V* to) SRGAN_FAST_INLINE_LAMBDA { W::output(from, to); },
            [&](std::int64_t c, int i, int j)
                SRGAN_FAST_INLINE_LAMBDA { return load(m + (i * kSide + j) * stride + c); },
            [&](int i, std::int64_t c, const V* pixels) SRGAN_FAST_INLINE_LAMBDA {
                const int count = static_cast<int>(smaller<std::int64_t>(kLanesOf<S>, a.channels - first - c));
                if (count <= 0) return;
                const V bias = load(a.bias + first + c);
                V start{}, sum{}, squares{};
                if constexpr (kMoments) {
                    if (first_tile && i == 0)
                        store(moments.first + first + c, pixels[0] + bias);
                    else
                        sum = load(moments.sum + first + c), squares = load(moments.squares + first + c);
                    start = load(moments.first + first + c);
                }
                X* const row = static_cast<X*>(a.y) + strides(top + i, left) + c;
                const auto put = [&](int j, auto whole) SRGAN_FAST_INLINE_LAMBDA {
                    V value = pixels[j] + bias;
                    if constexpr (kActivate) value = value > S(0) ? value : value * slope;
                    if constexpr (kMoments) {
                        const V difference = value - start;
                        sum += difference;
                        squares += difference * difference;
                    }
                    write<whole.value>(row + j * strides.pixel, value, count);
                    __builtin_prefetch(row + j * strides.pixel + ahead, 1);
                };
                if (columns == kOutputs && count == kLanesOf<S>) {
#pragma GCC unroll 8
                    for (int j = 0; j < kOutputs; ++j) put(j, std::true_type());
                } else {
#pragma GCC unroll 8
                    for (int j = 0; j < kOutputs; ++j)
                        if (j < columns) put(j, std::false_type());
                }
                if constexpr (kMoments)
                    store(moments.sum + first + c, sum), store(moments.squares + first + c, squares);
            });
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
                          [&](const TileGrid::Place& at, int i, std::int64_t c, const V* pixels)
                              SRGAN_FAST_INLINE_LAMBDA {
                                  if constexpr (kGeometry == Geometry::k3x3)
                                      if (a.source.sum) write_sum(a, at, i, c, pixels);
                              });
        const S* weights = a.weights;
        for (std::int64_t group = 0; group < channels; group += kChannelGroup) {
            const std::int64_t width = smaller(kChannelGroup, channels - group), stride = count * width + kSkew;
            for (int p = 0; p < kSide * kSide; ++p) {
                const std::int64_t deep = P::slots(p / kSide, p % kSide) * depth;
                product<false>(count, width, inputs + Inputs::point(p / kSide, p % kSide, depth, count), weights,
                               {deep, P::kPhases == 1 ? a.source.channels : deep}, products + p * stride, width);
                weights += deep * width;
            }
            const auto end_of = a.moments    ? finish<false, true>
                                : a.activate ? finish<true, false>
                                             : finish<false, false>;
            for (std::int64_t t = 0; t < count; ++t)
                end_of(a, tiles[begin + t], to_next_tile(a, tiles, begin + t, end, kOutputs), group, width, t == 0,
                       moments, products + t * width, stride);
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
