// Weight gradient of training convolutions, in the Winograd domain; see kernels/cpu/conv.h.
//
// With v = B^T z B and m = A dy A^T per tile, the gradient of a transformed kernel is the sum of v m over the tiles:
// for each point a GEMM with tiles as depth. G^T . G of the sums gives the gradient of the kernel. A task processes a
// split of the tiles for some of the output channels, some tiles at a time. Its sums stay in place until the end: in
// the L2 cache for 64 x 64 channels, or streamed through it.
#include "kernels/cpu/level/geometry.h"
#include "kernels/cpu/level/source_tiles.h"
#include "kernels/cpu/level/table.h"
#include "kernels/cpu/pack.h"

namespace srgan_fast::cpu::SRGAN_FAST_LEVEL {
namespace {

// sums[k][channel] (+)= sum over tiles of v[tile][k] * m[tile][channel], one register block at a time.
template <int kRows, int kVectors, bool kAccumulate, typename S>
SRGAN_FAST_INLINE void outer_block(std::int64_t tiles, const S* v, std::int64_t v_stride, const S* m,
                                   std::int64_t m_stride, S* sums, std::int64_t stride) {
    constexpr int kLanes = kLanesOf<S>;
    Simd<S> acc[kRows][kVectors]{};
    for (std::int64_t t = 0; t < tiles; ++t, v += v_stride, m += m_stride) {
        Simd<S> w[kVectors];
#pragma GCC unroll 8
        for (int n = 0; n < kVectors; ++n) w[n] = load(m + n * kLanes);
#pragma GCC unroll 16
        for (int r = 0; r < kRows; ++r) {
            const Simd<S> x = broadcast(v[r]);
#pragma GCC unroll 8
            for (int n = 0; n < kVectors; ++n) acc[r][n] += x * w[n];
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 8
        for (int n = 0; n < kVectors; ++n) {
            S* const sum = sums + r * stride + n * kLanes;
            store(sum, kAccumulate ? load(sum) + acc[r][n] : acc[r][n]);
        }
}

template <int kRows, int kVectors, bool kAccumulate, typename S>
SRGAN_FAST_INLINE void outer_rest(std::int64_t rows, std::int64_t tiles, const S* v, std::int64_t v_stride, const S* m,
                                  std::int64_t m_stride, S* sums, std::int64_t stride) {
    if constexpr (kRows > 0) {
        if (rows == kRows)
            outer_block<kRows, kVectors, kAccumulate>(tiles, v, v_stride, m, m_stride, sums, stride);
        else
            outer_rest<kRows - 1, kVectors, kAccumulate>(rows, tiles, v, v_stride, m, m_stride, sums, stride);
    }
}

template <int kVectors, bool kAccumulate, typename S>
void outer_panel(std::int64_t depth, std::int64_t tiles, const S* v, std::int64_t v_stride, const S* m,
                 std::int64_t m_stride, S* sums, std::int64_t stride) {
    constexpr int kBlock = kVectors == 1 ? 2 * kRowBlock : kRowBlock;
    std::int64_t k = 0;
    for (; k + kBlock <= depth; k += kBlock)
        outer_block<kBlock, kVectors, kAccumulate>(tiles, v + k, v_stride, m, m_stride, sums + k * stride, stride);
    outer_rest<kBlock - 1, kVectors, kAccumulate>(depth - k, tiles, v + k, v_stride, m, m_stride, sums + k * stride,
                                                  stride);
}

template <bool kAccumulate, typename S>
void outer_product(std::int64_t depth, std::int64_t channels, std::int64_t tiles, const S* v, std::int64_t v_stride,
                   const S* m, S* sums) {
    std::int64_t c = 0;
    for (; c + kPanelOf<S> <= channels; c += kPanelOf<S>)
        outer_panel<kPanelVectors, kAccumulate>(depth, tiles, v, v_stride, m + c, channels, sums + c, channels);
    switch ((channels - c) / kLanesOf<S>) {
        case 1: return outer_panel<1, kAccumulate>(depth, tiles, v, v_stride, m + c, channels, sums + c, channels);
        case 2: return outer_panel<2, kAccumulate>(depth, tiles, v, v_stride, m + c, channels, sums + c, channels);
        case 3: return outer_panel<3, kAccumulate>(depth, tiles, v, v_stride, m + c, channels, sums + c, channels);
        default: return;
    }
}

template <Geometry kGeometry, typename X>
struct Wgrad {
    using S = Scalar<X>;
    using V = Simd<S>;
    using W = typename Form<kGeometry>::W;
    using P = Points<kGeometry>;
    using Arguments = ConvWgrad<S>;
    using Inputs = SourceTiles<kGeometry, X>;
    static constexpr int kSide = P::kSide, kOutputs = W::kOutputs;
    static constexpr int kTaps = Form<kGeometry>::kTaps;
    static constexpr std::int64_t kSkew = kSkewOf<S>;

    static TileGrid grid(const Arguments& a) { return {a.batch, a.gradient.height, a.gradient.width, kOutputs}; }

    static std::int64_t groups(const Arguments& a) {
        return (padded(a.gradient.channels) + kChannelGroup - 1) / kChannelGroup;
    }

    // With few weights, threads split the tiles rather than the groups, for each of which all inputs would be
    // transformed again.
    static std::int64_t splits(const Arguments& a, int threads) {
        const bool few = padded(a.source.channels) * padded(a.gradient.channels) <= 128 * 128;
        return smaller<std::int64_t>(grid(a).total, few ? threads : (threads + groups(a) - 1) / groups(a));
    }

    // Splits of the groups: few, so that the inputs are transformed rarely.
    static std::int64_t tasks(const Arguments& a, int threads) {
        return a.splits * smaller(groups(a), (threads + a.splits - 1) / a.splits);
    }

    // Tiles per step: enough to amortise reading and writing the sums, which for many channels do not stay in the
    // cache.
    static std::int64_t chunk(const Arguments& a) {
        return smaller<std::int64_t>(a.source.channels <= 64 ? 48 : 96, most_tiles(a));
    }

    static std::int64_t most_tiles(const Arguments& a) { return (grid(a).total + a.splits - 1) / a.splits; }

    static bool together(const Arguments& a) { return chunk(a) == most_tiles(a); }

    // Input channels whose sums are computed at a time: if all tiles are processed together, few enough that the sums
    // are still in the L2 cache when they are transformed to kernels.
    static constexpr std::int64_t kDepthTogether = 48;
    static std::int64_t depth_of_sums(const Arguments& a) {
        const std::int64_t depth = padded(a.source.channels);
        return together(a) ? smaller(kDepthTogether, depth) : depth;
    }

    static std::int64_t group_size(const Arguments& a) {
        return sums_of(P::kSlots, depth_of_sums(a), smaller(padded(a.gradient.channels), kChannelGroup));
    }

    // Offset of the sums of slot `slot`: [k][channel].
    static constexpr std::int64_t sums_of(int slot, std::int64_t depth, std::int64_t width) {
        return slot * (depth * width + kSkew);
    }

    static std::int64_t scratch(const Arguments& a, std::int64_t tasks) {
        const std::int64_t shares = tasks / a.splits;
        const std::int64_t most = together(a) ? 1 : (groups(a) + shares - 1) / shares;
        const std::int64_t size = static_cast<std::int64_t>(sizeof(S));
        return aligned_bytes(Inputs::size(a.source, chunk(a)) * size) +
               aligned_bytes(kSide * kSide * (chunk(a) * kChannelGroup + kSkew) * size) +
               aligned_bytes(most * group_size(a) * size);
    }

    // Transforms channels first .. first + width; their sum is added to the bias.
    static void transform_gradients(const Arguments& a, const TileGrid& tiles, std::int64_t begin, std::int64_t end,
                                    std::int64_t first, std::int64_t width, S* m, S* bias) {
        const std::int64_t stride = (end - begin) * width + kSkew;
        for (std::int64_t t = begin; t < end; ++t, m += width) {
            const TileGrid::Place at = tiles[t];
            const Window<kOutputs> window(a.gradient, at.image, at.y * kOutputs, at.x * kOutputs,
                                          to_next_tile(a.gradient, tiles, t, end, kOutputs));
            rows_then_columns<kOutputs, kSide, S>(
                width, [](const V* y, V* to) SRGAN_FAST_INLINE_LAMBDA { W::spread(y, to); },
                [&](int i, std::int64_t begin_channel, std::int64_t end_channel, const auto& take)
                    SRGAN_FAST_INLINE_LAMBDA {
                        read_row<X>(a.gradient, window, i, first + begin_channel, first + end_channel,
                                    [&](std::int64_t c, const V* pixels) SRGAN_FAST_INLINE_LAMBDA {
                                        if (bias) {
                                            V sum = load(bias + c);
                                            for (int n = 0; n < kOutputs; ++n) sum += pixels[n];
                                            store(bias + c, sum);
                                        }
                                        take(c - first, pixels);
                                    });
                    },
                [&](std::int64_t c, int i, int j, V value)
                    SRGAN_FAST_INLINE_LAMBDA { store(m + (i * kSide + j) * stride + c, value); });
        }
    }

    // G^T s G of a vector of sums, for one phase; `put(row, column, v)` receives a tap of the phase's kernel.
    template <typename Fetch, typename Put>
    static SRGAN_FAST_INLINE void transform_filter(const Fetch& fetch, const Put& put) {
        constexpr int kFilterTaps = W::kTaps;
        V half[kFilterTaps][kSide];
        for (int j = 0; j < kSide; ++j) {
            V s[kSide];
#pragma GCC unroll 8
            for (int i = 0; i < kSide; ++i) s[i] = fetch(i, j);
            for (int k = 0; k < kFilterTaps; ++k) {
                V sum{};
#pragma GCC unroll 8
                for (int i = 0; i < kSide; ++i) sum += s[i] * static_cast<S>(W::kFilter[i].tap[k]);
                half[k][j] = sum;
            }
        }
        for (int k = 0; k < kFilterTaps; ++k)
            for (int l = 0; l < kFilterTaps; ++l) {
                V sum{};
#pragma GCC unroll 8
                for (int j = 0; j < kSide; ++j) sum += half[k][j] * static_cast<S>(W::kFilter[j].tap[l]);
                put(k, l, sum);
            }
    }

    // Kernels are transformed for some input channels at a time, then written one output channel after the other, whose
    // destinations are far apart. A row of taps is a vector of output channels.
    static constexpr std::int64_t kDepthBlock = 16;
    using Taps = V[kTaps * kTaps];

    // For at most `depth` input and `width` output channels. `out` is the position of the first kernel, followed by as
    // many output channels as there are.
    static void write_filters(const Arguments& a, std::int64_t depth, std::int64_t width, std::int64_t channels,
                              const S* sums, S* out) {
        constexpr std::int64_t kLanes = kLanesOf<S>;
        for (std::int64_t k = 0; k < depth; k += kDepthBlock)
            for (std::int64_t c = 0; c < width; c += kLanes) {
                alignas(kAlignment) Taps block[kDepthBlock];
                const std::int64_t depths = smaller(kDepthBlock, depth - k);
                for (std::int64_t i = 0; i < depths; ++i)
                    make_filter(depth_of_sums(a), width, sums + (k + i) * width + c, block[i]);
                S* const filters = out + c * a.strides.out + k * a.strides.in;
                const std::int64_t lanes = smaller(kLanes, channels - c);
                if (lanes < kLanes || depths < kDepthBlock || !write_whole(a, block, filters))
                    write_single(a, block, depths, lanes, filters);
            }
    }

    static void write_single(const Arguments& a, const Taps* block, std::int64_t depths, std::int64_t lanes,
                             S* filters) {
        for (std::int64_t lane = 0; lane < lanes; ++lane)
            for (std::int64_t i = 0; i < depths; ++i)
                for (int tap = 0; tap < kTaps * kTaps; ++tap)
                    filters[lane * a.strides.out + i * a.strides.in + tap / kTaps * a.strides.row +
                            tap % kTaps * a.strides.column] = block[i][tap][lane];
    }

    // Writes a whole block if an output channel's elements are in one of the two usual orders.
    static bool write_whole(const Arguments& a, const Taps* block, S* filters) {
        constexpr std::int64_t kLanes = kLanesOf<S>;
        const WeightStrides& strides = a.strides;
        const auto write_columns = [&](const V* from, std::int64_t distance, S* to) SRGAN_FAST_INLINE_LAMBDA {
            V rows[kLanes];
#pragma GCC unroll 16
            for (int i = 0; i < kLanes; ++i) rows[i] = from[i * distance];
            transpose<1>(rows);
#pragma GCC unroll 16
            for (int lane = 0; lane < kLanes; ++lane) write(to + lane * strides.out, rows[lane]);
        };
        if (strides.column == 1 && strides.row == kTaps && strides.in == kTaps * kTaps) {
            for (std::int64_t i = 0; i < kDepthBlock * kTaps * kTaps; i += kLanes)
                write_columns(&block[0][0] + i, 1, filters + i);
            return true;
        }
        if (strides.in == 1) {
            for (int tap = 0; tap < kTaps * kTaps; ++tap)
                for (std::int64_t i = 0; i < kDepthBlock; i += kLanes)
                    write_columns(&block[i][tap], kTaps * kTaps,
                                  filters + i + tap / kTaps * strides.row + tap % kTaps * strides.column);
            return true;
        }
        return false;
    }

    // Transforms a vector of kernels of one input channel.
    static void make_filter(std::int64_t depth, std::int64_t width, const S* sums, Taps& filter) {
        for (int phase = 0; phase < P::kPhases; ++phase)
            transform_filter(
                [&](int i, int j) SRGAN_FAST_INLINE_LAMBDA {
                    const int slot = P::slot(i, j, phase);
                    return slot < 0 ? V{} : load(sums + sums_of(P::before(i, j) + slot, depth, width));
                },
                [&](int row, int column, V value) SRGAN_FAST_INLINE_LAMBDA {
                    int y = row, x = column;
                    if constexpr (P::kPhases == 4) {
                        y = tap_of_phase(phase / 2, row, false), x = tap_of_phase(phase % 2, column, false);
                        if (y < 0 || x < 0) return;
                    }
                    filter[y * kTaps + x] = value;
                });
    }

    static void run(const Arguments& a, std::int64_t task, std::int64_t tasks, void* scratch) {
        const TileGrid tiles = grid(a);
        const std::int64_t shares = tasks / a.splits, split = task / shares, share = task % shares;
        const std::int64_t first_group = groups(a) * share / shares, last_group = groups(a) * (share + 1) / shares;
        const std::int64_t channels = padded(a.gradient.channels), depth = padded(a.source.channels);
        const std::int64_t end = tiles.total * (split + 1) / a.splits, most = chunk(a);
        const std::int64_t size = static_cast<std::int64_t>(sizeof(S));
        char* memory = static_cast<char*>(scratch);
        S* const v = reinterpret_cast<S*>(memory);
        memory += aligned_bytes(Inputs::size(a.source, chunk(a)) * size);
        S* const m = reinterpret_cast<S*>(memory);
        memory += aligned_bytes(kSide * kSide * (most * kChannelGroup + kSkew) * size);
        S* const sums = reinterpret_cast<S*>(memory);
        S* const bias = a.bias ? a.bias + split * channels : nullptr;
        if (bias)
            for (std::int64_t c = first_group * kChannelGroup; c < smaller(last_group * kChannelGroup, channels); ++c)
                bias[c] = S(0);
        const std::int64_t start = tiles.total * split / a.splits;
        for (std::int64_t begin = start; begin < end; begin += most) {
            const std::int64_t stop = smaller(begin + most, end), count = stop - begin;
            Inputs::transform(a.source, tiles, begin, stop, v,
                              [](const TileGrid::Place&, int, std::int64_t, const V*) SRGAN_FAST_INLINE_LAMBDA {});
            for (std::int64_t group = first_group; group < last_group; ++group) {
                const std::int64_t first = group * kChannelGroup, width = smaller(kChannelGroup, channels - first);
                transform_gradients(a, tiles, begin, stop, first, width, m, bias);
                S* const target = together(a) ? sums : sums + (group - first_group) * group_size(a);
                S* const filters =
                    a.weight + split * a.gradient.channels * a.source.channels * kTaps * kTaps + first * a.strides.out;
                const auto multiply = begin == start ? outer_product<false, S> : outer_product<true, S>;
                const std::int64_t held = depth_of_sums(a);
                for (std::int64_t k = 0; k < a.source.channels; k += held) {
                    const std::int64_t used = smaller(held, a.source.channels - k);
                    for (int p = 0; p < kSide * kSide; ++p) {
                        const int i = p / kSide, j = p % kSide;
                        for (int slot = 0; slot < P::slots(i, j); ++slot)
                            multiply(used, width, count, v + Inputs::point(i, j, depth, count) + slot * depth + k,
                                     P::slots(i, j) * depth, m + p * (count * width + kSkew),
                                     target + sums_of(P::before(i, j) + slot, held, width));
                    }
                    if (stop == end)
                        write_filters(a, used, width, a.gradient.channels - first, target, filters + k * a.strides.in);
                }
            }
        }
    }
};

template <typename X>
Kernel<ConvWgrad<Scalar<X>>> kernel() {
    return kernel_of<Wgrad, X, ConvWgrad<Scalar<X>>>();
}

}  // namespace

Kernel<ConvWgrad<float>> conv_wgrad(float) { return kernel<float>(); }
Kernel<ConvWgrad<float>> conv_wgrad(Bf16) { return kernel<Bf16>(); }
Kernel<ConvWgrad<double>> conv_wgrad(double) { return kernel<double>(); }

std::int64_t conv_wgrad_splits(const ConvWgrad<float>& a, int threads) {
    return with_geometry(a.geometry, [&](auto g) { return Wgrad<g.value, float>::splits(a, threads); });
}
std::int64_t conv_wgrad_splits(const ConvWgrad<double>& a, int threads) {
    return with_geometry(a.geometry, [&](auto g) { return Wgrad<g.value, double>::splits(a, threads); });
}

}  // namespace srgan_fast::cpu::SRGAN_FAST_LEVEL
