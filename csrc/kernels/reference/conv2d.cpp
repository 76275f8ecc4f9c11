#include "kernels/reference/conv2d.h"

#include <vector>

namespace srgan_fast::reference {
namespace {

// Weights as [size][size][in_channels][out_channels], so that the sums of all output channels grow together.
std::vector<double> output_channels_last(const Conv2d& conv) {
    const std::int64_t taps = conv.size * conv.size;
    std::vector<double> weight(conv.weight.size());
    for (std::int64_t o = 0; o < conv.out_channels; ++o)
        for (std::int64_t i = 0; i < conv.in_channels; ++i)
            for (std::int64_t t = 0; t < taps; ++t)
                weight[(t * conv.in_channels + i) * conv.out_channels + o] =
                    conv.weight[(o * conv.in_channels + i) * taps + t];
    return weight;
}

}  // namespace

void conv2d(const Conv2d& conv, std::int64_t height, std::int64_t width, std::span<const float> in,
            std::span<const Residual> residuals, std::span<float> out) {
    const std::int64_t in_channels = conv.in_channels, out_channels = conv.out_channels, radius = conv.size / 2;
    const std::vector<double> weight = output_channels_last(conv);
    for (std::int64_t y = 0; y < height; ++y)
        for (std::int64_t x = 0; x < width; ++x) {
            std::vector<double> sum(conv.bias.begin(), conv.bias.end());
            for (std::int64_t ky = 0; ky < conv.size; ++ky)
                for (std::int64_t kx = 0; kx < conv.size; ++kx) {
                    const std::int64_t from_y = y + ky - radius, from_x = x + kx - radius;
                    if (from_y < 0 || from_y >= height || from_x < 0 || from_x >= width) continue;
                    for (std::int64_t i = 0; i < in_channels; ++i) {
                        const double value = in[(from_y * width + from_x) * in_channels + i];
                        const double* const w =
                            weight.data() + ((ky * conv.size + kx) * in_channels + i) * out_channels;
                        for (std::int64_t o = 0; o < out_channels; ++o) sum[o] += value * w[o];
                    }
                }
            const std::int64_t pixel = (y * width + x) * out_channels;
            for (std::int64_t o = 0; o < out_channels; ++o) {
                double value = sum[o];
                if (!conv.slope.empty() && value < 0.0) value *= conv.slope[o];
                for (const Residual& residual : residuals) value += double{residual.scale} * residual.values[pixel + o];
                out[pixel + o] = static_cast<float>(value);
            }
        }
}

void pixel_shuffle(std::int64_t height, std::int64_t width, std::int64_t channels, std::int64_t factor,
                   std::span<const float> in, std::span<float> out) {
    const std::int64_t in_channels = channels * factor * factor;
    for (std::int64_t y = 0; y < factor * height; ++y)
        for (std::int64_t x = 0; x < factor * width; ++x) {
            const std::int64_t pixel = (y / factor * width + x / factor) * in_channels;
            for (std::int64_t c = 0; c < channels; ++c)
                out[(y * factor * width + x) * channels + c] =
                    in[pixel + (c * factor + y % factor) * factor + x % factor];
        }
}

}  // namespace srgan_fast::reference
