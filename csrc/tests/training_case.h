// Cases of training's convolutions, of any kernels: their data, and what is right, in double.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <string>
#include <vector>

#include "kernels/cpu/conv.h"
#include "kernels/reference/conv_training.h"
#include "tests/check.h"

namespace srgan_fast::tests {

using cpu::Geometry;
using reference::Map;

enum class Kind { kPlain, kAffine, kSlope, kResidual, kShuffle, kShuffleSlope };
enum class Behind { kNothing, kActivation, kMoments };

struct Case {
    Geometry geometry;
    Kind kind;
    Behind behind;
    std::int64_t batch, height, width;  // of z
    std::int64_t in, out;               // channels of z and y
    std::int64_t lead = 0;              // elements that maps are off alignment
    bool channels_last = false;         // of weights
    bool side = true;                   // with a residual: whether z is wanted, and has a gradient of its own
    double bias = 1.0;                  // size of the values
    std::int64_t side_of_filters = 0;   // if it is not that of the geometry
    double grain = 8.0;                 // data are multiples of 1 / grain, but for slopes of 1 / 4

    std::int64_t size() const { return side_of_filters ? side_of_filters : geometry == Geometry::k5x5 ? 5 : 3; }
    std::int64_t stride() const { return geometry == Geometry::k3x3Stride2 ? 2 : 1; }
    std::int64_t out_height() const { return (height + stride() - 1) / stride(); }
    std::int64_t out_width() const { return (width + stride() - 1) / stride(); }
    bool shuffle() const { return kind == Kind::kShuffle || kind == Kind::kShuffleSlope; }
    bool affine() const { return kind != Kind::kPlain && kind != Kind::kShuffle; }
    bool residual() const { return kind == Kind::kResidual; }
    std::int64_t x_channels() const { return shuffle() ? 4 * in : in; }
};

inline std::string text(const Case& c) {
    constexpr const char* kGeometries[] = {"3x3", "3x3 stride 2", "5x5"};
    constexpr const char* kKinds[] = {"plain", "affine", "PReLU", "residual", "shuffle", "PReLU and shuffle"};
    constexpr const char* kBehind[] = {"nothing", "activation", "moments"};
    return std::string(c.side_of_filters ? "9x9" : kGeometries[static_cast<int>(c.geometry)]) +
           ", before: " + kKinds[static_cast<int>(c.kind)] + ", behind: " + kBehind[static_cast<int>(c.behind)] + ", " +
           std::to_string(c.batch) + "x" + std::to_string(c.height) + "x" + std::to_string(c.width) + ", " +
           std::to_string(c.in) + " -> " + std::to_string(c.out) + " channels" +
           (c.lead ? ", maps off alignment" : "") + (c.channels_last ? ", weights channels last" : "") +
           (c.residual() && !c.side ? ", no side output" : "") + ", bias up to " + tests::text(c.bias);
}

// From low to high in steps of 1 / grain.
inline std::vector<double> stepped(std::int64_t count, double low, double high, double grain, Random& random) {
    std::vector<double> values(count);
    const auto steps = static_cast<std::int64_t>((high - low) * grain) + 1;
    for (double& v : values) v = low + static_cast<double>(below(steps, random)) / grain;
    return values;
}

inline Map random_map(std::int64_t n, std::int64_t h, std::int64_t w, std::int64_t c, double grain, Random& random) {
    Map map(n, h, w, c);
    map.values = stepped(n * h * w * c, -2.0, 2.0, grain, random);
    return map;
}

inline double rms(const std::vector<double>& values) {
    return std::sqrt(std::inner_product(values.begin(), values.end(), values.begin(), 0.0) /
                     static_cast<double>(values.size()));
}

// A case's data, and what is right.
struct Problem {
    Case c;
    Map x, residual;
    reference::Prologue prologue;
    reference::Filters filters;
    std::vector<double> bias;
    double slope;
    Map g, y_before, sum_gradient;  // y_before stands for the forward call's result in the gradients
    std::vector<double> mean, offset, factor;

