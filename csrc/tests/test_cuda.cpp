// The CUDA kernels' own bodies, run on the host (kernels/cuda/simt), against the reference: every tile, all types.
//
// Data are multiples of 1/2 or 1/4 and so small that prologues are exact in bfloat16 and TF32, and sums in float; what
// is left is rounding results to the map's type. Maps lie between guards, outputs hold NaN before, and blocks
// and threads run in an order drawn from a seed.
#include <array>
#include <cmath>
#include <numeric>
#include <string>
#include <type_traits>
#include <vector>

#include "kernels/cuda/conv_mma.cuh"
#include "kernels/cuda/passes.cuh"
#include "kernels/cuda/plan.h"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/wgrad_mma.cuh"
#include "tests/device.h"
#include "tests/training_case.h"

namespace {

using namespace srgan_fast;
using namespace srgan_fast::tests;
using cuda::Tile;
using cuda::WgradTile;

using cuda::kUnit;

// A map with channels up to whole units, the last ones zeros.
template <typename T>
Guarded<T> pad(const Guarded<T>& map, std::int64_t channels, Random& random) {
    const std::int64_t pixels = channels > 0 ? map.size() / channels : 0;
    const int pitch = cuda::round_up(static_cast<int>(channels), kUnit<T>);
    Guarded<T> padded(pixels * pitch);
    if (pixels > 0)
        launch({2, 1, 1}, cuda::kReduceThreads, 0,
               cuda::pad_kernel<std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint16_t>, cuda::kReduceThreads>,
               cuda::PadParams{map.data(), padded.data(), pixels, static_cast<int>(channels), pitch}, random);
    check(padded.intact(), "pad: wrote beside the result");
    return padded;
}

// A case's data in "device" memory. If `pads`, kernels read maps whose pixels are whole units.
template <typename T>
struct Memory {
    const Case& c;
    bool pads;
    cuda::Convolution convolution;
    Guarded<T> x, residual, g, y, sum_gradient;
    Guarded<T> x_padded, residual_padded, g_padded, y_padded;
    Guarded<float> center, scale, shift, slope, mean, mean_gradient, var_gradient, bias, weight;
    float pixels, slope_behind;

    Memory(const Problem& p, bool wants_padding, Random& random)
        : c(p.c),
          pads(wants_padding && !c.shuffle()),
          convolution{int(c.batch), int(c.in), int(c.out), int(c.height), int(c.width), int(c.size()), int(c.stride())},
          x(device_map<T>(p.x.values)),
          residual(device_map<T>(p.residual.values)),
          g(device_map<T>(p.g.values)),
          y(device_map<T>(p.y_before.values)),
          sum_gradient(device_map<T>(p.sum_gradient.values)),
          x_padded(pad(x, pads ? c.in : 0, random)),
          residual_padded(pad(residual, pads ? c.in : 0, random)),
          g_padded(pad(g, pads ? c.out : 0, random)),
          y_padded(pad(y, pads ? c.out : 0, random)),
          center(device_vector(p.prologue.center)),
          scale(device_vector(p.prologue.scale)),
          shift(device_vector(p.prologue.shift)),
          slope(device_vector(p.prologue.slope)),
          mean(device_vector(p.mean)),
          mean_gradient(device_vector(p.offset, double(c.batch * c.out_height() * c.out_width()))),
          var_gradient(device_vector(p.factor, double(c.batch * c.out_height() * c.out_width()) / 2.0)),
          bias(device_vector(p.bias)),
          weight(static_cast<std::int64_t>(p.filters.values.size())),
          pixels(static_cast<float>(c.batch * c.out_height() * c.out_width())),
          slope_behind(static_cast<float>(p.slope)) {
        for (std::int64_t o = 0; o < c.out; ++o)
            for (std::int64_t i = 0; i < c.in; ++i)
                for (std::int64_t row = 0; row < c.size(); ++row)
                    for (std::int64_t column = 0; column < c.size(); ++column)
                        weight.data()[weight_place(o, i, row, column)] =
                            static_cast<float>(p.filters.at(o, i, row, column));
    }

    std::int64_t weight_place(std::int64_t o, std::int64_t i, std::int64_t row, std::int64_t column) const {
        return c.channels_last ? ((o * c.size() + row) * c.size() + column) * c.in + i
                               : ((o * c.in + i) * c.size() + row) * c.size() + column;
    }
    template <typename Params>
    void set_strides(Params& p) const {
        p.out_stride = weight_place(1, 0, 0, 0), p.in_stride = weight_place(0, 1, 0, 0);
        p.row_stride = weight_place(0, 0, 1, 0), p.column_stride = weight_place(0, 0, 0, 1);
    }

