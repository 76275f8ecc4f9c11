// What the level that is being compiled offers.
#pragma once

#include "kernels/cpu/kernels.h"
#include "kernels/cpu/level/vec.h"

namespace srgan_fast::cpu::SRGAN_FAST_LEVEL {

Kernel<Conv3x3> conv3x3();
Kernel<Conv3x3> conv3x3_bf16();
Kernel<Conv9x9Head> conv9x9_head();
Kernel<Conv9x9Tail> conv9x9_tail();

std::int64_t multiply_adds(std::int64_t repeats);

// To be called only where the level can run: even this is compiled for it.
KernelTable table();

}  // namespace srgan_fast::cpu::SRGAN_FAST_LEVEL