    Map z, y, residual_gradient;
    reference::Moments moments;
    reference::PrologueGradient gradient;
    reference::Filters weight_gradient;
    std::vector<double> bias_gradient;
    double y_scale, dz_scale, weight_scale, bias_scale, x_rms;

    Problem(const Case& given, Random& random)
        : c(given),
          x(random_map(c.batch, c.height / (c.shuffle() ? 2 : 1), c.width / (c.shuffle() ? 2 : 1), c.x_channels(),
                       c.grain, random)),
          residual(random_map(c.batch, c.height, c.width, c.residual() ? c.in : 0, c.grain, random)),
          filters(c.size(), c.stride(), c.in, c.out),
          bias(stepped(c.out, -c.bias, c.bias, c.grain, random)),
          slope(0.25),
          g(random_map(c.batch, c.out_height(), c.out_width(), c.out, c.grain, random)),
          y_before(random_map(c.batch, c.out_height(), c.out_width(), c.out, c.grain, random)),
          sum_gradient(random_map(c.batch, c.height, c.width, c.residual() && c.side ? c.in : 0, c.grain, random)),
          mean(stepped(c.out, -0.5, 0.5, c.grain, random)),
          offset(stepped(c.out, -0.5, 0.5, c.grain, random)),
          factor(stepped(c.out, -0.5, 0.5, c.grain, random)),
          z(0, 0, 0, 0),
          y(0, 0, 0, 0),
          residual_gradient(0, 0, 0, 0),
          gradient{Map(0, 0, 0, 0), {}, {}, {}},
          weight_gradient(0, 1, 0, 0) {
        const std::int64_t channels = c.x_channels();
        const bool sloped = c.kind == Kind::kSlope || c.kind == Kind::kShuffleSlope;
        filters.values = stepped(static_cast<std::int64_t>(filters.values.size()), -1.0, 1.0, c.grain, random);
        prologue.center = stepped(channels, -0.5, 0.5, c.grain, random);
        prologue.scale = stepped(channels, -1.0, 1.0, c.grain, random);
        prologue.shift = stepped(channels, -0.5, 0.5, c.grain, random);
        prologue.slope = sloped ? stepped(channels, -0.25, 1.0, c.grain, random) : std::vector<double>(channels, 1.0);
        if (!c.affine()) {
            prologue.center = prologue.shift = std::vector<double>(channels, 0.0);
            prologue.scale = std::vector<double>(channels, 1.0);
        }
        prologue.residual = c.residual() ? &residual : nullptr;
        prologue.shuffle = c.shuffle();

        z = reference::prologue(x, prologue);
        y = reference::convolution(z, filters, bias);
        moments = reference::moments(y);
        if (c.behind == Behind::kActivation) y = reference::activation(y, slope);

        Map dy = g;
        if (c.behind == Behind::kActivation) dy = reference::gradient_behind_activation(g, y_before, slope);
        if (c.behind == Behind::kMoments) dy = reference::gradient_behind_moments(g, y_before, mean, offset, factor);
        weight_gradient = reference::weight_gradient(z, dy, c.size(), c.stride());
        bias_gradient = reference::bias_gradient(dy);
        Map dz = reference::data_gradient(dy, filters, c.height, c.width);
        for (std::size_t i = 0; i < sum_gradient.values.size(); ++i) dz.values[i] += sum_gradient.values[i];
        gradient = reference::prologue_gradient(dz, x, prologue);
        if (c.residual()) {
            residual_gradient = dz;
            std::ranges::fill(gradient.slope, 0.0);
        }

        const double taps = static_cast<double>(c.size() * c.size()), weights = rms(filters.values);
        y_scale = rms(z.values) * weights * std::sqrt(taps * static_cast<double>(c.in));
        dz_scale = rms(dy.values) * weights * std::sqrt(taps * static_cast<double>(c.out));
        bias_scale = rms(dy.values) * std::sqrt(static_cast<double>(dy.pixels()));
        weight_scale = rms(z.values) * bias_scale;
        x_rms = std::max(rms(x.values), 1.0) * std::sqrt(static_cast<double>(x.pixels()));
    }
    Problem(const Problem&) = delete;  // `prologue` points to `residual`
};

}  // namespace srgan_fast::tests
