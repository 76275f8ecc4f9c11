// 3x3 convolution, stride 1, as Winograd F(6x6, 3x3): 64 multiplications instead of 324; for bfloat16 as F(4x4, 3x3),
// 36 instead of 144, since F(6x6)'s transforms need more precision than bfloat16 has.
//
// A task processes a run of tiles in three steps while all data stays in the L2 cache: input transform of all channels;
// for each point a GEMM of tiles x channels with that point's weights; output transform with the epilogue, which writes
// each output once, to its destination.
#include "kernels/cpu/level/products.h"
#include "kernels/cpu/level/table.h"
#include "kernels/cpu/level/tile_passes.h"
#include "kernels/cpu/level/tiles.h"
#include "kernels/cpu/level/transforms.h"
#include "kernels/cpu/pack.h"

namespace srgan_fast::cpu::SRGAN_FAST_LEVEL {
namespace {

// The variant for operands T.
template <typename T>
struct FormOf {
    using W = Winograd63;
};
template <>
struct FormOf<Bf16> {
    using W = Winograd43;
};
template <typename T>
inline constexpr int kPoints2 = FormOf<T>::W::kPoints * FormOf<T>::W::kPoints;
template <typename T>
inline constexpr std::int64_t kSide = FormOf<T>::W::kOutputs;
// Whether a tile is transformed one vector of channels at a time: 36 vectors nearly fit in registers; 64 do not, and
// are transformed in two passes over many channels.
template <typename T>
inline constexpr bool kOneByOne = kSide<T> == 4;
template <typename T>
using TilingOf = Tiling<Conv3x3, kSide<T>, kSide<T>>;
template <typename T>
using TilesOf = Tiles<kSide<T>, kSide<T>>;

// Tiles per task. 24 at 64 channels: transformed inputs and products are 393 KB each (221 KB for F(4x4)), which fit in
// an L2 cache of 1 MB, as processors with AVX-512 have. 12 to 24 are equally fast on Zen 4, and 12 to 48 for F(4x4) on
// Zen 5. Other processors have 512 KB or less.
constexpr std::int64_t kTiles = kLanes == 16 ? 24 : 12, kTilesChannels = 64;

// Input channels are multiplied in blocks whose products are accumulated. Only one block's transformed inputs are
// stored at a time, unless there are several groups of output channels, each of which needs all of them.
template <typename T>
struct Blocks {
    std::int64_t channels, held;

    explicit Blocks(const Conv3x3& a)
        : channels(a.in_channels()), held(a.out_channels > kChannelGroup ? channels : smaller(channels, kDepthBlock)) {}

