// Max pooling of 2x2 pixels, as in a VGG. It keeps no indices: the gradient finds the largest pixel again.
#pragma once

#include <cstdint>

#include "kernels/cpu/kernels.h"

namespace srgan_fast::cpu {

// Maps are NHWC without gaps. Forward, `to` is the map of the largest, half as high and wide; a last row or column
// without a neighbour is left out, as by torch. Backward, `g` is that map's gradient and `to` that of x, all of which
// is written. Of equal ones the first counts, of those that are no numbers the last.
struct MaxPool {
    const void* x;
    std::int64_t batch, height, width, channels;  // of x
    const void* g;                                // null: forward
    void* to;
};

}  // namespace srgan_fast::cpu
