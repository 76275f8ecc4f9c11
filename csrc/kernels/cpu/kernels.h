// The CPU kernels' arguments and the table of one instruction set's functions.
//
// Feature maps are rows of pixels, a pixel is its channels, side by side (NHWC), floats or bfloat16 as the kernels of a
// level and precision want them; a row is reached through a table of row pointers, so rows may lie anywhere: in a
// rolling buffer, or, for what lies outside the image, in one shared row of zeros. A row pointer addresses pixel 0.
// Rows have zeros on both sides of their pixels, as far as kLeftPad and `right_pad` say, which stand for the
// convolution's zero padding and which kernels read and never write.
//
// A call computes some rows of a layer; it is cut into tasks (`tasks` of a table's entry) that may run in any order and
// on any thread, each with a scratch memory of its own (`scratch`). Where `bands` is the number of threads, the tasks
// divide into so many bands of columns, left to right, so that threads that take the same share of every layer's tasks
// find in their own cache what they wrote. Every output element is computed by the same operations in the same order
// whatever the cut, so results do not depend on the number of threads.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/isa.h"

namespace srgan_fast::cpu {

inline constexpr std::int64_t kAlignment = 64;     // bytes; of rows, pixels, weights and scratch
inline constexpr std::int64_t kChannelBlock = 16;  // channels of every map are a multiple of this
inline constexpr std::int64_t kLeftPad = 2;        // pixels; the radius of the 5x5 convolution

// A map that a convolution reads.
struct InputMap {
    const void* const* rows;  // of the output + the kernel's tile + 1 pointers at least, the first to the row above the
                              // first output row
    std::int64_t channels;    // multiple of kChannelBlock
};

// A map of as many channels as the result that is added to it.
struct ResidualMap {
    const void* const* rows;  // as many pointers as output rows
    float scale;
};

// 3x3 convolution with zero padding of one map or of several side by side, then the epilogue: + bias, PReLU (if any),
// + residuals (if any) or pixel shuffle (if any).
struct Conv3x3 {
    std::int64_t rows, width;   // of the output, before a shuffle
    std::int64_t out_channels;  // multiple of kChannelBlock, for each phase of a shuffle
    const InputMap* inputs;
    std::int64_t input_count;
    void* const* out;  // `rows` pointers, or shuffle * rows
    const ResidualMap* residuals;
    std::int64_t residual_count;  // 0 where there is a shuffle
    const void* weights;          // packed by the kernel's `pack`
    const float* bias;            // out_channels
    const float* slope;           // out_channels, or null for no PReLU
    std::int64_t shuffle = 1;     // channel (dy * shuffle + dx) * C + c becomes channel c of pixel
                                  // (shuffle * y + dy, shuffle * x + dx)
    bool float_out = false;       // the result is floats even where maps are bfloat16; without residuals and shuffle
    std::int64_t bands = 1;

    std::int64_t in_channels() const {
        std::int64_t sum = 0;
        for (std::int64_t i = 0; i < input_count; ++i) sum += inputs[i].channels;
        return sum;
    }
};

// Convolution of RGB rows (3 floats a pixel, 4 pixels of zeros on both sides) with a 9x9 kernel, + bias, PReLU.
struct Conv9x9Head {
    std::int64_t rows, width;
    std::int64_t out_channels;  // multiple of kChannelBlock
    const void* const* in;      // rows + 9 pointers at least, the first to 4 rows above the first output row
    void* const* out;           // `rows` pointers
    const void* weights;        // packed by the kernel's `pack`
    const float* bias;
    const float* slope;
    std::int64_t bands = 1;
};

enum class PixelType { kUint8, kUint16, kFloat };

// Where and how finished pixels are written.
struct PixelSink {
    PixelType type;
    void* data;                 // integers: [rows][columns][channels], rounded and clamped; float:
                                // [channels][rows][columns], as is
    std::int64_t row_stride;    // elements from a row to the next
    std::int64_t plane_stride;  // of float: elements from a channel to the next
    bool tanh;                  // out = gain * tanh(x) + offset, in 0..1
    float gain[4], offset[4];
};

// The 9x9 convolution to RGB on the pixel-shuffled map, computed on the map before the shuffle: a 5x5 convolution of
// the 4 * C channels of pixel (y, x) to the colours of pixels (2y, 2x) .. (2y + 1, 2x + 1).
struct Conv9x9Tail {
    std::int64_t first_row;    // of the sink that the first row becomes, halved
    std::int64_t rows, width;  // of the map before the shuffle
    std::int64_t in_channels;  // 4 * C, in the order that Conv3x3 shuffles
    const void* const* in;     // rows + the kernel's tile + 3 pointers at least, the first to 2 rows above the
                               // first output row
    const void* weights;       // packed by the kernel's `pack`
    const float* bias;         // 3 values
    PixelSink sink;
    std::int64_t bands = 1;
};

template <typename Arguments>
struct Kernel {
    // Into how many tasks a call is best cut for that many threads.
    std::int64_t (*tasks)(const Arguments&, int threads);
    // Bytes of scratch memory that a task of such a call needs, a multiple of kAlignment.
    std::int64_t (*scratch)(const Arguments&, std::int64_t tasks);
    void (*run)(const Arguments&, std::int64_t task, std::int64_t tasks, void* scratch);
};

// A layer, with the form in which it wants weights.
template <typename Arguments>
struct LayerKernel : Kernel<Arguments> {
    // Rows and columns are computed in whole tiles of so many, of which those within the output are written; an output
    // has the same bits wherever its tile begins only if the tile reads the same pixels.
    std::int64_t tile;
    // Bytes of the packed weights; and packs `weight`, [out][in][k][k]. Channels are those of the convolution; of the
    // 9x9 to RGB, of the one behind the shuffle.
    std::int64_t (*packed_bytes)(std::int64_t in_channels, std::int64_t out_channels);
    void (*pack)(const float* weight, std::int64_t in_channels, std::int64_t out_channels, void* packed);
};

// What computes a network in one precision, and the maps it wants.
struct NetworkKernels {
    std::int64_t element;      // bytes of a value in feature maps: 4 of floats, 2 of bfloat16
    std::int64_t right_pad;    // pixels of zeros after a row of a feature map
    std::int64_t input_block;  // the weights of every input of a 3x3 convolution are padded to multiples of this
    LayerKernel<Conv3x3> conv3x3;
    LayerKernel<Conv9x9Head> head;
    LayerKernel<Conv9x9Tail> tail;
};

struct KernelTable {
    Isa isa;
    NetworkKernels fp32;
    NetworkKernels bf16;  // operands of the 3x3 products, or of all, rounded to bfloat16; null functions where there
                          // is none
    // Does nothing but fp32 multiply-adds, and returns how many: the time tells the processor's peak.
    std::int64_t (*multiply_adds)(std::int64_t repeats);
};

// The functions of a usable level.
const KernelTable& kernels(Isa isa);

}  // namespace srgan_fast::cpu
