// Convolution as implicit GEMM on tensor cores, forward and data gradient. A block computes a tile of pixels by a block
// of channels. For each chunk of input channels, the tile's window of the input is loaded into shared memory once, with
// the prologue applied, and read by every tap; the weights of the taps arrive in a ring of asynchronous copies.
#pragma once

#include <type_traits>

#include "kernels/cuda/plan.h"
#include "kernels/cuda/tiles.cuh"

namespace srgan_fast::cuda {

// Block and warp layout of a tile of Size::kSize.
template <typename Size, int blocks>
struct ConvShape {
    static constexpr TileSize kSize = Size::kSize;
    static constexpr int kRows = kSize.rows, kColumns = kSize.columns;
    static constexpr int kPixels = kRows * kColumns;
    static constexpr int kChannels = kSize.channels;
    static constexpr int kDepth = kSize.depth;           // input channels per chunk
    static constexpr int kRowBytes = kSize.row_bytes();  // per pixel of a chunk
    static constexpr int kWarpsM = kSize.warps_m, kWarpsN = kSize.warps_n;
    static constexpr int kThreads = 32 * kWarpsM * kWarpsN;
    static constexpr int kBlocks = blocks;        // per SM; limits the registers
    static constexpr int kStages = kSize.stages;  // of weights in shared memory; all but one in flight
    static constexpr int kStageBytes = kSize.stage_bytes();
    static constexpr int kPitch = kSize.pitch();                 // bytes per pixel of the result
    static constexpr int kUnits = kChannels * kSize.bytes / 16;  // 16-byte units per pixel of the result
    static constexpr int kReducers = kThreads / kUnits;
    static_assert(kReducers % kPhases == 0 && kRows % 2 == 0 && kColumns % 2 == 0);
    static_assert(kPixels % (16 * kWarpsM) == 0 && kChannels % (16 * kWarpsN) == 0);

    static constexpr TileSize size() { return kSize; }
};

// Shape of a tile for a map type.
template <typename T, Tile tile>
struct TileOf {
    static constexpr TileSize kSize = size_of(tile, sizeof(T));
};
template <typename T, Tile tile, int blocks>
using ShapeOf = ConvShape<TileOf<T, tile>, blocks>;

// Calls visit with an object of the tile's shape.
template <typename T, typename Visit>
auto with_shape(Tile tile, const Visit& visit) {
    switch (tile) {
        case Tile::kLarge: return visit(ShapeOf<T, Tile::kLarge, 2>{});
        case Tile::kLargeShallow: return visit(ShapeOf<T, Tile::kLargeShallow, 2>{});
        case Tile::kWide: return visit(ShapeOf<T, Tile::kWide, 1>{});
        case Tile::kMedium: return visit(ShapeOf<T, Tile::kMedium, 2>{});
        case Tile::kMediumWide: return visit(ShapeOf<T, Tile::kMediumWide, 1>{});
        case Tile::kSmall: return visit(ShapeOf<T, Tile::kSmall, 3>{});
        case Tile::kSmallShallow: return visit(ShapeOf<T, Tile::kSmallShallow, 3>{});
        default: return visit(ShapeOf<T, Tile::kNarrow, 3>{});
    }
}

// The tile and image that a block computes.
struct Place {
    int image, top, left, index;
};

template <typename Shape>
SRGAN_FAST_DEVICE Place place_of(int height, int width) {
    const int tiles_x = (width + Shape::kColumns - 1) / Shape::kColumns;
    const int tiles_y = (height + Shape::kRows - 1) / Shape::kRows;
    const int index = blockIdx.x, row = index / tiles_x;
    return {row / tiles_y, row % tiles_y * Shape::kRows, (index - row * tiles_x) * Shape::kColumns, index};
}

// Accumulators of a warp: fragments of 16 pixels x 8 channels.
template <typename Shape>
struct Accumulators {
    static constexpr int kM = Shape::kPixels / Shape::kWarpsM / 16, kN = Shape::kChannels / Shape::kWarpsN / 8;
    float value[kM][kN][4];
};

// Copies the weights of a tap and a chunk to a stage of the ring.
template <typename T, typename Shape>
SRGAN_FAST_DEVICE void fetch_weights(std::byte* stage, const ConvParams& p, int tap, int chunk) {
    constexpr int kUnits = Shape::kRowBytes / 16, kCopies = Shape::kChannels * kUnits;
    const T* const from =
        static_cast<const T*>(p.weights) +
        (static_cast<std::int64_t>(tap) * p.weight_rows + static_cast<int>(blockIdx.y) * Shape::kChannels) *
            p.weight_columns +
        chunk * Shape::kDepth;
#pragma unroll
    for (int i = threadIdx.x; i < kCopies; i += Shape::kThreads) {
        const int row = i / kUnits, unit = i % kUnits;
        copy_async_16(stage + tile_offset<Shape::kRowBytes>(row, unit), from + row * p.weight_columns + unit * kUnit<T>,
                      true);
    }
}

// For each 16 rows of a warp, the window pixel that this lane addresses.
template <typename Shape>
struct Pixels {
    static constexpr int kM = Accumulators<Shape>::kM;
    int at[kM];

