// What stands around the convolutions: weights into the order in which they are fetched, and the sums over blocks, each
// in an order that depends on the sizes alone.
#pragma once

#include "kernels/cuda/intrinsics.cuh"
#include "kernels/cuda/params.h"

namespace srgan_fast::cuda {

inline constexpr int kReduceThreads = 256;
inline constexpr int kReduceColumns = 32;  // values of a block of sums; its other threads share the rows

template <typename T, int threads>
SRGAN_FAST_GLOBAL(threads, 1)
void pack_kernel(SRGAN_FAST_CONSTANT PackParams p) {
    const std::int64_t total = static_cast<std::int64_t>(p.taps) * p.taps * p.rows * p.columns;
    for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x; i < total;
         i += static_cast<std::int64_t>(gridDim.x) * threads) {
        const int column = static_cast<int>(i % p.columns), row = static_cast<int>(i / p.columns % p.rows);
        const int tap = static_cast<int>(i / p.columns / p.rows);
        const int out = p.backward ? column : row, in = p.backward ? row : column;
        const bool there = out < p.out && in < p.in;
        const float value = there ? p.weight[out * p.out_stride + in * p.in_stride + tap / p.taps * p.row_stride +
                                             tap % p.taps * p.column_stride]
                                  : 0.0f;
        static_cast<T*>(p.packed)[i] = narrow<T>(value);
    }
}

// A channel's moments from those of the tiles (Chan, Golub and LeVeque 1979), in double.
struct Merged {
    double count, mean, squares;

    SRGAN_FAST_DEVICE void add(double more, double their_mean, double their_squares) {
        if (more == 0.0) return;
        const double share = more / (count + more), difference = their_mean - mean;
        mean += difference * share;
        squares += their_squares + difference * difference * count * share;
        count += more;
    }
};

template <int threads>
SRGAN_FAST_GLOBAL(threads, 1)
void merge_moments_kernel(SRGAN_FAST_CONSTANT MomentsParams p) {
    constexpr int kRows = threads / kReduceColumns;
    Merged* const scratch = reinterpret_cast<Merged*>(shared_memory());
    const int column = threadIdx.x % kReduceColumns, row = threadIdx.x / kReduceColumns;
    const int channel = static_cast<int>(blockIdx.x) * kReduceColumns + column;
    const int tiles_x = (p.width + p.tile_columns - 1) / p.tile_columns;
    const int tiles_y = (p.height + p.tile_rows - 1) / p.tile_rows;
    Merged merged{0.0, 0.0, 0.0};
    if (channel < p.channels)
        for (int tile = row; tile < p.batch * tiles_y * tiles_x; tile += kRows) {
            const int top = tile / tiles_x % tiles_y * p.tile_rows, left = tile % tiles_x * p.tile_columns;
            const int rows = p.height - top, columns = p.width - left;
            const float* const part = p.parts + static_cast<std::int64_t>(tile) * 2 * p.channels + channel;
            merged.add(static_cast<double>(rows < p.tile_rows ? rows : p.tile_rows) *
                           (columns < p.tile_columns ? columns : p.tile_columns),
                       part[0], part[p.channels]);
        }
    scratch[threadIdx.x] = merged;
    sync_threads();
    if (row != 0 || channel >= p.channels) return;
    for (int r = 1; r < kRows; ++r) {
        const Merged& other = scratch[r * kReduceColumns + column];
        merged.add(other.count, other.mean, other.squares);
    }
    p.mean[channel] = static_cast<float>(merged.mean);
    p.var[channel] = static_cast<float>(merged.squares / merged.count);
}

template <int threads>
SRGAN_FAST_GLOBAL(threads, 1)
void sum_kernel(SRGAN_FAST_CONSTANT SumParams p) {
    constexpr int kRows = threads / kReduceColumns;
    double* const scratch = reinterpret_cast<double*>(shared_memory());
    const int column = threadIdx.x % kReduceColumns, row = threadIdx.x / kReduceColumns;
    const int i = static_cast<int>(blockIdx.x) * kReduceColumns + column;
    const bool there = i < p.vectors * p.length;
    double sum = 0.0;
    if (there)
        for (int part = row; part < p.count; part += kRows)
            sum += p.parts[static_cast<std::int64_t>(part) * p.stride + i];
    scratch[threadIdx.x] = sum;
    sync_threads();
    if (row != 0 || !there) return;
    for (int r = 1; r < kRows; ++r) sum += scratch[r * kReduceColumns + column];
    p.sums[i / p.length][i % p.length] = static_cast<float>(sum);
}

template <int threads>
SRGAN_FAST_GLOBAL(threads, 1)
void sum_weights_kernel(SRGAN_FAST_CONSTANT WgradSumParams p) {
    const std::int64_t size = static_cast<std::int64_t>(p.taps) * p.taps * p.rows * p.columns;
    for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x; i < size;
         i += static_cast<std::int64_t>(gridDim.x) * threads) {
        const int column = static_cast<int>(i % p.columns), row = static_cast<int>(i / p.columns % p.rows);
        const int tap = static_cast<int>(i / p.columns / p.rows);
        if (row >= p.out || column >= p.in) continue;
        float sum = 0.0f;
        for (int split = 0; split < p.splits; ++split) sum += p.parts[split * size + i];
        p.weight[row * p.out_stride + column * p.in_stride + tap / p.taps * p.row_stride +
                 tap % p.taps * p.column_stride] = sum;
    }
}

}  // namespace srgan_fast::cuda
