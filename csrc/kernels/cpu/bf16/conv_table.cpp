#include "kernels/cpu/bf16/table.h"

namespace srgan_fast::cpu {

// See level/conv_table.cpp.
namespace avx512_bf16 {
ConvTable<float> conv_float();
ConvTable<float> conv_bf16();
ConvTable<double> conv_double();
}  // namespace avx512_bf16

namespace SRGAN_FAST_LEVEL {

ConvTable<float> conv_float() { return avx512_bf16::conv_float(); }

ConvTable<float> conv_bf16() {
    return {conv_fwd(),
            conv_dgrad(),
            conv_wgrad(),
            conv_pack(),
            conv_packed_size,
            conv_wgrad_splits,
            avx512_bf16::conv_bf16().max_pool};
}

ConvTable<double> conv_double() { return avx512_bf16::conv_double(); }

}  // namespace SRGAN_FAST_LEVEL
}  // namespace srgan_fast::cpu
