// A residual block of inference in one kernel: two 3x3 convolutions of 64 channels with PReLU between them, plus the
// block's input. A thread block keeps both convolutions' weights in shared memory and iterates over tiles; the
// intermediate map replaces the input's window.
#pragma once

#include "kernels/cuda/plan.h"
#include "kernels/cuda/tiles.cuh"

namespace srgan_fast::cuda {

// Work of the eight warps: one tile together, with half of its channels for each four, or one tile per four warps
// (`apart`), so that one group's loads and epilogues overlap with the other's multiplications.
template <int way>
struct BlockShape {
    static constexpr BlockSize kSize = kBlockSizes[way];
    static constexpr int kRows = kSize.rows, kColumns = kBlockColumns, kChannels = kBlockChannels;
    static constexpr int kThreads = kBlockThreads, kGroups = kSize.apart ? 2 : 1;
    static constexpr int kGroup = kThreads / kGroups;  // threads per tile
    static constexpr int kWarpsM = 4, kWarpsN = kGroup / 32 / kWarpsM;
    static constexpr int kN = kChannels / kWarpsN / 8;  // per warp
    // The intermediate map extends one pixel beyond the tile, the input's window two.
    static constexpr int kInnerColumns = kColumns + 2, kInner = (kRows + 2) * kInnerColumns;
    static constexpr int kWindowColumns = kColumns + 4, kWindow = (kRows + 4) * kWindowColumns;
    static constexpr int kInnerM = blocks_of(kInner, 16 * kWarpsM), kOuterM = kRows / kWarpsM;
    static constexpr int kPixelBytes = kChannels * 2, kTapBytes = kChannels * kPixelBytes;
    static constexpr int kStageBytes = 16 * kN * 16;  // per warp, for its results
    static constexpr bool kStaged = block_staged(kSize);
    static_assert(kColumns == 16 && kRows % kWarpsM == 0);
    static_assert(kWindow * kPixelBytes == block_window_bytes(kSize) && kTapBytes * kBlockTaps == kBlockWeightBytes);
    static_assert(kThreads / 32 * kStageBytes == block_stage_bytes(kSize));
    static_assert(kGroup / 32 * kStageBytes <= kWindow * kPixelBytes);
};

template <typename Visit>
auto with_block_shape(int way, const Visit& visit) {
    static_assert(kBlockWays == 4);
    switch (way) {
        case 0: return visit(BlockShape<0>{});
        case 1: return visit(BlockShape<1>{});
        case 2: return visit(BlockShape<2>{});
        default: return visit(BlockShape<3>{});
    }
}

// Byte offset of a 16-byte unit of a map's pixel. Both maps are permuted by a pixel's position in rows of 18, so that
// eight consecutive pixels of the intermediate map, also across the ends of its rows, are in different banks.
SRGAN_FAST_DEVICE int key_of(int row, int column) { return (2 * row + column) & 7; }
SRGAN_FAST_DEVICE int map_offset(int pixel, int key, int unit) { return pixel * 128 + ((unit ^ key) << 4); }

// Multiplies a map with nine taps, both in shared memory. `row` and `column`: for each 16 rows of the warp, the first
// tap's pixel that this lane addresses. `weights`: those of the warp's first channel.
template <typename T, int columns, bool warpgroups, int m_count, int n_count>
SRGAN_FAST_DEVICE void multiply_map(float (&sums)[m_count][n_count][4], const std::byte* map, const std::byte* weights,
                                    const int (&row)[m_count], const int (&column)[m_count]) {
    constexpr int kSteps = kBlockChannels / 16, kTapBytes = kBlockChannels * kBlockChannels * 2;
    static_assert(kSteps % 2 == 0);
    const int lane = threadIdx.x % 32;
    int at[m_count];
    const auto point = [&](int tap_row, int tap_column) {
#pragma unroll
        for (int m = 0; m < m_count; ++m) {
            const int y = row[m] + tap_row, x = column[m] + tap_column;
            at[m] = map_offset(y * columns + x, key_of(y, x), lane >> 4);
        }
    };
    std::uint32_t a[2][m_count][4];  // this step's fragments and the next step's
    const auto load_map = [&](int k) {
#pragma unroll
        for (int m = 0; m < m_count; ++m) load_matrices(a[k % 2][m], map + (at[m] ^ (k << 5)));
    };
    if constexpr (warpgroups) {
        point(0, 0);
        load_map(0);
        for (int tap = 0; tap < kBlockTaps; ++tap) {
            const std::byte* const tap_weights = weights + tap * kTapBytes;
            const bool more = tap + 1 < kBlockTaps;
            const int next_row = (tap + 1) / 3, next_column = tap + 1 - next_row * 3;
#pragma unroll
            for (int k = 0; k < kSteps; ++k) {
                order_products();
#pragma unroll
                for (int m = 0; m < m_count; ++m) multiply_group<T>(sums[m], a[k % 2][m], tap_weights, k);
                commit_products();
                wait_for_products<1>();  // for the step before, whose fragments are overwritten
                if (k + 1 < kSteps) {
                    load_map(k + 1);
                } else if (more) {
                    point(next_row, next_column);
                    load_map(0);
                }
            }
        }
        wait_for_products<0>();
    } else {
        std::uint32_t b[2][n_count / 2][4];
        const int from = map_offset((lane >> 4) * 8 + (lane & 7), lane & 7, (lane >> 3) & 1);
        const auto load_weights = [&](const std::byte* tap_weights, int k) {
#pragma unroll
            for (int n = 0; n < n_count / 2; ++n)
                load_matrices(b[k % 2][n], tap_weights + n * 16 * kBlockChannels * 2 + (from ^ (k << 5)));
        };
        point(0, 0);
        load_map(0);
        load_weights(weights, 0);
        for (int tap = 0; tap < kBlockTaps; ++tap) {
            const std::byte* const tap_weights = weights + tap * kTapBytes;
            const bool more = tap + 1 < kBlockTaps;
            const int next_row = (tap + 1) / 3, next_column = tap + 1 - next_row * 3;
#pragma unroll
            for (int k = 0; k < kSteps; ++k) {
                if (k + 1 < kSteps) {
                    load_map(k + 1);
                    load_weights(tap_weights, k + 1);
                } else if (more) {
                    point(next_row, next_column);
                    load_map(0);
                    load_weights(tap_weights + kTapBytes, 0);
                }
                multiply_fragments<T>(sums, a[k % 2], b[k % 2]);
            }
        }
    }
}

// Copies a convolution's weights to shared memory.
template <typename T, typename Shape>
SRGAN_FAST_DEVICE void request_weights(std::byte* to, const void* weights) {
    constexpr int kUnits = Shape::kChannels / 8, kStep = Shape::kThreads / kUnits, kSteps = Shape::kChannels / kStep;
    static_assert(Shape::kChannels % kStep == 0 && kStep % 8 == 0);
    const int row = threadIdx.x / kUnits, unit = threadIdx.x % kUnits;
    const T* const from = static_cast<const T*>(weights) + row * Shape::kChannels + unit * 8;
    to += map_offset(row, row & 7, unit);
#pragma unroll
    for (int i = 0; i < kBlockTaps * kSteps; ++i)
        copy_async_16(to + i * kStep * Shape::kPixelBytes,
                      from + (i / kSteps * kInferRows + i % kSteps * kStep) * Shape::kChannels, true);
}

// Loads a tile's window of the input with the warps of its group, one row each.
template <typename T, typename Shape>
SRGAN_FAST_DEVICE void request_map(std::byte* map, const BlockParams& p, int image, int top, int left) {
    constexpr int kUnits = Shape::kChannels / 8, kStep = 32 / kUnits;  // pixels per step
    static_assert(Shape::kWindowColumns % kStep == 0);
    const int lane = threadIdx.x % 32, unit = lane % kUnits, first = lane / kUnits, x = left - 2 + first;
    const T* const from = static_cast<const T*>(p.x) +
                          static_cast<std::int64_t>(image) * p.height * p.width * Shape::kChannels + unit * 8;
    for (int row = threadIdx.x % Shape::kGroup / 32; row < Shape::kRows + 4; row += Shape::kGroup / 32) {
        const int y = top - 2 + row, at = (y * p.width + x) * Shape::kChannels;
        const bool row_inside = y >= 0 && y < p.height;
#pragma unroll
        for (int column = 0; column < Shape::kWindowColumns; column += kStep) {
            const bool inside = row_inside && x + column >= 0 && x + column < p.width;
            copy_async_16(
                map + map_offset(row * Shape::kWindowColumns + first + column, key_of(row, first + column), unit),
                inside ? from + at + column * Shape::kChannels : nullptr, inside);
        }
    }
}

// Initialises the sums; `bias`: that of this lane's first channel.
template <int m_count, int n_count>
SRGAN_FAST_DEVICE void begin_with(float (&sums)[m_count][n_count][4], const float* bias) {
#pragma unroll
    for (int n = 0; n < n_count; ++n)
#pragma unroll
        for (int i = 0; i < 4; ++i)
#pragma unroll
            for (int m = 0; m < m_count; ++m) sums[m][n][i] = bias[n * 8 + i % 2];
}

// If each four warps have their own tile, warpgroup instructions are used where the device has them: they wait for each
// other, which the second tile hides. `warpgroups`: forces them, for tests.
template <typename T, typename Shape, bool warpgroups = false>
SRGAN_FAST_GLOBAL(Shape::kThreads, 1)
void infer_block_kernel(SRGAN_FAST_CONSTANT BlockParams p) {
    constexpr int kN = Shape::kN, kChannels = Shape::kChannels;
    constexpr bool kGroups = Shape::kGroups == 2 && (warpgroups || kWarpgroups);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, group = threadIdx.x / Shape::kGroup;
    const int warp_m = warp % Shape::kWarpsM, warp_n = warp / Shape::kWarpsM % Shape::kWarpsN;
    std::byte* const weights = shared_memory();
    float* const vectors = reinterpret_cast<float*>(weights + 2 * kBlockWeightBytes);
    std::byte* const maps = reinterpret_cast<std::byte*>(vectors) + kBlockVectorBytes;
    std::byte* const map = maps + group * block_window_bytes(Shape::kSize);
    std::byte* const stage = Shape::kStaged
                                 ? maps + Shape::kGroups * block_window_bytes(Shape::kSize) + warp * Shape::kStageBytes
                                 : map + warp % (Shape::kGroup / 32) * Shape::kStageBytes;
    const float *const bias = vectors, *const slope = vectors + kChannels, *const outer_bias = vectors + 2 * kChannels;
    const int first_channel = warp_n * kN * 8, lane_channel = first_channel + lane % 4 * 2;
    const auto sync = [&] {
        if constexpr (Shape::kGroups == 1)
            sync_threads();
        else
            sync_group(group, Shape::kGroup);
    };
    // From where a group with a tile is, and one without.
    const auto sync_all = [] { sync_group(Shape::kGroups, Shape::kThreads); };
    const int tiles_x = (p.width + Shape::kColumns - 1) / Shape::kColumns;
    const int tiles_y = (p.height + Shape::kRows - 1) / Shape::kRows, tiles = p.batch * tiles_y * tiles_x;
    const auto request = [&](int tile) {
        if (tile < tiles) {
            const int row = tile / tiles_x, image = row / tiles_y;
            request_map<T, Shape>(map, p, image, (row - image * tiles_y) * Shape::kRows,
                                  (tile - row * tiles_x) * Shape::kColumns);
        }
        copy_async_commit();
    };
    int inner_row[Shape::kInnerM], inner_column[Shape::kInnerM], outer_row[Shape::kOuterM],
        outer_column[Shape::kOuterM];
#pragma unroll
    for (int m = 0; m < Shape::kInnerM; ++m) {
        const int pixel = (warp_m * Shape::kInnerM + m) * 16 + (lane & 15);
        const int there = pixel < Shape::kInner ? pixel : Shape::kInner - 1;  // the last rows are nobody's
        inner_row[m] = there / Shape::kInnerColumns, inner_column[m] = there % Shape::kInnerColumns;
    }
#pragma unroll
    for (int m = 0; m < Shape::kOuterM; ++m) outer_row[m] = warp_m * Shape::kOuterM + m, outer_column[m] = lane & 15;

    if (!p.weights_are_constant) wait_for_previous_kernel();
    request_weights<T, Shape>(weights, p.weights[0]);
    if (threadIdx.x < kChannels) {
        const int channel = threadIdx.x;
        vectors[channel] = value_of(p.bias[0], channel, 0.0f);
        vectors[kChannels + channel] = value_of(p.slope, channel, 1.0f);
        vectors[2 * kChannels + channel] = value_of(p.bias[1], channel, 0.0f);
    }
    wait_for_previous_kernel();  // whose result is read
    let_next_kernel_begin();
    const int step = Shape::kGroups * static_cast<int>(gridDim.x);
    int tile = group * static_cast<int>(gridDim.x) + static_cast<int>(blockIdx.x);
    request(tile);
    request_weights<T, Shape>(weights + kBlockWeightBytes, p.weights[1]);  // arrive while the first ones multiply
    copy_async_commit();
    copy_async_wait<1>();
    show_to_products();
    sync_threads();      // the first weights are there
    bool whole = false;  // whether the second ones are, too
    for (; tile < tiles; tile += step) {
        if (whole) {
            copy_async_wait<0>();
            sync();  // the window is there
        }
        const int tile_row = tile / tiles_x, image = tile_row / tiles_y;
        const int top = (tile_row - image * tiles_y) * Shape::kRows,
                  left = (tile - tile_row * tiles_x) * Shape::kColumns;
        const int own = kGroups ? lane : afresh(lane);  // or places of results would take the products' registers
        std::uint32_t skip[Shape::kOuterM][kN][2];      // the tile itself, as the results' fragments have it
        {
            float sums[Shape::kInnerM][kN][4];
            begin_with(sums, bias + lane_channel);
            multiply_map<T, Shape::kWindowColumns, kGroups>(sums, map, weights + first_channel * Shape::kPixelBytes,
                                                            inner_row, inner_column);
#pragma unroll
            for (int m = 0; m < Shape::kOuterM; ++m)
#pragma unroll
                for (int half = 0; half < 2; ++half) {
                    const int y = warp_m * Shape::kOuterM + m + 2, x = half * 8 + own / 4 + 2;
#pragma unroll
                    for (int n = 0; n < kN; ++n)
                        skip[m][n][half] = *reinterpret_cast<const std::uint32_t*>(
                            map + map_offset(y * Shape::kWindowColumns + x, key_of(y, x), warp_n * kN + n) +
                            own % 4 * 4);
                }
            sync();  // the window is read to the end
            float slopes[kN][2];
#pragma unroll
            for (int n = 0; n < kN; ++n) {
                slopes[n][0] = slope[lane_channel + n * 8];
                slopes[n][1] = slope[lane_channel + n * 8 + 1];
            }
#pragma unroll
            for (int m = 0; m < Shape::kInnerM; ++m)
#pragma unroll
                for (int half = 0; half < 2; ++half) {
                    const int pixel = (warp_m * Shape::kInnerM + m) * 16 + half * 8 + own / 4;
                    const int row = pixel / Shape::kInnerColumns, column = pixel % Shape::kInnerColumns;
                    const int y = top - 1 + row, x = left - 1 + column;
                    const bool inside = y >= 0 && y < p.height && x >= 0 && x < p.width;  // else it is padding
                    if (pixel >= Shape::kInner) continue;
#pragma unroll
                    for (int n = 0; n < kN; ++n) {
                        float low = sums[m][n][2 * half], high = sums[m][n][2 * half + 1];
                        low = low > 0.0f ? low : slopes[n][0] * low;
                        high = high > 0.0f ? high : slopes[n][1] * high;
                        *reinterpret_cast<std::uint32_t*>(
                            map + map_offset(pixel, key_of(row, column), warp_n * kN + n) + own % 4 * 4) =
                            inside ? narrow_pair<T>(low, high) : 0u;
                    }
                }
        }
        if (!whole) {
            copy_async_wait<0>();
            show_to_products();
            sync_all();  // the second weights are there, and the inner map
            whole = true;
        } else {
            sync();  // the inner map is there
        }
        float sums[Shape::kOuterM][kN][4];
        begin_with(sums, outer_bias + lane_channel);
        multiply_map<T, Shape::kInnerColumns, kGroups>(
            sums, map, weights + kBlockWeightBytes + first_channel * Shape::kPixelBytes, outer_row, outer_column);
        sync();  // the inner map is read to the end
        if constexpr (Shape::kStaged) request(tile + step);
        T* const to = static_cast<T*>(p.y) + static_cast<std::int64_t>(image) * p.height * p.width * kChannels;
#pragma unroll
        for (int m = 0; m < Shape::kOuterM; ++m) {
#pragma unroll
            for (int n = 0; n < kN; ++n)
#pragma unroll
                for (int half = 0; half < 2; ++half) {
                    // Rounded before the addition and after it, as by two kernels.
                    const Pair sum = widen_pair<T>(narrow_pair<T>(sums[m][n][2 * half], sums[m][n][2 * half + 1]));
                    const Pair more = widen_pair<T>(skip[m][n][half]);
                    *reinterpret_cast<std::uint32_t*>(stage + tile_offset<kN * 16>(half * 8 + own / 4, n) +
                                                      own % 4 * 4) =
                        narrow_pair<T>(sum.low + more.low, sum.high + more.high);
                }
            sync_warp();  // these pixels are there
            const int y = top + warp_m * Shape::kOuterM + m;
#pragma unroll
            for (int i = own; i < 16 * kN; i += 32) {
                const int pixel = i / kN, unit = i % kN, x = left + pixel;
                const Vec16 result = *reinterpret_cast<const Vec16*>(stage + tile_offset<kN * 16>(pixel, unit));
                if (y < p.height && x < p.width)
                    *reinterpret_cast<Vec16*>(to + (y * p.width + x) * kChannels + first_channel + unit * 8) = result;
            }
            sync_warp();  // they are read to the end
        }
        if constexpr (!Shape::kStaged) {
            sync();  // by all
            request(tile + step);
        }
    }
    if (!whole) {  // no tile was left for this group
        copy_async_wait<0>();
        show_to_products();
        sync_all();
    }
}

}  // namespace srgan_fast::cuda
