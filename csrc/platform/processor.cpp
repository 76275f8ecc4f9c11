#include "platform/processor.h"

#ifdef __x86_64__
#include <cpuid.h>
#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif

namespace srgan_fast::platform {

#ifdef __x86_64__

// CPUID and XCR0 as Intel's manual (volume 1, 14.3 to 15.4) says. Not __builtin_cpu_supports: the runtime of some
// compilers (zig's, for one) answers that there are none. On macOS, XCR0 lacks AVX-512 until a thread uses it, so there
// AVX2 is the highest level.
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

#else

Vectors find_vectors() { return {}; }

#endif

#if defined(__x86_64__) && defined(__linux__)

bool may_use_amx() {
    constexpr unsigned kBf16 = 1u << 22, kTile = 1u << 24;
    constexpr int kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    unsigned a = 0, b = 0, c = 0, d = 0;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & kBf16) == 0 || (d & kTile) == 0) return false;
    static const bool permitted = syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
    return permitted;
}

#else

bool may_use_amx() { return false; }

#endif

}  // namespace srgan_fast::platform
