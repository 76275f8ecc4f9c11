// Auxiliary kernels of the convolutions: weight packing, and the sums over blocks, each in an order that depends on the
// sizes only.
#pragma once

#include "kernels/cuda/tiles.cuh"

namespace srgan_fast::cuda {

inline constexpr int kReduceThreads = 256;
inline constexpr int kReduceColumns = 8;  // sums per block; its other threads split the rows

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
        if constexpr (kRounds<T>)
            static_cast<T*>(p.packed)[i] = round_to_tf32(value);
        else
            static_cast<T*>(p.packed)[i] = narrow<T>(value);
    }
}

template <typename Element, int threads>
SRGAN_FAST_GLOBAL(threads, 1)
void pad_kernel(SRGAN_FAST_CONSTANT PadParams p) {
    const std::int64_t total = p.pixels * p.pitch;
    for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x; i < total;
         i += static_cast<std::int64_t>(gridDim.x) * threads) {
        const std::int64_t pixel = i / p.pitch;
        const int channel = static_cast<int>(i - pixel * p.pitch);
        static_cast<Element*>(p.to)[i] =
            channel < p.channels ? static_cast<const Element*>(p.from)[pixel * p.channels + channel] : Element{0};
    }
}

// Sum over the threads of a column, pairwise.
template <int threads>
SRGAN_FAST_DEVICE double sum_of_rows(double* scratch, double value) {
    sync_threads();  // what was there is read to the end
    scratch[threadIdx.x] = value;
    sync_threads();
    for (int half = threads / 2; half >= kReduceColumns; half /= 2) {
        if (static_cast<int>(threadIdx.x) < half) scratch[threadIdx.x] += scratch[threadIdx.x + half];
        sync_threads();
    }
    return scratch[threadIdx.x % kReduceColumns];
}

// Merges a channel's moments from those of the tiles: mean of the means, then squares within and between tiles (Chan,
// Golub and LeVeque 1979), in double.
template <int threads>
SRGAN_FAST_GLOBAL(threads, 1)
void merge_moments_kernel(SRGAN_FAST_CONSTANT MomentsParams p) {
    constexpr int kRows = threads / kReduceColumns;
    double* const scratch = reinterpret_cast<double*>(shared_memory());
    const int column = threadIdx.x % kReduceColumns, row = threadIdx.x / kReduceColumns;
    const int channel = static_cast<int>(blockIdx.x) * kReduceColumns + column;
    const int tiles_x = (p.width + p.tile_columns - 1) / p.tile_columns;
    const int tiles_y = (p.height + p.tile_rows - 1) / p.tile_rows;
    const int tiles = channel < p.channels ? p.batch * tiles_y * tiles_x : 0;
    const double count = static_cast<double>(p.batch) * p.height * p.width;
    const auto each = [&](auto visit) {
#pragma unroll 4
        for (int tile = row; tile < tiles; tile += kRows) {
            const int top = tile / tiles_x % tiles_y * p.tile_rows, left = tile % tiles_x * p.tile_columns;
            const int rows = p.height - top, columns = p.width - left;
            const float* const part = p.parts + static_cast<std::int64_t>(tile) * 2 * p.channels + channel;
            visit((rows < p.tile_rows ? rows : p.tile_rows) * (columns < p.tile_columns ? columns : p.tile_columns),
                  part[0], part[p.channels]);
        }
    };
    double sum = 0.0;
    each([&](int pixels, float mean, float) { sum += static_cast<double>(pixels) * mean; });
    const double mean = sum_of_rows<threads>(scratch, sum) / count;
    double squares = 0.0;
    each([&](int pixels, float tile_mean, float inside) {
        const double difference = tile_mean - mean;
        squares += inside + difference * difference * pixels;
    });
    squares = sum_of_rows<threads>(scratch, squares);
    if (row != 0 || channel >= p.channels) return;
    const float own_mean = static_cast<float>(mean), own_var = static_cast<float>(squares / count);
    p.mean[channel] = own_mean, p.var[channel] = own_var;
    const NormParams& norm = p.norm;
    if (norm.scale == nullptr) return;
    norm.scale[channel] = (norm.weight != nullptr ? norm.weight[channel] : 1.0f) / square_root(own_var + norm.eps);
    if (norm.running_mean == nullptr) return;
    norm.running_mean[channel] += norm.momentum * (own_mean - norm.running_mean[channel]);
    norm.running_var[channel] += norm.momentum * (own_var * norm.unbias - norm.running_var[channel]);
    if (channel == 0) ++*norm.batches;
}