    // As an input, or as what a data gradient goes through, which reads it where it writes.
    cuda::Source source(bool input) const {
        cuda::Source s{};
        const bool padded = input && pads;
        s.x = padded ? x_padded.data() : x.data();
        s.height = int(c.height), s.width = int(c.width), s.channels = int(c.in),
        s.pitch = padded ? cuda::round_up(int(c.in), kUnit<T>) : int(c.in);
        s.shuffle = c.shuffle(), s.affine = c.affine();
        s.activates = c.kind == Kind::kSlope || c.kind == Kind::kShuffleSlope;
        if (c.affine()) {
            s.center = {center.data(), 1}, s.scale = {scale.data(), 1}, s.shift = {shift.data(), 1};
            if (s.activates) s.slope = {slope.data(), 1};
        }
        if (c.residual()) s.residual = padded ? residual_padded.data() : residual.data();
        return s;
    }
    cuda::Gradient gradient() const {
        cuda::Gradient s{};
        s.g = pads ? g_padded.data() : g.data();
        s.height = int(c.out_height()), s.width = int(c.out_width()), s.channels = int(c.out),
        s.pitch = pads ? cuda::round_up(int(c.out), kUnit<T>) : int(c.out);
        s.share = 1.0f / pixels, s.slope = slope_behind;
        s.moments = c.behind == Behind::kMoments, s.activation = c.behind == Behind::kActivation;
        if (c.behind != Behind::kNothing) s.y = pads ? y_padded.data() : y.data();
        s.mean = {mean.data(), 1}, s.mean_gradient = {mean_gradient.data(), 1};
        s.var_gradient = {var_gradient.data(), 1};
        return s;
    }
};

template <typename T>
Guarded<T> pack(const Memory<T>& m, cuda::ConvParams& p, Tile tile, bool backward, Random& random) {
    cuda::set_weights(p, cuda::size_of(tile, sizeof(T)), nullptr);
    cuda::PackParams a{};
    a.weight = m.weight.data();
    m.set_strides(a);
    a.out = m.convolution.out, a.in = m.convolution.in, a.taps = m.convolution.taps, a.backward = backward;
    a.rows = p.weight_rows, a.columns = p.weight_columns;
    Guarded<T> packed(static_cast<std::int64_t>(a.taps) * a.taps * a.rows * a.columns);
    a.packed = packed.data();
    launch({3, 1, 1}, cuda::kReduceThreads, 0, cuda::pack_kernel<T, cuda::kReduceThreads>, a, random);
    p.weights = packed.data();
    check(packed.intact(), "pack: wrote beside the result");
    return packed;
}

// Whether data have more bits than TF32.
bool fine(const Case& c) { return c.grain > 1 << 10; }

// As check_values(); of fine data, whose roundings for the products are many, the difference of all, by 2-norms.
void compare(const Case& c, const std::vector<double>& got, const std::vector<double>& expected, double absolute,
             double relative, const std::string& what) {
    if (!fine(c)) return check_values(got, expected, absolute, relative, what);
    constexpr double kBound = 0x1p-10;
    if (!check(got.size() == expected.size(), what + ": size")) return;
    double error = 0.0, size = 0.0;
    for (std::size_t i = 0; i < got.size(); ++i) {
        error += (got[i] - expected[i]) * (got[i] - expected[i]);
        size += expected[i] * expected[i];
    }
    check(error <= kBound * kBound * size, what + ": relative error " + text(std::sqrt(error / size)));
}

template <typename T>
void check_forward(const Problem& problem, const Memory<T>& m, Tile tile, const std::string& name, Random& random) {
    const Case& c = problem.c;
    cuda::ConvParams p = cuda::forward_plan(m.convolution);
    p.source = m.source(true);
    const Guarded<T> packed = pack(m, p, tile, false, random);
    Guarded<T> y(static_cast<std::int64_t>(problem.y.values.size()));
    Guarded<T> sum(c.residual() && c.side ? c.batch * c.height * c.width * c.in : 0);
    if (sum.size() > 0) p.source.sum = sum.data();
    p.bias = {m.bias.data(), 1};
    p.activate = c.behind == Behind::kActivation, p.slope = m.slope_behind;
    p.y = y.data();
    const cuda::Grid grid = cuda::grid_of(tile, p.batch, p.height, p.width, p.channels, 1);
    const bool moments = c.behind == Behind::kMoments;
    Guarded<float> parts(moments ? static_cast<std::int64_t>(grid.x) * 2 * c.out : 0);
    if (moments) p.moments = parts.data();
    cuda::with_shape<T>(tile, [&](auto shape) {
        using Shape = decltype(shape);
        launch(grid, Shape::kThreads, cuda::shared_bytes(Shape::size(), p.step, p.reach, cuda::two_maps<false>(p)),
               cuda::conv_forward_kernel<T, Shape>, p, random);
    });
    check(y.intact() && sum.intact() && parts.intact(), name + ", forward: wrote beside the result");
    compare(c, values_of(y), problem.y.values, 0x1p-20, kRounding<T>, name + ", forward: y");
    if (sum.size() > 0) compare(c, values_of(sum), problem.z.values, 0.0, 0.0, name + ", forward: sum");
    if (!moments) return;
    const cuda::TileSize size = cuda::size_of(tile);
    Guarded<float> mean(c.out), var(c.out);
    cuda::MomentsParams merge{parts.data(), p.batch,      p.height,    p.width,   p.channels,
                              size.rows,    size.columns, mean.data(), var.data()};
    launch({static_cast<unsigned>(cuda::blocks_of(p.channels, cuda::kReduceColumns)), 1, 1}, cuda::kReduceThreads,
           cuda::kReduceThreads * 8, cuda::merge_moments_kernel<cuda::kReduceThreads>, merge, random);
    check(mean.intact() && var.intact(), name + ", moments: wrote beside the result");
    compare(c, values_of(mean), problem.moments.mean, 1e-5, 1e-5, name + ", forward: mean");
    compare(c, values_of(var), problem.moments.variance, 1e-4, 1e-5, name + ", forward: variance");
}

// The gradient of what is subtracted follows from that of what is added.
void check_center(const Guarded<float>& center, const Guarded<float>& shift, const Problem& problem,
                  const std::string& name) {
    const Case& c = problem.c;
    std::vector<double> expected = values_of(shift);
    for (std::size_t i = 0; i < expected.size(); ++i) expected[i] *= -problem.prologue.scale[i];
    check(center.intact(), name + ": wrote beside the result");
    compare(c, values_of(center), expected, 0.0, 1e-6, name);
}

template <typename T>
void check_dgrad(const Problem& problem, const Memory<T>& m, Tile tile, const std::string& name, Random& random) {
    const Case& c = problem.c;
    cuda::ConvParams p = cuda::dgrad_plan(m.convolution);
    p.source = m.source(false), p.gradient = m.gradient();
    const Guarded<T> packed = pack(m, p, tile, true, random);
    Guarded<T> x_gradient(static_cast<std::int64_t>(problem.x.values.size()));
    Guarded<T> residual_gradient(static_cast<std::int64_t>(problem.residual_gradient.values.size()));
    p.x_gradient = x_gradient.data();
    if (c.residual()) p.residual_gradient = residual_gradient.data();
    if (c.residual() && c.side) p.sum_gradient = m.sum_gradient.data();
    const cuda::Grid grid = cuda::grid_of(tile, p.batch, p.height, p.width, p.channels, p.spread);
    const int row = 3 * static_cast<int>(c.x_channels()), parts = static_cast<int>(grid.x * grid.z);
    Guarded<float> sums(c.affine() ? static_cast<std::int64_t>(parts) * row : 0);
    Guarded<int> finished(1);
    if (c.affine()) p.sums = sums.data(), p.finished = finished.data();
    cuda::with_shape<T>(tile, [&](auto shape) {
        using Shape = decltype(shape);
        launch(grid, Shape::kThreads, cuda::shared_bytes(Shape::size(), p.step, p.reach, cuda::two_maps<true>(p)),
               cuda::conv_dgrad_kernel<T, Shape>, p, random);
    });
    check(x_gradient.intact() && residual_gradient.intact() && sums.intact(),
          name + ", dgrad: wrote beside the result");
    // Rounded up to three times on the way: the products, with the sum's gradient, and at last.
    const double rounding = 3.0 * kRounding<T>, slack = kRounding<T> * problem.dz_scale;
    compare(c, values_of(x_gradient), problem.gradient.x.values, slack, rounding, name + ", dgrad: x");
    if (c.residual())
        compare(c, values_of(residual_gradient), problem.residual_gradient.values, slack, rounding,
                name + ", dgrad: residual");
    if (!c.affine()) return;
    check(finished.intact() && *finished.data() == 0, name + ", dgrad: no block has finished yet");
    const int channels = static_cast<int>(c.x_channels());
    const Guarded<float> totals[3] = {Guarded<float>(channels), Guarded<float>(channels), Guarded<float>(channels)};
    Guarded<float> center(channels);
    launch({static_cast<unsigned>(cuda::blocks_of(row, cuda::kReduceColumns)), 1, 1}, cuda::kReduceThreads,
           cuda::kReduceThreads * 8, cuda::sum_kernel<cuda::kReduceThreads>,
           cuda::SumParams{sums.data(),
                           parts,
                           row,
                           3,
                           channels,
                           {totals[0].data(), totals[1].data(), totals[2].data()},
                           p.source.scale,
                           center.data()},
           random);
    check_center(center, totals[1], problem, name + ", dgrad: center");
    // Rounding errors of so many pixels, each on the scale of dz.
    const double bound = 4.0 * kRounding<T> * problem.dz_scale * problem.x_rms;
    compare(c, values_of(totals[0]), problem.gradient.scale, bound, 1e-4, name + ", dgrad: scale");
    compare(c, values_of(totals[1]), problem.gradient.shift, bound, 1e-4, name + ", dgrad: shift");
    const bool sloped = m.source(false).activates;
    compare(c, values_of(totals[2]), sloped ? problem.gradient.slope : std::vector<double>(c.x_channels(), 0.0), bound,
            1e-4, name + ", dgrad: slope");
}

template <typename T>
void check_wgrad(const Problem& problem, const Memory<T>& m, WgradTile tile, int splits, int stages,
                 const std::string& name, Random& random) {
    const Case& c = problem.c;
    const cuda::WgradSize size = cuda::size_of(tile);
    cuda::WgradParams p{};
    p.batch = m.convolution.batch, p.taps = m.convolution.taps, p.stride = m.convolution.stride, p.splits = splits;
    p.source = m.source(true), p.gradient = m.gradient();
    p.rows = cuda::round_up(m.convolution.out, size.rows), p.columns = cuda::round_up(m.convolution.in, size.columns);
    const int count = p.taps * p.taps * p.rows * p.columns;
    Guarded<float> parts(static_cast<std::int64_t>(splits) * count), biases(static_cast<std::int64_t>(splits) * p.rows);
    p.weight = parts.data(), p.bias = biases.data();
    cuda::with_shape<T>(tile, [&](auto shape) {
        using Shape = decltype(shape);
        p.stages = std::min(stages, cuda::wgrad_stages(Shape::stage_bytes(p), kDevice));
        const unsigned blocks = static_cast<unsigned>(p.rows / Shape::kRows * (p.columns / Shape::kColumns));
        launch({static_cast<unsigned>(splits), blocks, static_cast<unsigned>(p.taps / Shape::kTapRows)},
               Shape::kThreads, Shape::shared_bytes(p), cuda::conv_wgrad_kernel<T, Shape>, p, random);
    });
    Guarded<float> weight(m.weight.size()), bias(c.out);
    cuda::WgradSumParams a{parts.data(),     splits, p.taps, p.rows, p.columns, m.convolution.out,
                           m.convolution.in, 0,      0,      0,      0,         weight.data()};
    m.set_strides(a);
    launch({5, 1, 1}, cuda::kReduceThreads, 0, cuda::sum_weights_kernel<cuda::kReduceThreads>, a, random);
    launch({static_cast<unsigned>(cuda::blocks_of(p.rows, cuda::kReduceColumns)), 1, 1}, cuda::kReduceThreads,
           cuda::kReduceThreads * 8, cuda::sum_kernel<cuda::kReduceThreads>,
           cuda::SumParams{
               biases.data(), splits, p.rows, 1, m.convolution.out, {bias.data(), nullptr, nullptr}, {}, nullptr},
           random);
    check(parts.intact() && biases.intact() && weight.intact() && bias.intact(),
          name + ", wgrad: wrote beside the result");
    std::vector<double> got, expected;
    for (std::int64_t o = 0; o < c.out; ++o)
        for (std::int64_t i = 0; i < c.in; ++i)
            for (std::int64_t row = 0; row < c.size(); ++row)
                for (std::int64_t column = 0; column < c.size(); ++column) {
                    got.push_back(weight.data()[m.weight_place(o, i, row, column)]);
                    expected.push_back(problem.weight_gradient.at(o, i, row, column));
                }
    compare(c, got, expected, 1e-5 * problem.weight_scale, 1e-5, name + ", wgrad: weight");
    compare(c, values_of(bias), problem.bias_gradient, 1e-5 * problem.bias_scale, 1e-5, name + ", wgrad: bias");
}

// The passes around a convolution whose products the library computes. `problem` has channels of whole units.
template <typename T>
void check_passes(const Case& c, Random& random) {
    const Problem problem(c, random);
    const Memory<T> m(problem, false, random);
    const std::string name = std::string(kTypeName<T>) + ", " + text(c);
    const auto over = [](const Map& map) { return cuda::pass_over(map.pixels(), static_cast<int>(map.channels)); };
    const auto run = [&](const cuda::Pass& pass, int vectors, auto kernel, const auto& p) {
        launch({static_cast<unsigned>(pass.blocks()), 1, 1}, cuda::kPassThreads, cuda::pass_bytes(vectors), kernel, p,
               random);
    };
    Guarded<float> center(problem.x.channels);
    const auto add_up = [&](const Guarded<float>& parts, const cuda::Pass& pass, int vectors, float* const(&to)[3]) {
        const int length = pass.channels;
        launch({static_cast<unsigned>(cuda::blocks_of(vectors * length, cuda::kReduceColumns)), 1, 1},
               cuda::kReduceThreads, cuda::kReduceThreads * 8, cuda::sum_kernel<cuda::kReduceThreads>,
               cuda::SumParams{parts.data(),
                               static_cast<int>(pass.blocks()),
                               vectors * length,
                               vectors,
                               length,
                               {to[0], to[1], to[2]},
                               m.source(false).scale,
                               vectors == 3 ? center.data() : nullptr},
               random);
    };
    try {
        const cuda::Pass of_x = over(problem.x), of_y = over(problem.y);
        Guarded<T> z(static_cast<std::int64_t>(problem.z.values.size()));
        run(of_x, 0, cuda::source_pass_kernel<T>, cuda::SourcePassParams{of_x, m.source(false), z.data()});
        check(z.intact(), name + ", source pass: wrote beside the result");
        check_values(values_of(z), problem.z.values, 0.0, 0.0, name + ", source pass: z");

        // Products as the library would leave them: rounded, without bias.
        const std::vector<double> nothing(c.out, 0.0);
        Map before = reference::convolution(problem.z, problem.filters, nothing);
        Guarded<T> y = device_map<T>(before.values);
        before.values = values_of(y);
        for (std::size_t i = 0; i < before.values.size(); ++i) before.values[i] += problem.bias[i % c.out];
        const bool moments = c.behind == Behind::kMoments, activates = c.behind == Behind::kActivation;
        Guarded<float> parts(moments ? of_y.blocks() * 2 * c.out : 0), mean(moments ? c.out : 0);
        Guarded<float> var(moments ? c.out : 0);
        run(of_y, 2, cuda::result_pass_kernel<T>,
            cuda::ResultPassParams{
                of_y, y.data(), {m.bias.data(), 1}, activates, m.slope_behind, moments ? parts.data() : nullptr});
        check(y.intact() && parts.intact(), name + ", result pass: wrote beside the result");
        const Map after = activates ? reference::activation(before, problem.slope) : before;
        check_values(values_of(y), after.values, 0x1p-20, kRounding<T>, name + ", result pass: y");
        if (moments) {
            launch({static_cast<unsigned>(cuda::blocks_of(int(c.out), cuda::kReduceColumns)), 1, 1},
                   cuda::kReduceThreads, cuda::kReduceThreads * 8, cuda::merge_moments_kernel<cuda::kReduceThreads>,
                   cuda::MomentsParams{parts.data(), 1, 1, int(of_y.pixels), of_y.channels, 1, of_y.per_block,
                                       mean.data(), var.data()},
                   random);
            const reference::Moments expected = reference::moments(before);
            check_values(values_of(mean), expected.mean, 1e-5, 1e-5, name + ", result pass: mean");
            check_values(values_of(var), expected.variance, 1e-4, 1e-5, name + ", result pass: variance");
        }

        Map expected_dy = problem.g;
        if (activates) expected_dy = reference::gradient_behind_activation(problem.g, problem.y_before, problem.slope);
        if (moments)
            expected_dy = reference::gradient_behind_moments(problem.g, problem.y_before, problem.mean, problem.offset,
                                                             problem.factor);
        Guarded<T> dy(static_cast<std::int64_t>(problem.y.values.size()));
        Guarded<float> sums(of_y.blocks() * c.out);
        run(of_y, 1, cuda::gradient_pass_kernel<T>,
            cuda::GradientPassParams{of_y, m.gradient(), dy.data(), sums.data()});
        check(dy.intact() && sums.intact(), name + ", gradient pass: wrote beside the result");
        check_values(values_of(dy), expected_dy.values, 1e-6, kRounding<T>, name + ", gradient pass: dy");
        const Guarded<float> bias(c.out);
        add_up(sums, of_y, 1, {bias.data(), nullptr, nullptr});
        check_values(values_of(bias), reference::bias_gradient(expected_dy), kRounding<T> * problem.bias_scale, 1e-5,
                     name + ", gradient pass: bias");

        const Map dz = random_map(c.batch, c.height, c.width, c.in, c.grain, random);
        Map whole = dz;
        for (std::size_t i = 0; i < problem.sum_gradient.values.size(); ++i)
            whole.values[i] += problem.sum_gradient.values[i];
        const reference::PrologueGradient expected = reference::prologue_gradient(whole, problem.x, problem.prologue);
        const Guarded<T> dz_memory = device_map<T>(dz.values);
        Guarded<T> x_gradient(static_cast<std::int64_t>(problem.x.values.size()));
        Guarded<T> residual_gradient(c.residual() ? dz_memory.size() : 0);
        Guarded<int> finished(1);
        Guarded<float> source_sums(of_x.blocks() * 3 * of_x.channels);
        run(of_x, 3, cuda::source_gradient_pass_kernel<T>,
            cuda::SourceGradientPassParams{of_x, m.source(false), dz_memory.data(),
                                           m.sum_gradient.size() > 0 ? m.sum_gradient.data() : nullptr,
                                           x_gradient.data(), c.residual() ? residual_gradient.data() : nullptr,
                                           c.affine() ? source_sums.data() : nullptr, finished.data()});
        check(*finished.data() == 0, name + ", source gradient pass: no block has finished yet");
        check(x_gradient.intact() && residual_gradient.intact() && source_sums.intact(),
              name + ", source gradient pass: wrote beside the result");
        check_values(values_of(x_gradient), expected.x.values, 1e-6, kRounding<T>, name + ", source gradient pass: x");
        if (c.residual())
            check_values(values_of(residual_gradient), whole.values, 0.0, 0.0,
                         name + ", source gradient pass: residual");
        if (!c.affine()) return;
        const int channels = of_x.channels;
        const Guarded<float> totals[3] = {Guarded<float>(channels), Guarded<float>(channels), Guarded<float>(channels)};
        add_up(source_sums, of_x, 3, {totals[0].data(), totals[1].data(), totals[2].data()});
        check_center(center, totals[1], problem, name + ", source gradient pass: center");
        const bool sloped = m.source(false).activates;
        const double bound = 1e-5 * problem.x_rms;
        check_values(values_of(totals[0]), expected.scale, bound, 1e-5, name + ", source gradient pass: scale");
        check_values(values_of(totals[1]), expected.shift, bound, 1e-5, name + ", source gradient pass: shift");
        check_values(values_of(totals[2]), sloped ? expected.slope : std::vector<double>(channels, 0.0), bound, 1e-5,
                     name + ", source gradient pass: slope");
    } catch (const cuda::simt::Error& error) {
        check(false, name + ", passes: " + error.what());
    }
}

template <typename T>
void check_pool(std::int64_t batch, std::int64_t height, std::int64_t width, std::int64_t channels, Random& random) {
    const std::string name = "pool of " + std::to_string(batch) + "x" + std::to_string(height) + "x" +
                             std::to_string(width) + "x" + std::to_string(channels);
    const Map x = random_map(batch, height, width, channels, 2.0, random);  // with many equal values
    const Map g = random_map(batch, height / 2, width / 2, channels, 2.0, random);
    Map most = g, gradient(batch, height, width, channels);
    for (std::int64_t n = 0; n < batch; ++n)
        for (std::int64_t row = 0; row < height / 2; ++row)
            for (std::int64_t column = 0; column < width / 2; ++column)
                for (std::int64_t c = 0; c < channels; ++c) {
                    std::int64_t best = 0;
                    const auto at = [&](std::int64_t phase) {
                        return ((n * height + 2 * row + phase / 2) * width + 2 * column + phase % 2) * channels + c;
                    };
                    for (std::int64_t phase = 1; phase < 4; ++phase)
                        if (x.values[at(phase)] > x.values[at(best)]) best = phase;
                    const std::int64_t place = ((n * (height / 2) + row) * (width / 2) + column) * channels + c;
                    most.values[place] = x.values[at(best)];
                    gradient.values[at(best)] = g.values[place];
                }
    try {
        const Guarded<T> x_memory = device_map<T>(x.values), g_memory = device_map<T>(g.values);
        Guarded<T> y(g_memory.size()), back(x_memory.size());
        cuda::PoolParams p{cuda::pass_over(g.pixels(), static_cast<int>(channels)),
                           x_memory.data(),
                           static_cast<int>(height),
                           static_cast<int>(width),
                           nullptr,
                           y.data()};
        const cuda::Grid grid{static_cast<unsigned>(p.pass.blocks()), 1, 1};
        launch(grid, cuda::kPassThreads, 0, cuda::pool_kernel<T>, p, random);
        p.g = g_memory.data(), p.to = back.data();
        launch(grid, cuda::kPassThreads, 0, cuda::pool_gradient_kernel<T>, p, random);
        check(y.intact() && back.intact(), name + ": wrote beside the result");
        check_values(values_of(y), most.values, 0.0, 0.0, name);
        check_values(values_of(back), gradient.values, 0.0, 0.0, name + ", backward");
    } catch (const cuda::simt::Error& error) {
        check(false, name + ": " + error.what());
    }
}

template <typename T>
void check_case(const Case& c, bool all_tiles, bool pads, Random& random) {
    const Problem problem(c, random);
    const Memory<T> memory(problem, pads, random);
    const std::string name = std::string(kTypeName<T>) + ", " + text(c) + (memory.pads ? ", padded" : "");
    std::vector<Tile> tiles{
        cuda::choose_tile(cuda::forward_plan(memory.convolution), false, c.residual(), kDevice, sizeof(T))};
    if (all_tiles) tiles.assign(std::begin(cuda::kTiles), std::end(cuda::kTiles));
    for (const Tile tile : tiles) {
        const std::string of_tile = name + ", tile " + std::to_string(static_cast<int>(tile));
        try {
            check_forward(problem, memory, tile, of_tile, random);
            check_dgrad(problem, memory, tile, of_tile, random);
        } catch (const cuda::simt::Error& error) {
            check(false, of_tile + ": " + error.what());
        }
    }
    // What a device with little shared memory takes, and one with much.
    for (const int splits : {1, 3}) try {
            const cuda::Device device{1, splits == 1 ? kLittleShared : kDevice.shared_bytes};
            const WgradTile tile = cuda::choose_wgrad_tile(memory.convolution, sizeof(T), c.behind != Behind::kNothing,
                                                           c.residual(), device);
            check_wgrad(problem, memory, tile, splits, splits + 1, name + ", splits " + std::to_string(splits), random);
        } catch (const cuda::simt::Error& error) {
            check(false, name + ", wgrad: " + error.what());
        }
}

cuda::NormGradientParams norm_gradient(const Guarded<float>& var, const float* weight, const Guarded<float>& d_var,
                                       const Guarded<float>& d_weight, float eps) {
    return {var.data(), weight, eps, d_var.data(), weight != nullptr ? d_weight.data() : nullptr};
}

// The same vectors from the kernel that merges moments, bit by bit.
void check_moments_with_norm(int channels, const std::string& name, Random& random) {
    constexpr int kPixels = 37, kTile = 8, kTiles = 5;
    const std::vector<double> parts = stepped(kTiles * 2 * channels, 0.0, 4.0, 8.0, random);
    const std::vector<double> weight = stepped(channels, -2.0, 2.0, 8.0, random);
    const std::vector<double> before = stepped(channels, -2.0, 2.0, 8.0, random);
    const Guarded<float> parts_memory = device_vector(parts), weights = device_vector(weight);
    const auto vectors = [&] { return std::array{device_vector(before), device_vector(weight)}; };
    const std::array running = vectors(), expected = vectors();
    Guarded<float> mean(channels), var(channels), scale(channels), expected_scale(channels);
    Guarded<std::int64_t> batches(2);
    batches.data()[0] = batches.data()[1] = 3;
    constexpr float kEps = 0.125f, kUnbias = 1.5f, kMomentum = 0.1f;
    cuda::MomentsParams p{parts_memory.data(), 1, 1, kPixels, channels, 1, kTile, mean.data(), var.data()};
    p.norm = {weights.data(),    kEps,           scale.data(), running[0].data(),
              running[1].data(), batches.data(), kMomentum,    kUnbias};
    launch({static_cast<unsigned>(cuda::blocks_of(channels, cuda::kReduceColumns)), 1, 1}, cuda::kReduceThreads,
           cuda::kReduceThreads * 8, cuda::merge_moments_kernel<cuda::kReduceThreads>, p, random);
    launch({1, 1, 1}, cuda::kReduceThreads, 0, cuda::bn_scale_kernel<cuda::kReduceThreads>,
           cuda::BnScaleParams{var.data(), weights.data(), kEps, channels, expected_scale.data()}, random);
    launch({1, 1, 1}, cuda::kReduceThreads, 0, cuda::bn_follow_kernel<cuda::kReduceThreads>,
           cuda::BnFollowParams{mean.data(), var.data(), expected[0].data(), expected[1].data(), batches.data() + 1,
                                kMomentum, kUnbias, channels},
           random);
    check(mean.intact() && var.intact() && scale.intact() && running[0].intact() && running[1].intact() &&
              batches.intact(),
          name + ", with the moments: wrote beside the result");
    check_values(values_of(scale), values_of(expected_scale), 0.0, 0.0, name + ", with the moments: scale");
    for (const int i : {0, 1})
        check_values(values_of(running[i]), values_of(expected[i]), 0.0, 0.0, name + ", with the moments: running");
    check(batches.data()[0] == 4, name + ", with the moments: batches");
}

// A prologue's sums with the gradients of the BatchNorm that gave its scale, and one value for all slopes.
void check_sums_with_norm(int channels, bool plain, const std::string& name, Random& random) {
    constexpr int kParts = 5;
    constexpr float kEps = 0.125f;
    const std::vector<double> parts = stepped(kParts * 3 * channels, -2.0, 2.0, 8.0, random);
    const std::vector<double> var = stepped(channels, 0.0, 4.0, 8.0, random);
    const std::vector<double> weight = stepped(channels, -2.0, 2.0, 8.0, random);
    const Guarded<float> parts_memory = device_vector(parts), var_memory = device_vector(var);
    const Guarded<float> weights = device_vector(weight);
    const float* const w = plain ? nullptr : weights.data();
    const std::array<Guarded<float>, 3> sums{Guarded<float>(channels), Guarded<float>(channels),
                                             Guarded<float>(channels)};
    Guarded<float> d_var(channels), d_weight(plain ? 0 : channels), total(1), expected_var(channels);
    Guarded<float> expected_weight(plain ? 0 : channels);
    Guarded<int> finished(1);
    *finished.data() = 0;
    cuda::SumParams p{};
    p.parts = parts_memory.data(), p.count = kParts, p.stride = 3 * channels, p.vectors = 3, p.length = channels;
    for (const int i : {0, 1, 2}) p.sums[i] = sums[i].data();
    p.norm = norm_gradient(var_memory, w, d_var, d_weight, kEps);
    p.total = total.data(), p.finished = finished.data();
    launch({static_cast<unsigned>(cuda::blocks_of(3 * channels, cuda::kReduceColumns)), 1, 1}, cuda::kReduceThreads,
           cuda::kReduceThreads * 8, cuda::sum_kernel<cuda::kReduceThreads>, p, random);
    launch({1, 1, 1}, cuda::kReduceThreads, 0, cuda::bn_scale_backward_kernel<cuda::kReduceThreads>,
           cuda::BnScaleBackwardParams{sums[0].data(), channels,
                                       norm_gradient(var_memory, w, expected_var, expected_weight, kEps)},
           random);
    check(d_var.intact() && d_weight.intact() && total.intact() && finished.intact(),
          name + ", with the sums: wrote beside the result");
    check_values(values_of(d_var), values_of(expected_var), 0.0, 0.0, name + ", with the sums: variance");
    check_values(values_of(d_weight), values_of(expected_weight), 0.0, 0.0, name + ", with the sums: weight");
    const std::vector<double> slopes = values_of(sums[2]);
    check_values(values_of(total), {std::accumulate(slopes.begin(), slopes.end(), 0.0)}, 0.0, 1e-6,
                 name + ", with the sums: one slope");
}

// BatchNorm's vectors, of more channels than a block has threads, with and without weights and momentum.
void check_batchnorm(Random& random) {
    for (const int channels : {1, 70, 513})
        for (const bool plain : {false, true}) {
            const std::string name = "BatchNorm of " + std::to_string(channels) + (plain ? ", plain" : "");
            const std::vector<double> var = stepped(channels, 0.0, 4.0, 8.0, random);
            const std::vector<double> weight = stepped(channels, -2.0, 2.0, 8.0, random);
            const std::vector<double> gradient = stepped(channels, -2.0, 2.0, 8.0, random);
            const std::vector<double> mean = stepped(channels, -2.0, 2.0, 8.0, random);
            constexpr double kEps = 0.125, kUnbias = 1.5;
            std::vector<double> scale, d_var, d_weight, new_mean, new_var;
            const double share = plain ? 0.25 : 0.1;  // plain: the fourth batch
            for (int i = 0; i < channels; ++i) {
                const double w = plain ? 1.0 : weight[i], inverse = 1.0 / std::sqrt(var[i] + kEps);
                scale.push_back(w * inverse), d_weight.push_back(gradient[i] * inverse);
                d_var.push_back(-0.5 * gradient[i] * w * inverse * inverse * inverse);
                new_mean.push_back(gradient[i] + share * (mean[i] - gradient[i]));
                new_var.push_back(weight[i] + share * (var[i] * kUnbias - weight[i]));
            }
            const Guarded<float> var_memory = device_vector(var), weights = device_vector(weight);
            const Guarded<float> gradients = device_vector(gradient), means = device_vector(mean);
            const Guarded<float> running_mean = device_vector(gradient), running_var = device_vector(weight);
            Guarded<float> scales(channels), var_gradients(channels), weight_gradients(plain ? 0 : channels);
            Guarded<std::int64_t> batches(1);
            *batches.data() = 3;
            const float* const w = plain ? nullptr : weights.data();
            const auto run = [&](auto kernel, const auto& p) {
                launch({1, 1, 1}, cuda::kReduceThreads, 0, kernel, p, random);
            };
            run(cuda::bn_scale_kernel<cuda::kReduceThreads>,
                cuda::BnScaleParams{var_memory.data(), w, float(kEps), channels, scales.data()});
            run(cuda::bn_scale_backward_kernel<cuda::kReduceThreads>,
                cuda::BnScaleBackwardParams{
                    gradients.data(), channels,
                    norm_gradient(var_memory, w, var_gradients, weight_gradients, float(kEps))});
            run(cuda::bn_follow_kernel<cuda::kReduceThreads>,
                cuda::BnFollowParams{means.data(), var_memory.data(), running_mean.data(), running_var.data(),
                                     batches.data(), plain ? -1.0f : 0.1f, float(kUnbias), channels});
            check(scales.intact() && var_gradients.intact() && weight_gradients.intact() && running_mean.intact() &&
                      running_var.intact() && batches.intact(),
                  name + ": wrote beside the result");
            check_values(values_of(scales), scale, 0.0, 1e-6, name + ": scale");
            check_values(values_of(var_gradients), d_var, 1e-9, 1e-6, name + ": gradient of the variance");
            if (!plain) check_values(values_of(weight_gradients), d_weight, 0.0, 1e-6, name + ": of the weight");
            check_values(values_of(running_mean), new_mean, 1e-6, 1e-6, name + ": running mean");
            check_values(values_of(running_var), new_var, 1e-6, 1e-6, name + ": running variance");
            check(*batches.data() == 4, name + ": batches");
            if (!plain) check_moments_with_norm(channels, name, random);
            check_sums_with_norm(channels, plain, name, random);
        }
}

// What is chosen for a device must fit into its shared memory.
void check_choices() {
    for (const int bytes : {kLittleShared, 163 * 1024, 227 * 1024})
        for (const int in : {3, 16, 64, 256})
            for (const int out : {3, 64, 512})
                for (const int side : {1, 24, 96})
                    for (const int stride : {1, 2})
                        for (const int two_and_type : {0, 1, 2, 3}) {
                            const bool two = two_and_type % 2 == 1;
                            const int element = two_and_type < 2 ? cuda::kHalfBytes : cuda::kFloatBytes;
                            const cuda::Device device{132, bytes};
                            const cuda::Convolution c{16, in, out, side, side, 3, stride};
                            for (const bool backward : {false, true}) {
                                const cuda::ConvParams p = backward ? cuda::dgrad_plan(c) : cuda::forward_plan(c);
                                const bool two_maps = two && (backward || stride == 1);
                                const Tile tile = cuda::choose_tile(p, two, two_maps, device, element);
                                const cuda::TileSize size = cuda::size_of(tile, element);
                                check(cuda::shared_bytes(size, p.step, p.reach, two_maps) <= bytes, "a tile fits");
                            }
                            const bool residual = two && stride == 1;
                            const WgradTile tile = cuda::choose_wgrad_tile(c, element, two, residual, device);
                            const int stage = cuda::wgrad_stage_bytes(tile, element, 3, stride, two, residual);
                            check(cuda::wgrad_stages(stage, device) * stage + cuda::kWgradBiasBytes <= bytes,
                                  "a weight gradient's tiles fit");
                        }
}

}  // namespace

