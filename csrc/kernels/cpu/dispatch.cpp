#include <algorithm>
#include <array>
#include <cstdlib>
#include <stdexcept>
#include <string>

#ifdef __x86_64__
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
#define SRGAN_FAST_DECLARE(value, level) \
    namespace level {                    \
    KernelTable table();                 \
    }
SRGAN_FAST_FOR_EACH_LEVEL(SRGAN_FAST_DECLARE)

namespace {

constexpr std::array<std::string_view, 5> kNames{"baseline", "avx2", "avx512", "avx512_bf16", "amx"};

#ifdef __x86_64__
// Vectors that the processor has and the operating system saves: CPUID and XCR0 as Intel's manual (volume 1, 14.3
// to 15.4) says. Not __builtin_cpu_supports: the runtime of some compilers (zig's, for one) answers that there are
// none.
struct Vectors {
    bool avx2, avx512, avx512_bf16;
};
Vectors find_vectors() {
    unsigned a = 0, b = 0, c = 0, d = 0;
    constexpr unsigned kFma = 1u << 12, kOsxsave = 1u << 27;
    if (!__get_cpuid(1, &a, &b, &c, &d) || (c & kFma) == 0 || (c & kOsxsave) == 0) return {};
    unsigned saved = 0, high = 0;
    __asm__("xgetbv" : "=a"(saved), "=d"(high) : "c"(0));
    constexpr unsigned kYmm = 0x06, kZmm = 0xe6;
    constexpr unsigned kAvx2 = 1u << 5, kAvx512 = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31;  // F, DQ, BW and VL
    constexpr unsigned kBf16 = 1u << 5;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return {};
    const bool avx2 = (saved & kYmm) == kYmm && (b & kAvx2) != 0;
    const bool avx512 = avx2 && (saved & kZmm) == kZmm && (b & kAvx512) == kAvx512;
    return {avx2, avx512, avx512 && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & kBf16) != 0};
}

// Whether the processor has AMX and the operating system saves its tile registers for this process, which must be
// requested.
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

// All levels that the processor and its operating system support, lowest first.
std::vector<Isa> runnable_isas() {
    std::vector<Isa> isas{Isa::kBaseline};
#ifdef __x86_64__
    const Vectors vectors = find_vectors();
    if (!vectors.avx2) return isas;
    isas.push_back(Isa::kAvx2);
    if (!vectors.avx512) return isas;
    isas.push_back(Isa::kAvx512);
    if (!vectors.avx512_bf16) return isas;
    isas.push_back(Isa::kAvx512Bf16);
    if (may_use_amx()) isas.push_back(Isa::kAmx);
#endif
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
