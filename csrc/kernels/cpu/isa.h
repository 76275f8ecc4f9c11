// Instruction sets that the CPU kernels are compiled for, one level above the other.
#pragma once

#include <string_view>
#include <vector>

namespace srgan_fast::cpu {

enum class Isa { kBaseline, kAvx2, kAvx512, kAvx512Bf16, kAmx };

std::string_view isa_name(Isa isa);

// The levels that were compiled in and that this processor and its operating system can run, lowest first.
std::vector<Isa> usable_isas();

// The level that SRGAN_FAST_ISA names, or the highest usable one where it is unset or empty.
// Throws std::invalid_argument where it names no level, or one that cannot run here.
Isa choose_isa();

}  // namespace srgan_fast::cpu
