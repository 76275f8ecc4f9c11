#include <algorithm>
#include <array>
#include <cstdlib>
#include <stdexcept>
#include <string>

#include "kernels/cpu/choose.h"
#include "kernels/cpu/kernels.h"
#include "platform/processor.h"

namespace srgan_fast::cpu {

// The tables of the levels; see level/table.cpp and bf16/table.cpp.
#define SRGAN_FAST_DECLARE(value, level) \
    namespace level {                    \
    KernelTable table();                 \
    }
SRGAN_FAST_FOR_EACH_LEVEL(SRGAN_FAST_DECLARE)

namespace {

constexpr std::array<std::string_view, 5> kNames{"baseline", "avx2", "avx512", "avx512_bf16", "amx"};

bool may_use_amx() {
#ifdef SRGAN_FAST_EMULATE_AMX
    return true;
#else
    return platform::may_use_amx();
#endif
}

// All levels that the processor and its operating system support, lowest first.
std::vector<Isa> runnable_isas() {
    std::vector<Isa> isas{Isa::kBaseline};
    const platform::Vectors vectors = platform::find_vectors();
    if (!vectors.avx2) return isas;
    isas.push_back(Isa::kAvx2);
    if (!vectors.avx512) return isas;
    isas.push_back(Isa::kAvx512);
    if (!vectors.avx512_bf16) return isas;
    isas.push_back(Isa::kAvx512Bf16);
    if (may_use_amx()) isas.push_back(Isa::kAmx);
    return isas;
}

}  // namespace

std::string_view isa_name(Isa isa) { return kNames.at(static_cast<std::size_t>(isa)); }

std::vector<Isa> usable_isas() {
#define SRGAN_FAST_NAME(value, level) Isa::value,
    constexpr std::array kCompiled{SRGAN_FAST_FOR_EACH_LEVEL(SRGAN_FAST_NAME)};
    std::vector<Isa> isas = runnable_isas();
    std::erase_if(isas, [&](Isa isa) { return std::ranges::find(kCompiled, isa) == kCompiled.end(); });
    return isas;
}

Isa choose_isa() {
    const auto usable = usable_isas();
    if (usable.empty()) throw std::invalid_argument("this processor runs no instruction set that was compiled in");
    const char* const wanted = std::getenv("SRGAN_FAST_ISA");
    if (!wanted || !*wanted) return usable.back();
    std::string list;
    for (const Isa isa : usable) {
        if (isa_name(isa) == wanted) return isa;
        list += (list.empty() ? "" : ", ") + std::string(isa_name(isa));
    }
    throw std::invalid_argument("SRGAN_FAST_ISA is '" + std::string(wanted) + "'; this processor can run " + list);
}

const KernelTable& kernels(Isa isa) {
#define SRGAN_FAST_KERNELS(value, level) SRGAN_FAST_TABLE(value, level, KernelTable, table)
    SRGAN_FAST_FOR_EACH_LEVEL(SRGAN_FAST_KERNELS)
    throw std::invalid_argument("the instruction set " + std::string(isa_name(isa)) + " is not compiled in");
}

}  // namespace srgan_fast::cpu
