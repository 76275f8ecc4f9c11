// The tables of the training kernels. A file of its own, so that the engine is not linked with them.
#include "kernels/cpu/choose.h"
#include "kernels/cpu/conv.h"

namespace srgan_fast::cpu {

// See level/conv_table.cpp, bf16/conv_table.cpp and bf16/conv_dots_table.cpp.
namespace baseline {
ConvTable<float> conv_float();
ConvTable<float> conv_bf16();
ConvTable<double> conv_double();
}  // namespace baseline
#ifdef SRGAN_FAST_X86
namespace avx2 {
ConvTable<float> conv_float();
ConvTable<float> conv_bf16();
ConvTable<double> conv_double();
}  // namespace avx2
namespace avx512 {
ConvTable<float> conv_float();
ConvTable<float> conv_bf16();
ConvTable<double> conv_double();
}  // namespace avx512
namespace avx512_bf16 {
ConvTable<float> conv_float();
ConvTable<float> conv_bf16();
ConvTable<double> conv_double();
}  // namespace avx512_bf16
namespace avx512_dots {
ConvTable<float> conv_bf16();
}  // namespace avx512_dots
namespace amx {
ConvTable<float> conv_float();
ConvTable<float> conv_bf16();
ConvTable<double> conv_double();
}  // namespace amx
#endif

const ConvTable<float>& conv_float(Isa isa) { SRGAN_FAST_CHOOSE(ConvTable<float>, conv_float) }
const ConvTable<float>& conv_bf16(Isa isa) {
#ifdef SRGAN_FAST_X86
    if (isa == Isa::kAvx512Bf16) SRGAN_FAST_TABLE(ConvTable<float>, avx512_dots, conv_bf16)
#endif
    SRGAN_FAST_CHOOSE(ConvTable<float>, conv_bf16)
}
const ConvTable<double>& conv_double(Isa isa) { SRGAN_FAST_CHOOSE(ConvTable<double>, conv_double) }

}  // namespace srgan_fast::cpu
