#include "kernels/cpu/bf16/table.h"

#include "kernels/cpu/bf16/tiles.h"

namespace srgan_fast::cpu {

// See level/table.cpp.
namespace avx512_bf16 {
KernelTable table();
}  // namespace avx512_bf16

namespace SRGAN_FAST_LEVEL {
namespace {

// Tiles of 16 pixels extend beyond the end of a row by up to 15 pixels plus the radius of the 5x5 convolution, and a
// tile of 32 channels extends into one more pixel if fewer are left.
constexpr std::int64_t kRightPad = kTileRows - 1 + 2 + 1;

}  // namespace

KernelTable table() {
    const KernelTable below = avx512_bf16::table();
    return {Isa::SRGAN_FAST_ISA,
            below.fp32,
            {sizeof(Bf16), kRightPad, kTileDepth, conv3x3(), conv9x9_head(), conv9x9_tail()},
            below.multiply_adds};
}

}  // namespace SRGAN_FAST_LEVEL
}  // namespace srgan_fast::cpu