    SRGAN_FAST_DEVICE Pixels(int warp_m, int lane, int window_columns, int step) {
#pragma unroll
        for (int m = 0; m < kM; ++m) {
            const int row = (warp_m * kM + m) * 16 + (lane & 15);
            at[m] = (row / Shape::kColumns * step) * window_columns + row % Shape::kColumns * step;
        }
    }
};

// A warp's fragments of the step that is multiplied and of the next one.
template <typename T, typename Shape>
struct Fragments {
    using A = Accumulators<Shape>;
    std::uint32_t a[2][A::kM][4], b[2][A::kN / 2][4];

    // Loads step k of a tap from shared memory.
    SRGAN_FAST_DEVICE void load(const std::byte* window, const Pixels<Shape>& pixels, int tap_offset,
                                const std::byte* weights, int k, int lane, int warp_n) {
#pragma unroll
        for (int m = 0; m < A::kM; ++m)
            load_matrices(a[k % 2][m],
                          window + tile_offset<Shape::kRowBytes>(pixels.at[m] + tap_offset, 2 * k + (lane >> 4)));
#pragma unroll
        for (int n = 0; n < A::kN / 2; ++n) {
            const int row = warp_n * A::kN * 8 + n * 16 + (lane >> 4) * 8 + (lane & 7);
            load_matrices(b[k % 2][n], weights + tile_offset<Shape::kRowBytes>(row, 2 * k + ((lane >> 3) & 1)));
        }
    }