int main(int argc, char** argv) {
    // One of so many cases is run; coprime to the numbers of sizes and kinds. "all" runs all of them, "few" small ones.
    const std::string asked = argc > 1 ? argv[1] : "";
    const int every = asked == "all" ? 1 : asked == "few" ? 5 : 11;
    Random random(7);
    struct Size {
        std::int64_t batch, height, width, in, out;
    };
    const std::vector<Size> sizes =
        asked == "few" ? std::vector<Size>{{1, 5, 18, 16, 24}}
                       : std::vector<Size>{{1, 1, 1, 3, 5},    {2, 9, 7, 16, 24}, {1, 17, 18, 64, 64},
                                           {1, 10, 20, 80, 3}, {1, 6, 33, 3, 70}, {1, 8, 10, 136, 130}};
    const Kind kinds[] = {Kind::kPlain,    Kind::kAffine,  Kind::kSlope,
                          Kind::kResidual, Kind::kShuffle, Kind::kShuffleSlope};
    int i = 0;
    for (const Geometry geometry : {Geometry::k3x3, Geometry::k3x3Stride2, Geometry::k5x5})
        for (const Kind kind : kinds)
            for (const Behind behind : {Behind::kNothing, Behind::kActivation, Behind::kMoments})
                for (const Size& s : sizes) {
                    const bool shuffles = kind == Kind::kShuffle || kind == Kind::kShuffleSlope;
                    if (kind == Kind::kResidual && geometry != Geometry::k3x3) continue;
                    if (shuffles && geometry == Geometry::k3x3Stride2) continue;
                    if (++i % every != 0) continue;
                    Case c{geometry, kind, behind, s.batch, s.height, s.width, s.in, s.out};
                    if (shuffles) c.height += c.height % 2, c.width += c.width % 2;
                    c.grain = 2.0, c.channels_last = i % 2 == 0, c.side = i % 4 != 0;
                    const bool all_tiles = i % 5 == 0, pads = i % 3 != 0;
                    const int type = i / every % 3;
                    if (type == 0)
                        check_case<cuda::Bf16>(c, all_tiles, pads, random);
                    else if (type == 1)
                        check_case<cuda::Half>(c, all_tiles, pads, random);
                    else
                        check_case<float>(c, all_tiles, pads, random);
                }
    // The ends of the generator.
    for (const Size& s :
         asked == "few" ? std::vector<Size>{{1, 5, 18, 3, 24}, {1, 4, 9, 24, 3}}
                        : std::vector<Size>{{2, 9, 7, 3, 64}, {1, 17, 20, 64, 3}, {1, 1, 1, 3, 5}, {1, 6, 33, 20, 70}})
        for (const auto& [kind, behind] : {std::pair{Kind::kPlain, Behind::kNothing},
                                           {Kind::kSlope, Behind::kActivation},
                                           {Kind::kAffine, Behind::kMoments}}) {
            Case c{Geometry::k5x5, kind, behind, s.batch, s.height, s.width, s.in, s.out};
            ++i;
            if (asked.empty() && i % 3 != 0) continue;  // under sanitizers they take minutes
            c.grain = 2.0, c.side_of_filters = 9, c.channels_last = i % 2 == 0;
            const int type = i / (asked.empty() ? 3 : 1) % 3;
            if (type == 0)
                check_case<cuda::Half>(c, asked == "all", i % 4 != 0, random);
            else if (type == 1)
                check_case<cuda::Bf16>(c, asked == "all", i % 4 != 1, random);
            else
                check_case<float>(c, asked == "all", i % 4 != 2, random);
        }
    // Floats that TF32 rounds, each geometry with a prologue and without.
    for (const Geometry geometry : {Geometry::k3x3, Geometry::k3x3Stride2, Geometry::k5x5})
        for (const auto& [kind, behind] : {std::pair{Kind::kPlain, Behind::kNothing},
                                           {Kind::kSlope, Behind::kActivation},
                                           {Kind::kAffine, Behind::kMoments}}) {
            Case c{geometry, kind, behind, 2, 9, 10, 24, 40};
            c.grain = 1 << 14;
            check_case<float>(c, asked == "all", ++i % 2 == 0, random);
        }
    // Passes: several blocks, one pixel, channels that leave threads without work, more than there are units for once.
    for (const Size& s : asked == "few" ? std::vector<Size>{{2, 10, 18, 24, 40}}
                                        : std::vector<Size>{{2, 10, 18, 64, 40}, {1, 2, 2, 8, 8}, {1, 6, 10, 24, 520}})
        for (const Kind kind : kinds)
            for (const Behind behind : {Behind::kNothing, Behind::kActivation, Behind::kMoments}) {
                Case c{Geometry::k3x3, kind, behind, s.batch, s.height, s.width, s.in, s.out};
                c.grain = 2.0, c.side = ++i % 4 != 0;
                const int type = (i + i / 3) % 3;  // each with every epilogue
                if (type == 0)
                    check_passes<cuda::Bf16>(c, random);
                else if (type == 1)
                    check_passes<cuda::Half>(c, random);
                else
                    check_passes<float>(c, random);
            }
    check_pool<cuda::Bf16>(2, 12, 22, 24, random);
    check_pool<cuda::Half>(1, 2, 2, 2048, random);
    check_pool<float>(2, 4, 6, 40, random);
    check_batchnorm(random);
    check_choices();
    return finish();
}
