// The weight gradient on tensor cores: out channels x in channels, summed over pixels. A block takes one row of taps and
// a share of the tiles; it reads dy and z of a tile once, prologues applied, and its taps' products share them. Shares
// are added up afterwards, in order, so that equal calls give equal bits.
#pragma once

#include "kernels/cuda/plan.h"
#include "kernels/cuda/tiles.cuh"

namespace srgan_fast::cuda {

template <int rows, int columns, int taps, int warps_m, int warps_n>
struct WgradShape {
    static constexpr int kRows = rows, kColumns = columns;  // out and in channels of a block
    static constexpr int kTaps = taps;
    static constexpr int kWarpsM = warps_m, kWarpsN = warps_n;
    static constexpr int kThreads = 32 * warps_m * warps_n;
    static constexpr int kSide = kWgradSide;
    static constexpr int kM = rows / warps_m / 16, kN = columns / warps_n / 8;
    static constexpr int kUnits = rows / 8;
    static_assert(kM >= 1 && kN >= 2 && kN % 2 == 0 && kThreads % kUnits == 0);

    static constexpr int window_columns(int stride) { return (kSide - 1) * stride + taps; }
    static constexpr int gradient_bytes() { return kSide * kSide * rows * 2; }
    static constexpr int shared_bytes(int stride) {
        const int tiles = gradient_bytes() + kSide * window_columns(stride) * columns * 2;
        const int biases = kThreads * 8 * 4;
        return tiles > biases ? tiles : biases;
    }
};

using WgradWide = WgradShape<64, 64, 3, 2, 2>;
using WgradFromNarrow = WgradShape<64, 16, 3, 4, 1>;
using WgradToNarrow = WgradShape<16, 64, 3, 1, 4>;
using WgradTail = WgradShape<16, 64, 5, 1, 4>;
using WgradWide5 = WgradShape<64, 16, 5, 4, 1>;

template <typename Visit>
auto with_shape(WgradTile tile, const Visit& visit) {
    switch (tile) {
        case WgradTile::kWide: return visit(WgradWide{});
        case WgradTile::kFromNarrow: return visit(WgradFromNarrow{});
        case WgradTile::kToNarrow: return visit(WgradToNarrow{});
        case WgradTile::kTail: return visit(WgradTail{});
        default: return visit(WgradWide5{});
    }
}

template <typename T, typename Shape>
SRGAN_FAST_GLOBAL(Shape::kThreads, 2)
void conv_wgrad_kernel(SRGAN_FAST_CONSTANT WgradParams p) {
    std::byte* const gradient_tile = shared_memory();
    std::byte* const source_tile = gradient_tile + Shape::gradient_bytes();
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warp_m = warp % Shape::kWarpsM;
    const int warp_n = warp / Shape::kWarpsM;
    const int blocks_n = p.columns / Shape::kColumns;
    const int row0 = static_cast<int>(blockIdx.y) / blocks_n * Shape::kRows;
    const int column0 = static_cast<int>(blockIdx.y) % blocks_n * Shape::kColumns;
    const int tap_row = blockIdx.z, split = blockIdx.x;
    const int tiles_x = (p.gradient.width + Shape::kSide - 1) / Shape::kSide;
    const int tiles_y = (p.gradient.height + Shape::kSide - 1) / Shape::kSide;
    const std::int64_t tiles = static_cast<std::int64_t>(p.batch) * tiles_y * tiles_x;
    const bool with_bias = p.bias != nullptr && tap_row == 0 && column0 == 0;
    const int window_columns = Shape::window_columns(p.stride);
    float sums[Shape::kTaps][Shape::kM][Shape::kN][4] = {};
    float bias[8] = {};
    for (std::int64_t tile = tiles * split / p.splits; tile < tiles * (split + 1) / p.splits; ++tile) {
        const int image = static_cast<int>(tile / (tiles_y * tiles_x));
        const int in_image = static_cast<int>(tile - static_cast<std::int64_t>(image) * tiles_y * tiles_x);
        const int top = in_image / tiles_x * Shape::kSide, left = in_image % tiles_x * Shape::kSide;
        sync_threads();  // the tiles before are read to the end
        {
            GradientReader<T> reader(p.gradient, image, row0 + static_cast<int>(threadIdx.x) % Shape::kUnits * 8);
            const bool copies = read_window<T, Shape::kRows, Shape::kThreads>(
                gradient_tile, reader, {top, left, Shape::kSide, Shape::kSide, 1}, [](const Vec16&, int, int) {});
            SourceReader<T> source(p.source, image,
                                   column0 + static_cast<int>(threadIdx.x) % (Shape::kColumns / 8) * 8);
            const int pad = p.taps / 2;
            const bool more = read_window<T, Shape::kColumns, Shape::kThreads>(
                source_tile, source,
                {top * p.stride + tap_row - pad, left * p.stride - pad, Shape::kSide, window_columns, p.stride},
                [](const Vec16&, int, int) {});
            if (copies || more) {
                copy_async_commit();
                copy_async_wait<0>();
            }
        }
        sync_threads();
        if (with_bias)
            for (int pixel = threadIdx.x / Shape::kUnits; pixel < Shape::kSide * Shape::kSide;
                 pixel += Shape::kThreads / Shape::kUnits) {
                float values[8];
                widen_unit<T>(*reinterpret_cast<const Vec16*>(
                                  gradient_tile + tile_offset<Shape::kRows>(pixel, threadIdx.x % Shape::kUnits)),
                              values);
#pragma unroll
                for (int i = 0; i < 8; ++i) bias[i] += values[i];
            }
#pragma unroll
        for (int k = 0; k < Shape::kSide * Shape::kSide / 16; ++k) {
            std::uint32_t a[Shape::kM][4];
#pragma unroll
            for (int m = 0; m < Shape::kM; ++m) {
                const int pixel = k * 16 + (lane >> 4) * 8 + (lane & 7);
                const int unit = (warp_m * Shape::kM + m) * 2 + ((lane >> 3) & 1);
                load_matrices_transposed(a[m], gradient_tile + tile_offset<Shape::kRows>(pixel, unit));
            }
            const int pixel = k * 16 + (lane & 15);
            const int place = pixel / Shape::kSide * window_columns + pixel % Shape::kSide * p.stride;
#pragma unroll
            for (int tap = 0; tap < Shape::kTaps; ++tap) {
                std::uint32_t b[Shape::kN / 2][4];
#pragma unroll
                for (int n = 0; n < Shape::kN / 2; ++n) {
                    const int unit = (warp_n * Shape::kN / 2 + n) * 2 + (lane >> 4);
                    load_matrices_transposed(b[n], source_tile + tile_offset<Shape::kColumns>(place + tap, unit));
                }
#pragma unroll
                for (int m = 0; m < Shape::kM; ++m)
#pragma unroll
                    for (int n = 0; n < Shape::kN; ++n)
                        multiply_add<T>(sums[tap][m][n], a[m], b[n / 2][n % 2 * 2], b[n / 2][n % 2 * 2 + 1]);
            }
        }
    }
    float* const part = p.weight + (static_cast<std::int64_t>(split) * p.taps + tap_row) * p.taps * p.rows * p.columns;
#pragma unroll
    for (int tap = 0; tap < Shape::kTaps; ++tap)
#pragma unroll
        for (int m = 0; m < Shape::kM; ++m)
#pragma unroll
            for (int n = 0; n < Shape::kN; ++n)
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    const int row = row0 + (warp_m * Shape::kM + m) * 16 + i / 2 * 8 + lane / 4;
                    const int column = column0 + (warp_n * Shape::kN + n) * 8 + lane % 4 * 2 + i % 2;
                    part[(static_cast<std::int64_t>(tap) * p.rows + row) * p.columns + column] = sums[tap][m][n][i];
                }
    if (!with_bias) return;
    sync_threads();  // the tiles are read to the end
    float* const scratch = reinterpret_cast<float*>(gradient_tile);
#pragma unroll
    for (int i = 0; i < 8; ++i) scratch[threadIdx.x * 8 + i] = bias[i];
    sync_threads();
    for (int row = threadIdx.x; row < Shape::kRows; row += Shape::kThreads) {
        float sum = 0.0f;
        for (int r = 0; r < Shape::kThreads / Shape::kUnits; ++r) sum += scratch[r * Shape::kRows + row];
        p.bias[static_cast<std::int64_t>(split) * p.rows + row0 + row] = sum;
    }
}

}  // namespace srgan_fast::cuda