    SRGAN_FAST_DEVICE void multiply(Accumulators<Shape>& sums, int k) const {
        multiply_fragments<T>(sums.value, a[k % 2], b[k % 2]);
    }
};

// Multiplies one tap of one chunk.
template <typename T, typename Shape>
SRGAN_FAST_DEVICE void multiply_tap(Accumulators<Shape>& sums, const std::byte* window, const std::byte* weights,
                                    const Pixels<Shape>& pixels, int tap_offset, int lane, int warp_n) {
    constexpr int kSteps = Shape::kRowBytes / 32;
    Fragments<T, Shape> fragments;
    fragments.load(window, pixels, tap_offset, weights, 0, lane, warp_n);
#pragma unroll
    for (int k = 0; k < kSteps; ++k) {
        if (k + 1 < kSteps) fragments.load(window, pixels, tap_offset, weights, k + 1, lane, warp_n);
        fragments.multiply(sums, k);
    }
}

// Whether the input is computed from two maps.
template <bool backward>
constexpr bool two_maps(const ConvParams& p) {
    return backward ? p.gradient.moments || p.gradient.activation : p.source.residual != nullptr;
}

// Mainloop of a block: over chunks of input channels and the taps of its phase.
template <typename T, typename Shape, bool backward>
SRGAN_FAST_DEVICE void multiply_all(Accumulators<Shape>& sums, std::byte* shared, const ConvParams& p,
                                    const TapSet& taps, const Place& place) {
    using Reader = std::conditional_t<backward, GradientReader<T>, SourceReader<T>>;
    constexpr int kUnits = Shape::kRowBytes / 16;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warp_m = warp % Shape::kWarpsM;
    const int warp_n = warp / Shape::kWarpsM;
    const Window window{place.top * p.step + p.reach.top, place.left * p.step + p.reach.left,
                        (Shape::kRows - 1) * p.step + p.reach.rows, (Shape::kColumns - 1) * p.step + p.reach.columns,
                        1};
    const int map_bytes = window_bytes(Shape::size(), p.step, p.reach);
    std::byte* const second = shared + map_bytes;
    std::byte* const ring = shared + (two_maps<backward>(p) ? 2 : 1) * map_bytes;
    const Pixels<Shape> pixels(warp_m, lane, window.columns, p.step);
    const int chunks = (p.input_channels + Shape::kDepth - 1) / Shape::kDepth, steps = chunks * taps.count;
    int next_chunk = 0, next_tap = 0, next_stage = 0;  // of the weights to request next
    const auto fetch = [&](int step) {
        if (step < steps)
            fetch_weights<T, Shape>(ring + next_stage * Shape::kStageBytes, p, taps.weight[next_tap], next_chunk);
        copy_async_commit();
        if (++next_tap == taps.count) next_tap = 0, ++next_chunk;
        if (++next_stage == Shape::kStages) next_stage = 0;
    };
    const auto input = [&]() -> const auto& {
        if constexpr (backward)
            return p.gradient;
        else
            return p.source;
    };
    const auto channel_of = [](int chunk) {
        return chunk * Shape::kDepth + static_cast<int>(threadIdx.x) % kUnits * kUnit<T>;
    };
    const auto request = [&](int chunk) {
        Reader reader(input(), channel_of(chunk));
        reader.choose_image(place.image);
        request_window<Shape::kRowBytes, Shape::kThreads>(shared, second, reader, window);
    };
    T* const sum = !backward && blockIdx.y == 0 ? static_cast<T*>(p.source.sum) : nullptr;
    const auto finish = [&](int chunk) {
        Reader reader(input(), channel_of(chunk));
        reader.choose_image(place.image);
        reader.prepare();
        finish_window<Shape::kRowBytes, Shape::kThreads>(
            shared, second, reader, window, false, [&](const Vec16& unit, int y, int x) {
                if constexpr (!backward) {
                    const bool own = y >= place.top && y < place.top + Shape::kRows && x >= place.left &&
                                     x < place.left + Shape::kColumns;
                    if (sum != nullptr && own) reader.write_sum(sum, unit, place.image, y, x);
                }
            });
    };
    request(0);
    for (int step = 0; step < Shape::kStages - 1; ++step) fetch(step);  // the first window's copies are with the first
    int step = 0, stage = 0;
    for (int chunk = 0; chunk < chunks; ++chunk) {
        if (chunk == 0) {
            copy_async_wait<Shape::kStages - 2>();
        } else {
            sync_threads();  // the window is read to the end
            request(chunk);
            copy_async_commit();
            copy_async_wait<0>();
        }
        finish(chunk);
        for (int tap = 0; tap < taps.count; ++tap, ++step) {
            copy_async_wait<Shape::kStages - 2>();
            sync_threads();  // this step's weights are there for all, and the stage before is read to the end
            fetch(step + Shape::kStages - 1);
            multiply_tap<T, Shape>(sums, shared, ring + stage * Shape::kStageBytes, pixels,
                                   taps.row[tap] * window.columns + taps.column[tap], lane, warp_n);
            if (++stage == Shape::kStages) stage = 0;
        }
    }
    copy_async_wait<0>();
    sync_threads();  // shared memory is free
}

// Stores results to shared memory, pixel by pixel.
template <typename T, typename Shape>
SRGAN_FAST_DEVICE void stage_results(std::byte* shared, const Accumulators<Shape>& sums, int warp_m, int warp_n,
                                     int lane) {
    using A = Accumulators<Shape>;
#pragma unroll
    for (int m = 0; m < A::kM; ++m)
#pragma unroll
        for (int n = 0; n < A::kN; ++n)
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const int row = (warp_m * A::kM + m) * 16 + half * 8 + lane / 4;
                const int column = (warp_n * A::kN + n) * 8 + lane % 4 * 2;
                const float low = sums.value[m][n][2 * half], high = sums.value[m][n][2 * half + 1];
                std::byte* const place = shared + row * Shape::kPitch + column * static_cast<int>(sizeof(T));
                if constexpr (std::is_same_v<T, float>)
                    *reinterpret_cast<Pair*>(place) = {low, high};
                else
                    *reinterpret_cast<std::uint32_t*>(place) = narrow_pair<T>(low, high);
            }
}

