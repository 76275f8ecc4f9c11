// The weight gradient on tensor cores: out channels x in channels, summed over pixels. A block takes some rows of taps
// and a share of the tiles; it reads dy and z of a tile once, prologues applied, and its taps' products share them,
// while the next tiles are on their way. Shares are added up afterwards, in order, so that equal calls give equal bits.
#pragma once

#include "kernels/cuda/plan.h"
#include "kernels/cuda/tiles.cuh"

namespace srgan_fast::cuda {

template <WgradTile tile, int taps, int warps_m, int warps_n>
struct WgradShape {
    static constexpr WgradTile kTile = tile;
    static constexpr int kRows = size_of(tile).rows,
                         kColumns = size_of(tile).columns;                 // out and in channels of a block
    static constexpr int kTapRows = size_of(tile).tap_rows, kTaps = taps;  // of a block; all columns
    static constexpr int kWarpsM = warps_m, kWarpsN = warps_n;
    static constexpr int kThreads = 32 * warps_m * warps_n;
    static constexpr int kSide = kWgradSide;
    static constexpr int kM = kRows / warps_m / 16, kN = kColumns / warps_n / 8;
    static constexpr int kUnits = kRows / 8;
    static_assert(kM >= 1 && kN >= 2 && kN % 2 == 0 && kThreads % kUnits == 0 && taps % kTapRows == 0);

