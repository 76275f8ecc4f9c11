// bfloat16 tiles: always 16 rows of 64 bytes. A tile of sums is 16 x 16 floats; a multiplication adds the product of 16
// x 32 and 32 x 16 bfloat16 to it, the latter in pairs: row k holds elements 2k and 2k + 1 of each column next to each
// other. AMX has registers for them (amx_tiles.h); AVX-512 multiplies pairs in vectors (dot_products.h).
#pragma once

#include <cstdint>
#include <utility>

#include "kernels/cpu/level/maps.h"

namespace srgan_fast::cpu::SRGAN_FAST_LEVEL {

inline constexpr int kTileRows = 16, kTileBytes = 64, kTileColumns = 16;
inline constexpr int kTileDepth = 32;                                  // bfloat16s per row
inline constexpr std::int64_t kTileElements = kTileRows * kTileDepth;  // bfloat16s per tile

typedef std::uint32_t PairWords __attribute__((vector_size(64), may_alias));

// Transposes rows of 16 pairs: exchanges halves of two vectors that are 8 rows apart, then 4, 2 and 1.
template <int kApart, int... kLane>
SRGAN_FAST_INLINE void exchange(Words (&rows)[16], std::integer_sequence<int, kLane...>) {
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) {
        if ((i & kApart) != 0) continue;
        const Words a = rows[i], b = rows[i + kApart];
        rows[i] = __builtin_shufflevector(a, b, (kLane & kApart ? 16 + kLane - kApart : kLane)...);
        rows[i + kApart] = __builtin_shufflevector(a, b, (kLane & kApart ? 16 + kLane : kLane + kApart)...);
    }
}
template <int kApart>
SRGAN_FAST_INLINE void exchange(Words (&rows)[16]) {
    exchange<kApart>(rows, std::make_integer_sequence<int, 16>());
}
SRGAN_FAST_INLINE void transpose(Words (&rows)[16]) {
    exchange<8>(rows), exchange<4>(rows), exchange<2>(rows), exchange<1>(rows);
}

// Interleaves two rows of 16 columns.
SRGAN_FAST_INLINE Words pair_of(const Bf16* first, const Bf16* second) {
    return widen(*reinterpret_cast<const Halves*>(first)) | widen(*reinterpret_cast<const Halves*>(second)) << 16;
}
SRGAN_FAST_INLINE void put_pair(Bf16* to, Words pair) { *reinterpret_cast<PairWords*>(to) = pair; }

// A block of 2 x 2 tiles of sums: each loaded tile is used twice.
inline constexpr int kBlockRows = 2 * kTileRows, kBlockColumns = 2 * kTileColumns;

// Layout of a block's sums, in floats: distance between rows, to the tile beside, and to the tile below.
struct SumPlaces {
    std::int64_t row, right, below;
};
// Pixel by pixel, kBlockColumns floats each.
inline constexpr SumPlaces kBlockSums{kBlockColumns, kTileColumns, kTileRows * kBlockColumns};

}  // namespace srgan_fast::cpu::SRGAN_FAST_LEVEL