// Sum over the pixels of a tile of one value per channel: within a warp by shuffles, then across warps through shared
// memory, always in the same order. `value(m, n, i)` is the i-th element of a fragment, 0 where there is no pixel.
template <typename Shape, typename Value>
SRGAN_FAST_DEVICE void sum_of_channels(float (&total)[Accumulators<Shape>::kN][2], float* scratch, int warp_m,
                                       int warp_n, int lane, Value value) {
    using A = Accumulators<Shape>;
#pragma unroll
    for (int n = 0; n < A::kN; ++n)
#pragma unroll
        for (int j = 0; j < 2; ++j) {
            float sum = 0.0f;
#pragma unroll
            for (int m = 0; m < A::kM; ++m) sum += value(m, n, j) + value(m, n, 2 + j);
            for (int mask = 4; mask < 32; mask *= 2) sum += shuffle_xor(sum, mask);
            if (lane < 4) scratch[warp_m * Shape::kChannels + (warp_n * A::kN + n) * 8 + lane * 2 + j] = sum;
        }
    sync_threads();
#pragma unroll
    for (int n = 0; n < A::kN; ++n)
#pragma unroll
        for (int j = 0; j < 2; ++j) {
            total[n][j] = 0.0f;
            for (int w = 0; w < Shape::kWarpsM; ++w)
                total[n][j] += scratch[w * Shape::kChannels + (warp_n * A::kN + n) * 8 + lane % 4 * 2 + j];
        }
}

// Mean and sum of squared deviations of each channel over the tile's pixels.
template <typename Shape>
SRGAN_FAST_DEVICE void take_moments(const Accumulators<Shape>& sums, const ConvParams& p, const Place& place,
                                    float* scratch, int warp_m, int warp_n, int lane) {
    using A = Accumulators<Shape>;
    bool there[A::kM][2];
#pragma unroll
    for (int m = 0; m < A::kM; ++m)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int row = (warp_m * A::kM + m) * 16 + half * 8 + lane / 4;
            there[m][half] =
                place.top + row / Shape::kColumns < p.height && place.left + row % Shape::kColumns < p.width;
        }
    const int rows = p.height - place.top, columns = p.width - place.left;
    const float count = static_cast<float>((rows < Shape::kRows ? rows : Shape::kRows) *
                                           (columns < Shape::kColumns ? columns : Shape::kColumns));
    float mean[A::kN][2], squares[A::kN][2];
    sum_of_channels<Shape>(mean, scratch, warp_m, warp_n, lane,
                           [&](int m, int n, int i) { return there[m][i / 2] ? sums.value[m][n][i] : 0.0f; });
#pragma unroll
    for (int n = 0; n < A::kN; ++n) mean[n][0] /= count, mean[n][1] /= count;
    sum_of_channels<Shape>(squares, scratch + Shape::kWarpsM * Shape::kChannels, warp_m, warp_n, lane,
                           [&](int m, int n, int i) {
                               const float d = sums.value[m][n][i] - mean[n][i % 2];
                               return there[m][i / 2] ? d * d : 0.0f;
                           });
    if (warp_m != 0 || lane >= 4) return;
    float* const part = p.moments + static_cast<std::int64_t>(place.index) * 2 * p.channels;
#pragma unroll
    for (int n = 0; n < A::kN; ++n)
