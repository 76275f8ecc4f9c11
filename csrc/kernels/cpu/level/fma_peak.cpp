// Multiply-adds only: the peak of the level, for the roofline.
#include "kernels/cpu/level/table.h"

namespace srgan_fast::cpu::SRGAN_FAST_LEVEL {

namespace {

// Makes the compiler assume that the value is read and modified; otherwise it could skip computations.
SRGAN_FAST_INLINE void touch(Vec& value) {
#if defined(__x86_64__)
    asm volatile("" : "+v"(value));
#else
    asm volatile("" : "+w"(value));
#endif
}

}  // namespace

std::int64_t multiply_adds(std::int64_t repeats) {
    constexpr int kChains = 12;  // enough to hide the latency, few enough for 16 registers
    Vec sums[kChains];
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) sums[i] = broadcast(static_cast<float>(i));
    Vec factor = broadcast(0.999f);
    const Vec addend = broadcast(1e-3f);
    for (std::int64_t r = 0; r < repeats; ++r) {
#pragma GCC unroll 12
        for (int i = 0; i < kChains; ++i) sums[i] = sums[i] * factor + addend;
        touch(factor);
    }
    Vec sum = sums[0];
#pragma GCC unroll 12
    for (int i = 1; i < kChains; ++i) sum += sums[i];
    touch(sum);
    return repeats * kChains * kLanes;
}

}  // namespace srgan_fast::cpu::SRGAN_FAST_LEVEL
