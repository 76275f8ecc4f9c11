// Definition of the training convolutions (kernels/cpu/conv.h), independent of the algorithm: their formulas in double,
// one function each.
//
// Forward, z = prologue(x) and y = convolution(z), then activation(y) or moments(y). Backward, dy is gradient_* of the
// incoming gradient, dz = data_gradient(dy); prologue_gradient(dz) and weight_gradient(z, dy) are the results.
#pragma once

#include <cstdint>
#include <vector>

namespace srgan_fast::reference {

struct Map {
    std::int64_t batch, height, width, channels;
    std::vector<double> values;  // [batch][height][width][channels]

    Map(std::int64_t n, std::int64_t h, std::int64_t w, std::int64_t c)
        : batch(n), height(h), width(w), channels(c), values(n * h * w * c) {}
    // Pixel (y, x) of image n.
    double* at(std::int64_t n, std::int64_t y, std::int64_t x) {
        return values.data() + ((n * height + y) * width + x) * channels;
    }
    const double* at(std::int64_t n, std::int64_t y, std::int64_t x) const {
        return values.data() + ((n * height + y) * width + x) * channels;
    }
    std::int64_t pixels() const { return batch * height * width; }
};

struct Filters {
    std::int64_t size, stride;  // zero padding of size / 2 on all sides
    std::int64_t in, out;
    std::vector<double> values;  // [size][size][in][out]

    Filters(std::int64_t size, std::int64_t stride, std::int64_t in, std::int64_t out)
        : size(size), stride(stride), in(in), out(out), values(size * size * in * out) {}
    double& at(std::int64_t o, std::int64_t i, std::int64_t y, std::int64_t x) {
        return values[((y * size + x) * in + i) * out + o];
    }
    double at(std::int64_t o, std::int64_t i, std::int64_t y, std::int64_t x) const {
        return values[((y * size + x) * in + i) * out + o];
    }
};

// u = scale * (x - center) + shift, z = u > 0 ? u : slope * u, all per channel of x; then either of the rest.
struct Prologue {
    std::vector<double> center, scale, shift, slope;
    const Map* residual = nullptr;  // added to z
    bool shuffle = false;           // channel (2 * dy + dx) * C + c of pixel (y, x): channel c of (2y + dy, 2x + dx)
};

Map prologue(const Map& x, const Prologue& p);
Map pixel_shuffle(const Map& x);
Map pixel_unshuffle(const Map& z);

Map convolution(const Map& z, const Filters& filters, const std::vector<double>& bias);
Map activation(const Map& y, double slope);

// Of each channel; the variance is the biased one.
struct Moments {
    std::vector<double> mean, variance;
};
Moments moments(const Map& y);

// dy = y > 0 ? g : slope * g.
Map gradient_behind_activation(const Map& g, const Map& y, double slope);
// dy = g + offset + factor * (y - mean), the vectors per channel.
Map gradient_behind_moments(const Map& g, const Map& y, const std::vector<double>& mean,
                            const std::vector<double>& offset, const std::vector<double>& factor);

// dz, of a z that is `height` x `width`.
Map data_gradient(const Map& dy, const Filters& filters, std::int64_t height, std::int64_t width);
Filters weight_gradient(const Map& z, const Map& dy, std::int64_t size, std::int64_t stride);
std::vector<double> bias_gradient(const Map& dy);

// The gradient of `residual` is dz itself.
struct PrologueGradient {
    Map x;
    std::vector<double> scale, shift, slope;
};
PrologueGradient prologue_gradient(const Map& dz, const Map& x, const Prologue& p);

}  // namespace srgan_fast::reference
