// Resizes whole images: owns the tap tables and the scratch row of the kernels.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/resize_bicubic.h"

namespace srgan_fast::imaging {

// Pixels [rows][columns][channels]; a row is dense, rows are `stride` elements apart.
template <typename Pixel>
struct ImageView {
    const Pixel* data;
    std::int64_t rows, columns, channels;
    std::ptrdiff_t stride;
};

// A rectangle of the input, in input pixels; it may start anywhere inside the image.
struct Region {
    std::int64_t top, left, height, width;
};

// Resizes `region` of `image` to [output_rows][output_columns][channels]. Samples outside the region but inside the
// image are used where the kernel reaches them, so a region's result equals that part of the whole image's result
// whenever the two sampling grids coincide.
template <typename Pixel>
void resize(const ImageView<Pixel>& image, const Region& region, std::int64_t output_rows, std::int64_t output_columns,
            Edges edges, Pixel* output);

}  // namespace srgan_fast::imaging
