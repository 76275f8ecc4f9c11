// Weight gradient on tensor cores: out channels x in channels, summed over pixels. A block computes some rows of taps
// for a split of the tiles; it reads dy and z of a tile once, with prologues applied, for all its taps, while the next
// tiles are in flight. Splits are summed afterwards, in order, so that equal calls give equal bits.
#pragma once

#include "kernels/cuda/plan.h"
#include "kernels/cuda/tiles.cuh"

namespace srgan_fast::cuda {

template <typename T, WgradTile tile, int taps, int warps_m, int warps_n>
struct WgradShape {
    static constexpr WgradTile kTile = tile;
    static constexpr int kBytes = sizeof(T);
    static constexpr int kRows = size_of(tile).rows,
                         kColumns = size_of(tile).columns;                 // out and in channels of a block
    static constexpr int kTapRows = size_of(tile).tap_rows, kTaps = taps;  // of a block; all columns
    static constexpr int kWarpsM = warps_m, kWarpsN = warps_n;
    static constexpr int kThreads = 32 * warps_m * warps_n;
    static constexpr int kSide = kWgradSide;
    static constexpr int kM = kRows / warps_m / 16, kN = kColumns / warps_n / 8;
    static constexpr int kRowBytes = kRows * kBytes, kColumnBytes = kColumns * kBytes;  // of a pixel of dy, and of z
    static constexpr int kUnits = kRowBytes / 16;
    static constexpr int kStep = 32 / kBytes;  // pixels of a matrix instruction
    static_assert(kM >= 1 && kN >= 2 && kN % 2 == 0 && kThreads % kUnits == 0 && taps % kTapRows == 0);

    static constexpr int window_columns(int stride) { return (kSide - 1) * stride + taps; }
    static constexpr int window_rows(int stride) { return (kSide - 1) * stride + kTapRows; }
    static constexpr int kGradientBytes = kSide * kSide * kRowBytes;
    static constexpr int source_bytes(int stride) {
        return (window_rows(stride) * window_columns(stride) * kColumnBytes + 127) / 128 * 128;
    }
    static constexpr int kBiasBytes = kThreads * kUnit<T> * 4;  // of the bias' sums, each thread's own
    static_assert(kBiasBytes <= kWgradBiasBytes);
    static constexpr int shared_bytes(const WgradParams& p) { return kBiasBytes + p.stages * stage_bytes(p); }
    static constexpr int stage_bytes(const WgradParams& p) {
        return wgrad_stage_bytes(kTile, kBytes, taps, p.stride, p.gradient.moments || p.gradient.activation,
                                 p.source.residual != nullptr);
    }
};

template <typename T, typename Visit>
auto with_shape(WgradTile tile, const Visit& visit) {
    if constexpr (std::is_same_v<T, float>)
        if (tile == WgradTile::kSmall) return visit(WgradShape<T, WgradTile::kSmall, 3, 2, 1>{});
    switch (tile) {
        case WgradTile::kWide: return visit(WgradShape<T, WgradTile::kWide, 3, 2, 4>{});
        case WgradTile::kFromNarrow: return visit(WgradShape<T, WgradTile::kFromNarrow, 3, 4, 1>{});
        case WgradTile::kToNarrow: return visit(WgradShape<T, WgradTile::kToNarrow, 3, 1, 4>{});
        case WgradTile::kTail: return visit(WgradShape<T, WgradTile::kTail, 5, 1, 4>{});
        case WgradTile::kWide5: return visit(WgradShape<T, WgradTile::kWide5, 5, 4, 1>{});
        case WgradTile::kTail9: return visit(WgradShape<T, WgradTile::kTail9, 9, 1, 4>{});
        default: return visit(WgradShape<T, WgradTile::kWide9, 9, 4, 1>{});
    }
}

// Fragments of GEMMs over pixels, of maps with pixels as rows: `at(i)` is the position in the map of the i-th pixel of
// an instruction. 16-bit matrices are transposed as they are loaded. Floats are loaded element by element, and since
// the order of the sum over pixels does not matter, a lane takes two adjacent ones, so that lanes are in different
// banks.
template <typename T, int row_bytes, typename At>
SRGAN_FAST_DEVICE void load_rows(std::uint32_t (&to)[4], const std::byte* map, int channels, int lane, At at) {
    if constexpr (std::is_same_v<T, float>) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const int channel = channels * 16 + i % 2 * 8 + lane / 4;
            const int place = tile_offset<row_bytes>(at(lane % 4 * 2 + i / 2), channel / 4) + channel % 4 * 4;
            to[i] = *reinterpret_cast<const std::uint32_t*>(map + place);
        }
    } else {
        const int place = tile_offset<row_bytes>(at((lane >> 4) * 8 + (lane & 7)), channels * 2 + ((lane >> 3) & 1));
        load_matrices_transposed(to, map + place);
    }
}
template <typename T, int row_bytes, typename At>
SRGAN_FAST_DEVICE void load_columns(std::uint32_t (&to)[4], const std::byte* map, int channels, int lane, At at) {
    if constexpr (std::is_same_v<T, float>) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const int channel = channels * 16 + i / 2 * 8 + lane / 4;
            const int place = tile_offset<row_bytes>(at(lane % 4 * 2 + i % 2), channel / 4) + channel % 4 * 4;
            to[i] = *reinterpret_cast<const std::uint32_t*>(map + place);
        }
    } else {
        load_matrices_transposed(to, map + tile_offset<row_bytes>(at(lane & 15), channels * 2 + (lane >> 4)));
    }
}

