// From a convolution to its launch parameters: tiles, taps, grids, memory sizes. Contains no CUDA, so that the host
// runs kernels with the same plans.
#pragma once

#include <cstddef>
#include <cstdint>
#include <iterator>

#include "kernels/cuda/params.h"

namespace srgan_fast::cuda {

// A 3x3 convolution of stride 1 or 2, or a 5x5 or 9x9 one of stride 1, with padding taps / 2.
struct Convolution {
    int batch, in, out;  // channels of z and of y
    int height, width;   // of z
    int taps, stride;
    int out_height() const { return (height + stride - 1) / stride; }
    int out_width() const { return (width + stride - 1) / stride; }
};

constexpr int blocks_of(int size, int block) { return (size + block - 1) / block; }
constexpr int round_up(int size, int block) { return blocks_of(size, block) * block; }

inline constexpr int kPassThreads = 256;
// Largest number of pixels of a pass: 32-bit indices must suffice, also for the four times as many of pooling.
inline constexpr std::int64_t kMostPixels = std::int64_t{1} << 29;

// Blocks of a pass, depending on sizes only, so that sums are always added in the same order: enough for large GPUs,
// few enough that merging their sums costs nothing in comparison.
inline Pass pass_over(std::int64_t pixels, int channels) {
    constexpr std::int64_t kMostBlocks = 1024, kLeastRounds = 4;
    const std::int64_t at_once = kPassThreads / (channels / 8);
    const std::int64_t rounds = (pixels + at_once * kMostBlocks - 1) / (at_once * kMostBlocks);
    return {pixels, channels, static_cast<int>(at_once * (rounds > kLeastRounds ? rounds : kLeastRounds))};
}

// Shared memory per block, in bytes, for `vectors` sums per channel.
constexpr int pass_bytes(int vectors) { return kPassThreads * 8 * 4 * vectors; }

// Shapes of conv_mma.cuh.
enum class Tile { kLarge, kLargeShallow, kWide, kMedium, kMediumWide, kSmall, kSmallShallow, kNarrow };
inline constexpr Tile kTiles[] = {Tile::kLarge,      Tile::kLargeShallow, Tile::kWide,         Tile::kMedium,
                                  Tile::kMediumWide, Tile::kSmall,        Tile::kSmallShallow, Tile::kNarrow};

// Pixels and channels of a block; input channels of a chunk; stages of weights in shared memory; warps; bytes of a
// map's element.
struct TileSize {
    int rows, columns, channels, depth, stages, warps_m, warps_n, bytes;
    constexpr int row_bytes() const { return depth * bytes; }  // per pixel of a chunk, or per channel of its weights
    constexpr int stage_bytes() const { return channels * row_bytes(); }
    // Per pixel of the result: eight extra elements put adjacent pixels in different banks.
    constexpr int pitch() const { return (channels + 8) * bytes; }
};

inline constexpr int kHalfBytes = 2, kFloatBytes = 4;

// A chunk of floats has half as many channels.
constexpr TileSize size_of(Tile tile, int bytes = kHalfBytes) {
    const int deep = 128 / bytes, shallow = 32 / bytes;
    switch (tile) {
        case Tile::kLarge: return {16, 16, 64, deep, 3, 4, 1, bytes};
        case Tile::kLargeShallow: return {16, 16, 64, shallow, 3, 4, 1, bytes};
        case Tile::kWide: return {16, 16, 128, deep, 3, 4, 2, bytes};
        case Tile::kMedium: return {8, 16, 64, deep, 4, 4, 2, bytes};
        case Tile::kMediumWide: return {8, 16, 128, deep, 4, 2, 4, bytes};
        case Tile::kSmall: return {8, 8, 64, deep, 3, 2, 2, bytes};
        case Tile::kSmallShallow: return {8, 8, 64, shallow, 3, 2, 2, bytes};
        default: return {8, 16, 16, deep, 3, 4, 1, bytes};
    }
}

constexpr int larger(int a, int b) { return a > b ? a : b; }

// Bytes of a window of the input: what a tile's taps read.
constexpr int window_bytes(const TileSize& s, int step, const Reach& reach) {
    return round_up(((s.rows - 1) * step + reach.rows) * ((s.columns - 1) * step + reach.columns) * s.row_bytes(), 128);
}

// Shared memory per block, in bytes. Results replace the input when it has been used, followed by the sums of the
// moments; a data gradient's sums replace the results.
constexpr int shared_bytes(const TileSize& s, int step, const Reach& reach, bool two_maps) {
    const int input = (two_maps ? 2 : 1) * window_bytes(s, step, reach) + s.stages * s.stage_bytes();
    const int results = s.rows * s.columns * s.pitch() + 2 * s.warps_m * s.channels * 4;
    const int sums = 32 * s.warps_m * s.warps_n * 24 * 4;
    return larger(larger(input, results), sums);
}

struct Grid {
    unsigned x, y, z;
    std::int64_t blocks() const { return static_cast<std::int64_t>(x) * y * z; }
};

// Computed pixels of a phase by computed channels; `spread` is 2 for the gradient of stride 2, by phases.
inline Grid grid_of(Tile tile, int batch, int height, int width, int channels, int spread) {
    const TileSize size = size_of(tile);
    const int tiles_y = blocks_of(blocks_of(height, spread), size.rows);
    const int tiles_x = blocks_of(blocks_of(width, spread), size.columns);
    return {static_cast<unsigned>(batch * tiles_y * tiles_x), static_cast<unsigned>(blocks_of(channels, size.channels)),
            static_cast<unsigned>(spread * spread)};
}

// Capacity of a device.
struct Device {
    int multiprocessors;
    int shared_bytes;  // largest shared memory of a block
};

enum class Direction { kForward, kDataGradient, kWeightGradient };
// Implementation of the GEMMs. For floats, ours round to TF32 and are only used on request.
enum class Products { kFaster, kOwn, kOwnTf32, kLibrary };

// Whether cuDNN computes the convolution, with our passes around it (passes.cuh), instead of the kernels here. It has
// kernels made for each GPU, which on Hopper are two to three times as fast with many channels; ours are a single pass,
// which is faster with few (docs/cuda.md).
inline bool uses_library(Products asked, Direction direction, const Convolution& c, int bytes = kHalfBytes) {
    if (bytes == kFloatBytes) return asked != Products::kOwnTf32;
    constexpr int kUnit = 8, kMostChannels = kPassThreads * kUnit;
    const bool fits = c.taps <= 5 && c.in % kUnit == 0 && c.out % kUnit == 0 && c.in * kPhases <= kMostChannels &&
                      c.out <= kMostChannels;
    if (!fits || asked == Products::kOwn || asked == Products::kOwnTf32) return false;
    if (asked == Products::kLibrary || direction != Direction::kForward) return true;
    constexpr int kNarrow = 16, kFew = 64, kSmallMap = 1 << 14;  // pixels
    const bool small = c.batch * c.height * c.width <= kSmallMap && c.in <= kFew && c.out <= kFew && c.stride == 1;
    return c.out > kNarrow && !small;
}

// A tile and its cost per pixel and channel.
struct Choice {
    Tile tile;
    double cost;
};

template <std::size_t count>
Tile cheapest(const Choice (&choices)[count], const ConvParams& p, bool two_maps, const Device& device,
              int bytes = kHalfBytes) {
    Tile best = choices[count - 1].tile;
    double least = 0.0;
    for (const Choice& c : choices) {
        const TileSize size = size_of(c.tile, bytes);
        const int pixels = size.rows * size.columns;
        if (p.step == 2 && pixels > 64) continue;  // their windows would leave room for one block only
        if (shared_bytes(size, p.step, p.reach, two_maps) > device.shared_bytes) continue;
        const std::int64_t blocks = grid_of(c.tile, p.batch, p.height, p.width, p.channels, p.spread).blocks();
        const std::int64_t rounds = (blocks + device.multiprocessors - 1) / device.multiprocessors;
        const double time = static_cast<double>(rounds * pixels * size.channels) * c.cost;
        if (least == 0.0 || time < least) best = c.tile, least = time;
    }
    return best;
}

// Large tiles load weights less often and read fewer pixels twice; small ones leave fewer SMs idle; those of 128
// channels apply the prologue half as often. The costs were measured for the layers of SRGAN's training on an H200,
// relative to the large tile.
inline Tile choose_tile(const ConvParams& p, bool transforms, bool two_maps, const Device& device,
                        int bytes = kHalfBytes) {
    if (p.channels <= size_of(Tile::kNarrow).channels) return Tile::kNarrow;
    constexpr Choice kPlain[] = {{Tile::kLarge, 1.0},
                                 {Tile::kWide, 1.05},
                                 {Tile::kMedium, 1.25},
                                 {Tile::kMediumWide, 1.3},
                                 {Tile::kSmall, 1.45}};
    constexpr Choice kTransforming[] = {{Tile::kLarge, 1.0},
                                        {Tile::kWide, 0.85},
                                        {Tile::kMedium, 1.25},
                                        {Tile::kMediumWide, 0.85},
                                        {Tile::kSmall, 1.3}};
    constexpr Choice kShallow[] = {{Tile::kLargeShallow, 1.0}, {Tile::kSmallShallow, 1.45}};
    constexpr Choice kShallowTransforming[] = {{Tile::kLargeShallow, 1.0}, {Tile::kSmallShallow, 1.3}};
    if (p.input_channels <= size_of(Tile::kLargeShallow, bytes).depth)
        return cheapest(transforms ? kShallowTransforming : kShallow, p, two_maps, device, bytes);
    return cheapest(transforms ? kTransforming : kPlain, p, two_maps, device, bytes);
}

inline ConvParams forward_plan(const Convolution& c) {
    ConvParams p{};
    p.batch = c.batch, p.height = c.out_height(), p.width = c.out_width();
    p.channels = c.out, p.input_channels = c.in;
    p.step = c.stride, p.spread = 1, p.reach = {-(c.taps / 2), -(c.taps / 2), c.taps, c.taps};
    TapSet& taps = p.taps[0];
    for (int row = 0; row < c.taps; ++row)
        for (int column = 0; column < c.taps; ++column) {
            taps.row[taps.count] = static_cast<signed char>(row),
            taps.column[taps.count] = static_cast<signed char>(column);
            taps.weight[taps.count++] = static_cast<signed char>(row * c.taps + column);
        }
    return p;
}

// dz(Y) is the sum over taps k of dy(o) w(k) with Y = stride * o + k - taps / 2: for stride 2, each phase Y = 2 i + f
// uses the taps of one parity, from o = i + (f + taps / 2 - k) / 2.
inline ConvParams dgrad_plan(const Convolution& c) {
    ConvParams p{};
    p.batch = c.batch, p.height = c.height, p.width = c.width;
    p.channels = c.in, p.input_channels = c.out;
    p.step = 1, p.spread = c.stride;
    const int pad = c.taps / 2;
    const int origin = c.stride == 1 ? -pad : 0, span = c.stride == 1 ? c.taps : 2;
    p.reach = {origin, origin, span, span};
    for (int phase = 0; phase < c.stride * c.stride; ++phase) {
        TapSet& taps = p.taps[phase];
        for (int row = 0; row < c.taps; ++row)
            for (int column = 0; column < c.taps; ++column) {
                const int from_row = phase / 2 + pad - row, from_column = phase % 2 + pad - column;
                if (from_row % c.stride != 0 || from_column % c.stride != 0) continue;
                taps.row[taps.count] = static_cast<signed char>(from_row / c.stride - origin);
                taps.column[taps.count] = static_cast<signed char>(from_column / c.stride - origin);
                taps.weight[taps.count++] = static_cast<signed char>(row * c.taps + column);
            }
    }
    return p;
}

inline void set_weights(ConvParams& p, const TileSize& size, const void* packed) {
    p.weights = packed;
    p.weight_rows = round_up(p.channels, size.channels), p.weight_columns = round_up(p.input_channels, size.depth);
}

// For inference: weights are packed once for all tiles, [tap][weight_rows][weight_columns].
inline constexpr int kInferRows = 128, kInferColumns = 64;

// A same-size convolution of a map of `channels` with zero padding and `row_taps` x `column_taps` taps.
inline ConvParams gather_plan(int batch, int height, int width, int channels, int out, const Reach& reach, int row_taps,
                              int column_taps, int row_step) {
    ConvParams p{};
    p.batch = batch, p.height = height, p.width = width;
    p.channels = out, p.input_channels = round_up(channels, kInferColumns);
    p.step = p.spread = 1, p.reach = reach;
    p.source.height = height, p.source.width = width, p.source.channels = p.source.pitch = channels;
    p.weight_rows = round_up(out, kInferRows), p.weight_columns = p.input_channels;
    TapSet& taps = p.taps[0];
    for (int row = 0; row < row_taps; ++row)
        for (int column = 0; column < column_taps; ++column) {
            taps.row[taps.count] = static_cast<signed char>(row * row_step);
            taps.column[taps.count] = static_cast<signed char>(column);
            taps.weight[taps.count] = static_cast<signed char>(taps.count);
            ++taps.count;
        }
    return p;
}

// `side` x `side` taps; odd, up to 9.
inline ConvParams infer_plan(int batch, int height, int width, int channels, int out, int side = 3) {
    return gather_plan(batch, height, width, channels, out, {-(side / 2), -(side / 2), side, side}, side, side, 1);
}

// For unfolded images: see UnfoldParams.
inline ConvParams head_plan(int batch, int height, int width, int out) {
    using U = UnfoldParams;
    ConvParams p = gather_plan(batch, height, width, U::kChannels, out, {1 - U::kSide / 2, 0, U::kSide, 1}, U::kRowTaps,
                               1, U::kRows);
    p.source.height = height + 1;
    return p;
}

// Launch parameters of a convolution of inference. If all its weights fit in shared memory beside a tile's window,
// twice per SM, blocks load them once and iterate over tiles; otherwise they load them again for each tile.
struct InferLaunch {
    Tile tile;
    bool resident;
    int shared_bytes;
    Grid grid;
};

constexpr int slope_bytes(const TileSize& s) { return s.channels * static_cast<int>(sizeof(float)); }

constexpr int resident_shared_bytes(const TileSize& s, const ConvParams& p) {
    const int results = s.rows * s.columns * s.pitch();
    return p.taps[0].count * s.stage_bytes() + slope_bytes(s) + larger(window_bytes(s, p.step, p.reach), results);
}

inline InferLaunch infer_launch(const ConvParams& p, Tile tile, bool resident, const Device& device) {
    const TileSize size = size_of(tile);
    InferLaunch launch{tile, resident, shared_bytes(size, p.step, p.reach, false) + slope_bytes(size),
                       grid_of(tile, p.batch, p.height, p.width, p.channels, 1)};
    if (!resident) return launch;
    launch.shared_bytes = resident_shared_bytes(size, p);
    const int at_once = larger(1, 2 * device.multiprocessors / static_cast<int>(launch.grid.y));
    if (launch.grid.x > static_cast<unsigned>(at_once)) launch.grid.x = static_cast<unsigned>(at_once);
    return launch;
}

inline InferLaunch choose_infer_launch(const ConvParams& p, const Device& device) {
    constexpr int kReserved = 1024;  // bytes of shared memory reserved per block
    constexpr Choice kResident[] = {{Tile::kLarge, 1.0}, {Tile::kMedium, 1.25}};
    constexpr Choice kFetching[] = {
        {Tile::kLarge, 1.0}, {Tile::kWide, 1.05}, {Tile::kMedium, 1.25}, {Tile::kSmall, 1.45}};
    const int largest = resident_shared_bytes(size_of(Tile::kLarge), p);
    const bool resident =
        p.input_channels == size_of(Tile::kLarge).depth && 2 * largest + kReserved <= device.shared_bytes;
    return infer_launch(p, resident ? cheapest(kResident, p, false, device) : cheapest(kFetching, p, false, device),
                        resident, device);
}

// For convolutions that write images: most have few channels.
inline Tile choose_picture_tile(const ConvParams& p) {
    return p.channels <= size_of(Tile::kNarrow).channels ? Tile::kNarrow : Tile::kMedium;
}

inline Grid picture_grid(const ConvParams& p, Tile tile) {
    return grid_of(tile, p.batch, p.height, p.width, p.channels, 1);
}

constexpr int picture_shared_bytes(const ConvParams& p, Tile tile) {
    return shared_bytes(size_of(tile), p.step, p.reach, false);
}

// A residual block of inference in one kernel (infer_block.cuh): rows of 16 pixels per tile, and whether each half of
// the block's warps has its own tile.
struct BlockSize {
    int rows;
    bool apart;
};
inline constexpr BlockSize kBlockSizes[] = {{12, true}, {8, true}, {8, false}, {4, false}};
inline constexpr int kBlockWays = std::size(kBlockSizes);
inline constexpr int kBlockColumns = 16, kBlockChannels = 64, kBlockTaps = 9, kBlockThreads = 256;
inline constexpr int kBlockWeightBytes = kBlockTaps * kBlockChannels * kBlockChannels * 2;
inline constexpr int kBlockVectorBytes = 3 * kBlockChannels * 4;

constexpr int block_window_bytes(const BlockSize& s) { return (s.rows + 4) * (kBlockColumns + 4) * kBlockChannels * 2; }

// Staging buffer for results: 16 pixels per warp.
constexpr int block_stage_bytes(const BlockSize& s) {
    return kBlockThreads / 32 * 16 * (s.apart ? kBlockChannels : kBlockChannels / 2) * 2;
}

// Whether it is separate memory, so that the next window can arrive meanwhile, or reuses that of the window.
constexpr bool block_staged(const BlockSize& s) { return !s.apart || s.rows <= 8; }

constexpr int block_shared_bytes(const BlockSize& s) {
    return 2 * kBlockWeightBytes + kBlockVectorBytes + (s.apart ? 2 : 1) * block_window_bytes(s) +
           (block_staged(s) ? block_stage_bytes(s) : 0);
}

struct BlockLaunch {
    int way;  // index in kBlockSizes; negative: run as two convolutions
    int shared_bytes;
    Grid grid;
};

inline BlockLaunch block_launch(int way, int batch, int height, int width, const Device& device) {
    const BlockSize& size = kBlockSizes[way];
    const int tiles = batch * blocks_of(height, size.rows) * blocks_of(width, kBlockColumns);
    const int blocks = tiles < device.multiprocessors ? tiles : device.multiprocessors;
    return {way, block_shared_bytes(size), {static_cast<unsigned>(blocks), 1, 1}};
}

// By the time of the SM with the most tiles: 16 pixels of a convolution cost 1 if two tiles are computed concurrently,
// and more if one is.
inline BlockLaunch choose_block_launch(int batch, int height, int width, const Device& device) {
    constexpr double kTogether = 1.2, kAlone = 1.6;
    int best = -1;
    double least = 0.0;
    for (int way = 0; way < kBlockWays; ++way) {
        const BlockSize& size = kBlockSizes[way];
        if (block_shared_bytes(size) > device.shared_bytes) continue;
        const int tiles = batch * blocks_of(height, size.rows) * blocks_of(width, kBlockColumns);
        const int most = blocks_of(tiles, device.multiprocessors);
        const double fragments = round_up(blocks_of((size.rows + 2) * (kBlockColumns + 2), 16), 4) + size.rows;
        const double cost = fragments * (size.apart ? most / 2 * 2 + most % 2 * kAlone : most * kTogether);
        if (best < 0 || cost < least) best = way, least = cost;
    }
    if (best < 0) return {best, 0, {1, 1, 1}};
    return block_launch(best, batch, height, width, device);
}

// Block shape of the tail; its last columns only provide other blocks' halo.
inline constexpr TileSize kTailSize{8, 32, 64, 64, 3, 4, 1, kHalfBytes};
inline constexpr int kTailColumns = kTailSize.columns - (TailParams::kSide - 1);  // columns of results
inline constexpr int kTailPitch = kTailSize.channels + 1;  // floats per pixel, so that pixels are in different banks

inline ConvParams tail_plan(int batch, int height, int width, int channels) {
    constexpr int kSide = TailParams::kSide;
    return gather_plan(batch, height, width, channels, TailParams::kProducts, {-(kSide / 2), -(kSide / 2), kSide, 1},
                       kSide, 1, 1);
}

inline Grid tail_grid(const ConvParams& p) {
    const int tiles = blocks_of(p.height, kTailSize.rows) * blocks_of(p.width, kTailColumns);
    return {static_cast<unsigned>(p.batch * tiles), 1, 1};
}

constexpr int tail_shared_bytes(const ConvParams& p) {
    return larger(shared_bytes(kTailSize, p.step, p.reach, false),
                  kTailSize.rows * kTailSize.columns * kTailPitch * static_cast<int>(sizeof(float)));
}

// Shapes of wgrad_mma.cuh: blocks of out and in channels. The small one is for floats only.
enum class WgradTile { kWide, kFromNarrow, kToNarrow, kSmall, kTail, kWide5, kTail9, kWide9 };

struct WgradSize {
    int rows, columns, tap_rows;
};

constexpr WgradSize size_of(WgradTile tile) {
    switch (tile) {
        case WgradTile::kWide: return {64, 64, 3};
        case WgradTile::kFromNarrow: return {64, 16, 3};
        case WgradTile::kToNarrow: return {16, 64, 3};
        case WgradTile::kSmall: return {32, 16, 3};
        case WgradTile::kTail:
        case WgradTile::kTail9: return {16, 64, 1};
        default: return {64, 16, 1};
    }
}

inline constexpr int kWgradSide = 8;          // side of a tile of dy
inline constexpr int kWgradBiasBytes = 8192;  // most shared memory of a block for the bias' sums

// Bytes of a tile's maps per stage.
constexpr int wgrad_stage_bytes(WgradTile tile, int bytes, int taps, int stride, bool two_gradients, bool two_sources) {
    const WgradSize size = size_of(tile);
    const int rows = (kWgradSide - 1) * stride + size.tap_rows, columns = (kWgradSide - 1) * stride + taps;
    return kWgradSide * kWgradSide * size.rows * bytes * (two_gradients ? 2 : 1) +
           round_up(rows * columns * size.columns * bytes, 128) * (two_sources ? 2 : 1);
}

inline WgradTile choose_wgrad_tile(const Convolution& c, int bytes, bool two_gradients, bool two_sources,
                                   const Device& device) {
    if (c.taps == 9) return c.out <= 16 ? WgradTile::kTail9 : WgradTile::kWide9;
    if (c.taps == 5) return c.out <= 16 ? WgradTile::kTail : WgradTile::kWide5;
    const auto fits = [&](WgradTile tile) {
        const int stage = wgrad_stage_bytes(tile, bytes, c.taps, c.stride, two_gradients, two_sources);
        return 2 * stage + kWgradBiasBytes <= device.shared_bytes;
    };
    if (c.out <= 16) return fits(WgradTile::kToNarrow) ? WgradTile::kToNarrow : WgradTile::kSmall;
    if (c.in > 16 && fits(WgradTile::kWide)) return WgradTile::kWide;
    return fits(WgradTile::kFromNarrow) ? WgradTile::kFromNarrow : WgradTile::kSmall;
}

// As many splits as fill the SMs, but with several tiles each: a split costs a pass over the sums.
inline int wgrad_splits(const Convolution& c, WgradTile tile, const Device& device) {
    constexpr std::int64_t kLeastTiles = 3;
    const WgradSize size = size_of(tile);
    const std::int64_t tiles = static_cast<std::int64_t>(c.batch) * blocks_of(c.out_height(), kWgradSide) *
                               blocks_of(c.out_width(), kWgradSide);
    const std::int64_t others = static_cast<std::int64_t>(blocks_of(c.out, size.rows)) * blocks_of(c.in, size.columns) *
                                (c.taps / size.tap_rows);
    const std::int64_t blocks = (tile == WgradTile::kWide ? 1 : 2) * device.multiprocessors;  // that fit at a time
    const std::int64_t fitting = blocks / others < 1 ? 1 : blocks / others, most = tiles / kLeastTiles;
    return static_cast<int>(fitting < most ? fitting : most < 1 ? 1 : most);
}

// Tiles in shared memory at a time, at least two.
inline int wgrad_stages(int stage_bytes, const Device& device) {
    const int fitting = (device.shared_bytes - kWgradBiasBytes) / stage_bytes;
    return fitting >= 4 ? 4 : fitting >= 3 ? 3 : 2;
}

}  // namespace srgan_fast::cuda
