// Picks the table of a level that is compiled in; each is made at its first use and kept.
#pragma once

#define SRGAN_FAST_TABLE(Type, level, name)         \
    {                                               \
        static const Type table_of = level::name(); \
        return table_of;                            \
    }
#ifdef SRGAN_FAST_X86
#define SRGAN_FAST_CHOOSE(Type, name)                                    \
    switch (isa) {                                                       \
        case Isa::kAmx: SRGAN_FAST_TABLE(Type, amx, name)                \
        case Isa::kAvx512Bf16: SRGAN_FAST_TABLE(Type, avx512_bf16, name) \
        case Isa::kAvx512: SRGAN_FAST_TABLE(Type, avx512, name)          \
        case Isa::kAvx2: SRGAN_FAST_TABLE(Type, avx2, name)              \
        default: SRGAN_FAST_TABLE(Type, baseline, name)                  \
    }
#else
#define SRGAN_FAST_CHOOSE(Type, name) \
    (void)isa;                        \
    SRGAN_FAST_TABLE(Type, baseline, name)
#endif
