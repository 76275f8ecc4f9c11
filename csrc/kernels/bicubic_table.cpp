// Taps and weights of MATLAB's imresize, in its order of operations (with 1-based positions).
#include <algorithm>
#include <cmath>

#include "kernels/resize_bicubic.h"

namespace srgan_fast {
namespace {

// Keys, "Cubic Convolution Interpolation for Digital Image Processing", IEEE TASSP 1981, with a = -1/2.
double cubic(double x) {
    const double ax = std::fabs(x);
    const double ax2 = ax * ax;
    const double ax3 = ax2 * ax;
    if (ax <= 1.0) return 1.5 * ax3 - 2.5 * ax2 + 1.0;
    if (ax <= 2.0) return -0.5 * ax3 + 2.5 * ax2 - 4.0 * ax + 2.0;
    return 0.0;
}

constexpr double kSupport = 4.0;  // width of the cubic kernel at scale 1

double kernel_width(double scale) { return scale < 1.0 ? kSupport / scale : kSupport; }

// Index of the sample at `position`; a mirrored axis repeats each end sample.
std::int64_t sample_at(std::int64_t position, std::int64_t size, Edges edges) {
    if (edges == Edges::kReplicate) return std::clamp<std::int64_t>(position, 0, size - 1);
    const std::int64_t period = 2 * size;
    std::int64_t p = position % period;
    if (p < 0) p += period;
    return p < size ? p : period - 1 - p;
}

}  // namespace

std::int64_t bicubic_taps(double scale) { return static_cast<std::int64_t>(std::ceil(kernel_width(scale))) + 2; }

void bicubic_table(const ResizeAxis& axis, std::span<std::int64_t> index, std::span<double> weight) {
    const double stretch = axis.scale < 1.0 ? axis.scale : 1.0;  // antialiasing widens the kernel when shrinking
    const double width = kernel_width(axis.scale);
    const std::int64_t taps = bicubic_taps(axis.scale);
    for (std::int64_t o = 0; o < axis.output_size; ++o) {
        const double u = static_cast<double>(o + 1) / axis.scale + 0.5 * (1.0 - 1.0 / axis.scale);
        const double left = std::floor(u - width / 2.0);
        double sum = 0.0;
        for (std::int64_t t = 0; t < taps; ++t) {
            const double position = left + static_cast<double>(t);
            const double w = stretch * cubic(stretch * (u - position));
            index[o * taps + t] =
                sample_at(static_cast<std::int64_t>(position) - 1 + axis.origin, axis.input_size, axis.edges);
            weight[o * taps + t] = w;
            sum += w;
        }
        for (std::int64_t t = 0; t < taps; ++t) weight[o * taps + t] /= sum;
    }
}

}  // namespace srgan_fast