#pragma unroll
        for (int j = 0; j < 2; ++j) {
            const int channel =
                static_cast<int>(blockIdx.y) * Shape::kChannels + (warp_n * A::kN + n) * 8 + lane * 2 + j;
            if (channel < p.channels) part[channel] = mean[n][j], part[p.channels + channel] = squares[n][j];
        }
}

template <typename T, typename Shape>
SRGAN_FAST_GLOBAL(Shape::kThreads, Shape::kBlocks)
void conv_forward_kernel(SRGAN_FAST_CONSTANT ConvParams p) {
    using A = Accumulators<Shape>;
    std::byte* const shared = shared_memory();
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warp_m = warp % Shape::kWarpsM;
    const int warp_n = warp / Shape::kWarpsM;
    const Place place = place_of<Shape>(p.height, p.width);
    A sums{};
    multiply_all<T, Shape, false>(sums, shared, p, p.taps[0], place);
#pragma unroll
    for (int n = 0; n < A::kN; ++n)
#pragma unroll
        for (int j = 0; j < 2; ++j) {
            const int channel =
                static_cast<int>(blockIdx.y) * Shape::kChannels + (warp_n * A::kN + n) * 8 + lane % 4 * 2 + j;
            const float bias = channel < p.channels ? value_of(p.bias, channel, 0.0f) : 0.0f;
#pragma unroll
            for (int m = 0; m < A::kM; ++m)
#pragma unroll
                for (int half = 0; half < 2; ++half) {
                    float& value = sums.value[m][n][2 * half + j];
                    value += bias;
                    if (p.activate && !(value > 0.0f)) value *= p.slope;
                }
        }
    if (p.moments != nullptr)
        take_moments<Shape>(sums, p, place, reinterpret_cast<float*>(shared + Shape::kPixels * Shape::kPitch), warp_m,
                            warp_n, lane);
    stage_results<T, Shape>(shared, sums, warp_m, warp_n, lane);
    sync_threads();
    const int unit = threadIdx.x % Shape::kUnits;
    const int channel = static_cast<int>(blockIdx.y) * Shape::kChannels + unit * kUnit<T>;
    const int count = present<kUnit<T>>(p.channels, channel);
    if (count == 0) return;
    T* const image = static_cast<T*>(p.y) + static_cast<std::int64_t>(place.image) * p.height * p.width * p.channels;
    for (int row = threadIdx.x / Shape::kUnits; row < Shape::kPixels; row += Shape::kReducers) {
        const int y = place.top + row / Shape::kColumns, x = place.left + row % Shape::kColumns;
        if (y >= p.height || x >= p.width) continue;
        write_unit(image + (y * p.width + x) * p.channels + channel,
                   *reinterpret_cast<const Vec16*>(shared + row * Shape::kPitch + unit * 16), count,
                   p.channels % kUnit<T> == 0);
    }
}

