// 2x2 max pooling, as in VGG. It stores no indices: the gradient finds the largest pixel again.
#pragma once

#include <cstdint>

#include "kernels/cpu/kernels.h"

namespace srgan_fast::cpu {

// Maps are dense NHWC. Forward, `to` is the pooled map, half as high and wide; an odd last row or column is ignored, as
// in PyTorch. Backward, `g` is the gradient of that map and `to` that of x, which is written entirely. Of equal values
// the first one counts, of NaNs the last.
struct MaxPool {
    const void* x;
    std::int64_t batch, height, width, channels;  // of x
    const void* g;                                // null: forward
    void* to;
};

}  // namespace srgan_fast::cpu