// Gradients of variance and weight from that of the scale.
SRGAN_FAST_DEVICE void norm_gradient(const NormGradientParams& p, int channel, float gradient) {
    const float inverse = 1.0f / square_root(p.var[channel] + p.eps);
    const float weight = p.weight != nullptr ? p.weight[channel] : 1.0f;
    p.var_gradient[channel] = -0.5f * gradient * weight * inverse * inverse * inverse;
    if (p.weight_gradient != nullptr) p.weight_gradient[channel] = gradient * inverse;
}

// In the last block to finish, which depends on nothing that the result does: the order of additions is fixed.
template <int threads>
SRGAN_FAST_DEVICE void sum_third_vector(const SumParams& p, double* scratch) {
    int* const last = reinterpret_cast<int*>(scratch);
    sync_threads();  // the block's sums are written
    if (threadIdx.x == 0) *last = count_up(p.finished) == static_cast<int>(gridDim.x) - 1;
    sync_threads();
    const bool own = *last != 0;
    if (!own) return;
    double total = 0.0;
    for (int i = threadIdx.x; i < p.length; i += threads) total += written_value(p.sums[2] + i);
    sync_threads();  // the flag is read by all
    scratch[threadIdx.x] = total;
    sync_threads();
    for (int half = threads / 2; half > 0; half /= 2) {
        if (static_cast<int>(threadIdx.x) < half) scratch[threadIdx.x] += scratch[threadIdx.x + half];
        sync_threads();
    }
    if (threadIdx.x == 0) *p.total = static_cast<float>(scratch[0]);
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
#pragma unroll 8
        for (int part = row; part < p.count; part += kRows)
            sum += p.parts[static_cast<std::int64_t>(part) * p.stride + i];
    sum = sum_of_rows<threads>(scratch, sum);
    if (row == 0 && there) {
        const int vector = i / p.length, place = i % p.length;
        const float value = static_cast<float>(sum);
        p.sums[vector][place] = value;
        if (vector == 0 && p.norm.var != nullptr) norm_gradient(p.norm, place, value);
        if (vector == 1 && p.scaled != nullptr) p.scaled[place] = -value * value_of(p.scale, place, 1.0f);
    }
    if (p.total != nullptr) sum_third_vector<threads>(p, scratch);
}

template <int threads>
SRGAN_FAST_GLOBAL(threads, 1)
void bn_scale_kernel(SRGAN_FAST_CONSTANT BnScaleParams p) {
    for (int i = threadIdx.x; i < p.channels; i += threads)
        p.scale[i] = (p.weight != nullptr ? p.weight[i] : 1.0f) / square_root(p.var[i] + p.eps);
}

template <int threads>
SRGAN_FAST_GLOBAL(threads, 1)
void bn_scale_backward_kernel(SRGAN_FAST_CONSTANT BnScaleBackwardParams p) {
    for (int i = threadIdx.x; i < p.channels; i += threads) norm_gradient(p.norm, i, p.gradient[i]);
}

// In one block, since all channels need the number of batches, which one thread changes.
template <int threads>
SRGAN_FAST_GLOBAL(threads, 1)
void bn_follow_kernel(SRGAN_FAST_CONSTANT BnFollowParams p) {
    const std::int64_t batches = *p.batches + 1;
    const float share = p.momentum >= 0.0f ? p.momentum : 1.0f / static_cast<float>(batches);
    sync_threads();  // the number is read by all
    if (threadIdx.x == 0) *p.batches = batches;
    for (int i = threadIdx.x; i < p.channels; i += threads) {
        p.running_mean[i] += share * (p.mean[i] - p.running_mean[i]);
        p.running_var[i] += share * (p.var[i] * p.unbias - p.running_var[i]);
    }
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
