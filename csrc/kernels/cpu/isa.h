// Instruction sets that the CPU kernels are compiled for, in ascending order.
#pragma once

#include <string_view>
#include <vector>

namespace srgan_fast::cpu {

enum class Isa { kBaseline, kAvx2, kAvx512, kAvx512Bf16, kAmx };

std::string_view isa_name(Isa isa);

// Compiled levels that this processor and its operating system support, lowest first.
std::vector<Isa> usable_isas();

// The level in SRGAN_FAST_ISA, or the highest usable one if it is unset or empty.
// Throws std::invalid_argument if it is not a level, or not supported here.
Isa choose_isa();

}  // namespace srgan_fast::cpu
