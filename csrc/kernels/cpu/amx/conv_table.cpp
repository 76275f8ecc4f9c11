#include "kernels/cpu/amx/table.h"

namespace srgan_fast::cpu::SRGAN_FAST_LEVEL {

ConvTable<float> conv_bf16() {
    return {conv_fwd(), conv_dgrad(), conv_wgrad(), conv_pack(), conv_packed_size, conv_wgrad_splits};
}

}  // namespace srgan_fast::cpu::SRGAN_FAST_LEVEL
