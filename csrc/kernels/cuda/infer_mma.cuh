// Convolutions of inference: those of conv_mma.cuh with PReLU, residuals and pixel shuffle in the epilogue, the head
// from images, and the tail and others to images.
#pragma once

#include "kernels/cuda/conv_mma.cuh"

namespace srgan_fast::cuda {

// Calls visit with an object of the shape of a tile from choose_infer_launch(), if weights are not resident.
template <typename Visit>
auto with_infer_shape(Tile tile, const Visit& visit) {
    switch (tile) {
        case Tile::kLarge: return visit(ShapeOf<Half, Tile::kLarge, 2>{});
        case Tile::kWide: return visit(ShapeOf<Half, Tile::kWide, 1>{});
        case Tile::kMedium: return visit(ShapeOf<Half, Tile::kMedium, 2>{});
        default: return visit(ShapeOf<Half, Tile::kSmall, 3>{});
    }
}

// Initialises a tile's sums.
template <typename Shape>
SRGAN_FAST_DEVICE void begin_with_bias(Accumulators<Shape>& sums, const Vector& bias, int channels) {
    using A = Accumulators<Shape>;
    const int lane = threadIdx.x % 32, warp_n = static_cast<int>(threadIdx.x) / 32 / Shape::kWarpsM;
#pragma unroll
    for (int n = 0; n < A::kN; ++n)
#pragma unroll
        for (int j = 0; j < 2; ++j) {
            const int channel =
                static_cast<int>(blockIdx.y) * Shape::kChannels + (warp_n * A::kN + n) * 8 + lane % 4 * 2 + j;
            const float value = channel < channels ? value_of(bias, channel, 0.0f) : 0.0f;
#pragma unroll
            for (int m = 0; m < A::kM; ++m) sums.value[m][n][j] = sums.value[m][n][2 + j] = value;
        }
}

// Copies the block's PReLU slopes to shared memory for fast access; visible to other threads after a barrier.
template <typename Shape>
SRGAN_FAST_DEVICE void fetch_slopes(float* slopes, const Vector& slope, int channels) {
    if (threadIdx.x >= Shape::kChannels) return;
    const int channel = static_cast<int>(blockIdx.y * Shape::kChannels + threadIdx.x);
    slopes[threadIdx.x] = channel < channels ? value_of(slope, channel, 1.0f) : 1.0f;
}

// Adds the residuals, the first of which was loaded before, to a unit of the result, in float.
template <typename T>
SRGAN_FAST_DEVICE Vec16 add_residuals(const Vec16& unit, const Vec16& first, const Addend (&residuals)[2],
                                      std::int64_t pixel, int channel) {
    float values[8], addends[8];
    widen_unit<T>(unit, values);
    widen_unit<T>(first, addends);
#pragma unroll
    for (int j = 0; j < 8; ++j) values[j] += residuals[0].scale * addends[j];
    const Addend& second = residuals[1];
    if (second.map != nullptr) {
        widen_unit<T>(
            *reinterpret_cast<const Vec16*>(static_cast<const T*>(second.map) + pixel * second.pitch + channel),
            addends);
#pragma unroll
        for (int j = 0; j < 8; ++j) values[j] += second.scale * addends[j];
    }
    return narrow_unit<T>(values);
}

// Applies PReLU, then writes through shared memory: to the pixel's own position, with the residuals, or with a shuffle
// to one of the pixels that it becomes.
template <typename T, typename Shape>
SRGAN_FAST_DEVICE void finish_tile(Accumulators<Shape>& sums, std::byte* shared, const float* slopes,
                                   const InferParams& p, const Place& place) {
    using A = Accumulators<Shape>;
    const ConvParams& c = p.conv;
    const int thread = afresh(static_cast<int>(threadIdx.x)), lane = thread % 32, warp = thread / 32,
              warp_m = warp % Shape::kWarpsM;
    const int warp_n = warp / Shape::kWarpsM;
#pragma unroll
    for (int n = 0; n < A::kN; ++n)
#pragma unroll
        for (int j = 0; j < 2; ++j) {
            const float slope = slopes[(warp_n * A::kN + n) * 8 + lane % 4 * 2 + j];
#pragma unroll
            for (int m = 0; m < A::kM; ++m)
#pragma unroll
                for (int half = 0; half < 2; ++half) {
                    float& value = sums.value[m][n][2 * half + j];
                    value = value > 0.0f ? value : slope * value;
                }
        }
    stage_results<T, Shape>(shared, sums, warp_m, warp_n, lane);
    const int unit = threadIdx.x % Shape::kUnits;
    const int channel = static_cast<int>(blockIdx.y) * Shape::kChannels + unit * 8;
    const int scale = p.shuffle, channels = c.channels / (scale * scale), phase = scale > 1 ? channel / channels : 0;
    const int width = c.width * scale, down = phase / scale, across = phase - down * scale;
    const int own = channel - phase * channels;  // channel of the result
    const std::int64_t image =
        static_cast<std::int64_t>(place.image) * c.height * scale * width;  // first pixel of the image
    sync_threads();
    const Addend& addend = p.residuals[0];
    const T* const first_residual =
        addend.map != nullptr ? static_cast<const T*>(addend.map) + image * addend.pitch + own : nullptr;
    T* const result_map = static_cast<T*>(c.y) + image * p.pitch + own;
    // A few pixels at a time, to hide the latency of reading residuals.
    constexpr int kOwn = Shape::kPixels / Shape::kReducers, kBatch = Shape::kThreads > 128 ? 2 : 4;
    static_assert(kOwn % kBatch == 0);
    for (int first = 0; first < kOwn; first += kBatch) {
        int at[kBatch];  // pixels of the image; -1 outside of it
        Vec16 more[kBatch];
#pragma unroll
        for (int i = 0; i < kBatch; ++i) {
            const int row = static_cast<int>(threadIdx.x) / Shape::kUnits + (first + i) * Shape::kReducers;
            const int y = place.top + row / Shape::kColumns, x = place.left + row % Shape::kColumns;
            const bool there = y < c.height && x < c.width && channel < c.channels;
            at[i] = there ? (y * scale + down) * width + x * scale + across : -1;
            if (there && first_residual != nullptr)
                more[i] = *reinterpret_cast<const Vec16*>(first_residual + at[i] * addend.pitch);
        }
#pragma unroll
        for (int i = 0; i < kBatch; ++i) {
            if (at[i] < 0) continue;
            const int row = static_cast<int>(threadIdx.x) / Shape::kUnits + (first + i) * Shape::kReducers;
            Vec16 result = *reinterpret_cast<const Vec16*>(shared + row * Shape::kPitch + unit * 16);
            if (first_residual != nullptr) result = add_residuals<T>(result, more[i], p.residuals, image + at[i], own);
            *reinterpret_cast<Vec16*>(result_map + at[i] * p.pitch) = result;
        }
    }
}

template <typename T, typename Shape>
SRGAN_FAST_GLOBAL(Shape::kThreads, Shape::kBlocks)
void infer_fetching_kernel(SRGAN_FAST_CONSTANT InferParams p) {
    wait_for_previous_kernel();
    let_next_kernel_begin();
    std::byte* const shared = shared_memory();
    float* const slopes = reinterpret_cast<float*>(shared + shared_bytes(Shape::size(), 1, p.conv.reach, false));
    const Place place = place_of<Shape>(p.conv.height, p.conv.width);
    Accumulators<Shape> sums;
    begin_with_bias<Shape>(sums, p.conv.bias, p.conv.channels);
    fetch_slopes<Shape>(slopes, p.slope, p.conv.channels);
    multiply_all<T, Shape, false>(sums, shared, p.conv, p.conv.taps[0], place);
    finish_tile<T, Shape>(sums, shared, slopes, p, place);
}

// Multiplies a window with all taps, both in shared memory; fragments are loaded a step ahead, across taps.
template <typename T, typename Shape>
SRGAN_FAST_DEVICE void multiply_window(Accumulators<Shape>& sums, const std::byte* window, const std::byte* weights,
                                       const TapSet& taps, int window_columns) {
    constexpr int kSteps = Shape::kRowBytes / 32;
    static_assert(kSteps % 2 == 0);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warp_m = warp % Shape::kWarpsM;
    const int warp_n = warp / Shape::kWarpsM;
    const Pixels<Shape> pixels(warp_m, lane, window_columns, 1);
    Fragments<T, Shape> fragments;
    const auto load = [&](int tap_offset, const std::byte* tap_weights, int k) {
        fragments.load(window, pixels, tap_offset, tap_weights, k, lane, warp_n);
    };
    const auto offset_of = [&](int tap) { return taps.row[tap] * window_columns + taps.column[tap]; };
    int tap_offset = offset_of(0);
    load(tap_offset, weights, 0);
    for (int tap = 0; tap < taps.count; ++tap) {
        const std::byte* const tap_weights = weights + tap * Shape::kStageBytes;
        const bool more = tap + 1 < taps.count;
        const int next_offset = more ? offset_of(tap + 1) : 0;
#pragma unroll
        for (int k = 0; k < kSteps; ++k) {
            if (k + 1 < kSteps)
                load(tap_offset, tap_weights, k + 1);
            else if (more)
                load(next_offset, tap_weights + Shape::kStageBytes, 0);
            fragments.multiply(sums, k);
        }
        tap_offset = next_offset;
    }
}

template <typename Visit>
auto with_resident_shape(Tile tile, const Visit& visit) {
    return tile == Tile::kLarge ? visit(ShapeOf<Half, Tile::kLarge, 2>{}) : visit(ShapeOf<Half, Tile::kMedium, 2>{});
}

// One chunk of input channels; all taps' weights are loaded once, then the block iterates over tiles.
template <typename T, typename Shape>
SRGAN_FAST_GLOBAL(Shape::kThreads, Shape::kBlocks)
void infer_resident_kernel(SRGAN_FAST_CONSTANT InferParams p) {
    const ConvParams& c = p.conv;
    const TapSet& taps = c.taps[0];
    std::byte* const weights = shared_memory();
    float* const slopes = reinterpret_cast<float*>(weights + taps.count * Shape::kStageBytes);
    std::byte* const window_memory = reinterpret_cast<std::byte*>(slopes + Shape::kChannels);
    if (!p.weights_are_constant) wait_for_previous_kernel();
    for (int tap = 0; tap < taps.count; ++tap)
        fetch_weights<T, Shape>(weights + tap * Shape::kStageBytes, c, taps.weight[tap], 0);
    fetch_slopes<Shape>(slopes, p.slope, c.channels);
    wait_for_previous_kernel();  // whose result is read
    let_next_kernel_begin();
    const int tiles_x = (c.width + Shape::kColumns - 1) / Shape::kColumns;
    const int tiles_y = (c.height + Shape::kRows - 1) / Shape::kRows, tiles = c.batch * tiles_y * tiles_x;
    SourceReader<T> reader(c.source, static_cast<int>(threadIdx.x) % (Shape::kDepth / 8) * 8);
    for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
        const int row = tile / tiles_x, image = row / tiles_y;
        const Place place{image, (row - image * tiles_y) * Shape::kRows, (tile - row * tiles_x) * Shape::kColumns,
                          tile};
        const Window window{place.top + c.reach.top, place.left + c.reach.left, Shape::kRows - 1 + c.reach.rows,
                            Shape::kColumns - 1 + c.reach.columns, 1};
        reader.choose_image(image);
        request_window<Shape::kRowBytes, Shape::kThreads>(window_memory, nullptr, reader, window);
        copy_async_commit();
        Accumulators<Shape> sums;
        begin_with_bias<Shape>(sums, c.bias, c.channels);
        copy_async_wait<0>();
        sync_threads();
        multiply_window<T, Shape>(sums, window_memory, weights, taps, window.columns);
        sync_threads();  // the window is read to the end
        finish_tile<T, Shape>(sums, window_memory, slopes, p, place);
        sync_threads();  // the results are read to the end
    }
}

