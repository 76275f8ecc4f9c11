#include <array>
#include <cstdlib>
#include <stdexcept>
#include <string>

#include "kernels/cpu/conv.h"
#include "kernels/cpu/kernels.h"

namespace srgan_fast::cpu {

// The tables of the levels; see level/table.cpp.
namespace baseline {
KernelTable table();
ConvTable<float> conv_float();
ConvTable<float> conv_bf16();
ConvTable<double> conv_double();
}  // namespace baseline
#ifdef SRGAN_FAST_X86
namespace avx2 {
KernelTable table();
ConvTable<float> conv_float();
ConvTable<float> conv_bf16();
ConvTable<double> conv_double();
}  // namespace avx2
namespace avx512 {
KernelTable table();
ConvTable<float> conv_float();
ConvTable<float> conv_bf16();
ConvTable<double> conv_double();
}  // namespace avx512
namespace avx512_bf16 {
KernelTable table();
ConvTable<float> conv_float();
ConvTable<float> conv_bf16();
ConvTable<double> conv_double();
}  // namespace avx512_bf16
#endif

namespace {

constexpr std::array<std::string_view, 4> kNames{"baseline", "avx2", "avx512", "avx512_bf16"};

}  // namespace

std::string_view isa_name(Isa isa) { return kNames[static_cast<std::size_t>(isa)]; }

std::vector<Isa> usable_isas() {
    std::vector<Isa> isas{Isa::kBaseline};
#ifdef SRGAN_FAST_X86
    // The compiler's runtime asks CPUID, and XCR0 for the operating system's consent.
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return isas;
    isas.push_back(Isa::kAvx2);
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
        !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl"))
        return isas;
    isas.push_back(Isa::kAvx512);
    if (__builtin_cpu_supports("avx512bf16")) isas.push_back(Isa::kAvx512Bf16);
#endif
    return isas;
}

Isa choose_isa() {
    const auto usable = usable_isas();
    const char* const wanted = std::getenv("SRGAN_FAST_ISA");
    if (!wanted || !*wanted) return usable.back();
    std::string list;
    for (const Isa isa : usable) {
        if (isa_name(isa) == wanted) return isa;
        list += (list.empty() ? "" : ", ") + std::string(isa_name(isa));
    }
    throw std::invalid_argument("SRGAN_FAST_ISA is '" + std::string(wanted) + "'; this processor can run " + list);
}

// A level's table, made at its first use and kept.
#ifdef SRGAN_FAST_X86
#define SRGAN_FAST_CHOOSE(Type, name)                      \
    switch (isa) {                                         \
        case Isa::kAvx512Bf16: {                           \
            static const Type table = avx512_bf16::name(); \
            return table;                                  \
        }                                                  \
        case Isa::kAvx512: {                               \
            static const Type table = avx512::name();      \
            return table;                                  \
        }                                                  \
        case Isa::kAvx2: {                                 \
            static const Type table = avx2::name();        \
            return table;                                  \
        }                                                  \
        default: {                                         \
            static const Type table = baseline::name();    \
            return table;                                  \
        }                                                  \
    }
#else
#define SRGAN_FAST_CHOOSE(Type, name)           \
    (void)isa;                                  \
    static const Type table = baseline::name(); \
    return table;
#endif

const KernelTable& kernels(Isa isa) { SRGAN_FAST_CHOOSE(KernelTable, table) }
const ConvTable<float>& conv_float(Isa isa) { SRGAN_FAST_CHOOSE(ConvTable<float>, conv_float) }
const ConvTable<float>& conv_bf16(Isa isa) { SRGAN_FAST_CHOOSE(ConvTable<float>, conv_bf16) }
const ConvTable<double>& conv_double(Isa isa) { SRGAN_FAST_CHOOSE(ConvTable<double>, conv_double) }

}  // namespace srgan_fast::cpu
