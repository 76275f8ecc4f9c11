#include "kernels/cpu/level/table.h"

namespace srgan_fast::cpu::SRGAN_FAST_LEVEL {

ConvTable<float> conv_float() {
    return {conv_fwd(float{}), conv_dgrad(float{}), conv_wgrad(float{}), conv_pack(float{}),
            conv_packed_size,  conv_wgrad_splits,   max_pool(float{})};
}
ConvTable<float> conv_bf16() {
    return {conv_fwd(Bf16{}), conv_dgrad(Bf16{}), conv_wgrad(Bf16{}), conv_pack(float{}),
            conv_packed_size, conv_wgrad_splits,  max_pool(Bf16{})};
}
ConvTable<double> conv_double() {
    return {conv_fwd(double{}), conv_dgrad(double{}), conv_wgrad(double{}), conv_pack(double{}),
            conv_packed_size,   conv_wgrad_splits,    max_pool(double{})};
}

}  // namespace srgan_fast::cpu::SRGAN_FAST_LEVEL
