// Arguments of the CUDA convolutions of training: as in kernels/cpu/conv.h (a prologue computed as tiles are read, an
// epilogue as they are written, forward and both gradients) with maps of 16-bit floats, or of float with
// multiplications in TF32, and everything else in float. Plain structures, passed to kernels by value.
#pragma once

#include <cstdint>

namespace srgan_fast::cuda {

inline constexpr int kTaps = 81;   // of the largest convolution, 9x9
inline constexpr int kPhases = 4;  // of stride 2, and of a pixel shuffle

// Per-channel values: `data[i * step]`, so that one value can stand for all; without data, a constant known to the
// reader.
struct Vector {
    const float* data;
    int step;
};

// Source of z; see cpu::Source. Maps are dense NHWC.
struct Source {
    const void* x;
    const void* residual;
    void* sum;  // side output for z, or null
    Vector center, scale, shift, slope;
    int height, width, channels;  // of z
    int pitch;                    // elements per pixel of a map: channels, plus zero padding
    bool shuffle, affine, activates;
};

// Source of dy: g + mean_gradient / pixels + 2 var_gradient (y - mean) / pixels; or after an activation, g where y > 0,
// else slope * g; or g.
struct Gradient {
    const void* g;
    const void* y;
    Vector mean, mean_gradient, var_gradient;
    float share;  // 1 / number of pixels per channel in the batch
    float slope;
    int height, width, channels;
    int pitch;  // see Source
    bool moments, activation;
};

// Taps of one phase of the computed pixels: input pixel of each, relative to the tile's first, and index of its
// weights.
struct TapSet {
    int count;
    signed char row[kTaps], column[kTaps], weight[kTaps];
};

// Extent of the input pixels that taps read: offset of the first one, and number of rows and columns.
struct Reach {
    int top, left, rows, columns;
};

// A convolution as implicit GEMM: computed pixels x channels = input pixels at taps x weights.
struct ConvParams {
    int batch;
    Source source;      // forward the input; backward for the epilogue
    Gradient gradient;  // backward the input
    int height, width;  // of the computed map
    int channels;       // of the computed map
    int input_channels;
    int step;    // input pixels per computed pixel
    int spread;  // distance of a phase's computed pixels: 2 for the gradient of stride 2, else 1
    Reach reach;
    TapSet taps[kPhases];
    const void* weights;              // packed: [tap][weight_rows][weight_columns]
    int weight_rows, weight_columns;  // computed and input channels, padded to whole blocks
    // Forward.
    Vector bias;
    bool activate;
    float slope;
    void* y;
    float* moments;  // [tiles][2][channels]: means and sums of squared deviations; or null
    // Backward.
    const void* sum_gradient;
    void* x_gradient;
    void* residual_gradient;
    float* sums;    // [tiles of all phases][3][channels of x]: gradients of scale, shift, slope; or null
    int* finished;  // set to 0 for SumParams::finished; or null
};

// A map added to a result, times `scale`.
struct Addend {
    const void* map;  // or null
    int pitch;        // elements per pixel
    float scale;
};

// A convolution of inference, with BatchNorm folded into the weights: followed by bias and PReLU, then residuals or a
// pixel shuffle. Maps may be channel slices of wider ones: they have a pitch, and pointers to their first channel.
struct InferParams {
    static constexpr int kResiduals = 2;
    ConvParams conv;               // forward, without a prologue; `y` is the result
    Vector slope;                  // PReLU, per computed channel; no data: none
    Addend residuals[kResiduals];  // with the result's shape, added last; ends at one without a map
    int shuffle;                   // factor; computed channels are phase-major; 1 for no shuffle
    int pitch;                     // elements per pixel of the result
    bool weights_are_constant;     // not written by the preceding kernel: may be prefetched before it ends
};

// A convolution of inference whose result are images: followed by bias, PReLU and a pixel shuffle in PyTorch's order,
// channel c * shuffle^2 + phase being colour c of a pixel.
struct PictureParams {
    ConvParams conv;  // as in InferParams, without a result
    Vector slope;
    int shuffle;
    float* planes;  // [batch][channels / shuffle^2][shuffle * height][shuffle * width]
};

// A residual block of inference with 64 channels: x + conv3x3(prelu(conv3x3(x) + bias)) + bias.
struct BlockParams {
    int batch, height, width;
    const void* x;
    const void* weights[2];  // packed as for InferParams
    Vector bias[2];
    Vector slope;               // of PReLU
    void* y;                    // must not be x
    bool weights_are_constant;  // see InferParams
};

inline constexpr int kColours = 3;

// Images as the head's convolution reads them: the channels of a pixel are the colours of 2 x 9 pixels, from 4 to its
// left to 4 to its right, in this row and the next. There is one extra row above the image.
struct UnfoldParams {
    static constexpr int kSide = 9, kRows = 2, kChannels = 64;  // the last ten are zeros
    static constexpr int kRowTaps = (kSide + kRows - 1) / kRows;
    const float* planes;  // [batch][3][height][width]
    int batch, height, width;
    float gain[kColours], offset[kColours];  // per colour, inside the image
    void* to;                                // [batch][height + 1][width][kChannels]
};

// The tail: a 5x5 convolution from four pixels' channels to four pixels' colours. First the products with each column
// of taps are computed, then they are summed along rows of pixels.
struct TailParams {
    static constexpr int kSide = 5, kPhaseColours = kColours * kPhases, kProducts = kSide * kPhaseColours;
    ConvParams conv;  // channels: kPhaseColours per column of taps, with the four phases of a colour adjacent
    float* planes;    // [batch][3][2 height][2 width]
};

struct WgradParams {
    int batch, taps, stride, splits;
    int stages;  // tiles in shared memory at a time
    Source source;
    Gradient gradient;
    int rows, columns;  // out and in channels, padded to whole blocks
    float* weight;      // [splits][taps][taps][rows][columns]
    float* bias;        // [splits][rows], or null
};

// A pass over a map with whole units of 8 channels: number of pixels per block.
struct Pass {
    std::int64_t pixels;
    int channels;
    int per_block;
    std::int64_t blocks() const { return (pixels + per_block - 1) / per_block; }
};

// Writes z as a map; the pass is over x.
struct SourcePassParams {
    Pass pass;
    Source source;
    void* z;
};

// After the convolution: bias and activation in place, or bias and moments.
struct ResultPassParams {
    Pass pass;
    void* y;
    Vector bias;
    bool activate;
    float slope;
    float* moments;  // [blocks][2][channels]: means and sums of squared deviations; or null
};

// Writes dy as a map, and its sums.
struct GradientPassParams {
    Pass pass;
    Gradient gradient;
    void* dy;     // or null
    float* sums;  // [blocks][channels], or null
};

// From dz to the gradients of the prologue's inputs; the pass is over x. See ConvParams.
struct SourceGradientPassParams {
    Pass pass;
    Source source;
    const void* dz;
    const void* sum_gradient;
    void* x_gradient;
    void* residual_gradient;
    float* sums;    // [blocks][3][channels of x], or null
    int* finished;  // set to 0 for SumParams::finished; or null
};

// 2x2 max pooling, or its gradient: the pass is over the smaller map. Sizes are even.
struct PoolParams {
    Pass pass;
    const void* x;
    int height, width;  // of x
    const void* g;      // backward, of the smaller map
    void* to;           // the smaller map, or the gradient of x
};

struct PackParams {
    const float* weight;
    std::int64_t out_stride, in_stride, row_stride, column_stride;
    int out, in, taps;
    bool backward;  // rows are input channels
    int rows, columns;
    void* packed;  // [taps * taps][rows][columns]
};

// Pads a map's channels with zeros, so that pixels are multiples of 16 bytes.
struct PadParams {
    const void* from;
    void* to;
    std::int64_t pixels;
    int channels, pitch;
};

// BatchNorm's per-channel arithmetic after its moments: scale = weight / sqrt(var + eps), and the running statistics'
// update by `momentum`.
struct NormParams {
    const float* weight;  // or null for 1
    float eps;
    float* scale;                       // or null for no arithmetic at all
    float *running_mean, *running_var;  // or null
    std::int64_t* batches;              // incremented
    float momentum, unbias;             // the latter is the factor from the biased to the unbiased variance
};

// Merges the moments of the tiles.
struct MomentsParams {
    const float* parts;  // [tiles][2][channels]
    int batch, height, width, channels, tile_rows, tile_columns;
    float *mean, *var;
    NormParams norm{};
};

// The BatchNorm that gave a scale: where the scale's gradient continues.
struct NormGradientParams {
    const float *var, *weight;  // no var: no BatchNorm; no weight: 1
    float eps;
    float *var_gradient, *weight_gradient;  // the latter null if there is no weight
};

// Sums `count` rows of values, `stride` apart, in double; of every row `vectors` times `length` values, giving that
// many vectors of sums.
struct SumParams {
    static constexpr int kVectors = 3;
    const float* parts;
    int count, stride, vectors, length;
    float* sums[kVectors];
    // Multiple of the second vector to subtract: its values times `scale`; or null.
    Vector scale;
    float* scaled;
    NormGradientParams norm{};  // the first vector is its scale's gradient
    // Sum of the third vector's values, which the last block to finish computes; or null. `finished` is 0 before.
    float* total = nullptr;
    int* finished = nullptr;
};

// BatchNorm's per-channel arithmetic: scale = weight / sqrt(var + eps), and its gradient.
struct BnScaleParams {
    const float *var, *weight;  // weight: null for 1
    float eps;
    int channels;
    float* scale;
};
struct BnScaleBackwardParams {
    const float* gradient;
    int channels;
    NormGradientParams norm;
};
// Updates running statistics: by `momentum`, or as a cumulative average if that is negative.
struct BnFollowParams {
    const float *mean, *var;
    float *running_mean, *running_var;
    std::int64_t* batches;
    float momentum, unbias;  // factor from the biased to the unbiased variance
    int channels;
};

struct WgradSumParams {
    const float* parts;  // see WgradParams
    int splits, taps, rows, columns, out, in;
    std::int64_t out_stride, in_stride, row_stride, column_stride;
    float* weight;
};

}  // namespace srgan_fast::cuda
