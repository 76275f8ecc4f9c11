// From a convolution to what its kernels are launched with: tiles, taps, grids, sizes of memory. No CUDA in it, so that
// the host runs kernels by the same plans.
#pragma once

#include <cstdint>

#include "kernels/cuda/params.h"

namespace srgan_fast::cuda {

// A 3x3 convolution of stride 1 or 2, or a 5x5 one of stride 1, padded by taps / 2.
struct Convolution {
    int batch, in, out;   // channels of z and of y
    int height, width;    // of z
    int taps, stride;
    int out_height() const { return (height + stride - 1) / stride; }
    int out_width() const { return (width + stride - 1) / stride; }
};

constexpr int blocks_of(int size, int block) { return (size + block - 1) / block; }
constexpr int round_up(int size, int block) { return blocks_of(size, block) * block; }

// The shapes of conv_mma.cuh.
enum class Tile { kLarge, kLargeShallow, kSmall, kSmallShallow, kNarrow };

struct TileSize {
    int rows, columns, channels, depth;
};

constexpr TileSize size_of(Tile tile) {
    switch (tile) {
        case Tile::kLarge: return {16, 16, 64, 64};
        case Tile::kLargeShallow: return {16, 16, 64, 16};
        case Tile::kSmall: return {8, 8, 64, 64};
        case Tile::kSmallShallow: return {8, 8, 64, 16};
        default: return {8, 16, 16, 64};
    }
}

struct Grid {
    unsigned x, y, z;
    std::int64_t blocks() const { return static_cast<std::int64_t>(x) * y * z; }
};

// Computed pixels of a phase by computed channels; `spread` 2 where a stride is gone back through, by phases.
inline Grid grid_of(Tile tile, int batch, int height, int width, int channels, int spread) {
    const TileSize size = size_of(tile);
    const int tiles_y = blocks_of(blocks_of(height, spread), size.rows);
    const int tiles_x = blocks_of(blocks_of(width, spread), size.columns);
    return {static_cast<unsigned>(batch * tiles_y * tiles_x), static_cast<unsigned>(blocks_of(channels, size.channels)),
            static_cast<unsigned>(spread * spread)};
}

// Large tiles fetch weights less often; small ones where large would leave multiprocessors idle, and where a stride of
// 2 makes windows large.
inline Tile choose_tile(int batch, int height, int width, int channels, int input_channels, int step, int spread,
                        int multiprocessors) {
    if (channels <= size_of(Tile::kNarrow).channels) return Tile::kNarrow;
    const bool shallow = input_channels <= size_of(Tile::kLargeShallow).depth;
    const bool few = grid_of(Tile::kLarge, batch, height, width, channels, spread).blocks() < 2 * multiprocessors;
    if (step == 2 || few) return shallow ? Tile::kSmallShallow : Tile::kSmall;
    return shallow ? Tile::kLargeShallow : Tile::kLarge;
}

inline ConvParams forward_plan(const Convolution& c) {
    ConvParams p{};
    p.batch = c.batch, p.height = c.out_height(), p.width = c.out_width();
    p.channels = c.out, p.input_channels = c.in;
    p.step = c.stride, p.spread = 1, p.origin = -(c.taps / 2), p.span = c.taps;
    TapSet& taps = p.taps[0];
    for (int row = 0; row < c.taps; ++row)
        for (int column = 0; column < c.taps; ++column) {
            taps.row[taps.count] = static_cast<signed char>(row), taps.column[taps.count] = static_cast<signed char>(column);
            taps.weight[taps.count++] = static_cast<signed char>(row * c.taps + column);
        }
    return p;
}

// dz(Y) is the sum over taps k of dy(o) w(k) with Y = stride * o + k - taps / 2: of a stride of 2, for each phase
// Y = 2 i + f, the taps of one parity, from o = i + (f + taps / 2 - k) / 2.
inline ConvParams dgrad_plan(const Convolution& c) {
    ConvParams p{};
    p.batch = c.batch, p.height = c.height, p.width = c.width;
    p.channels = c.in, p.input_channels = c.out;
    p.step = 1, p.spread = c.stride;
    const int pad = c.taps / 2;
    p.origin = c.stride == 1 ? -pad : 0;
    p.span = c.stride == 1 ? c.taps : 2;
    for (int phase = 0; phase < c.stride * c.stride; ++phase) {
        TapSet& taps = p.taps[phase];
        for (int row = 0; row < c.taps; ++row)
            for (int column = 0; column < c.taps; ++column) {
                const int from_row = phase / 2 + pad - row, from_column = phase % 2 + pad - column;
                if (from_row % c.stride != 0 || from_column % c.stride != 0) continue;
                taps.row[taps.count] = static_cast<signed char>(from_row / c.stride - p.origin);
                taps.column[taps.count] = static_cast<signed char>(from_column / c.stride - p.origin);
                taps.weight[taps.count++] = static_cast<signed char>(row * c.taps + column);
            }
    }
    return p;
}

inline void set_weights(ConvParams& p, Tile tile, const void* packed) {
    const TileSize size = size_of(tile);
    p.weights = packed;
    p.weight_rows = round_up(p.channels, size.channels), p.weight_columns = round_up(p.input_channels, size.depth);
}

// The shapes of wgrad_mma.cuh: blocks of out and in channels.
enum class WgradTile { kWide, kFromNarrow, kToNarrow, kTail, kWide5 };

struct WgradSize {
    int rows, columns;
};

constexpr WgradSize size_of(WgradTile tile) {
    switch (tile) {
        case WgradTile::kWide: return {64, 64};
        case WgradTile::kFromNarrow: return {64, 16};
        case WgradTile::kWide5: return {64, 16};
        default: return {16, 64};
    }
}

inline WgradTile choose_wgrad_tile(const Convolution& c) {
    if (c.taps == 5) return c.out <= 16 ? WgradTile::kTail : WgradTile::kWide5;
    return c.out <= 16 ? WgradTile::kToNarrow : c.in <= 16 ? WgradTile::kFromNarrow : WgradTile::kWide;
}

inline constexpr int kWgradSide = 8;  // of a tile of dy

// As many shares as fill the multiprocessors, but no more than there are tiles; each costs a pass over the sums.
inline int wgrad_splits(const Convolution& c, WgradTile tile, int multiprocessors) {
    const WgradSize size = size_of(tile);
    const std::int64_t tiles = static_cast<std::int64_t>(c.batch) * blocks_of(c.out_height(), kWgradSide) *
                               blocks_of(c.out_width(), kWgradSide);
    const std::int64_t others =
        static_cast<std::int64_t>(blocks_of(c.out, size.rows)) * blocks_of(c.in, size.columns) * c.taps;
    const std::int64_t wanted = (3 * multiprocessors + others - 1) / others;
    return static_cast<int>(wanted < 1 ? 1 : wanted < tiles ? wanted : tiles);
}

}  // namespace srgan_fast::cuda
