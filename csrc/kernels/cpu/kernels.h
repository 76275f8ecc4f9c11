// Arguments of the CPU kernels, and the function table of one instruction set.
//
// Feature maps consist of rows of pixels with interleaved channels (NHWC), float or bfloat16 as the level's kernels for
// a precision require. Rows are accessed through a table of row pointers, so they may be anywhere: in a rolling buffer,
// or, outside the image, in a shared row of zeros. A row pointer addresses pixel 0. Rows have zeros on both sides, as
// given by kLeftPad and `right_pad`; they are the convolution's zero padding, which kernels read but never write.
//
// A call computes some rows of a layer. It is split into tasks (`tasks`) that may run in any order and on any thread,
// each with its own scratch memory (`scratch`). If `bands` is the number of threads, tasks belong to as many bands of
// columns from left to right, so that threads which process the same share of every layer find the data that they wrote
// in their own cache. Every output element is computed by the same operations in the same order for any split, so
// results do not depend on the number of threads.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/isa.h"

namespace srgan_fast::cpu {

inline constexpr std::int64_t kAlignment = 64;     // in bytes, of rows, pixels, weights and scratch
inline constexpr std::int64_t kChannelBlock = 16;  // channels of every map are a multiple of this
inline constexpr std::int64_t kLeftPad = 2;        // pixels; the radius of the 5x5 convolution

// Input map of a convolution.
struct InputMap {
    const void* const* rows;  // at least output rows + the kernel's tile + 1 pointers, the first to the row above the
                              // first output row
    std::int64_t channels;    // multiple of kChannelBlock
};

// A map with the result's channels that is added to it.
struct ResidualMap {
    const void* const* rows;  // as many pointers as output rows
    float scale;
};

// 3x3 convolution with zero padding of one or several concatenated maps, then the epilogue: + bias, PReLU, + residuals
// or pixel shuffle (all but the bias optional).
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

// Destination of finished pixels.
struct PixelSink {
    PixelType type;
    void* data;                 // integers: [rows][columns][channels], rounded and clamped; float:
                                // [channels][rows][columns], as is
    std::int64_t row_stride;    // elements from a row to the next
    std::int64_t plane_stride;  // of float: elements from a channel to the next
    bool tanh;                  // out = gain * tanh(x) + offset, in 0..1
    float gain[4], offset[4];
};

// The 9x9 convolution to RGB of a pixel-shuffled map, computed before the shuffle: a 5x5 convolution of the 4 * C
// channels of pixel (y, x) to the colours of pixels (2y, 2x) .. (2y + 1, 2x + 1).
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
    // Best number of tasks of a call for that many threads.
    std::int64_t (*tasks)(const Arguments&, int threads);
    // Bytes of scratch memory per task of such a call, a multiple of kAlignment.
    std::int64_t (*scratch)(const Arguments&, std::int64_t tasks);
    void (*run)(const Arguments&, std::int64_t task, std::int64_t tasks, void* scratch);
};

// Kernel of a layer, and the packing of its weights.
template <typename Arguments>
struct LayerKernel : Kernel<Arguments> {
    // Rows and columns are computed in whole tiles of this size, of which those within the output are written. An
    // output has the same bits at every position of its tile only if the tile reads the same pixels.
    std::int64_t tile;
    // Bytes of the packed weights; and the function that packs `weight`, [out][in][k][k]. Channels are the
    // convolution's; for the 9x9 to RGB, those after the shuffle.
    std::int64_t (*packed_bytes)(std::int64_t in_channels, std::int64_t out_channels);
    void (*pack)(const float* weight, std::int64_t in_channels, std::int64_t out_channels, void* packed);
};

// Kernels that execute a network in one precision, and the layout of its maps.
struct NetworkKernels {
    std::int64_t element;      // bytes per value in feature maps: 4 for float, 2 for bfloat16
    std::int64_t right_pad;    // pixels of zeros after a row of a feature map
    std::int64_t input_block;  // the weights of every input of a 3x3 convolution are padded to multiples of this
    LayerKernel<Conv3x3> conv3x3;
    LayerKernel<Conv9x9Head> head;
    LayerKernel<Conv9x9Tail> tail;
};

struct KernelTable {
    Isa isa;
    NetworkKernels fp32;
    NetworkKernels bf16;  // operands of the 3x3 convolutions, or of all, rounded to bfloat16; null if not
                          // supported
    // Executes only fp32 multiply-adds and returns their number; the time gives the processor's peak.
    std::int64_t (*multiply_adds)(std::int64_t repeats);
};

// The functions of a usable level.
const KernelTable& kernels(Isa isa);

}  // namespace srgan_fast::cpu
