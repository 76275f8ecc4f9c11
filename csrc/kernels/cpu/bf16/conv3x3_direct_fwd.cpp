// 3x3 convolution of bfloat16 maps on AMX, as direct convolution: AMX multiplies so fast that Winograd's transforms do
// not pay.
//
// For each tap, 16 neighbouring pixels of the map are a tile, whose rows are one pixel apart: nothing is copied or
// converted. A task multiplies all its blocks of two rows of 16 pixels with 32 output channels, then with the next 32;
// those weights stay in the L1 cache if the input has at most 64 channels.
#include "kernels/cpu/bf16/map_blocks.h"
#include "kernels/cpu/bf16/table.h"

namespace srgan_fast::cpu::SRGAN_FAST_LEVEL {
namespace {

constexpr int kTaps = 3, kRows = kMapBlockRows;
using Blocks = MapTiling<Conv3x3>;

// Bytes of input that a task reads again for each 32 output channels: a fraction of the L2 cache. On a Xeon with 2 MB
// of L2 cache per core, 1 MB is 3 % slower.
constexpr std::int64_t kTaskBytes = 256 << 10;

std::int64_t tasks_of(const Conv3x3& a, int threads) {
    const std::int64_t block = kBlockRows * a.in_channels() * static_cast<std::int64_t>(sizeof(Bf16));
    return Blocks(a).tasks(kTaskBytes / block < 1 ? 1 : kTaskBytes / block, threads);
}

std::int64_t scratch_of(const Conv3x3&, std::int64_t) { return kPipelineBytes; }

// Depth of the GEMM in tiles, over all input maps: each map is padded to whole tiles, the last of which may extend into
// the next pixel, where weights are zero.
std::int64_t depth_of(const Conv3x3& a) {
    std::int64_t depth = 0;
    for (std::int64_t i = 0; i < a.input_count; ++i) depth += deep(a.inputs[i].channels);
    return depth;
}

template <int kN, typename Meanwhile>
SRGAN_FAST_INLINE void multiply(const Conv3x3& a, const WeightTiles& weights, const MapBlock& block,
                                const Meanwhile& meanwhile) {
    std::int64_t k = 0;
    for (std::int64_t m = 0; m < a.input_count; ++m) {
        const std::int64_t pixel = a.inputs[m].channels, pixel_bytes = pixel * static_cast<std::int64_t>(sizeof(Bf16));
        const Bf16* rows[kRows + kTaps - 1];
        for (int i = 0; i < kRows + kTaps - 1; ++i)
            rows[i] = static_cast<const Bf16*>(a.inputs[m].rows[block.y + i]) + (block.x - 1) * pixel;
        for (std::int64_t c = 0; c < pixel; c += kTileDepth, ++k) {
            const Bf16* tiles = weights.at(block.channel, k);
            for (int ky = 0; ky < kTaps; ++ky)
                for (int kx = 0; kx < kTaps; ++kx, tiles += kTileElements) {
                    const std::int64_t tap = kx * pixel + c;
                    multiply_tiles<kRows, kN>(rows[ky] + tap, rows[ky + 1] + tap, pixel_bytes, tiles, weights.group());
                    meanwhile();
                }
        }
    }
}

template <Epilogue kEpilogue, bool kPRelu>
void run(const Conv3x3& a, const Blocks::Run& blocks, float* memory) {
    const WeightTiles weights(a.weights, kTaps * kTaps, depth_of(a));
    run_blocks<kEpilogue, kPRelu>(
        a, memory,
        [&](const auto& next) {
            for (std::int64_t c = 0; c < a.out_channels; c += kBlockColumns)
                for (std::int64_t t = blocks.begin; t < blocks.end; ++t) next(blocks.y(t), blocks.x(t), c);
        },
        [&](auto n, const MapBlock& block, const auto& meanwhile)
            SRGAN_FAST_INLINE_LAMBDA { multiply<n>(a, weights, block, meanwhile); });
}

template <Epilogue kEpilogue>
void run(const Conv3x3& a, const Blocks::Run& blocks, float* memory) {
    a.slope ? run<kEpilogue, true>(a, blocks, memory) : run<kEpilogue, false>(a, blocks, memory);
}

void run(const Conv3x3& a, std::int64_t task, std::int64_t tasks, void* scratch) {
    const Blocks::Run blocks = Blocks(a).of(a, task, tasks);
    float* const memory = static_cast<float*>(scratch);
    if (blocks.count() == 0) return;
    if (a.shuffle > 1)
        run<Epilogue::kShuffle>(a, blocks, memory);
    else if (a.float_out)
        run<Epilogue::kFloats>(a, blocks, memory);
    else if (a.residual_count > 0)
        run<Epilogue::kResiduals>(a, blocks, memory);
    else
        run<Epilogue::kPlain>(a, blocks, memory);
}

// Weights are packed as for training.
ConvPack<float> packing(std::int64_t in_channels, std::int64_t out_channels) {
    constexpr std::int64_t kFilter = kTaps * kTaps;
    return {Geometry::k3x3, false,        nullptr, {in_channels * kFilter, kFilter, kTaps, 1},
            in_channels,    out_channels, nullptr};
}

std::int64_t packed_bytes(std::int64_t in_channels, std::int64_t out_channels) {
    return conv_packed_size(packing(in_channels, out_channels)) * static_cast<std::int64_t>(sizeof(float));
}

void pack(const float* weight, std::int64_t in_channels, std::int64_t out_channels, void* packed) {
    ConvPack<float> arguments = packing(in_channels, out_channels);
    arguments.weight = weight;
    arguments.packed = static_cast<float*>(packed);
    conv_pack().run(arguments, 0, 1, nullptr);
}

}  // namespace

LayerKernel<Conv3x3> conv3x3() { return {{tasks_of, scratch_of, run}, kTile, packed_bytes, pack}; }

}  // namespace srgan_fast::cpu::SRGAN_FAST_LEVEL
