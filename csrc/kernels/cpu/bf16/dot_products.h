// Blocks of sums with AVX-512 dot products of bfloat16 pairs: replaces amx_tiles.h without AMX; twice as many
// multiplications per instruction as with floats.
//
// A block's rows are processed in groups that fill the registers, each over the whole depth.
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/cpu/bf16/tiles.h"

namespace srgan_fast::cpu::SRGAN_FAST_LEVEL {

// Vector registers need no configuration.
class TileRegisters {
  public:
    TileRegisters() {}
};

// Rows kFirst .. kEnd of a block; see sum_products.
template <int kFirst, int kEnd, int kN, typename Each>
SRGAN_FAST_INLINE void sum_rows(const float* from, const SumPlaces& from_places, float* to, const SumPlaces& places,
                                const Each& each) {
    constexpr int kRows = kEnd - kFirst;
    const auto place = [](const SumPlaces& p, int r, int n) SRGAN_FAST_INLINE_LAMBDA {
        const int row = kFirst + r;
        return row / kTileRows * p.below + row % kTileRows * p.row + n * p.right;
    };
    Vec sums[kRows][kN];
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 2
        for (int n = 0; n < kN; ++n) sums[r][n] = from ? read(from + place(from_places, r, n)) : Vec{};
    each([&](const Bf16* a, const Bf16* second_a, std::int64_t row_bytes, const Bf16* b, std::int64_t next_b)
             SRGAN_FAST_INLINE_LAMBDA {
                 const char* const upper = reinterpret_cast<const char*>(a);
                 const char* const lower = reinterpret_cast<const char*>(second_a);
#pragma GCC unroll 1
                 for (int k = 0; k < kTileDepth / 2; ++k, b += kTileDepth) {
                     __m512bh w[kN];
#pragma GCC unroll 2
                     for (int n = 0; n < kN; ++n) w[n] = (__m512bh)_mm512_loadu_si512(b + n * next_b);
#pragma GCC unroll 16
                     for (int r = 0; r < kRows; ++r) {
                         const int row = kFirst + r;
                         int pair;
                         std::memcpy(&pair, (row < kTileRows ? upper : lower) + row % kTileRows * row_bytes + 4 * k,
                                     sizeof pair);
                         const __m512bh x = (__m512bh)_mm512_set1_epi32(pair);
#pragma GCC unroll 2
                         for (int n = 0; n < kN; ++n) sums[r][n] = (Vec)_mm512_dpbf16_ps((__m512)sums[r][n], x, w[n]);
                     }
                 }
             });
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 2
        for (int n = 0; n < kN; ++n) write(to + place(places, r, n), sums[r][n]);
}

template <int kM, int kN, int kGroup, typename Each>
SRGAN_FAST_INLINE void sum_groups(std::int64_t rows, const float* from, const SumPlaces& from_places, float* to,
                                  const SumPlaces& places, const Each& each) {
    constexpr int kRows = kM * kTileRows, kGroups = kN == 1 ? kM : kM + 1;
    if constexpr (kGroup < kGroups) {
        constexpr int kFirst = kRows * kGroup / kGroups, kEnd = kRows * (kGroup + 1) / kGroups;
        if (kFirst >= rows) return;
        sum_rows<kFirst, kEnd, kN>(from, from_places, to, places, each);
        sum_groups<kM, kN, kGroup + 1>(rows, from, from_places, to, places, each);
    }
}

// Computes a block's sums: those at `from` (null: zero) plus all products that each(step) passes to step(a, second_a,
// row_bytes, b, next_b): of kM tiles of pixels, at `a` and `second_a` with rows `row_bytes` apart, and kN contiguous
// tiles of weights, at `b` and `next_b` elements after it; stores them in `to`. Only the first `rows` rows are needed.
// Nothing runs meanwhile.
template <int kM, int kN, typename Each, typename Meanwhile>
SRGAN_FAST_INLINE void sum_products(std::int64_t rows, const float* from, const SumPlaces& from_places, float* to,
                                    const SumPlaces& places, const Each& each, const Meanwhile&) {
    sum_groups<kM, kN, 0>(rows, from, from_places, to, places, each);
}

}  // namespace srgan_fast::cpu::SRGAN_FAST_LEVEL
