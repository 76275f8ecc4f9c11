#include "imaging/resize.h"

#include <algorithm>
#include <vector>

namespace srgan_fast::imaging {
namespace {

struct Table {
    Table(const ResizeAxis& axis) : taps(bicubic_taps(axis.scale)) {
        index.resize(axis.output_size * taps);
        weight.resize(axis.output_size * taps);
        bicubic_table(axis, index, weight);
    }

    // The span of input samples that the table touches; the indices are rebased to its start.
    std::int64_t rebase(std::int64_t* first) {
        const auto [low, high] = std::minmax_element(index.begin(), index.end());
        const std::int64_t base = *low, count = *high - *low + 1;
        for (auto& i : index) i -= base;
        *first = base;
        return count;
    }

    ResizePass pass() const { return {index, weight, taps}; }

    std::int64_t taps;
    std::vector<std::int64_t> index;
    std::vector<double> weight;
};

}  // namespace

template <typename Pixel>
void resize(const ImageView<Pixel>& image, const Region& region, std::int64_t output_rows, std::int64_t output_columns,
            Edges edges, Pixel* output) {
    const double v_scale = static_cast<double>(output_rows) / static_cast<double>(region.height);
    const double h_scale = static_cast<double>(output_columns) / static_cast<double>(region.width);
    Table vertical({image.rows, output_rows, region.top, v_scale, edges});
    Table horizontal({image.columns, output_columns, region.left, h_scale, edges});

    // Only the region that the taps read is processed, which keeps crops cheap.
    std::int64_t top = 0, left = 0;
    const std::int64_t rows = vertical.rebase(&top), columns = horizontal.rebase(&left);
    const Pixel* const src = image.data + top * image.stride + left * image.channels;
    const std::int64_t row_in = columns * image.channels, row_out = output_columns * image.channels;

    // MATLAB resizes the axis with the smaller scale first, and rows first if the two are equal.
    if (v_scale <= h_scale) {
        std::vector<double> accumulator(row_in);
        std::vector<Pixel> scratch(output_rows * row_in);
        cpu::resize_rows(src, image.stride, output_rows, row_in, vertical.pass(), accumulator, scratch.data());
        cpu::resize_columns(scratch.data(), row_in, output_rows, output_columns, image.channels, horizontal.pass(),
                            output);
    } else {
        std::vector<double> accumulator(row_out);
        std::vector<Pixel> scratch(rows * row_out);
        cpu::resize_columns(src, image.stride, rows, output_columns, image.channels, horizontal.pass(), scratch.data());
        cpu::resize_rows(scratch.data(), row_out, output_rows, row_out, vertical.pass(), accumulator, output);
    }
}

template void resize(const ImageView<std::uint8_t>&, const Region&, std::int64_t, std::int64_t, Edges, std::uint8_t*);
template void resize(const ImageView<std::uint16_t>&, const Region&, std::int64_t, std::int64_t, Edges, std::uint16_t*);
template void resize(const ImageView<float>&, const Region&, std::int64_t, std::int64_t, Edges, float*);

}  // namespace srgan_fast::imaging
