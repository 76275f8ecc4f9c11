// The convolutions of inference: those of conv_mma.cuh with PReLU, residual and pixel shuffle where results are
// written, the head from pictures and the tail to pictures.
#pragma once

#include "kernels/cuda/conv_mma.cuh"

namespace srgan_fast::cuda {

// Calls visit with an object of the shape of a tile that choose_infer_tile() chooses.
template <typename Visit>
auto with_infer_shape(Tile tile, const Visit& visit) {
    switch (tile) {
        case Tile::kLarge: return visit(ShapeOf<Tile::kLarge, 2>{});
        case Tile::kWide: return visit(ShapeOf<Tile::kWide, 1>{});
        case Tile::kMedium: return visit(ShapeOf<Tile::kMedium, 2>{});
        default: return visit(ShapeOf<Tile::kSmall, 3>{});
    }
}

template <typename T, typename Shape>
SRGAN_FAST_GLOBAL(Shape::kThreads, Shape::kBlocks)
void conv_infer_kernel(SRGAN_FAST_CONSTANT InferParams p) {
    using A = Accumulators<Shape>;
    std::byte* const shared = shared_memory();
    const ConvParams& c = p.conv;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warp_m = warp % Shape::kWarpsM;
    const int warp_n = warp / Shape::kWarpsM;
    const Place place = place_of<Shape>(c.height, c.width);
    A sums{};
    multiply_all<T, Shape, false>(sums, shared, c, c.taps[0], place);
#pragma unroll
    for (int n = 0; n < A::kN; ++n)
#pragma unroll
        for (int j = 0; j < 2; ++j) {
            const int channel =
                static_cast<int>(blockIdx.y) * Shape::kChannels + (warp_n * A::kN + n) * 8 + lane % 4 * 2 + j;
            const bool there = channel < c.channels;
            const float bias = there ? value_of(c.bias, channel, 0.0f) : 0.0f;
            const float slope = there ? value_of(p.slope, channel, 1.0f) : 1.0f;
#pragma unroll
            for (int m = 0; m < A::kM; ++m)
#pragma unroll
                for (int half = 0; half < 2; ++half) {
                    float& value = sums.value[m][n][2 * half + j];
                    value += bias;
                    if (!(value > 0.0f)) value *= slope;
                }
        }
    stage_results<T, Shape>(shared, sums, warp_m, warp_n, lane);
    sync_threads();
    const int unit = threadIdx.x % Shape::kUnits;
    const int channel = static_cast<int>(blockIdx.y) * Shape::kChannels + unit * 8;
    if (channel >= c.channels) return;
    // Where a pixel's channels go: to its own place, or to that of one of the four that it becomes.
    const int channels = p.shuffle ? c.channels / kPhases : c.channels, phase = p.shuffle ? channel / channels : 0;
    const int scale = p.shuffle ? 2 : 1, width = c.width * scale;
    const std::int64_t image = static_cast<std::int64_t>(place.image) * c.height * scale * width * channels;
    for (int row = threadIdx.x / Shape::kUnits; row < Shape::kPixels; row += Shape::kReducers) {
        const int y = place.top + row / Shape::kColumns, x = place.left + row % Shape::kColumns;
        if (y >= c.height || x >= c.width) continue;
        Vec16 result = *reinterpret_cast<const Vec16*>(shared + row * Shape::kPitch + unit * 16);
        const std::int64_t at =
            image + (static_cast<std::int64_t>(y * scale + phase / 2) * width + x * scale + phase % 2) * channels +
            (channel - phase * channels);
        if (p.residual != nullptr) {
            float values[8], more[8];
            widen_unit<T>(result, values);
            widen_unit<T>(*reinterpret_cast<const Vec16*>(static_cast<const T*>(p.residual) + at), more);
#pragma unroll
            for (int i = 0; i < 8; ++i) values[i] += more[i];
            result = narrow_unit<T>(values);
        }
        *reinterpret_cast<Vec16*>(static_cast<T*>(c.y) + at) = result;
    }
}

template <typename T, int threads>
SRGAN_FAST_GLOBAL(threads, 1)
void unfold_kernel(SRGAN_FAST_CONSTANT UnfoldParams p) {
    using U = UnfoldParams;
    constexpr int kUnits = U::kChannels / 8;
    const std::int64_t total = static_cast<std::int64_t>(p.batch) * (p.height + 1) * p.width * kUnits;
    for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x; i < total;
         i += static_cast<std::int64_t>(gridDim.x) * threads) {
        const std::int64_t pixel = i / kUnits, row = pixel / p.width;
        const int unit = static_cast<int>(i - pixel * kUnits), x = static_cast<int>(pixel - row * p.width);
        const int image = static_cast<int>(row / (p.height + 1)), top = static_cast<int>(row % (p.height + 1)) - 1;
        float values[8];
#pragma unroll
        for (int j = 0; j < 8; ++j) {
            const int channel = unit * 8 + j, down = channel / (U::kSide * kColours);
            const int across = channel / kColours % U::kSide, colour = channel % kColours;
            const int from_y = top + down, from_x = x + across - U::kSide / 2;
            const bool there = down < U::kRows && from_y >= 0 && from_y < p.height && from_x >= 0 && from_x < p.width;
            const std::int64_t at =
                ((static_cast<std::int64_t>(image) * kColours + colour) * p.height + from_y) * p.width + from_x;
            values[j] = there ? p.planes[at] * p.gain[colour] + p.offset[colour] : 0.0f;
        }
        static_cast<Vec16*>(p.to)[i] = narrow_unit<T>(values);
    }
}

