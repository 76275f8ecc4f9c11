#include "kernels/cpu/level/table.h"

namespace srgan_fast::cpu::SRGAN_FAST_LEVEL {

KernelTable table() {
    return {Isa::SRGAN_FAST_ISA, kPanel, conv3x3(), conv3x3_bf16(), conv9x9_head(), conv9x9_tail(), multiply_adds};
}

}  // namespace srgan_fast::cpu::SRGAN_FAST_LEVEL
