// 3x3 convolution, stride 1, as Winograd F(4x4, 3x3): 36 multiplications where the direct form needs 144.
//
// A task takes a run of tiles through three steps while everything stays in the second-level cache: the input transform
// of all channels, for each point a matrix product of tiles x channels with that point's weights, and the output
// transform with the epilogue, which writes each output once, at its final place.
#include "kernels/cpu/level/products.h"
#include "kernels/cpu/level/table.h"
#include "kernels/cpu/level/tiles.h"
#include "kernels/cpu/level/transforms.h"
#include "kernels/cpu/pack.h"

namespace srgan_fast::cpu::SRGAN_FAST_LEVEL {
namespace {

using W = Winograd43;
constexpr int kPoints2 = W::kPoints * W::kPoints;

// Tiles of a task. 24 at 64 channels: transformed inputs and products are 221 KB each, which leaves room in a 1 MB
// second-level cache for the weights that stream through; 12 to 48 measured the same on Zen 5.
constexpr std::int64_t kTiles = 24, kTilesChannels = 64;

std::int64_t tasks_of(const Conv3x3& a, int threads) {
    std::int64_t most = kTiles * kTilesChannels / a.in_channels / kRowBlock * kRowBlock;
    if (most < kRowBlock) most = kRowBlock;
    if (most > 2 * kTiles) most = 2 * kTiles;
    return Tiling(a).tasks(most, threads);
}

template <typename T>
std::int64_t scratch_of(const Conv3x3& a, std::int64_t tasks) {
    const std::int64_t tiles = Tiling(a).most_tiles(a, tasks);
    const std::int64_t group = smaller(a.out_channels, kChannelGroup);
    const std::int64_t inputs = kPoints2 * (tiles * a.in_channels + kSkew) * static_cast<std::int64_t>(sizeof(T));
    return inputs + kPoints2 * (tiles * group + kSkew) * static_cast<std::int64_t>(sizeof(float)) + kAlignment;
}

SRGAN_FAST_INLINE void store_operand(float* p, Vec v) { store(p, v); }
#ifdef __AVX512BF16__
SRGAN_FAST_INLINE void store_operand(Bf16* p, Vec v) {
    *reinterpret_cast<__m256i_u*>(p) = (__m256i)_mm512_cvtneps_pbh((__m512)v);
}
#endif

// v[point][tile][channel] of the tiles begin .. end.
template <typename T>
void transform_inputs(const Conv3x3& a, const Tiles<>& tiles, T* v) {
    const std::int64_t channels = a.in_channels, point_stride = tiles.count() * channels + kSkew;
    for (std::int64_t t = tiles.begin; t < tiles.end; ++t, v += channels) {
        const void* const* rows = a.in + tiles.y(t);
        const std::ptrdiff_t left = (tiles.x(t) - W::kRadius) * channels;
        for (std::int64_t c = 0; c < channels; c += kLanes)
            transform_input<W>(
                [&](int i, int j) { return load(static_cast<const float*>(rows[i]) + left + j * channels + c); },
                [&](int i, int j, Vec x) { store_operand(v + (i * W::kPoints + j) * point_stride + c, x); });
    }
}

enum class Epilogue { kPlain, kResidual, kShuffle };

// From products m[point][tile][channel of the group] to the outputs of channels first .. first + count.
template <Epilogue kEpilogue, bool kPRelu>
void transform_outputs(const Conv3x3& a, const Tiles<>& tiles, std::int64_t first, std::int64_t count, const float* m) {
    const std::int64_t point_stride = tiles.count() * count + kSkew;
    const std::int64_t pixel = kEpilogue == Epilogue::kShuffle ? a.out_channels / 4 : a.out_channels;
    for (std::int64_t t = tiles.begin; t < tiles.end; ++t, m += count) {
        const std::int64_t y = tiles.y(t), x = tiles.x(t);
        const int rows = static_cast<int>(smaller(a.rows - y, kTile));
        const int columns = static_cast<int>(smaller(a.width - x, kTile));
        for (std::int64_t c = 0; c < count; c += kLanes) {
            const std::int64_t channel = first + c;
            const Vec bias = load(a.bias + channel);
            const Vec slope = kPRelu ? load(a.slope + channel) : Vec{};
            const std::int64_t phase = kEpilogue == Epilogue::kShuffle ? channel / pixel : 0;
            const auto finish = [&](int i, int columns_here, const Vec values[kTile]) SRGAN_FAST_INLINE_LAMBDA {
                float* out;
                std::int64_t step;
                if constexpr (kEpilogue == Epilogue::kShuffle) {
                    out = static_cast<float*>(a.out[2 * (y + i) + phase / 2]) + (2 * x + phase % 2) * pixel + channel -
                          phase * pixel;
                    step = 2 * pixel;
                } else {
                    out = static_cast<float*>(a.out[y + i]) + x * pixel + channel;
                    step = pixel;
                }
                const float* residual = nullptr;
                if constexpr (kEpilogue == Epilogue::kResidual)
                    residual = static_cast<const float*>(a.residual[y + i]) + x * pixel + channel;
#pragma GCC unroll 4
                for (int j = 0; j < kTile; ++j) {
                    if (j >= columns_here) break;
                    Vec value = values[j] + bias;
                    if constexpr (kEpilogue == Epilogue::kResidual) value += load(residual + j * pixel);
                    if constexpr (kPRelu) value = value > 0.0f ? value : value * slope;
                    store(out + j * step, value);
                }
            };
            const auto fetch = [&](int i, int j) { return load(m + (i * W::kPoints + j) * point_stride + c); };
            if (rows == kTile && columns == kTile) {
                transform_output<W>(fetch, [&](int i, const Vec* values) { finish(i, kTile, values); });
            } else {
                transform_output<W>(fetch, [&](int i, const Vec* values) {
                    if (i < rows) finish(i, columns, values);
                });
            }
        }
    }
}

template <Epilogue kEpilogue>
void transform_outputs(const Conv3x3& a, const Tiles<>& tiles, std::int64_t first, std::int64_t count, const float* m) {
    if (a.slope)
        transform_outputs<kEpilogue, true>(a, tiles, first, count, m);
    else
        transform_outputs<kEpilogue, false>(a, tiles, first, count, m);
}

template <typename T>
void run(const Conv3x3& a, std::int64_t task, std::int64_t tasks, void* scratch) {
    const Tiles<> tiles = Tiling(a).of(a, task, tasks);
    const std::int64_t count = tiles.count(), depth = a.in_channels;
    if (count == 0) return;
    T* const inputs = static_cast<T*>(scratch);
    transform_inputs(a, tiles, inputs);
    const std::int64_t input_bytes = kPoints2 * (count * depth + kSkew) * static_cast<std::int64_t>(sizeof(T));
    auto* const products = reinterpret_cast<float*>(static_cast<char*>(scratch) +
                                                    (input_bytes + kAlignment - 1) / kAlignment * kAlignment);
    const T* weights = static_cast<const T*>(a.weights);
    for (std::int64_t first = 0; first < a.out_channels; first += kChannelGroup) {
        const std::int64_t group = smaller(kChannelGroup, a.out_channels - first);
        for (int p = 0; p < kPoints2; ++p, weights += depth * group)
            product<false>(count, group, inputs + p * (count * depth + kSkew), weights, depth,
                           products + p * (count * group + kSkew), group);
        if (a.shuffle)
            transform_outputs<Epilogue::kShuffle>(a, tiles, first, group, products);
        else if (a.residual)
            transform_outputs<Epilogue::kResidual>(a, tiles, first, group, products);
        else
            transform_outputs<Epilogue::kPlain>(a, tiles, first, group, products);
    }
}

template <typename T>
std::int64_t packed_bytes(std::int64_t in_channels, std::int64_t out_channels) {
    return packed_conv3x3_size(in_channels, out_channels) * static_cast<std::int64_t>(sizeof(T));
}

// Stored is what elements T are to pack_conv3x3.
template <typename Stored>
void pack(const float* weight, std::int64_t in_channels, std::int64_t out_channels, void* packed) {
    pack_conv3x3(weight, in_channels, out_channels, kPanel, static_cast<Stored*>(packed));
}

}  // namespace

LayerKernel<Conv3x3> conv3x3() { return {{tasks_of, scratch_of<float>, run<float>}, packed_bytes<float>, pack<float>}; }

LayerKernel<Conv3x3> conv3x3_bf16() {
#ifdef __AVX512BF16__
    return {{tasks_of, scratch_of<Bf16>, run<Bf16>}, packed_bytes<std::uint16_t>, pack<std::uint16_t>};
#else
    return {};
#endif
}

}  // namespace srgan_fast::cpu::SRGAN_FAST_LEVEL
