// CPU operators srgan_fast::conv_forward, conv_dgrad and conv_wgrad: checks, tensors, threads. What they compute is
// documented in kernels/cpu/conv.h and, for users, in srgan_fast/ops/conv.py, which also has their gradients and
// references.
#include <algorithm>
#include <numeric>
#include <vector>

#include "torch/bn.h"
#include "torch/tasks.h"

namespace srgan_fast::torch_ops {
namespace {

using cpu::Geometry;
using cpu::padded;

// Buffers reused between calls: packed weights, partial sums, vectors.
thread_local Workspace packed_memory, partial_memory, vector_memory;

Geometry geometry_of(std::int64_t taps, std::int64_t stride) {
    return taps == 5 ? Geometry::k5x5 : stride == 2 ? Geometry::k3x3Stride2 : Geometry::k3x3;
}
Geometry geometry_of(const Problem& p) { return geometry_of(p.taps, p.stride); }

bool is_bf16(const Tensor& x) { return x.scalar_type() == ScalarType::BFloat16; }

void check_types(const Tensor& x, const Tensor& weight) {
    const ScalarType type = x.scalar_type();
    STD_TORCH_CHECK(x.is_cpu() && weight.is_cpu(), "srgan_fast::conv: a map and weights on different devices");
    STD_TORCH_CHECK(type == ScalarType::Float || type == ScalarType::Double || is_bf16(x),
                    "srgan_fast::conv takes maps of float32, float64 or bfloat16");
    STD_TORCH_CHECK(weight.scalar_type() == (is_bf16(x) ? ScalarType::Float : type),
                    "srgan_fast::conv takes weights of the map's type, and of float32 with a bfloat16 map");
}

// Per-channel vectors in the kernels' layout, in one buffer.
template <typename S>
class Vectors {
  public:
    Vectors(const Problem& p, const Tensor& weight)
        : weight_(weight),
          next_(vector_memory.need_of<S>(kVectors * (padded(std::max(4 * p.in, p.out)) + cpu::kChannelBlock))) {}

    // `count` values followed by zeros; a tensor with one value is broadcast, none means `otherwise`.
    const S* put(const Maybe& values, std::int64_t count, double otherwise, const char* name, S factor = S(1)) {
        S* const target = next_;
        next_ += padded(count) + cpu::kChannelBlock;
        std::fill(target + count, next_, S(0));
        if (!values) {
            std::fill_n(target, count, static_cast<S>(otherwise));
            return target;
        }
        check_vector(values, weight_, count, name);
        const std::int64_t given = values->numel();
        const Tensor dense = torch::stable::contiguous(*values);
        const S* const source = static_cast<const S*>(dense.const_data_ptr());
        for (std::int64_t i = 0; i < count; ++i) target[i] = factor * source[given == 1 ? 0 : i];
        return target;
    }

