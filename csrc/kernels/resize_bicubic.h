// MATLAB's `imresize(..., 'bicubic')` with antialiasing, one axis at a time.
//
// Super-resolution data sets are defined by that function, so results must agree with it bit for bit: taps are computed
// in double in MATLAB's order of operations, and integer images are rounded after each axis.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace srgan_fast {

// Padding beyond the ends of an axis. MATLAB mirrors since R2014; before that, when the usual test sets were made, it
// repeated the end samples. The first and last two low-resolution pixels differ.
enum class Edges { kMirror, kReplicate };

// Sampling of one output axis. Output sample o (from 0) is at input coordinate `(o + 0.5) / scale - 0.5 + origin`, in
// pixels of an axis of `input_size` samples.
struct ResizeAxis {
    std::int64_t input_size;   // samples of the whole input axis
    std::int64_t output_size;  // samples to produce
    std::int64_t origin;       // first input sample of the region that is resized; 0 for the whole image
    double scale;              // output samples per input sample
    Edges edges;
};

// Number of taps of every output sample for this scale.
std::int64_t bicubic_taps(double scale);

// Fills `index` and `weight`, both [output_size][bicubic_taps(scale)]; the weights of a sample add up to 1.
void bicubic_table(const ResizeAxis& axis, std::span<std::int64_t> index, std::span<double> weight);

// A pass over one axis. Images are [rows][columns][channels]; `src_stride` is the distance between two source rows, in
// elements. The destination is dense. `index` and `weight` are a table as above.
struct ResizePass {
    std::span<const std::int64_t> index;
    std::span<const double> weight;
    std::int64_t taps;
};

namespace cpu {

// dst[o][:] = sum over taps of src[index][first_column ...]; `row_elements` elements of each row are processed, and
// `accumulator` holds that many doubles.
template <typename Pixel>
void resize_rows(const Pixel* src, std::ptrdiff_t src_stride, std::int64_t output_rows, std::int64_t row_elements,
                 const ResizePass& pass, std::span<double> accumulator, Pixel* dst);

// dst[r][o][c] = sum over taps of src[r][index][c].
template <typename Pixel>
void resize_columns(const Pixel* src, std::ptrdiff_t src_stride, std::int64_t rows, std::int64_t output_columns,
                    std::int64_t channels, const ResizePass& pass, Pixel* dst);

}  // namespace cpu

namespace reference {

// The whole operation, one output pixel at a time: rows first, rounded, then columns.
template <typename Pixel>
void resize_bicubic(const Pixel* src, std::int64_t channels, const ResizeAxis& vertical, const ResizeAxis& horizontal,
                    Pixel* dst);

}  // namespace reference

}  // namespace srgan_fast
