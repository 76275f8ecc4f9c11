// Picks the table of a level that is compiled in; each is made at its first use and kept.
#pragma once

#ifdef SRGAN_FAST_X86
#define SRGAN_FAST_CHOOSE(Type, name)                      \
    switch (isa) {                                         \
        case Isa::kAmx: {                                  \
            static const Type table = amx::name();         \
            return table;                                  \
        }                                                  \
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