  private:
    static constexpr std::int64_t kVectors = 10;  // most vectors per call
    const Tensor& weight_;
    S* next_;
};

// Source of z; `x` and `residual` are NHWC and outlive it.
template <typename S>
cpu::Source<S> source_of(const Problem& p, const Tensor& x, const Maybe& residual, const PrologueTensors& t,
                         bool shuffle, Vectors<S>& vectors) {
    const std::int64_t channels = p.in * (shuffle ? 4 : 1);
    cpu::Source<S> source{};
    source.x = x.const_data_ptr();
    source.height = p.height, source.width = p.width, source.channels = p.in;
    source.shuffle = shuffle;
    source.affine = t.center || t.scale || t.shift || t.slope || residual;
    check_combination(p, t, shuffle);
    if (source.affine) {
        source.center = vectors.put(t.center, channels, 0.0, "center");
        source.scale = vectors.put(t.scale, channels, 1.0, "scale");
        source.shift = vectors.put(t.shift, channels, 0.0, "shift");
        source.slope = vectors.put(t.slope, channels, 1.0, "slope");
    }
    if (residual) source.residual = residual->const_data_ptr();
    return source;
}

template <typename S>
void run_pack(const cpu::ConvPack<S>& a, bool bf16) {
    const auto& kernel = table(S{}, bf16).pack;
    run(kernel, a, kernel.tasks(a, threads()));
}

cpu::WeightStrides strides_of(const Tensor& weight) {
    return {weight.stride(0), weight.stride(1), weight.stride(2), weight.stride(3)};
}

template <typename S>
cpu::ConvPack<S> pack_of(const Tensor& weight, Geometry geometry, bool backward) {
    return {
        geometry,       backward, static_cast<const S*>(weight.const_data_ptr()), strides_of(weight), weight.size(1),
        weight.size(0), nullptr};
}

// Packed weights for the kernels of such maps: those given, or else packed here.
template <typename S>
const S* pack(const Problem& p, const Tensor& weight, bool backward, bool bf16, const Maybe& packed) {
    cpu::ConvPack<S> a = pack_of<S>(weight, geometry_of(p), backward);
    if (packed) {
        STD_TORCH_CHECK(
            packed->numel() == table(S{}, bf16).packed_size(a) && packed->scalar_type() == weight.scalar_type(),
            "srgan_fast::conv: packed weights of another convolution");
        return static_cast<const S*>(packed->const_data_ptr());
    }
    a.packed = packed_memory.need_of<S>(table(S{}, bf16).packed_size(a));
    run_pack(a, bf16);
    return a.packed;
}

template <typename S>
Tensor packed_weights(const Tensor& weight, Geometry geometry, bool backward, bool bf16) {
    cpu::ConvPack<S> a = pack_of<S>(weight, geometry, backward);
    const Tensor packed = new_vector(weight, table(S{}, bf16).packed_size(a));
    a.packed = static_cast<S*>(packed.mutable_data_ptr());
    run_pack(a, bf16);
    return packed;
}

Tensor conv_pack(const Tensor& weight, std::int64_t stride, bool backward, bool bf16) {
    STD_TORCH_CHECK(weight.is_cpu() && weight.dim() == 4, "srgan_fast::conv_pack takes O, I, k, k weights on the CPU");
    const bool wide = weight.scalar_type() == ScalarType::Double;
    STD_TORCH_CHECK(wide || weight.scalar_type() == ScalarType::Float,
                    "srgan_fast::conv_pack takes weights of float32 or float64");
    STD_TORCH_CHECK(!(wide && bf16), "srgan_fast::conv_pack: weights for maps of bfloat16 are of float32");
    STD_TORCH_CHECK(weight.numel() > 0, "srgan_fast::conv_pack: empty weights ", shape_of(weight));
    const Geometry geometry = geometry_of(taps_of(weight, stride), stride);
    return wide ? packed_weights<double>(weight, geometry, backward, false)
                : packed_weights<float>(weight, geometry, backward, bf16);
}

// Number of values that conv_pack makes from float32 weights.
std::int64_t conv_packed_size(std::int64_t out, std::int64_t in, std::int64_t taps, std::int64_t stride, bool backward,
                              bool bf16) {
    return table(float{}, bf16).packed_size({geometry_of(taps, stride), backward, nullptr, {}, in, out, nullptr});
}

// Merges the moments of tasks (Chan, Golub and LeVeque 1979): mean and biased variance.
template <typename S>
void merge_moments(const S* parts, std::int64_t tasks, std::int64_t channels, S* mean, S* var) {
    std::vector<double> means(channels), squares(channels);
    double count = 0.0;
    for (std::int64_t task = 0; task < tasks; ++task, parts += cpu::moments_size(channels)) {
        const double more = static_cast<double>(parts[2 * padded(channels)]);
        if (more == 0.0) continue;
        const double share = more / (count + more), weight = count * share;
        for (std::int64_t c = 0; c < channels; ++c) {
            const double difference = static_cast<double>(parts[c]) - means[c];
            means[c] += difference * share;
            squares[c] += static_cast<double>(parts[padded(channels) + c]) + difference * difference * weight;
        }
        count += more;
    }
    for (std::int64_t c = 0; c < channels; ++c) {
        mean[c] = static_cast<S>(means[c]);
        var[c] = static_cast<S>(squares[c] / count);
    }
}

template <typename S>
S* write(const Tensor& t) {
    return static_cast<S*>(t.mutable_data_ptr());
}
template <typename S>
const S* read(const Maybe& t) {
    return t ? static_cast<const S*>(t->const_data_ptr()) : nullptr;
}

template <typename S>
NormForward forward(const Problem& p, const Tensor& x, const Tensor& weight, const Maybe& bias,
                    const PrologueTensors& t, bool shuffle, bool moments, std::optional<double> activation,
                    const Maybe& packed, const std::optional<ResultNorm>& norm) {
    Vectors<S> vectors(p, weight);
    const Tensor map = nhwc(x);
    const Maybe residual = t.residual ? Maybe(nhwc(*t.residual)) : std::nullopt;
    cpu::ConvForward<S> a{};
    a.geometry = geometry_of(p), a.batch = p.batch;
    a.source = source_of<S>(p, map, residual, t, shuffle, vectors);
    a.height = p.out_height, a.width = p.out_width, a.channels = p.out;
    a.bias = vectors.put(bias, p.out, 0.0, "bias");
    a.activate = activation.has_value(), a.slope = static_cast<S>(activation.value_or(0.0));
    a.weights = pack<S>(p, weight, false, is_bf16(x), packed);
    const Tensor y = new_map(x, p.batch, p.out, p.out_height, p.out_width);
    a.y = y.mutable_data_ptr();
    Tensor sum = residual ? new_map(x, p.batch, p.in, p.height, p.width) : new_vector(x, 0);
    a.source.sum = residual ? sum.mutable_data_ptr() : nullptr;
    const Tensor mean = new_vector(weight, moments ? p.out : 0), var = new_vector(weight, moments ? p.out : 0);
    const auto& kernel = table(S{}, is_bf16(x)).forward;
    const std::int64_t tasks = kernel.tasks(a, threads());
    if (moments) a.moments = partial_memory.need_of<S>(tasks * cpu::moments_size(p.out));
    run(kernel, a, tasks);
    if (moments) merge_moments(a.moments, tasks, p.out, write<S>(mean), write<S>(var));
    const Tensor norm_scales = new_vector(weight, norm ? p.out : 0);
    if (norm) {
        check_norm(*norm, mean);
        norm_scale(write<S>(var), read<S>(norm->weight), norm->eps, p.out, write<S>(norm_scales));
        if (norm->running_mean)
            norm_follow(write<S>(mean), write<S>(var), norm->count, norm->momentum, p.out,
                        write<S>(*norm->running_mean), write<S>(*norm->running_var),
                        write<std::int64_t>(*norm->batches));
    }
    return {y, mean, var, sum, norm_scales};
}

NormForward forward(const Tensor& x, const Tensor& weight, const Maybe& bias, const PrologueTensors& t,
                    std::int64_t stride, bool shuffle, bool moments, std::optional<double> activation,
                    const Maybe& packed, const std::optional<ResultNorm>& norm) {
    check_types(x, weight);
    const Problem p(x, weight, stride, shuffle);
    check_map(t.residual, x, {p.batch, p.in, p.height, p.width}, "residual");
    STD_TORCH_CHECK(!(moments && activation),
                    "srgan_fast::conv: moments are taken before an activation, not behind one");
    return x.scalar_type() == ScalarType::Double
               ? forward<double>(p, x, weight, bias, t, shuffle, moments, activation, packed, norm)
               : forward<float>(p, x, weight, bias, t, shuffle, moments, activation, packed, norm);
}

Forward conv_forward(const Tensor& x, const Tensor& weight, const Maybe& bias, const Maybe& center, const Maybe& scale,
                     const Maybe& shift, const Maybe& slope, const Maybe& residual, std::int64_t stride, bool shuffle,
                     bool moments, std::optional<double> activation, const Maybe& packed, const Maybe&, const Maybe&,
                     const Maybe&, double) {
    const auto [y, mean, var, sum, none] = forward(x, weight, bias, {center, scale, shift, slope, residual}, stride,
                                                   shuffle, moments, activation, packed, std::nullopt);
    return {y, mean, var, sum};
}

NormForward conv_bn_forward(const Tensor& x, const Tensor& weight, const Maybe& bias, const Maybe& center,
                            const Maybe& scale, const Maybe& shift, const Maybe& slope, const Maybe& residual,
                            std::int64_t stride, bool shuffle, const Maybe& packed, const Maybe& bn_weight,
                            double bn_eps, const Maybe& running_mean, const Maybe& running_var, const Maybe& batches,
                            double momentum) {
    return forward(x, weight, bias, {center, scale, shift, slope, residual}, stride, shuffle, true, std::nullopt,
                   packed,
                   ResultNorm{bn_weight, bn_eps, running_mean, running_var, batches, momentum,
                              values_per_channel(x, stride, shuffle)});
}

template <typename S>
cpu::Gradient<S> gradient_of(const Problem& p, const Tensor& g, const Maybe& y, const GradientTensors& t,
                             Vectors<S>& vectors) {
    cpu::Gradient<S> a{};
    a.g = g.const_data_ptr();
    a.height = p.out_height, a.width = p.out_width, a.channels = p.out;
    check_combination(y, t);
    if (t.mean || t.activation) a.y = y->const_data_ptr();
    if (t.activation) a.slope = static_cast<S>(*t.activation);
    if (t.mean) {
        const S pixels = static_cast<S>(p.batch * p.out_height * p.out_width);
        a.mean = vectors.put(t.mean, p.out, 0.0, "mean");
        a.offset = vectors.put(t.mean_gradient, p.out, 0.0, "gradient of the mean", S(1) / pixels);
        a.factor = vectors.put(t.var_gradient, p.out, 0.0, "gradient of the variance", S(2) / pixels);
    }
    return a;
}

// Sums rows over partial results: `parts` rows of `stride` values, `distance` apart.
template <typename S>
Tensor add_up(const Tensor& like, const S* first, std::int64_t parts, std::int64_t distance, std::int64_t size) {
    std::vector<double> sums(size);
    for (std::int64_t part = 0; part < parts; ++part)
        for (std::int64_t i = 0; i < size; ++i) sums[i] += static_cast<double>(first[part * distance + i]);
    const Tensor result = new_vector(like, size);
    S* const target = static_cast<S*>(result.mutable_data_ptr());
    for (std::int64_t i = 0; i < size; ++i) target[i] = static_cast<S>(sums[i]);
    return result;
}

template <typename S>
Dgrad dgrad(const Problem& p, const Tensor& g, const Maybe& y, const GradientTensors& gradient,
            const Maybe& sum_gradient, const Tensor& x, const Tensor& weight, const PrologueTensors& t, bool shuffle,
            const Maybe& packed, const SourceNorm& norm) {
    Vectors<S> vectors(p, weight);
    const Tensor g_map = nhwc(g), x_map = nhwc(x);
    const Maybe y_map = y ? Maybe(nhwc(*y)) : std::nullopt;
    const Maybe residual = t.residual ? Maybe(nhwc(*t.residual)) : std::nullopt;
    const Maybe sum_map = sum_gradient ? Maybe(nhwc(*sum_gradient)) : std::nullopt;
    cpu::ConvDgrad<S> a{};
    a.geometry = geometry_of(p), a.batch = p.batch;
    a.gradient = gradient_of<S>(p, g_map, y_map, gradient, vectors);
    a.source = source_of<S>(p, x_map, residual, t, shuffle, vectors);
    a.weights = pack<S>(p, weight, true, is_bf16(x), packed);
    a.sum_gradient = sum_map ? sum_map->const_data_ptr() : nullptr;
    const Tensor x_gradient = new_map(x, x.size(0), x.size(1), x.size(2), x.size(3));
    a.x_gradient = x_gradient.mutable_data_ptr();
    const Tensor residual_gradient =
        residual ? new_map(x, x.size(0), x.size(1), x.size(2), x.size(3)) : new_vector(x, 0);
    a.residual_gradient = residual ? residual_gradient.mutable_data_ptr() : nullptr;
    const auto& kernel = table(S{}, is_bf16(x)).dgrad;
    const std::int64_t tasks = kernel.tasks(a, threads()), channels = x.size(1), stride = padded(channels);
    if (a.source.affine) a.sums = partial_memory.need_of<S>(tasks * 3 * stride);
    run(kernel, a, tasks);
    const auto none = [&] { return new_vector(weight, 0); };
    if (!a.source.affine) return {x_gradient, residual_gradient, none(), none(), none(), none(), none(), none()};
    const auto sum = [&](int row) { return add_up(weight, a.sums + row * stride, tasks, 3 * stride, channels); };
    const Tensor d_scale = sum(0), d_shift = sum(1), d_center = new_vector(weight, channels);
    Tensor d_slope = sum(2), d_var = none(), d_gamma = none();
    for (std::int64_t i = 0; i < channels; ++i) write<S>(d_center)[i] = -write<S>(d_shift)[i] * a.source.scale[i];
    if (size_of_gradient(t.slope, channels) != channels) {
        const S* const each = write<S>(d_slope);
        const Tensor total = new_vector(weight, 1);
        *write<S>(total) = static_cast<S>(std::accumulate(each, each + channels, 0.0));
        d_slope = total;
    }
    if (norm.var) {
        check_channels(*norm.var, d_scale, "srgan_fast::conv_dgrad", "var");
        if (norm.weight) check_channels(*norm.weight, d_scale, "srgan_fast::conv_dgrad", "gamma");
        d_var = new_vector(weight, channels), d_gamma = new_vector(weight, norm.weight ? channels : 0);
        norm_scale_gradient(write<S>(d_scale), read<S>(norm.var), read<S>(norm.weight), norm.eps, channels,
                            write<S>(d_var), norm.weight ? write<S>(d_gamma) : nullptr);
    }
    return {x_gradient, residual_gradient, d_center, d_scale, d_shift, d_slope, d_var, d_gamma};
}

Dgrad conv_dgrad(const Tensor& g, const Maybe& y, const Maybe& mean, const Maybe& mean_gradient,
                 const Maybe& var_gradient, const Maybe& sum_gradient, const Tensor& x, const Tensor& weight,
                 const Maybe& center, const Maybe& scale, const Maybe& shift, const Maybe& slope, const Maybe& residual,
                 std::int64_t stride, bool shuffle, std::optional<double> activation, const Maybe& packed,
                 const Maybe& var, const Maybe& gamma, double eps) {
    check_types(x, weight);
    const Problem p(x, weight, stride, shuffle);
    const PrologueTensors t{center, scale, shift, slope, residual};
    const SourceNorm norm{var, gamma, eps};
    const GradientTensors gradient{mean, mean_gradient, var_gradient, activation};
    check_gradient(p, g, y, x);
    check_map(residual, x, {p.batch, p.in, p.height, p.width}, "residual");
    check_map(sum_gradient, x, {p.batch, p.in, p.height, p.width}, "the sum's gradient");
    return x.scalar_type() == ScalarType::Double
               ? dgrad<double>(p, g, y, gradient, sum_gradient, x, weight, t, shuffle, packed, norm)
               : dgrad<float>(p, g, y, gradient, sum_gradient, x, weight, t, shuffle, packed, norm);
}

constexpr std::int64_t kAddedTogether = 1 << 15;  // elements per additional thread

template <typename S>
Wgrad wgrad(const Problem& p, const Tensor& g, const Maybe& y, const GradientTensors& gradient, const Tensor& x,
            const Tensor& weight, const PrologueTensors& t, bool shuffle, bool bias) {
    Vectors<S> vectors(p, weight);
    const Tensor g_map = nhwc(g), x_map = nhwc(x);
    const Maybe y_map = y ? Maybe(nhwc(*y)) : std::nullopt;
    const Maybe residual = t.residual ? Maybe(nhwc(*t.residual)) : std::nullopt;
    const auto& functions = table(S{}, is_bf16(x));
    cpu::ConvWgrad<S> a{};
    a.geometry = geometry_of(p), a.batch = p.batch;
    a.source = source_of<S>(p, x_map, residual, t, shuffle, vectors);
    a.gradient = gradient_of<S>(p, g_map, y_map, gradient, vectors);
    a.splits = functions.wgrad_splits(a, threads());
    const Tensor result = new_weight_gradient(p, weight);
    a.strides = strides_of(result);
    const std::int64_t size = p.out * p.in * p.taps * p.taps, biases = padded(p.out);
    S* const partial = partial_memory.need_of<S>(a.splits * (size + biases));
    S* const parts = partial + a.splits * biases;  // the biases first, which must be aligned
    a.weight = a.splits == 1 ? static_cast<S*>(result.mutable_data_ptr()) : parts;
    a.bias = bias ? partial : nullptr;
    run(functions.wgrad, a, functions.wgrad.tasks(a, threads()));
    if (a.splits > 1) {
        S* const target = static_cast<S*>(result.mutable_data_ptr());
        torch::stable::parallel_for(0, size, kAddedTogether, [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t i = begin; i < end; ++i) target[i] = parts[i];
            for (std::int64_t split = 1; split < a.splits; ++split)
                for (std::int64_t i = begin; i < end; ++i) target[i] += parts[split * size + i];
        });
    }
    return {result, bias ? add_up(weight, a.bias, a.splits, biases, p.out) : new_vector(weight, 0)};
}

Wgrad conv_wgrad(const Tensor& g, const Maybe& y, const Maybe& mean, const Maybe& mean_gradient,
                 const Maybe& var_gradient, const Tensor& x, const Tensor& weight, const Maybe& center,
                 const Maybe& scale, const Maybe& shift, const Maybe& slope, const Maybe& residual, std::int64_t stride,
                 bool shuffle, std::optional<double> activation, bool bias) {
    check_types(x, weight);
    const Problem p(x, weight, stride, shuffle);
    const PrologueTensors t{center, scale, shift, slope, residual};
    const GradientTensors gradient{mean, mean_gradient, var_gradient, activation};
    check_gradient(p, g, y, x);
    check_map(residual, x, {p.batch, p.in, p.height, p.width}, "residual");
    return x.scalar_type() == ScalarType::Double ? wgrad<double>(p, g, y, gradient, x, weight, t, shuffle, bias)
                                                 : wgrad<float>(p, g, y, gradient, x, weight, t, shuffle, bias);
}

}  // namespace
}  // namespace srgan_fast::torch_ops