template <typename T, typename Shape>
SRGAN_FAST_GLOBAL(Shape::kThreads, Shape::kThreads > 128 ? 1 : 2)
void conv_wgrad_kernel(SRGAN_FAST_CONSTANT WgradParams p) {
    float* const bias = reinterpret_cast<float*>(shared_memory());  // [threads][channels of a unit]
    std::byte* const shared = shared_memory() + Shape::kBiasBytes;
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
    GradientReader<T> gradient(p.gradient, row0 + static_cast<int>(threadIdx.x) % Shape::kUnits * kUnit<T>);
    SourceReader<T> source(p.source, column0 + static_cast<int>(threadIdx.x) % (Shape::kColumnBytes / 16) * kUnit<T>);
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
    // Contents of a stage: z's window, its second map, dy's window, and its second map.
    const int gradient_at = source_bytes * (source.has_second() ? 2 : 1);
    const int first = static_cast<int>(static_cast<std::int64_t>(tiles) * split / p.splits);
    const int end = static_cast<int>(static_cast<std::int64_t>(tiles) * (split + 1) / p.splits);
    int next = first, next_stage = 0;  // to be requested
    const auto request = [&] {
        if (next < end) {
            std::byte* const stage = shared + next_stage * stage_bytes;
            go_to(next);
            request_window<Shape::kColumnBytes, Shape::kThreads>(stage, stage + source_bytes, source, source_window);
            request_window<Shape::kRowBytes, Shape::kThreads>(
                stage + gradient_at, stage + gradient_at + Shape::kGradientBytes, gradient, gradient_window);
        }
        copy_async_commit();
        ++next;
        if (++next_stage == p.stages) next_stage = 0;
    };
    if (with_bias)
        for (int i = 0; i < kUnit<T>; ++i) bias[threadIdx.x * kUnit<T> + i] = 0.0f;
    const auto add_to_bias = [&](const Vec16& unit, int, int) {
        if (!with_bias) return;
        float values[kUnit<T>];
        widen_unit<T>(unit, values);
#pragma unroll
        for (int i = 0; i < kUnit<T>; ++i) bias[threadIdx.x * kUnit<T> + i] += values[i];
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
        finish_window<Shape::kColumnBytes, Shape::kThreads>(stage, stage + source_bytes, source, source_window, false,
                                                            [](const Vec16&, int, int) {});
        finish_window<Shape::kRowBytes, Shape::kThreads>(stage + gradient_at,
                                                         stage + gradient_at + Shape::kGradientBytes, gradient,
                                                         gradient_window, with_bias, add_to_bias);
        sync_threads();  // this tile is there for all, and the one before is read to the end
        request();
#pragma unroll 1  // or registers do not suffice; there are many independent products inside
        for (int k = 0; k < Shape::kSide * Shape::kSide / Shape::kStep; ++k) {
            std::uint32_t a[Shape::kM][4];
#pragma unroll
            for (int m = 0; m < Shape::kM; ++m)
                load_rows<T, Shape::kRowBytes>(a[m], gradient_tile, warp_m * Shape::kM + m, lane,
                                               [&](int i) { return k * Shape::kStep + i; });
            const auto place = [&](int i) {
                const int pixel = k * Shape::kStep + i;
                return pixel / Shape::kSide * p.stride * window_columns + pixel % Shape::kSide * p.stride;
            };
#pragma unroll
            for (int tap = 0; tap < Shape::kTapRows * Shape::kTaps; ++tap) {
                const int offset = tap / Shape::kTaps * window_columns + tap % Shape::kTaps;
                std::uint32_t b[Shape::kN / 2][4];
#pragma unroll
                for (int n = 0; n < Shape::kN / 2; ++n)
                    load_columns<T, Shape::kColumnBytes>(b[n], source_tile, warp_n * Shape::kN / 2 + n, lane,
                                                         [&](int i) { return place(i) + offset; });
                multiply_fragments<T>(sums[tap], a, b);
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
    sync_threads();  // all threads' sums are there
    for (int row = threadIdx.x; row < Shape::kRows; row += Shape::kThreads) {
        float sum = 0.0f;
        for (int r = 0; r < Shape::kThreads / Shape::kUnits; ++r) sum += bias[r * Shape::kRows + row];
        p.bias[static_cast<std::int64_t>(split) * p.rows + row0 + row] = sum;
    }
}

}  // namespace srgan_fast::cuda
