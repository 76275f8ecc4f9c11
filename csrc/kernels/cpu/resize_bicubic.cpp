// The two passes, arranged so that the compiler vectorises over pixels: rows as whole lines, columns tap by tap.
#include "kernels/resize_bicubic.h"

#include <algorithm>

#include "kernels/rounding.h"

namespace srgan_fast::cpu {

template <typename Pixel>
void resize_rows(const Pixel* src, std::ptrdiff_t src_stride, std::int64_t output_rows, std::int64_t row_elements,
                 const ResizePass& pass, std::span<double> accumulator, Pixel* dst) {
    double* const acc = accumulator.data();
    for (std::int64_t o = 0; o < output_rows; ++o) {
        std::fill_n(acc, row_elements, 0.0);
        for (std::int64_t t = 0; t < pass.taps; ++t) {
            const double w = pass.weight[o * pass.taps + t];
            if (w == 0.0) continue;
            const Pixel* const line = src + pass.index[o * pass.taps + t] * src_stride;
            for (std::int64_t i = 0; i < row_elements; ++i) acc[i] += w * static_cast<double>(line[i]);
        }
        Pixel* const out = dst + o * row_elements;
        for (std::int64_t i = 0; i < row_elements; ++i) out[i] = to_pixel<Pixel>(acc[i]);
    }
}

namespace {

template <typename Pixel, int kChannels>
void columns_of(const Pixel* src, std::ptrdiff_t src_stride, std::int64_t rows, std::int64_t output_columns,
                const ResizePass& pass, Pixel* dst) {
    for (std::int64_t r = 0; r < rows; ++r) {
        const Pixel* const line = src + r * src_stride;
        for (std::int64_t o = 0; o < output_columns; ++o) {
            double sum[kChannels] = {};
            const std::int64_t* const index = pass.index.data() + o * pass.taps;
            const double* const weight = pass.weight.data() + o * pass.taps;
            for (std::int64_t t = 0; t < pass.taps; ++t)
                for (int c = 0; c < kChannels; ++c)
                    sum[c] += weight[t] * static_cast<double>(line[index[t] * kChannels + c]);
            for (int c = 0; c < kChannels; ++c) *dst++ = to_pixel<Pixel>(sum[c]);
        }
    }
}

}  // namespace

template <typename Pixel>
void resize_columns(const Pixel* src, std::ptrdiff_t src_stride, std::int64_t rows, std::int64_t output_columns,
                    std::int64_t channels, const ResizePass& pass, Pixel* dst) {
    switch (channels) {  // the binding allows 1 to 4
        case 1: return columns_of<Pixel, 1>(src, src_stride, rows, output_columns, pass, dst);
        case 2: return columns_of<Pixel, 2>(src, src_stride, rows, output_columns, pass, dst);
        case 3: return columns_of<Pixel, 3>(src, src_stride, rows, output_columns, pass, dst);
        default: return columns_of<Pixel, 4>(src, src_stride, rows, output_columns, pass, dst);
    }
}

#define SRGAN_FAST_INSTANTIATE(Pixel)                                                                             \
    template void resize_rows<Pixel>(const Pixel*, std::ptrdiff_t, std::int64_t, std::int64_t, const ResizePass&, \
                                     std::span<double>, Pixel*);                                                  \
    template void resize_columns<Pixel>(const Pixel*, std::ptrdiff_t, std::int64_t, std::int64_t, std::int64_t,   \
                                        const ResizePass&, Pixel*);
SRGAN_FAST_INSTANTIATE(std::uint8_t)
SRGAN_FAST_INSTANTIATE(std::uint16_t)
SRGAN_FAST_INSTANTIATE(float)
#undef SRGAN_FAST_INSTANTIATE

}  // namespace srgan_fast::cpu
