// Assignment of a call's tiles to its tasks.
#pragma once

#include "kernels/cpu/kernels.h"
#include "kernels/cpu/level/vec.h"

namespace srgan_fast::cpu::SRGAN_FAST_LEVEL {

inline constexpr std::int64_t kTile = 4;  // side of a tile in pixels, except for F(6x6)

// Tiles of one task: a run, in rows, of the tiles of a band of columns.
template <std::int64_t kHeight = kTile, std::int64_t kWidth = kTile>
struct Tiles {
    std::int64_t first_column, across;  // of the band, in tiles
    std::int64_t begin, end;            // tiles of the band, row after row

    std::int64_t count() const { return end - begin; }
    std::int64_t y(std::int64_t tile) const { return tile / across * kHeight; }
    std::int64_t x(std::int64_t tile) const { return (first_column + tile % across) * kWidth; }
};

template <typename Arguments, std::int64_t kHeight = kTile, std::int64_t kWidth = kTile>
struct Tiling {
    using Run = Tiles<kHeight, kWidth>;
    std::int64_t across, down;

    explicit Tiling(const Arguments& a)
        : across((a.width + kWidth - 1) / kWidth), down((a.rows + kHeight - 1) / kHeight) {}

    // A single band if columns or tasks do not divide evenly into bands, within a tenth.
    static std::int64_t bands(const Arguments& a, std::int64_t across, std::int64_t tasks) {
        const std::int64_t widest = (across + a.bands - 1) / a.bands;
        return 10 * widest * a.bands <= 11 * across && tasks % a.bands == 0 ? a.bands : 1;
    }

    // Number of tasks of at most `most` tiles; a multiple of the number of threads.
    std::int64_t tasks(std::int64_t most, int threads) const {
        const std::int64_t band = (across + threads - 1) / threads * down;  // of the widest band
        if (across >= threads) return (band + most - 1) / most * threads;
        const std::int64_t tiles = across * down, tasks = (tiles + most - 1) / most;
        return smaller(tiles, (tasks + threads - 1) / threads * threads);
    }

    std::int64_t most_tiles(const Arguments& a, std::int64_t tasks) const {
        const std::int64_t count = bands(a, across, tasks), share = tasks / count;
        return ((across + count - 1) / count * down + share - 1) / share;
    }

    Run of(const Arguments& a, std::int64_t task, std::int64_t tasks) const {
        const std::int64_t count = bands(a, across, tasks), share = tasks / count, band = task / share;
        const std::int64_t first = across * band / count, width = across * (band + 1) / count - first;
        const std::int64_t place = task % share, tiles = width * down;
        return {first, width, tiles * place / share, tiles * (place + 1) / share};
    }
};

}  // namespace srgan_fast::cpu::SRGAN_FAST_LEVEL