using TailShape = ConvShape<kTailSize.rows, kTailSize.columns, kTailSize.channels, kTailSize.depth, kTailSize.warps_m,
                            kTailSize.warps_n, 2, kTailSize.stages>;

template <typename T>
SRGAN_FAST_GLOBAL(TailShape::kThreads, TailShape::kBlocks)
void tail_kernel(SRGAN_FAST_CONSTANT TailParams p) {
    using Shape = TailShape;
    using A = Accumulators<Shape>;
    std::byte* const shared = shared_memory();
    const ConvParams& c = p.conv;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int tiles_x = (c.width + kTailColumns - 1) / kTailColumns;
    const int tiles_y = (c.height + Shape::kRows - 1) / Shape::kRows;
    const int index = blockIdx.x, tile_row = index / tiles_x;
    const Place place{tile_row / tiles_y, tile_row % tiles_y * Shape::kRows,
                      (index - tile_row * tiles_x) * kTailColumns, index};
    A sums{};
    multiply_all<T, Shape, false>(sums, shared, c, c.taps[0], place);
    float* const products = reinterpret_cast<float*>(shared);  // [pixels][kTailPitch]
#pragma unroll
    for (int m = 0; m < A::kM; ++m)
#pragma unroll
        for (int n = 0; n < A::kN; ++n)
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                const int row = (warp * A::kM + m) * 16 + i / 2 * 8 + lane / 4;
                products[row * kTailPitch + n * 8 + lane % 4 * 2 + i % 2] = sums.value[m][n][i];
            }
    sync_threads();
    constexpr int kFine = 2 * kTailColumns, kLines = 2 * kColours;  // a result's pixels of a row; rows of colours
    for (int i = threadIdx.x; i < kLines * Shape::kRows * kFine; i += Shape::kThreads) {
        const int fine = i % kFine, row = i / kFine % Shape::kRows, line = i / kFine / Shape::kRows;
        const int y = place.top + row, x = place.left + fine / 2;
        if (y >= c.height || x >= c.width) continue;
        const int colour = line / 2, phase = line % 2 * 2 + fine % 2;
        float sum = value_of(c.bias, colour, 0.0f);
#pragma unroll
        for (int tap = 0; tap < TailParams::kSide; ++tap)
            sum += products[(row * Shape::kColumns + fine / 2 + tap) * kTailPitch + tap * TailParams::kPhaseColours +
                            colour * kPhases + phase];
        const std::int64_t plane = static_cast<std::int64_t>(place.image) * kColours + colour;
        p.planes[(plane * 2 * c.height + 2 * y + line % 2) * 2 * c.width + 2 * place.left + fine] = sum;
    }
}

}  // namespace srgan_fast::cuda
