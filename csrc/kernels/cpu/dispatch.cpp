#include <array>
#include <cstdlib>
#include <stdexcept>
#include <string>

#ifdef SRGAN_FAST_X86
#include <cpuid.h>
#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif

#include "kernels/cpu/choose.h"
#include "kernels/cpu/kernels.h"

namespace srgan_fast::cpu {

// The tables of the levels; see level/table.cpp and bf16/table.cpp.
namespace baseline {
KernelTable table();
}  // namespace baseline
#ifdef SRGAN_FAST_X86
namespace avx2 {
KernelTable table();
}  // namespace avx2
namespace avx512 {
KernelTable table();
}  // namespace avx512
namespace avx512_bf16 {
KernelTable table();
}  // namespace avx512_bf16
namespace amx {
KernelTable table();
}  // namespace amx
#endif

namespace {

constexpr std::array<std::string_view, 5> kNames{"baseline", "avx2", "avx512", "avx512_bf16", "amx"};

#ifdef SRGAN_FAST_X86
// Whether the processor multiplies tiles of bfloat16, and the operating system keeps their registers for this process,
// which it wants to be asked for.
bool may_use_amx() {
#ifdef SRGAN_FAST_EMULATE_AMX
    return true;
#elif defined(__linux__)
    constexpr unsigned kBf16 = 1u << 22, kTile = 1u << 24;
    constexpr int kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    unsigned a = 0, b = 0, c = 0, d = 0;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & kBf16) == 0 || (d & kTile) == 0) return false;
    static const bool permitted = syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
    return permitted;
#else
    return false;
#endif
}
#endif

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
    if (!__builtin_cpu_supports("avx512bf16")) return isas;
    isas.push_back(Isa::kAvx512Bf16);
    if (may_use_amx()) isas.push_back(Isa::kAmx);
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

const KernelTable& kernels(Isa isa) { SRGAN_FAST_CHOOSE(KernelTable, table) }

}  // namespace srgan_fast::cpu