// Differentiates the prologue: from dz to the gradients of x and the residual, and the sums for scale, shift and slope.
template <typename T, typename Shape>
SRGAN_FAST_GLOBAL(Shape::kThreads, Shape::kBlocks)
void conv_dgrad_kernel(SRGAN_FAST_CONSTANT ConvParams p) {
    using A = Accumulators<Shape>;
    std::byte* const shared = shared_memory();
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warp_m = warp % Shape::kWarpsM;
    const int warp_n = warp / Shape::kWarpsM;
    const int phase = blockIdx.z, phase_y = phase / 2, phase_x = phase % 2;
    const Place place = place_of<Shape>((p.height + p.spread - 1) / p.spread, (p.width + p.spread - 1) / p.spread);
    A accumulators{};
    multiply_all<T, Shape, true>(accumulators, shared, p, p.taps[phase], place);
    stage_results<T, Shape>(shared, accumulators, warp_m, warp_n, lane);
    sync_threads();
    const Source& s = p.source;
    constexpr int kSize = kUnit<T>;
    const int unit = threadIdx.x % Shape::kUnits, reducer = threadIdx.x / Shape::kUnits;
    const int channel = static_cast<int>(blockIdx.y) * Shape::kChannels + unit * kUnit<T>;
    const int count = present<kUnit<T>>(p.channels, channel);
    const bool whole = p.channels % kUnit<T> == 0;
    // A thread's pixels all belong to one phase of the shuffle, if there is one.
    const int own_phase = reducer % kPhases, shuffled = s.shuffle ? own_phase : 0;
    const std::int64_t image = static_cast<std::int64_t>(place.image) * p.height * p.width * p.channels;
    SourceAdjoint<kSize> adjoint(s, shuffled * p.channels + channel, count);
    for (int i = reducer / kPhases; i < Shape::kPixels / kPhases; i += Shape::kReducers / kPhases) {
        const int tile_y = i / (Shape::kColumns / 2) * 2 + own_phase / 2;
        const int tile_x = i % (Shape::kColumns / 2) * 2 + own_phase % 2;
        const int row = tile_y * Shape::kColumns + tile_x;
        const int y = (place.top + tile_y) * p.spread + phase_y, x = (place.left + tile_x) * p.spread + phase_x;
        if (count == 0 || y >= p.height || x >= p.width) continue;
        Vec16 dz = *reinterpret_cast<const Vec16*>(shared + row * Shape::kPitch + unit * 16);
        const std::int64_t z_place = image + (y * p.width + x) * p.channels + channel;
        const std::int64_t x_place =
            s.shuffle ? image + (((y >> 1) * (p.width >> 1) + (x >> 1)) * kPhases + shuffled) * p.channels + channel
                      : z_place;
        float values[kSize];
        widen_unit<T>(dz, values);
        if (p.sum_gradient != nullptr) {
            float more[kSize];
            widen_unit<T>(read_unit(static_cast<const T*>(p.sum_gradient) + z_place, count, whole), more);
#pragma unroll
            for (int i = 0; i < kSize; ++i) values[i] += more[i];
            dz = narrow_unit<T>(values);
        }
        if (p.residual_gradient != nullptr)
            write_unit(static_cast<T*>(p.residual_gradient) + z_place, dz, count, whole);
        if (s.affine) {
            float raw[kSize];
            widen_unit<T>(read_unit(static_cast<const T*>(s.x) + x_place, count, whole), raw);
            adjoint.go_back(values, raw);
            dz = narrow_unit<T>(values);
        }
        write_unit(static_cast<T*>(p.x_gradient) + x_place, dz, count, whole);
    }
    if (p.sums == nullptr) return;
    if (p.finished != nullptr && blockIdx.x + blockIdx.y + blockIdx.z + threadIdx.x == 0) *p.finished = 0;
    sync_threads();                                           // the results are read to the end
    float* const scratch = reinterpret_cast<float*>(shared);  // [reducers][3][channels]
#pragma unroll
    for (int i = 0; i < kSize; ++i) {
        float* const mine = scratch + reducer * 3 * Shape::kChannels + unit * kSize + i;
#pragma unroll
        for (int v = 0; v < 3; ++v) mine[v * Shape::kChannels] = adjoint.sums[v][i];
    }
    sync_threads();
    const int phases = s.shuffle ? kPhases : 1, x_channels = p.channels * phases;
    float* const part = p.sums + (static_cast<std::int64_t>(blockIdx.z) * gridDim.x + place.index) * 3 * x_channels;
    for (int i = threadIdx.x; i < phases * 3 * Shape::kChannels; i += Shape::kThreads) {
        const int column = i % (3 * Shape::kChannels), of_phase = i / (3 * Shape::kChannels);
        const int own = static_cast<int>(blockIdx.y) * Shape::kChannels + column % Shape::kChannels;
        if (own >= p.channels) continue;
        float sum = 0.0f;
        for (int r = 0; r < Shape::kReducers; ++r)
            if (phases == 1 || r % kPhases == of_phase) sum += scratch[r * 3 * Shape::kChannels + column];
        part[column / Shape::kChannels * x_channels + of_phase * p.channels + own] = sum;
    }
}

}  // namespace srgan_fast::cuda