STABLE_TORCH_LIBRARY(srgan_fast, m) {
    m.def(
        "conv_forward(Tensor x, Tensor weight, Tensor? bias, Tensor? center, Tensor? scale, Tensor? shift, "
        "Tensor? slope, Tensor? residual, int stride, bool shuffle, bool moments, float? activation, "
        "Tensor? packed=None, Tensor? packed_backward=None, Tensor? var=None, Tensor? gamma=None, float eps=0.0) "
        "-> (Tensor, Tensor, Tensor, Tensor)");
    m.def(
        "conv_bn_forward(Tensor x, Tensor weight, Tensor? bias, Tensor? center, Tensor? scale, Tensor? shift, "
        "Tensor? slope, Tensor? residual, int stride, bool shuffle, Tensor? packed, Tensor? bn_weight, float bn_eps, "
        "Tensor(a!)? running_mean, Tensor(b!)? running_var, Tensor(c!)? batches, float momentum) "
        "-> (Tensor, Tensor, Tensor, Tensor, Tensor)");
    m.def(
        "conv_dgrad(Tensor g, Tensor? y, Tensor? mean, Tensor? mean_gradient, Tensor? var_gradient, "
        "Tensor? sum_gradient, Tensor x, Tensor weight, Tensor? center, Tensor? scale, Tensor? shift, Tensor? slope, "
        "Tensor? residual, int stride, bool shuffle, float? activation, Tensor? packed=None, Tensor? var=None, "
        "Tensor? gamma=None, float eps=0.0) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)");
    m.def("conv_pack(Tensor weight, int stride, bool backward, bool bf16=False) -> Tensor");
    m.def("conv_packed_size(int out, int channels, int taps, int stride, bool backward, bool bf16) -> int");
    m.def(
        "conv_wgrad(Tensor g, Tensor? y, Tensor? mean, Tensor? mean_gradient, Tensor? var_gradient, Tensor x, "
        "Tensor weight, Tensor? center, Tensor? scale, Tensor? shift, Tensor? slope, Tensor? residual, int stride, "
        "bool shuffle, float? activation, bool bias) -> (Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(srgan_fast, CPU, m) {
    m.impl("conv_forward", TORCH_BOX(&srgan_fast::torch_ops::conv_forward));
    m.impl("conv_bn_forward", TORCH_BOX(&srgan_fast::torch_ops::conv_bn_forward));
    m.impl("conv_pack", TORCH_BOX(&srgan_fast::torch_ops::conv_pack));
    m.impl("conv_dgrad", TORCH_BOX(&srgan_fast::torch_ops::conv_dgrad));
    m.impl("conv_wgrad", TORCH_BOX(&srgan_fast::torch_ops::conv_wgrad));
}

STABLE_TORCH_LIBRARY_IMPL(srgan_fast, CompositeExplicitAutograd, m) {
    m.impl("conv_packed_size", TORCH_BOX(&srgan_fast::torch_ops::conv_packed_size));
}