    std::int64_t depth(std::int64_t first) const { return smaller(kDepthBlock, channels - first); }
    // Elements of the transformed inputs of the blocks before channel `first`, for so many tiles.
    static std::int64_t elements(std::int64_t first, std::int64_t tiles) {
        return kPoints2<T> * (tiles * first + (first + kDepthBlock - 1) / kDepthBlock * kSkew);
    }
};

template <typename T>
std::int64_t tasks_of(const Conv3x3& a, int threads) {
    std::int64_t most = kTiles * kTilesChannels / Blocks<T>(a).held / kRowBlock * kRowBlock;
    if (most < kRowBlock) most = kRowBlock;
    if (most > 2 * kTiles) most = 2 * kTiles;
    return TilingOf<T>(a).tasks(most, threads);
}

template <typename T>
std::int64_t input_bytes(const Conv3x3& a, std::int64_t tiles) {
    const std::int64_t bytes = Blocks<T>::elements(Blocks<T>(a).held, tiles) * static_cast<std::int64_t>(sizeof(T));
    return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

template <typename T>
std::int64_t scratch_of(const Conv3x3& a, std::int64_t tasks) {
    const std::int64_t tiles = TilingOf<T>(a).most_tiles(a, tasks);
    const std::int64_t group = smaller(a.out_channels, kChannelGroup);
    return input_bytes<T>(a, tiles) + kPoints2<T> * (tiles * group + kSkew) * static_cast<std::int64_t>(sizeof(float));
}

SRGAN_FAST_INLINE void store_operand(float* p, Vec v) { store(p, v); }
#ifdef __AVX512BF16__
SRGAN_FAST_INLINE void store_operand(Bf16* p, Vec v) {
    *reinterpret_cast<__m256i_u*>(p) = (__m256i)_mm512_cvtneps_pbh((__m512)v);
}
#endif

// v[point][tile][channel] for channels first .. first + depth of all concatenated maps.
template <typename T>
void transform_inputs(const Conv3x3& a, const TilesOf<T>& tiles, std::int64_t first, std::int64_t depth, T* v) {
    using W = typename FormOf<T>::W;
    const std::int64_t point_stride = tiles.count() * depth + kSkew;
    std::int64_t before = 0;  // channels of the maps before this one
    for (const InputMap* map = a.inputs; before < first + depth; before += map++->channels) {
        const std::int64_t begin = larger<std::int64_t>(0, first - before);
        const std::int64_t end = smaller(map->channels, first + depth - before);
        if (begin >= end) continue;
        T* target = v + before + begin - first;
        for (std::int64_t t = tiles.begin; t < tiles.end; ++t, target += depth) {
            const void* const* rows = map->rows + tiles.y(t);
            const std::ptrdiff_t left = (tiles.x(t) - W::kRadius) * map->channels;
            const auto fetch = [&](std::int64_t c, int i, int j) SRGAN_FAST_INLINE_LAMBDA {
                const float* const from = static_cast<const float*>(rows[i]) + left + j * map->channels + begin + c;
                // Prefetch what only the next tile reads; otherwise every cache line would be waited for.
                if (j >= W::kPoints - W::kOutputs) __builtin_prefetch(from + W::kOutputs * map->channels);
                return load(from);
            };
            const auto put = [&](std::int64_t c, int i, int j, Vec x) SRGAN_FAST_INLINE_LAMBDA {
                store_operand(target + (i * W::kPoints + j) * point_stride + c, x);
            };
            if constexpr (kOneByOne<T>) {
                for (std::int64_t c = 0; c < end - begin; c += kLanes)
                    transform_input<W>([&](int i, int j) SRGAN_FAST_INLINE_LAMBDA { return fetch(c, i, j); },
                                       [&](int i, int j, Vec x) SRGAN_FAST_INLINE_LAMBDA { put(c, i, j, x); });
            } else {
                rows_then_columns<W::kPoints, W::kPoints, float>(
                    end - begin, [](const Vec* d, Vec* v) SRGAN_FAST_INLINE_LAMBDA { W::input(d, v); },
                    [&](int i, std::int64_t from, std::int64_t to, const auto& take) SRGAN_FAST_INLINE_LAMBDA {
                        for (std::int64_t c = from; c < to; c += kLanes) {
                            Vec pixels[W::kPoints];
#pragma GCC unroll 8
                            for (int j = 0; j < W::kPoints; ++j) pixels[j] = fetch(c, i, j);
                            take(c, pixels);
                        }
                    },
                    put);
            }
        }
    }
}

enum class Epilogue { kPlain, kResidual, kResiduals, kShuffle };  // kResidual: one with scale 1

// From products m[point][tile][channel of the group] to outputs of channels first .. first + count.
template <typename T, Epilogue kEpilogue, bool kPRelu>
void transform_outputs(const Conv3x3& a, const TilesOf<T>& tiles, std::int64_t first, std::int64_t count,
                       const float* m) {
    using W = typename FormOf<T>::W;
    constexpr std::int64_t kOutputs = W::kOutputs;
    constexpr bool kShuffles = kEpilogue == Epilogue::kShuffle;
    const std::int64_t point_stride = tiles.count() * count + kSkew, factor = kShuffles ? a.shuffle : 1;
    const std::int64_t pixel = a.out_channels / (factor * factor);
    for (std::int64_t t = tiles.begin; t < tiles.end; ++t, m += count) {
        const std::int64_t y = tiles.y(t), x = tiles.x(t);
        const int rows = static_cast<int>(smaller(a.rows - y, kOutputs));
        const int columns = static_cast<int>(smaller(a.width - x, kOutputs));
        const auto finish = [&](int i, std::int64_t c, int columns_here, const Vec* values) SRGAN_FAST_INLINE_LAMBDA {
            const std::int64_t channel = first + c;
            const Vec bias = load(a.bias + channel);
            const Vec slope = kPRelu ? load(a.slope + channel) : Vec{};
            float* out;
            std::int64_t step;
            if constexpr (kShuffles) {
                const std::int64_t phase = channel / pixel, phase_row = phase / factor,
                                   phase_column = phase - phase_row * factor;
                out = static_cast<float*>(a.out[factor * (y + i) + phase_row]) + (factor * x + phase_column) * pixel +
                      channel - phase * pixel;
                step = factor * pixel;
            } else {
                out = static_cast<float*>(a.out[y + i]) + x * pixel + channel;
                step = pixel;
            }
            const auto residual = [&](std::int64_t k) SRGAN_FAST_INLINE_LAMBDA {
                return static_cast<const float*>(a.residuals[k].rows[y + i]) + x * pixel + channel;
            };
            Vec results[kOutputs];
#pragma GCC unroll 6
            for (int j = 0; j < kOutputs; ++j) {
                results[j] = values[j] + bias;
                if constexpr (kPRelu) results[j] = results[j] > 0.0f ? results[j] : results[j] * slope;
            }
            if constexpr (kEpilogue == Epilogue::kResidual) {
                const float* const from = residual(0);
#pragma GCC unroll 6
                for (int j = 0; j < kOutputs; ++j)
                    if (j < columns_here) results[j] += load(from + j * pixel);
            }
            if constexpr (kEpilogue == Epilogue::kResiduals)
                for (std::int64_t k = 0; k < a.residual_count; ++k) {
                    const float* const from = residual(k);
                    const Vec scale = broadcast(a.residuals[k].scale);
#pragma GCC unroll 6
                    for (int j = 0; j < kOutputs; ++j)
                        if (j < columns_here) results[j] += load(from + j * pixel) * scale;
                }
#pragma GCC unroll 6
            for (int j = 0; j < kOutputs; ++j)
                if (j < columns_here) store(out + j * step, results[j]);
        };
        const auto fetch = [&](std::int64_t c, int i, int j)
                               SRGAN_FAST_INLINE_LAMBDA { return load(m + (i * W::kPoints + j) * point_stride + c); };
        const auto write = [&](int i, std::int64_t c, const Vec* values) SRGAN_FAST_INLINE_LAMBDA {
            if (columns == kOutputs)
                finish(i, c, kOutputs, values);
            else
                finish(i, c, columns, values);
        };
        if constexpr (kOneByOne<T>) {
            for (std::int64_t c = 0; c < count; c += kLanes)
                transform_output<W>([&](int i, int j) SRGAN_FAST_INLINE_LAMBDA { return fetch(c, i, j); },
                                    [&](int i, const Vec* values) SRGAN_FAST_INLINE_LAMBDA {
                                        if (i < rows) write(i, c, values);
                                    });
        } else {
            columns_then_rows<W::kPoints, W::kOutputs, float>(
                count, rows, [](const Vec* from, Vec* to) SRGAN_FAST_INLINE_LAMBDA { W::output(from, to); }, fetch,
                write);
        }
    }
}

template <typename T, Epilogue kEpilogue>
void transform_outputs(const Conv3x3& a, const TilesOf<T>& tiles, std::int64_t first, std::int64_t count,
                       const float* m) {
    if (a.slope)
        transform_outputs<T, kEpilogue, true>(a, tiles, first, count, m);
    else
        transform_outputs<T, kEpilogue, false>(a, tiles, first, count, m);
}

template <typename T>
void run(const Conv3x3& a, std::int64_t task, std::int64_t tasks, void* scratch) {
    const TilesOf<T> tiles = TilingOf<T>(a).of(a, task, tasks);
    const Blocks<T> blocks(a);
    const std::int64_t count = tiles.count();
    if (count == 0) return;
    T* const inputs = static_cast<T*>(scratch);
    auto* const products = reinterpret_cast<float*>(static_cast<char*>(scratch) + input_bytes<T>(a, count));
    const T* weights = static_cast<const T*>(a.weights);
    for (std::int64_t first = 0; first < a.out_channels; first += kChannelGroup) {
        const std::int64_t group = smaller(kChannelGroup, a.out_channels - first);
        for (std::int64_t channel = 0; channel < blocks.channels; channel += kDepthBlock) {
            const std::int64_t depth = blocks.depth(channel);
            T* const v = inputs + (blocks.held < blocks.channels ? 0 : Blocks<T>::elements(channel, count));
            if (first == 0) transform_inputs(a, tiles, channel, depth, v);
            for (int p = 0; p < kPoints2<T>; ++p, weights += depth * group) {
                float* const out = products + p * (count * group + kSkew);
                const T* const in = v + p * (count * depth + kSkew);
                if (channel == 0)
                    product<false>(count, group, in, weights, depth, out, group);
                else
                    product<true>(count, group, in, weights, depth, out, group);
            }
        }
        if (a.shuffle > 1)
            transform_outputs<T, Epilogue::kShuffle>(a, tiles, first, group, products);
        else if (a.residual_count == 0)
            transform_outputs<T, Epilogue::kPlain>(a, tiles, first, group, products);
        else if (a.residual_count == 1 && a.residuals[0].scale == 1.0f)
            transform_outputs<T, Epilogue::kResidual>(a, tiles, first, group, products);
        else
            transform_outputs<T, Epilogue::kResiduals>(a, tiles, first, group, products);
    }
}

// Packed operands T are stored as elements Stored.
template <typename T, typename Stored>
std::int64_t packed_bytes(std::int64_t in_channels, std::int64_t out_channels) {
    return kPoints2<T> * in_channels * out_channels * static_cast<std::int64_t>(sizeof(Stored));
}

template <typename Stored>
void pack(const float* weight, std::int64_t in_channels, std::int64_t out_channels, void* packed) {
    pack_conv3x3(weight, in_channels, out_channels, kPanel, static_cast<Stored*>(packed));
}

}  // namespace

LayerKernel<Conv3x3> conv3x3() {
    return {{tasks_of<float>, scratch_of<float>, run<float>}, kSide<float>, packed_bytes<float, float>, pack<float>};
}

LayerKernel<Conv3x3> conv3x3_bf16() {
#ifdef __AVX512BF16__
    return {{tasks_of<Bf16>, scratch_of<Bf16>, run<Bf16>},
            kSide<Bf16>,
            packed_bytes<Bf16, std::uint16_t>,
            pack<std::uint16_t>};
#else
    return {};
#endif
}

}  // namespace srgan_fast::cpu::SRGAN_FAST_LEVEL
