#include "kernels/cpu/level/table.h"

namespace srgan_fast::cpu::SRGAN_FAST_LEVEL {
namespace {

// Winograd tiles of 4 pixels extend beyond the end of a row by up to 3 pixels plus the radius.
constexpr std::int64_t kRightPad = 6;

}  // namespace

KernelTable table() {
    const LayerKernel<Conv9x9Head> head = conv9x9_head();
    const LayerKernel<Conv9x9Tail> tail = conv9x9_tail();
    return {Isa::SRGAN_FAST_ISA,
            {sizeof(float), kRightPad, kChannelBlock, conv3x3(), head, tail},
            {sizeof(float), kRightPad, kChannelBlock, conv3x3_bf16(), head, tail},
            multiply_adds};
}

}  // namespace srgan_fast::cpu::SRGAN_FAST_LEVEL
