// Definition of the resize: one output pixel at a time.
#include "kernels/resize_bicubic.h"

#include <vector>

#include "kernels/rounding.h"

namespace srgan_fast::reference {

template <typename Pixel>
void resize_bicubic(const Pixel* src, std::int64_t channels, const ResizeAxis& vertical, const ResizeAxis& horizontal,
                    Pixel* dst) {
    const std::int64_t v_taps = bicubic_taps(vertical.scale), h_taps = bicubic_taps(horizontal.scale);
    std::vector<std::int64_t> v_index(vertical.output_size * v_taps), h_index(horizontal.output_size * h_taps);
    std::vector<double> v_weight(v_index.size()), h_weight(h_index.size());
    bicubic_table(vertical, v_index, v_weight);
    bicubic_table(horizontal, h_index, h_weight);
    const std::int64_t columns = horizontal.input_size;
    for (std::int64_t y = 0; y < vertical.output_size; ++y)
        for (std::int64_t x = 0; x < horizontal.output_size; ++x)
            for (std::int64_t c = 0; c < channels; ++c) {
                double sum = 0.0;
                for (std::int64_t i = 0; i < h_taps; ++i) {
                    double column = 0.0;
                    for (std::int64_t j = 0; j < v_taps; ++j)
                        column +=
                            v_weight[y * v_taps + j] *
                            static_cast<double>(
                                src[(v_index[y * v_taps + j] * columns + h_index[x * h_taps + i]) * channels + c]);
                    sum += h_weight[x * h_taps + i] * static_cast<double>(to_pixel<Pixel>(column));
                }
                dst[(y * horizontal.output_size + x) * channels + c] = to_pixel<Pixel>(sum);
            }
}

#define SRGAN_FAST_INSTANTIATE(Pixel) \
    template void resize_bicubic<Pixel>(const Pixel*, std::int64_t, const ResizeAxis&, const ResizeAxis&, Pixel*);
SRGAN_FAST_INSTANTIATE(std::uint8_t)
SRGAN_FAST_INSTANTIATE(std::uint16_t)
SRGAN_FAST_INSTANTIATE(float)
#undef SRGAN_FAST_INSTANTIATE

}  // namespace srgan_fast::reference
