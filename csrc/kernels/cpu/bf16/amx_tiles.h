// AMX tile registers; a block of sums uses four of them.
//
// Compiler intrinsics need register numbers as literals; here they are template arguments. With SRGAN_FAST_EMULATE_AMX
// the same operations are done in plain memory, so that tests run without AMX and sanitizers see every access.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/cpu/bf16/tiles.h"

namespace srgan_fast::cpu::SRGAN_FAST_LEVEL {

#ifdef SRGAN_FAST_EMULATE_AMX

struct TileMemory {
    alignas(64) unsigned char tile[8][kTileRows * kTileBytes];
};
inline thread_local TileMemory tile_memory;

// Configures the tile registers during its lifetime.
class TileRegisters {
  public:
    TileRegisters() { std::memset(&tile_memory, 0, sizeof tile_memory); }
    ~TileRegisters() { std::memset(&tile_memory, 0xff, sizeof tile_memory); }
    TileRegisters(const TileRegisters&) = delete;
    TileRegisters& operator=(const TileRegisters&) = delete;
};

template <int tile>
void tile_zero() {
    std::memset(tile_memory.tile[tile], 0, sizeof tile_memory.tile[tile]);
}
// Loads rows that are `stride` bytes apart.
template <int tile>
void tile_load(const void* from, std::int64_t stride) {
    for (int row = 0; row < kTileRows; ++row)
        std::memcpy(tile_memory.tile[tile] + row * kTileBytes, static_cast<const unsigned char*>(from) + row * stride,
                    kTileBytes);
}
template <int tile>
void tile_store(void* to, std::int64_t stride) {
    for (int row = 0; row < kTileRows; ++row)
        std::memcpy(static_cast<unsigned char*>(to) + row * stride, tile_memory.tile[tile] + row * kTileBytes,
                    kTileBytes);
}
// sum += a b. Thread-local memory, where the thread sanitizer has nothing to find but would take most of a test's
// time.
template <int sum, int a, int b>
[[gnu::no_sanitize_thread]] void tile_multiply_add() {
    const auto* const left = reinterpret_cast<const Bf16*>(tile_memory.tile[a]);
    const auto* const right = reinterpret_cast<const Bf16*>(tile_memory.tile[b]);
    float* const sums = reinterpret_cast<float*>(tile_memory.tile[sum]);
    const auto widen = [](Bf16 value) { return std::bit_cast<float>(static_cast<std::uint32_t>(value.bits) << 16); };
    alignas(64) float rows[kTileDepth][kTileColumns];
    for (int k = 0; k < kTileDepth; ++k)
        for (int column = 0; column < kTileColumns; ++column)
            rows[k][column] = widen(right[k / 2 * kTileDepth + 2 * column + k % 2]);
    for (int row = 0; row < kTileRows; ++row) {
        Vec value = load(sums + row * kTileColumns);
        for (int k = 0; k < kTileDepth; ++k) value += broadcast(widen(left[row * kTileDepth + k])) * load(rows[k]);
        store(sums + row * kTileColumns, value);
    }
}

#else

class TileRegisters {
  public:
    TileRegisters() {
        struct alignas(64) {
            std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
            std::uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
            std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
        } configuration;
        asm volatile("ldtilecfg %0" ::"m"(configuration));
    }
    ~TileRegisters() { asm volatile("tilerelease"); }
    TileRegisters(const TileRegisters&) = delete;
    TileRegisters& operator=(const TileRegisters&) = delete;
};

template <int tile>
SRGAN_FAST_INLINE void tile_zero() {
    asm volatile("tilezero %%tmm%c0" ::"i"(tile));
}
// Stores rows that are `stride` bytes apart.
template <int tile>
SRGAN_FAST_INLINE void tile_load(const void* from, std::int64_t stride) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(stride), "i"(tile) : "memory");
}
template <int tile>
SRGAN_FAST_INLINE void tile_store(void* to, std::int64_t stride) {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(stride), "i"(tile) : "memory");
}
// sum += a b.
template <int sum, int a, int b>
SRGAN_FAST_INLINE void tile_multiply_add() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(sum), "i"(a), "i"(b));
}

#endif

// sums += a b for kM tiles of pixels, at `a` and `second_a` with rows `row_bytes` apart, and kN contiguous tiles of
// weights, at `b` and `next_b` elements after it.
template <int kM, int kN>
SRGAN_FAST_INLINE void multiply_tiles(const Bf16* a, const Bf16* second_a, std::int64_t row_bytes, const Bf16* b,
                                      std::int64_t next_b) {
    tile_load<6>(b, kTileBytes);
    tile_load<4>(a, row_bytes);
    tile_multiply_add<0, 4, 6>();
    if constexpr (kN == 2) {
        tile_load<7>(b + next_b, kTileBytes);
        tile_multiply_add<1, 4, 7>();
    }
    if constexpr (kM == 2) {
        tile_load<5>(second_a, row_bytes);
        tile_multiply_add<2, 5, 6>();
        if constexpr (kN == 2) tile_multiply_add<3, 5, 7>();
    }
}
template <int kM, int kN>
SRGAN_FAST_INLINE void zero_sums() {
    tile_zero<0>();
    if constexpr (kN == 2) tile_zero<1>();
    if constexpr (kM == 2) tile_zero<2>();
    if constexpr (kM == 2 && kN == 2) tile_zero<3>();
}
template <int kM, int kN>
SRGAN_FAST_INLINE void load_sums(const float* sums, const SumPlaces& p) {
    tile_load<0>(sums, p.row * 4);
    if constexpr (kN == 2) tile_load<1>(sums + p.right, p.row * 4);
    if constexpr (kM == 2) tile_load<2>(sums + p.below, p.row * 4);
    if constexpr (kM == 2 && kN == 2) tile_load<3>(sums + p.below + p.right, p.row * 4);
}
template <int kM, int kN>
SRGAN_FAST_INLINE void store_sums(float* sums, const SumPlaces& p) {
    tile_store<0>(sums, p.row * 4);
    if constexpr (kN == 2) tile_store<1>(sums + p.right, p.row * 4);
    if constexpr (kM == 2) tile_store<2>(sums + p.below, p.row * 4);
    if constexpr (kM == 2 && kN == 2) tile_store<3>(sums + p.below + p.right, p.row * 4);
}
// Computes a block's sums: those at `from` (null: zero) plus all products that each(step) passes to step(a, second_a,
// row_bytes, b, next_b), see multiply_tiles; stores them in `to`. meanwhile() is called between tile instructions:
// other work for the time that the tile unit is busy. Tiles always compute all rows.
template <int kM, int kN, typename Each, typename Meanwhile>
SRGAN_FAST_INLINE void sum_products(std::int64_t, const float* from, const SumPlaces& from_places, float* to,
                                    const SumPlaces& places, const Each& each, const Meanwhile& meanwhile) {
    from ? load_sums<kM, kN>(from, from_places) : zero_sums<kM, kN>();
    each([&](const Bf16* a, const Bf16* second_a, std::int64_t row_bytes, const Bf16* b, std::int64_t next_b)
             SRGAN_FAST_INLINE_LAMBDA {
                 multiply_tiles<kM, kN>(a, second_a, row_bytes, b, next_b);
                 meanwhile();
             });
    store_sums<kM, kN>(to, places);
}

}  // namespace srgan_fast::cpu::SRGAN_FAST_LEVEL
