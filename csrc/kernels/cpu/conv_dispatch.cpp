// Tables of the training kernels. A separate file, so that the engine is not linked with them.
#include <stdexcept>
#include <string>

#include "kernels/cpu/choose.h"
#include "kernels/cpu/conv.h"

namespace srgan_fast::cpu {

// See level/conv_table.cpp, bf16/conv_table.cpp and bf16/conv_dots_table.cpp.
#define SRGAN_FAST_DECLARE(value, level) \
    namespace level {                    \
    ConvTable<float> conv_float();       \
    ConvTable<float> conv_bf16();        \
    ConvTable<double> conv_double();     \
    }
SRGAN_FAST_FOR_EACH_LEVEL(SRGAN_FAST_DECLARE)
namespace avx512_dots {
ConvTable<float> conv_bf16();
}  // namespace avx512_dots

namespace {

[[noreturn]] void refuse(Isa isa) {
    throw std::invalid_argument("the instruction set " + std::string(isa_name(isa)) + " is not compiled in");
}

}  // namespace

const ConvTable<float>& conv_float(Isa isa) {
#define SRGAN_FAST_FLOAT(value, level) SRGAN_FAST_TABLE(value, level, ConvTable<float>, conv_float)
    SRGAN_FAST_FOR_EACH_LEVEL(SRGAN_FAST_FLOAT)
    refuse(isa);
}
const ConvTable<float>& conv_bf16(Isa isa) {
#ifdef SRGAN_FAST_HAS_DOTS
    SRGAN_FAST_TABLE(kAvx512Bf16, avx512_dots, ConvTable<float>, conv_bf16)
#endif
#define SRGAN_FAST_BF16(value, level) SRGAN_FAST_TABLE(value, level, ConvTable<float>, conv_bf16)
    SRGAN_FAST_FOR_EACH_LEVEL(SRGAN_FAST_BF16)
    refuse(isa);
}
const ConvTable<double>& conv_double(Isa isa) {
#define SRGAN_FAST_DOUBLE(value, level) SRGAN_FAST_TABLE(value, level, ConvTable<double>, conv_double)
    SRGAN_FAST_FOR_EACH_LEVEL(SRGAN_FAST_DOUBLE)
    refuse(isa);
}

}  // namespace srgan_fast::cpu
