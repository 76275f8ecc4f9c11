#include "kernels/reference/conv_training.h"

namespace srgan_fast::reference {
namespace {

double before_activation(const Prologue& p, double x, std::int64_t c) {
    return p.scale[c] * (x - p.center[c]) + p.shift[c];
}

// Calls visit(channels of a pixel of z, channels of a pixel of y, tap) for all pairs that a tap connects: a convolution
// and both of its gradients are sums over these.
template <typename Z, typename Y, typename Visit>
void for_each_tap(Z& z, Y& y, std::int64_t size, std::int64_t stride, const Visit& visit) {
    for (std::int64_t n = 0; n < y.batch; ++n)
        for (std::int64_t row = 0; row < y.height; ++row)
            for (std::int64_t column = 0; column < y.width; ++column)
                for (std::int64_t tap = 0; tap < size * size; ++tap) {
                    const std::int64_t from_row = row * stride + tap / size - size / 2;
                    const std::int64_t from_column = column * stride + tap % size - size / 2;
                    if (from_row < 0 || from_row >= z.height || from_column < 0 || from_column >= z.width) continue;
                    visit(z.at(n, from_row, from_column), y.at(n, row, column), tap);
                }
}

// Calls visit(index, channel) for every value of a map.
template <typename Visit>
void for_each_value(const Map& map, const Visit& visit) {
    for (std::int64_t i = 0; i < map.pixels() * map.channels; ++i) visit(i, i % map.channels);
}

// Source of channel c of pixel (y, x) in a shuffle: visit(value of x, value of z).
template <typename X, typename Z, typename Visit>
void for_each_shuffled(X& x, Z& z, const Visit& visit) {
    for (std::int64_t n = 0; n < z.batch; ++n)
        for (std::int64_t row = 0; row < z.height; ++row)
            for (std::int64_t column = 0; column < z.width; ++column)
                for (std::int64_t c = 0; c < z.channels; ++c)
                    visit(x.at(n, row / 2, column / 2)[(row % 2 * 2 + column % 2) * z.channels + c],
                          z.at(n, row, column)[c]);
}

}  // namespace

Map pixel_shuffle(const Map& x) {
    Map z(x.batch, 2 * x.height, 2 * x.width, x.channels / 4);
    for_each_shuffled(x, z, [](double from, double& to) { to = from; });
    return z;
}

Map pixel_unshuffle(const Map& z) {
    Map x(z.batch, z.height / 2, z.width / 2, 4 * z.channels);
    for_each_shuffled(x, z, [](double& to, double from) { to = from; });
    return x;
}

Map prologue(const Map& x, const Prologue& p) {
    Map z = x;
    for_each_value(x, [&](std::int64_t i, std::int64_t c) {
        const double u = before_activation(p, x.values[i], c);
        z.values[i] = u > 0.0 ? u : p.slope[c] * u;
        if (p.residual) z.values[i] += p.residual->values[i];
    });
    return p.shuffle ? pixel_shuffle(z) : z;
}

Map convolution(const Map& z, const Filters& filters, const std::vector<double>& bias) {
    const std::int64_t stride = filters.stride, in = filters.in, out = filters.out;
    Map y(z.batch, (z.height + stride - 1) / stride, (z.width + stride - 1) / stride, out);
    for_each_tap(z, y, filters.size, stride, [&](const double* from, double* to, std::int64_t tap) {
        const double* weight = filters.values.data() + tap * in * out;
        for (std::int64_t i = 0; i < in; ++i)
            for (std::int64_t o = 0; o < out; ++o) to[o] += from[i] * *weight++;
    });
    for_each_value(y, [&](std::int64_t i, std::int64_t c) { y.values[i] += bias[c]; });
    return y;
}

Map activation(const Map& y, double slope) {
    Map a = y;
    for (double& v : a.values) v = v > 0.0 ? v : slope * v;
    return a;
}

Moments moments(const Map& y) {
    Moments m{std::vector<double>(y.channels), std::vector<double>(y.channels)};
    const double share = 1.0 / static_cast<double>(y.pixels());
    for_each_value(y, [&](std::int64_t i, std::int64_t c) { m.mean[c] += share * y.values[i]; });
    // The rounding error of the sum is the mean deviation from it.
    std::vector<double> missing(y.channels);
    for_each_value(y, [&](std::int64_t i, std::int64_t c) { missing[c] += share * (y.values[i] - m.mean[c]); });
    for (std::int64_t c = 0; c < y.channels; ++c) m.mean[c] += missing[c];
    for_each_value(y, [&](std::int64_t i, std::int64_t c) {
        const double deviation = y.values[i] - m.mean[c];
        m.variance[c] += share * deviation * deviation;
    });
    return m;
}

Map gradient_behind_activation(const Map& g, const Map& y, double slope) {
    Map dy = g;
    for_each_value(
        g, [&](std::int64_t i, std::int64_t) { dy.values[i] = y.values[i] > 0.0 ? g.values[i] : slope * g.values[i]; });
    return dy;
}

Map gradient_behind_moments(const Map& g, const Map& y, const std::vector<double>& mean,
                            const std::vector<double>& offset, const std::vector<double>& factor) {
    Map dy = g;
    for_each_value(g, [&](std::int64_t i, std::int64_t c) {
        dy.values[i] = g.values[i] + offset[c] + factor[c] * (y.values[i] - mean[c]);
    });
    return dy;
}

Map data_gradient(const Map& dy, const Filters& filters, std::int64_t height, std::int64_t width) {
    const std::int64_t in = filters.in, out = filters.out;
    Map dz(dy.batch, height, width, in);
    for_each_tap(dz, dy, filters.size, filters.stride, [&](double* to, const double* from, std::int64_t tap) {
        const double* weight = filters.values.data() + tap * in * out;
        for (std::int64_t i = 0; i < in; ++i)
            for (std::int64_t o = 0; o < out; ++o) to[i] += from[o] * *weight++;
    });
    return dz;
}

Filters weight_gradient(const Map& z, const Map& dy, std::int64_t size, std::int64_t stride) {
    Filters gradient(size, stride, z.channels, dy.channels);
    for_each_tap(z, dy, size, stride, [&](const double* from, const double* at, std::int64_t tap) {
        double* to = gradient.values.data() + tap * z.channels * dy.channels;
        for (std::int64_t i = 0; i < z.channels; ++i)
            for (std::int64_t o = 0; o < dy.channels; ++o) *to++ += from[i] * at[o];
    });
    return gradient;
}

std::vector<double> bias_gradient(const Map& dy) {
    std::vector<double> gradient(dy.channels);
    for_each_value(dy, [&](std::int64_t i, std::int64_t c) { gradient[c] += dy.values[i]; });
    return gradient;
}

PrologueGradient prologue_gradient(const Map& dz, const Map& x, const Prologue& p) {
    const Map gradient = p.shuffle ? pixel_unshuffle(dz) : dz;
    const std::vector<double> zeros(x.channels);
    PrologueGradient d{x, zeros, zeros, zeros};
    for_each_value(x, [&](std::int64_t i, std::int64_t c) {
        const double u = before_activation(p, x.values[i], c), da = gradient.values[i];
        const double du = u > 0.0 ? da : p.slope[c] * da;
        d.slope[c] += u > 0.0 ? 0.0 : da * u;
        d.scale[c] += du * (x.values[i] - p.center[c]);
        d.shift[c] += du;
        d.x.values[i] = du * p.scale[c];
    });
    return d;
}

}  // namespace srgan_fast::reference