    static constexpr int window_columns(int stride) { return (kSide - 1) * stride + taps; }
    static constexpr int window_rows(int stride) { return (kSide - 1) * stride + kTapRows; }
    static constexpr int kGradientBytes = kSide * kSide * kRows * 2;
    static constexpr int source_bytes(int stride) {
        return (window_rows(stride) * window_columns(stride) * kColumns * 2 + 127) / 128 * 128;
    }
    static constexpr int shared_bytes(const WgradParams& p) {
        const int tiles = p.stages * stage_bytes(p), biases = kThreads * 8 * 4;
        return tiles > biases ? tiles : biases;
    }
    static constexpr int stage_bytes(const WgradParams& p) {
        return wgrad_stage_bytes(kTile, taps, p.stride, p.gradient.moments || p.gradient.activation,
                                 p.source.residual != nullptr);
    }
};

using WgradWide = WgradShape<WgradTile::kWide, 3, 2, 4>;
using WgradFromNarrow = WgradShape<WgradTile::kFromNarrow, 3, 4, 1>;
using WgradToNarrow = WgradShape<WgradTile::kToNarrow, 3, 1, 4>;
using WgradTail = WgradShape<WgradTile::kTail, 5, 1, 4>;
using WgradWide5 = WgradShape<WgradTile::kWide5, 5, 4, 1>;
using WgradTail9 = WgradShape<WgradTile::kTail9, 9, 1, 4>;
using WgradWide9 = WgradShape<WgradTile::kWide9, 9, 4, 1>;

template <typename Visit>
auto with_shape(WgradTile tile, const Visit& visit) {
    switch (tile) {
        case WgradTile::kWide: return visit(WgradWide{});
        case WgradTile::kFromNarrow: return visit(WgradFromNarrow{});
        case WgradTile::kToNarrow: return visit(WgradToNarrow{});
        case WgradTile::kTail: return visit(WgradTail{});
        case WgradTile::kWide5: return visit(WgradWide5{});
        case WgradTile::kTail9: return visit(WgradTail9{});
        default: return visit(WgradWide9{});
    }
}

template <typename T, typename Shape>
SRGAN_FAST_GLOBAL(Shape::kThreads, Shape::kThreads > 128 ? 1 : 2)
void conv_wgrad_kernel(SRGAN_FAST_CONSTANT WgradParams p) {
    std::byte* const shared = shared_memory();
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warp_m = warp % Shape::kWarpsM;
    const int warp_n = warp / Shape::kWarpsM;
    const int blocks_n = p.columns / Shape::kColumns;
    const int row0 = static_cast<int>(blockIdx.y) / blocks_n * Shape::kRows;
    const int column0 = static_cast<int>(blockIdx.y) % blocks_n * Shape::kColumns;
    const int tap_row = static_cast<int>(blockIdx.z) * Shape::kTapRows, split = blockIdx.x;
    const int tiles_x = (p.gradient.width + Shape::kSide - 1) / Shape::kSide;
    const int tiles_y = (p.gradient.height + Shape::kSide - 1) / Shape::kSide;
    const int tiles = p.batch * tiles_y * tiles_x;
    const bool with_bias = p.bias != nullptr && tap_row == 0 && column0 == 0;
    const int window_columns = Shape::window_columns(p.stride);
    float sums[Shape::kTapRows * Shape::kTaps][Shape::kM][Shape::kN][4] = {};
    float bias[8] = {};
    GradientReader<T> gradient(p.gradient, row0 + static_cast<int>(threadIdx.x) % Shape::kUnits * 8);
    SourceReader<T> source(p.source, column0 + static_cast<int>(threadIdx.x) % (Shape::kColumns / 8) * 8);
    const int stage_bytes = Shape::stage_bytes(p), source_bytes = Shape::source_bytes(p.stride);
    Window gradient_window{0, 0, Shape::kSide, Shape::kSide, 1};
    Window source_window{0, 0, Shape::window_rows(p.stride), window_columns, 1};
    const auto go_to = [&](int tile) {
        const int row = tile / tiles_x, image = row / tiles_y;
        gradient_window.top = (row - image * tiles_y) * Shape::kSide;
        gradient_window.left = (tile - row * tiles_x) * Shape::kSide;
        source_window.top = gradient_window.top * p.stride + tap_row - p.taps / 2;
        source_window.left = gradient_window.left * p.stride - p.taps / 2;
        gradient.choose_image(image), source.choose_image(image);
    };
    // In a stage: z's window, what it is computed from besides, dy's, and what that is computed from besides.
    const int gradient_at = source_bytes * (source.has_second() ? 2 : 1);
    const int first = static_cast<int>(static_cast<std::int64_t>(tiles) * split / p.splits);
    const int end = static_cast<int>(static_cast<std::int64_t>(tiles) * (split + 1) / p.splits);
    int next = first, next_stage = 0;  // to be asked for
    const auto request = [&] {
        if (next < end) {
            std::byte* const stage = shared + next_stage * stage_bytes;
            go_to(next);
            request_window<Shape::kColumns, Shape::kThreads>(stage, stage + source_bytes, source, source_window);
            request_window<Shape::kRows, Shape::kThreads>(
                stage + gradient_at, stage + gradient_at + Shape::kGradientBytes, gradient, gradient_window);
        }
        copy_async_commit();
        ++next;
        if (++next_stage == p.stages) next_stage = 0;
    };
    source.prepare(), gradient.prepare();
    for (int i = 1; i < p.stages; ++i) request();
    for (int tile = first, current = 0; tile < end; ++tile) {
        std::byte* const stage = shared + current * stage_bytes;
        if (++current == p.stages) current = 0;
        if (p.stages == 2)
            copy_async_wait<0>();
        else if (p.stages == 3)
            copy_async_wait<1>();
        else
            copy_async_wait<2>();
        go_to(tile);
        const std::byte* const source_tile = stage;
        const std::byte* const gradient_tile = stage + gradient_at;
        finish_window<Shape::kColumns, Shape::kThreads>(stage, stage + source_bytes, source, source_window,
                                                        [](const Vec16&, int, int) {});
        finish_window<Shape::kRows, Shape::kThreads>(stage + gradient_at, stage + gradient_at + Shape::kGradientBytes,
                                                     gradient, gradient_window, [](const Vec16&, int, int) {});
        sync_threads();  // this tile is there for all, and the one before is read to the end
        request();
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
            const int place = pixel / Shape::kSide * p.stride * window_columns + pixel % Shape::kSide * p.stride;
#pragma unroll
            for (int tap = 0; tap < Shape::kTapRows * Shape::kTaps; ++tap) {
                const int at = place + tap / Shape::kTaps * window_columns + tap % Shape::kTaps;
                std::uint32_t b[Shape::kN / 2][4];
#pragma unroll
                for (int n = 0; n < Shape::kN / 2; ++n) {
                    const int unit = (warp_n * Shape::kN / 2 + n) * 2 + (lane >> 4);
                    load_matrices_transposed(b[n], source_tile + tile_offset<Shape::kColumns>(at, unit));
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
    for (int tap = 0; tap < Shape::kTapRows * Shape::kTaps; ++tap)
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
    copy_async_wait<0>();
    if (!with_bias) return;
    sync_threads();  // the tiles are read to the end
    float* const scratch = reinterpret_cast<float*>(shared);
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
