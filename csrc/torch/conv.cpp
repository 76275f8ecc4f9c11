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

// Maps of a source in the kernels' layout, which outlive the call.
struct SourceMaps {
    Tensor x;
    Maybe residual;
    explicit SourceMaps(const SourceArguments& t)
        : x(nhwc(t.x)), residual(t.residual ? Maybe(nhwc(*t.residual)) : std::nullopt) {}
};

template <typename S>
cpu::Source<S> source_of(const Problem& p, const SourceMaps& maps, const SourceArguments& t, Vectors<S>& vectors) {
    const std::int64_t channels = p.in * (t.shuffle ? 4 : 1);
    cpu::Source<S> source{};
    source.x = maps.x.const_data_ptr();
    source.height = p.height, source.width = p.width, source.channels = p.in;
    source.shuffle = t.shuffle;
    source.affine = t.center || t.scale || t.shift || t.slope || t.residual;
    check_combination(p, t);
    if (source.affine) {
        source.center = vectors.put(t.center, channels, 0.0, "center");
        source.scale = vectors.put(t.scale, channels, 1.0, "scale");
        source.shift = vectors.put(t.shift, channels, 0.0, "shift");
        source.slope = vectors.put(t.slope, channels, 1.0, "slope");
    }
    if (maps.residual) source.residual = maps.residual->const_data_ptr();
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
const S* pack(const Problem& p, const WeightArguments& weights, bool backward, bool bf16) {
    const Tensor& weight = weights.weight;
    const Maybe& packed = weights.packed;
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
NormForward forward(const Problem& p, const SourceArguments& t, const WeightArguments& w, const Epilogue& e) {
    const Tensor &x = t.x, &weight = w.weight;
    Vectors<S> vectors(p, weight);
    const SourceMaps maps(t);
    cpu::ConvForward<S> a{};
    a.geometry = geometry_of(p), a.batch = p.batch;
    a.source = source_of<S>(p, maps, t, vectors);
    a.height = p.out_height, a.width = p.out_width, a.channels = p.out;
    a.bias = vectors.put(e.bias, p.out, 0.0, "bias");
    a.activate = e.activation.has_value(), a.slope = static_cast<S>(e.activation.value_or(0.0));
    a.weights = pack<S>(p, w, false, is_bf16(x));
    const Tensor y = new_map(x, p.batch, p.out, p.out_height, p.out_width);
    a.y = y.mutable_data_ptr();
    Tensor sum = t.residual ? new_map(x, p.batch, p.in, p.height, p.width) : new_vector(x, 0);
    a.source.sum = t.residual ? sum.mutable_data_ptr() : nullptr;
    const Tensor mean = new_vector(weight, e.moments ? p.out : 0), var = new_vector(weight, e.moments ? p.out : 0);
    const auto& kernel = table(S{}, is_bf16(x)).forward;
    const std::int64_t tasks = kernel.tasks(a, threads());
    if (e.moments) a.moments = partial_memory.need_of<S>(tasks * cpu::moments_size(p.out));
    run(kernel, a, tasks);
    if (e.moments) merge_moments(a.moments, tasks, p.out, write<S>(mean), write<S>(var));
    const std::optional<ResultNorm>& norm = e.norm;
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

NormForward forward(const SourceArguments& t, const WeightArguments& w, const Epilogue& e) {
    const Problem p = checked<check_types>(t, w);
    return t.x.scalar_type() == ScalarType::Double ? forward<double>(p, t, w, e) : forward<float>(p, t, w, e);
}

// Maps of a result's gradient in the kernels' layout, which outlive the call.
struct ResultMaps {
    Tensor g;
    Maybe y;
    explicit ResultMaps(const ResultArguments& r) : g(nhwc(r.g)), y(r.y ? Maybe(nhwc(*r.y)) : std::nullopt) {}
};

template <typename S>
cpu::Gradient<S> gradient_of(const Problem& p, const ResultMaps& maps, const ResultArguments& r, Vectors<S>& vectors) {
    cpu::Gradient<S> a{};
    a.g = maps.g.const_data_ptr();
    a.height = p.out_height, a.width = p.out_width, a.channels = p.out;
    check_combination(r);
    if (r.mean || r.activation) a.y = maps.y->const_data_ptr();
    if (r.activation) a.slope = static_cast<S>(*r.activation);
    if (r.mean) {
        const S pixels = static_cast<S>(p.batch * p.out_height * p.out_width);
        a.mean = vectors.put(r.mean, p.out, 0.0, "mean");
        a.offset = vectors.put(r.mean_gradient, p.out, 0.0, "gradient of the mean", S(1) / pixels);
        a.factor = vectors.put(r.var_gradient, p.out, 0.0, "gradient of the variance", S(2) / pixels);
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
Dgrad dgrad(const Problem& p, const SourceArguments& t, const WeightArguments& w, const ResultArguments& r,
            const Maybe& sum_gradient) {
    const Tensor &x = t.x, &weight = w.weight;
    Vectors<S> vectors(p, weight);
    const SourceMaps maps(t);
    const ResultMaps result_maps(r);
    const Maybe sum_map = sum_gradient ? Maybe(nhwc(*sum_gradient)) : std::nullopt;
    cpu::ConvDgrad<S> a{};
    a.geometry = geometry_of(p), a.batch = p.batch;
    a.gradient = gradient_of<S>(p, result_maps, r, vectors);
    a.source = source_of<S>(p, maps, t, vectors);
    a.weights = pack<S>(p, w, true, is_bf16(x));
    a.sum_gradient = sum_map ? sum_map->const_data_ptr() : nullptr;
    const Tensor x_gradient = new_map(x, x.size(0), x.size(1), x.size(2), x.size(3));
    a.x_gradient = x_gradient.mutable_data_ptr();
    const Tensor residual_gradient =
        t.residual ? new_map(x, x.size(0), x.size(1), x.size(2), x.size(3)) : new_vector(x, 0);
    a.residual_gradient = t.residual ? residual_gradient.mutable_data_ptr() : nullptr;
    const auto& kernel = table(S{}, is_bf16(x)).dgrad;
    const std::int64_t tasks = kernel.tasks(a, threads()), channels = x.size(1), stride = padded(channels);
    if (a.source.affine) a.sums = partial_memory.need_of<S>(tasks * 3 * stride);
    run(kernel, a, tasks);
    const auto none = [&] { return new_vector(weight, 0); };
    if (!a.source.affine) return {x_gradient, none(), none(), none(), none(), residual_gradient, none(), none()};
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
    if (t.var) {
        check_channels(*t.var, d_scale, "srgan_fast::conv_dgrad", "var");
        if (t.gamma) check_channels(*t.gamma, d_scale, "srgan_fast::conv_dgrad", "gamma");
        d_var = new_vector(weight, channels), d_gamma = new_vector(weight, t.gamma ? channels : 0);
        norm_scale_gradient(write<S>(d_scale), read<S>(t.var), read<S>(t.gamma), t.eps, channels, write<S>(d_var),
                            t.gamma ? write<S>(d_gamma) : nullptr);
    }
    return {x_gradient, d_center, d_scale, d_shift, d_slope, residual_gradient, d_var, d_gamma};
}

Dgrad conv_dgrad(const SourceArguments& t, const WeightArguments& w, const ResultArguments& r,
                 const Maybe& sum_gradient) {
    const Problem p = checked<check_types>(t, w);
    check_result(p, t, r);
    check_like_source(p, t, sum_gradient, "the sum's gradient");
    return t.x.scalar_type() == ScalarType::Double ? dgrad<double>(p, t, w, r, sum_gradient)
                                                   : dgrad<float>(p, t, w, r, sum_gradient);
}

constexpr std::int64_t kAddedTogether = 1 << 15;  // elements per additional thread

template <typename S>
Wgrad wgrad(const Problem& p, const SourceArguments& t, const WeightArguments& w, const ResultArguments& r, bool bias) {
    const Tensor& weight = w.weight;
    Vectors<S> vectors(p, weight);
    const SourceMaps maps(t);
    const ResultMaps result_maps(r);
    const auto& functions = table(S{}, is_bf16(t.x));
    cpu::ConvWgrad<S> a{};
    a.geometry = geometry_of(p), a.batch = p.batch;
    a.source = source_of<S>(p, maps, t, vectors);
    a.gradient = gradient_of<S>(p, result_maps, r, vectors);
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

Wgrad conv_wgrad(const SourceArguments& t, const WeightArguments& w, const ResultArguments& r, bool bias) {
    const Problem p = checked<check_types>(t, w);
    check_result(p, t, r);
    return t.x.scalar_type() == ScalarType::Double ? wgrad<double>(p, t, w, r, bias) : wgrad<float>(p, t, w, r, bias);
}

}  // namespace
}  // namespace srgan_fast::torch_ops

STABLE_TORCH_LIBRARY(srgan_fast, m) {
    using namespace srgan_fast::torch_ops;
    const char *const source = SourceArguments::kSchema, *const weights = WeightArguments::kSchema;
    const char* const result = ResultArguments::kSchema;
    // The forward call takes what the data gradient has packed, too, for autograd.
    m.def(schema("conv_forward",
                 {source, weights, "Tensor? bias, bool moments, float? activation, Tensor? packed_backward"},
                 "(Tensor, Tensor, Tensor, Tensor)")
              .c_str());
    m.def(schema("conv_bn_forward", {source, weights, "Tensor? bias", NormArguments::kSchema},
                 "(Tensor, Tensor, Tensor, Tensor, Tensor)")
              .c_str());
    m.def(schema("conv_dgrad", {source, weights, result, "Tensor? sum_gradient"},
                 "(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)")
              .c_str());
    m.def(schema("conv_wgrad", {source, weights, result, "bool bias"}, "(Tensor, Tensor)").c_str());
    m.def("conv_pack(Tensor weight, int stride, bool backward, bool bf16=False) -> Tensor");
    m.def("conv_packed_size(int out, int channels, int taps, int stride, bool backward, bool bf16) -> int");
}

STABLE_TORCH_LIBRARY_IMPL(srgan_fast, CPU, m) {
    using namespace srgan_fast::torch_ops;
    m.impl("conv_forward", &Boxed<&conv_forward<&forward>>::call);
    m.impl("conv_bn_forward", &Boxed<&conv_bn_forward<&forward>>::call);
    m.impl("conv_dgrad", &Boxed<&conv_dgrad>::call);
    m.impl("conv_wgrad", &Boxed<&conv_wgrad>::call);
    m.impl("conv_pack", TORCH_BOX(&conv_pack));
}

STABLE_TORCH_LIBRARY_IMPL(srgan_fast, CompositeExplicitAutograd, m) {
    m.impl("conv_packed_size", TORCH_BOX(&srgan_fast::torch_ops::conv_packed_size));
}
