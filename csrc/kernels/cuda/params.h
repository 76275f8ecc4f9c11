// What the convolutions of training get as arguments on a GPU: the family of kernels/cpu/conv.h (a prologue computed
// where tiles are read, an epilogue where they are written, forward and both gradients) with maps of 16-bit floats or
// of float, of which products are rounded to TF32, and everything else in float. Plain structures, passed to kernels by
// value.
#pragma once

#include <cstdint>

namespace srgan_fast::cuda {

inline constexpr int kTaps = 81;   // of a 9x9 convolution, the largest
inline constexpr int kPhases = 4;  // of a stride of 2, and of a pixel shuffle

// Values of channels: `data[i * step]`, so that one value can stand for all; no data: a constant that the reader knows.
struct Vector {
    const float* data;
    int step;
};

// Where z comes from; see cpu::Source. Maps are NHWC without gaps.
struct Source {
    const void* x;
    const void* residual;
    void* sum;  // z as a side output, or null
    Vector center, scale, shift, slope;
    int height, width, channels;  // of z
    int pitch;                    // elements from one pixel of a map to the next: channels, or more and zeros
    bool shuffle, affine, activates;
};

// Where dy comes from: g + mean_gradient / pixels + 2 var_gradient (y - mean) / pixels; or behind an activation
// g where y > 0, else slope * g; or g.
struct Gradient {
    const void* g;
    const void* y;
    Vector mean, mean_gradient, var_gradient;
    float share;  // of a pixel among a channel's in the batch: 1 / pixels
    float slope;
    int height, width, channels;
    int pitch;  // see Source
    bool moments, activation;
};

// The taps that reach one phase of the computed pixels: which input pixel, from the tile's first, and which weights.
struct TapSet {
    int count;
    signed char row[kTaps], column[kTaps], weight[kTaps];
};

// The input pixels that taps reach, from a pixel on: where the first are, and how many rows and columns.
struct Reach {
    int top, left, rows, columns;
};

// A convolution as implicit products of matrices: computed pixels x channels = input pixels at taps x weights.
struct ConvParams {
    int batch;
    Source source;      // forward the input; backward what the epilogue goes through
    Gradient gradient;  // backward the input
    int height, width;  // of the computed map
    int channels;       // of the computed map
    int input_channels;
    int step;    // input pixels from one computed pixel to the next
    int spread;  // computed pixels from one of a phase to the next: 2 backward through a stride of 2, else 1
    Reach reach;
    TapSet taps[kPhases];
    const void* weights;              // packed: [tap][weight_rows][weight_columns]
    int weight_rows, weight_columns;  // computed channels and input channels, up to whole blocks
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
    float* sums;  // [tiles of all phases][3][channels of x]: gradients of scale, shift, slope; or null
};

// A map that is added to a result: `scale` times its values.
struct Addend {
    const void* map;  // or null
    int pitch;        // elements from one pixel to the next
    float scale;
};

// A convolution of inference, where BatchNorm is in the weights: after it come bias and PReLU, then residuals or a
// pixel shuffle. Maps may be channels of wider ones: they have a pitch, and pointers to their first channel.
struct InferParams {
    static constexpr int kResiduals = 2;
    ConvParams conv;               // forward, without a prologue; `y` is the result
    Vector slope;                  // of PReLU, for each computed channel; no data: none
    Addend residuals[kResiduals];  // of the result's shape, added last; one without a map ends them
    int shuffle;                   // computed channels are those of shuffle^2 pixels, phase by phase; 1 for no shuffle
    int pitch;                     // of the result
    bool settled;                  // weights and slopes were there before the previous kernel began
};

// A convolution of inference whose result is pictures: after it come bias, PReLU and a pixel shuffle in the order of
// PyTorch's, channel c * shuffle^2 + phase being colour c of a pixel.
struct PictureParams {
    ConvParams conv;  // as of InferParams, without a result
    Vector slope;
    int shuffle;
    float* planes;  // [batch][channels / shuffle^2][shuffle * height][shuffle * width]
};

// A residual block of inference, of 64 channels: x + conv3x3(prelu(conv3x3(x) + bias)) + bias.
struct BlockParams {
    int batch, height, width;
    const void* x;
    const void* weights[2];  // packed as those of the convolutions are
    Vector bias[2];
    Vector slope;  // of PReLU
    void* y;       // not x
    bool settled;  // see InferParams
};

inline constexpr int kColours = 3;

// Pictures as the head's convolution reads them: a pixel's channels are 2 x 9 pixels' colours, from 4 to the left of it
// to 4 to the right, of this row and the next. There is a row above the picture, too.
struct UnfoldParams {
    static constexpr int kSide = 9, kRows = 2, kChannels = 64;  // the last ten are zeros
    static constexpr int kRowTaps = (kSide + kRows - 1) / kRows;
    const float* planes;  // [batch][3][height][width]
    int batch, height, width;
    float gain[kColours], offset[kColours];  // of each colour, inside the picture
    void* to;                                // [batch][height + 1][width][kChannels]
};

// The tail: a 5x5 convolution from four pixels' channels to four pixels' colours. What is computed first are the
// products of each column of taps, which are then added up along rows of pixels.
struct TailParams {
    static constexpr int kSide = 5, kPhaseColours = kColours * kPhases, kProducts = kSide * kPhaseColours;
    ConvParams conv;  // its channels: for each column of taps kPhaseColours, a colour's four phases together
    float* planes;    // [batch][3][2 height][2 width]
};

struct WgradParams {
    int batch, taps, stride, splits;
    int stages;  // tiles in shared memory at once
    Source source;
    Gradient gradient;
    int rows, columns;  // out and in channels up to whole blocks
    float* weight;      // [splits][taps][taps][rows][columns]
    float* bias;        // [splits][rows], or null
};

// A pass over a map whose pixels are whole units of 8 channels: how many pixels each block has.
struct Pass {
    std::int64_t pixels;
    int channels;
    int per_block;
    std::int64_t blocks() const { return (pixels + per_block - 1) / per_block; }
};

// z as a map; the pass is over x.
struct SourcePassParams {
    Pass pass;
    Source source;
    void* z;
};

// Behind the products: bias and activation where they are, or bias and moments.
struct ResultPassParams {
    Pass pass;
    void* y;
    Vector bias;
    bool activate;
    float slope;
    float* moments;  // [blocks][2][channels]: means and sums of squared deviations; or null
};

// dy as a map, and its sums.
struct GradientPassParams {
    Pass pass;
    Gradient gradient;
    void* dy;     // or null
    float* sums;  // [blocks][channels], or null
};

// From dz to what the prologue was made of; the pass is over x. See ConvParams.
struct SourceGradientPassParams {
    Pass pass;
    Source source;
    const void* dz;
    const void* sum_gradient;
    void* x_gradient;
    void* residual_gradient;
    float* sums;  // [blocks][3][channels of x], or null
};

// The largest of each 2x2 pixels, or back: the pass is over the smaller map. Sizes are even.
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

// A map with its channels filled up by zeros, so that pixels are multiples of 16 bytes.
struct PadParams {
    const void* from;
    void* to;
    std::int64_t pixels;
    int channels, pitch;
};

// Merges the tiles' moments.
struct MomentsParams {
    const float* parts;  // [tiles][2][channels]
    int batch, height, width, channels, tile_rows, tile_columns;
    float *mean, *var;
};

// Adds up `count` rows of values, `stride` apart, in double; of every row `vectors` times `length` values, a vector of
// sums each.
struct SumParams {
    static constexpr int kVectors = 3;
    const float* parts;
    int count, stride, vectors, length;
    float* sums[kVectors];
    // A multiple of the second vector besides, or null: what its values are times -scale.
    Vector scale;
    float* scaled;
};

// BatchNorm's arithmetic on vectors of channels: scale = weight / sqrt(var + eps), and back.
struct BnScaleParams {
    const float *var, *weight;  // weight: null for 1
    float eps;
    int channels;
    float* scale;
};
struct BnScaleBackwardParams {
    const float *gradient, *var, *weight;
    float eps;
    int channels;
    float *var_gradient, *weight_gradient;  // the latter null if there is no weight
};
// Running statistics towards a batch's: by `momentum`, or if that is negative so that all batches count alike.
struct BnFollowParams {
    const float *mean, *var;
    float *running_mean, *running_var;
    std::int64_t* batches;
    float momentum, unbias;  // from the biased variance to the unbiased one
    int channels;
};

struct WgradSumParams {
    const float* parts;  // see WgradParams
    int splits, taps, rows, columns, out, in;
    std::int64_t out_stride, in_stride, row_stride, column_stride;
    float* weight;
};

}  // namespace srgan_fast::cuda