template <typename T, int threads>
SRGAN_FAST_GLOBAL(threads, 1)
void unfold_kernel(SRGAN_FAST_CONSTANT UnfoldParams p) {
    wait_for_previous_kernel();
    let_next_kernel_begin();
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

// Calls visit with an object of the shape of a tile from choose_picture_tile().
template <typename Visit>
auto with_picture_shape(Tile tile, const Visit& visit) {
    return tile == Tile::kNarrow ? visit(ShapeOf<Half, Tile::kNarrow, 3>{}) : visit(ShapeOf<Half, Tile::kMedium, 2>{});
}

// Writes results to the planes of images. Accumulators are stored directly, since images have few channels.
template <typename T, typename Shape>
SRGAN_FAST_GLOBAL(Shape::kThreads, Shape::kBlocks)
void picture_kernel(SRGAN_FAST_CONSTANT PictureParams p) {
    using A = Accumulators<Shape>;
    wait_for_previous_kernel();
    let_next_kernel_begin();
    const ConvParams& c = p.conv;
    const Place place = place_of<Shape>(c.height, c.width);
    A sums;
    begin_with_bias<Shape>(sums, c.bias, c.channels);
    multiply_all<T, Shape, false>(sums, shared_memory(), c, c.taps[0], place);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warp_m = warp % Shape::kWarpsM;
    const int warp_n = warp / Shape::kWarpsM;
    const int scale = p.shuffle, phases = scale * scale, height = c.height * scale, width = c.width * scale;
    const int colours = c.channels / phases;
#pragma unroll
    for (int n = 0; n < A::kN; ++n)
#pragma unroll
        for (int j = 0; j < 2; ++j) {
            const int channel =
                static_cast<int>(blockIdx.y) * Shape::kChannels + (warp_n * A::kN + n) * 8 + lane % 4 * 2 + j;
            if (channel >= c.channels) continue;
            const float slope = value_of(p.slope, channel, 1.0f);
            const int colour = channel / phases, phase = channel - colour * phases, down = phase / scale;
            float* const plane =
                p.planes + (static_cast<std::int64_t>(place.image) * colours + colour) * height * width;
#pragma unroll
            for (int m = 0; m < A::kM; ++m)
#pragma unroll
                for (int half = 0; half < 2; ++half) {
                    const int row = (warp_m * A::kM + m) * 16 + half * 8 + lane / 4;
                    const int y = place.top + row / Shape::kColumns, x = place.left + row % Shape::kColumns;
                    if (y >= c.height || x >= c.width) continue;
                    const float value = sums.value[m][n][2 * half + j];
                    plane[(y * scale + down) * width + x * scale + phase - down * scale] =
                        value > 0.0f ? value : slope * value;
                }
        }
}

struct TailTile {
    static constexpr TileSize kSize = kTailSize;
};
using TailShape = ConvShape<TailTile, 2>;

template <typename T>
SRGAN_FAST_GLOBAL(TailShape::kThreads, TailShape::kBlocks)
void tail_kernel(SRGAN_FAST_CONSTANT TailParams p) {
    using Shape = TailShape;
    using A = Accumulators<Shape>;
    wait_for_previous_kernel();
    let_next_kernel_begin();
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
    constexpr int kFine = 2 * kTailColumns, kLines = 2 * kColours;  // result pixels per row; rows of colours
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
