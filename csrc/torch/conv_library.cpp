// Convolutions on CUDA tensors whose products torch's library (cuDNN) computes: our passes make its input, and do what
// stands behind it. What autograd keeps is the same as with our own kernels; the maps in between live for a call.
#include <array>

#include "torch/conv_cuda.h"

namespace srgan_fast::torch_ops {
namespace {

constexpr std::int64_t kPadding = 1;

Tensor in_types(const Tensor& values, ScalarType type) { return torch::stable::to(values, type); }

// What torch's operators take of a convolution, besides tensors.
struct Geometry {
    std::vector<std::int64_t> stride, padding{kPadding, kPadding}, dilation{1, 1}, no_padding{0, 0};
    explicit Geometry(const Problem& p) : stride{p.stride, p.stride} {}
};

Tensor call_convolution(const Problem& p, const Tensor& z, const Tensor& weight) {
    using torch::stable::detail::from;
    const Geometry geometry(p);
    std::array<StableIValue, 9> stack{from(z),
                                      from(weight),
                                      from(Maybe()),
                                      from(geometry.stride),
                                      from(geometry.padding),
                                      from(geometry.dilation),
                                      from(false),
                                      from(geometry.no_padding),
                                      from(std::int64_t{1})};
    STABLE_TORCH_ERROR_CODE_CHECK(torch_call_dispatcher("aten::convolution", "", stack.data(), TORCH_ABI_VERSION));
    const Tensor y = torch::stable::detail::to<Tensor>(stack[0]);
    // Under an autocast to another type torch computes in that one.
    return aligned(nhwc(in_types(y, z.scalar_type())));
}

// The gradient of z, or of the weights.
Tensor call_backward(const Problem& p, const Tensor& dy, const Tensor& z, const Tensor& weight, bool of_weight) {
    using torch::stable::detail::from;
    const Geometry geometry(p);
    std::array<StableIValue, 11> stack{from(dy),
                                       from(z),
                                       from(weight),
                                       from(std::optional<std::vector<std::int64_t>>()),
                                       from(geometry.stride),
                                       from(geometry.padding),
                                       from(geometry.dilation),
                                       from(false),
                                       from(geometry.no_padding),
                                       from(std::int64_t{1}),
                                       from(std::vector<std::int64_t>())};
    const std::array<bool, 3> mask{!of_weight, of_weight, false};
    stack[10] = from(torch::headeronly::HeaderOnlyArrayRef<bool>(mask.data(), mask.size()));
    STABLE_TORCH_ERROR_CODE_CHECK(
        torch_call_dispatcher("aten::convolution_backward", "", stack.data(), TORCH_ABI_VERSION));
    std::array<Tensor, 3> gradients;
    for (std::size_t i = 0; i < gradients.size(); ++i) gradients[i] = torch::stable::detail::to<Tensor>(stack[i]);
    return gradients[of_weight ? 1 : 0];
}

cuda::Pass over(const Tensor& map) {
    return cuda::pass_over(map.size(0) * map.size(2) * map.size(3), static_cast<int>(map.size(1)));
}

Tensor map_of(const Tensor& x) { return aligned(nhwc(x)); }
Maybe map_of(const Maybe& x) { return x ? Maybe(map_of(*x)) : std::nullopt; }

// z, which is x itself where there is no prologue.
Tensor make_z(const Problem& p, const Tensor& x, const Tensor& weight, const PrologueTensors& t, bool shuffle,
              void* stream) {
    const Tensor map = map_of(x);
    const Maybe residual = map_of(t.residual);
    Vectors vectors(weight);
    const cuda::Source source = source_of(p, map, residual, t, shuffle, vectors);
    if (!source.affine && !shuffle) return map;
    const Tensor z = new_map(x, p.batch, p.in, p.height, p.width);
    check_launch(cuda::launch_source_pass(type_of(x), {over(map), source, z.mutable_data_ptr()}, stream),
                 "source_pass");
    return z;
}

struct Made {
    Tensor dy;
    Tensor sums;  // of each channel, if they were asked for
};

// dy, which is g itself where nothing stands behind the convolution.
Made make_dy(const Problem& p, const GradientCall& call, bool sums, void* stream) {
    const Tensor g = map_of(call.g);
    const Maybe y = map_of(call.y);
    Vectors vectors(call.weight);
    const cuda::Gradient gradient = gradient_of(p, g, y, call.behind, vectors);
    const bool changes = gradient.moments || gradient.activation;
    if (!changes && !sums) return {g, new_vector(call.weight, 0)};
    const Tensor dy = changes ? new_map(g, p.batch, p.out, p.out_height, p.out_width) : g;
    const cuda::Pass pass = over(g);
    const int blocks = static_cast<int>(pass.blocks()), channels = static_cast<int>(p.out);
    const Tensor parts = new_vector(call.weight, sums ? pass.blocks() * p.out : 0);
    check_launch(
        cuda::launch_gradient_pass(
            type_of(g), {pass, gradient, changes ? dy.mutable_data_ptr() : nullptr, sums ? floats(parts) : nullptr},
            stream),
        "gradient_pass");
    const Tensor totals = new_vector(call.weight, sums ? p.out : 0);
    if (sums)
        check_launch(cuda::launch_sum(
                         {floats(parts), blocks, channels, 1, channels, {floats(totals), nullptr, nullptr}}, stream),
                     "sum");
    return {dy, totals};
}

}  // namespace

Forward forward_by_library(const Problem& p, const ForwardCall& call) {
    const Tensor &x = call.x, &weight = call.weight;
    void* const stream = current_stream(x);
    const Tensor z = make_z(p, x, weight, call.prologue, call.shuffle, stream);
    const Tensor y = call_convolution(p, z, in_types(weight, x.scalar_type()));
    const std::int64_t size = call.moments ? p.out : 0;
    const Tensor mean = new_vector(weight, size), var = new_vector(weight, size);
    if (call.bias || call.activation || call.moments) {
        Vectors vectors(weight);
        const cuda::Pass pass = over(y);
        const Tensor parts = new_vector(weight, pass.blocks() * 2 * size);
        cuda::ResultPassParams a{};
        a.pass = pass, a.y = y.mutable_data_ptr();
        a.bias = vectors.put(call.bias, p.out, "bias");
        a.activate = call.activation.has_value(), a.slope = static_cast<float>(call.activation.value_or(0.0));
        a.moments = call.moments ? floats(parts) : nullptr;
        check_launch(cuda::launch_result_pass(type_of(x), a, stream), "result_pass");
        if (call.moments)
            check_launch(cuda::launch_merge_moments({floats(parts), 1, 1, static_cast<int>(pass.pixels), pass.channels,
                                                     1, pass.per_block, floats(mean), floats(var)},
                                                    stream),
                         "merge_moments");
    }
    return {y, mean, var, call.prologue.residual ? z : new_vector(x, 0)};
}

Dgrad dgrad_by_library(const Problem& p, const GradientCall& call, const Maybe& sum_gradient) {
    const Tensor &x = call.x, &weight = call.weight;
    void* const stream = current_stream(x);
    const Tensor dy = make_dy(p, call, false, stream).dy;
    const Tensor map = map_of(x);
    const Maybe residual = map_of(call.prologue.residual), more = map_of(sum_gradient);
    // Torch looks at the input's sizes alone.
    const Tensor like_z = call.shuffle ? new_map(x, p.batch, p.in, p.height, p.width) : map;
    const Tensor dz = map_of(call_backward(p, dy, like_z, in_types(weight, x.scalar_type()), false));
    Vectors vectors(weight);
    cuda::SourceGradientPassParams a{};
    a.source = source_of(p, map, residual, call.prologue, call.shuffle, vectors);
    const std::int64_t channels = a.source.affine ? x.size(1) : 0;
    const Tensor d_scale = new_vector(weight, channels), d_shift = new_vector(weight, channels);
    const Tensor d_slope = new_vector(weight, channels), none = new_vector(x, 0);
    if (!a.source.affine && !call.shuffle) return {dz, none, d_scale, d_shift, d_slope};
    a.pass = over(map);
    a.dz = dz.const_data_ptr(), a.sum_gradient = more ? more->const_data_ptr() : nullptr;
    const Tensor x_gradient = new_map(x, x.size(0), x.size(1), x.size(2), x.size(3));
    const Tensor residual_gradient = residual ? new_map(x, x.size(0), x.size(1), x.size(2), x.size(3)) : none;
    a.x_gradient = x_gradient.mutable_data_ptr();
    a.residual_gradient = residual ? residual_gradient.mutable_data_ptr() : nullptr;
    const Tensor parts = new_vector(weight, a.pass.blocks() * 3 * channels);
    a.sums = a.source.affine ? floats(parts) : nullptr;
    check_launch(cuda::launch_source_gradient_pass(type_of(x), a, stream), "source_gradient_pass");
    if (a.source.affine) {
        const int length = static_cast<int>(channels);
        check_launch(cuda::launch_sum({floats(parts),
                                       static_cast<int>(a.pass.blocks()),
                                       3 * length,
                                       3,
                                       length,
                                       {floats(d_scale), floats(d_shift), floats(d_slope)}},
                                      stream),
                     "sum");
    }
    return {x_gradient, residual_gradient, d_scale, d_shift, d_slope};
}

Wgrad wgrad_by_library(const Problem& p, const GradientCall& call, bool bias) {
    const Tensor &x = call.x, &weight = call.weight;
    void* const stream = current_stream(x);
    const Made made = make_dy(p, call, bias, stream);
    const Tensor z = make_z(p, x, weight, call.prologue, call.shuffle, stream);
    const Tensor gradient = call_backward(p, made.dy, z, in_types(weight, x.scalar_type()), true);
    Tensor result = new_weight_gradient(p, weight);
    torch::stable::copy_(result, gradient);
    return {result, made.sums};
}

}  // namespace srgan_fast::torch_ops
