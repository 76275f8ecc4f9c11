// What is asked of the processor: its vectors, and a pause within a spinning wait.
#pragma once

namespace srgan_fast::platform {

// Vectors of x86-64 that the processor has and the operating system saves; none elsewhere.
struct Vectors {
    bool avx2 = false;         // with FMA
    bool avx512 = false;       // F, DQ, BW and VL
    bool avx512_bf16 = false;  // beside `avx512`
};
Vectors find_vectors();

// Whether the processor has AMX and the operating system saves its tile registers for this process, which must be
// requested: only Linux is asked.
bool may_use_amx();

// Leaves the core to its other thread for a moment.
inline void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

}  // namespace srgan_fast::platform
