// CUDA convolutions computed by cuDNN, called through PyTorch: our passes apply prologues and epilogues. Autograd saves
// the same tensors as with our own kernels; intermediate maps live for one call.
#include <array>

#include "torch/conv_cuda.h"

namespace srgan_fast::torch_ops {
namespace {

Tensor in_type(const Tensor& values, ScalarType type) { return torch::stable::to(values, type); }

// Weights in a map's dtype: the caller's, or a copy.
Tensor cast_weights(const Tensor& weight, const Maybe& cast, const Tensor& x) {
    if (!cast) return in_type(weight, x.scalar_type());
    bool fits = cast->scalar_type() == x.scalar_type() && cast->device() == x.device() && cast->dim() == weight.dim();
    for (std::int64_t i = 0; fits && i < weight.dim(); ++i) fits = cast->size(i) == weight.size(i);
    STD_TORCH_CHECK(fits, "srgan_fast::conv: packed weights ", shape_of(*cast), " are not those of ", shape_of(weight),
                    " in the map's type");
    return *cast;
}

// Arguments of PyTorch's operators, besides tensors.
struct Geometry {
    std::vector<std::int64_t> stride, padding, dilation{1, 1}, no_padding{0, 0};
    explicit Geometry(const Problem& p) : stride{p.stride, p.stride}, padding{p.taps / 2, p.taps / 2} {}
};

// Whether passes find whole units of channels.
bool whole(std::int64_t channels) {
    constexpr std::int64_t kUnit = 8;
    return channels % kUnit == 0 && channels <= kUnit * cuda::kPassThreads;
}
void check_whole(std::int64_t channels, const char* place) {
    STD_TORCH_CHECK(whole(channels), "srgan_fast::conv: what stands ", place, " a convolution of CUDA maps of float32 ",
                    "wants channels in multiples of 8 up to 2048, not ", channels);
}

Tensor call_convolution(const Problem& p, const Tensor& z, const Tensor& weight, const Maybe& bias) {
    using torch::stable::detail::from;
    const Geometry geometry(p);
    std::array<StableIValue, 9> stack{from(z),
                                      from(weight),
                                      from(bias),
                                      from(geometry.stride),
                                      from(geometry.padding),
                                      from(geometry.dilation),
                                      from(false),
                                      from(geometry.no_padding),
                                      from(std::int64_t{1})};
    STABLE_TORCH_ERROR_CODE_CHECK(torch_call_dispatcher("aten::convolution", "", stack.data(), TORCH_ABI_VERSION));
    const Tensor y = torch::stable::detail::to<Tensor>(stack[0]);
    // Under autocast to another dtype, PyTorch computes in that one.
    return aligned(nhwc(in_type(y, z.scalar_type())));
}

// Gradient of z; or of the weights and optionally the bias.
std::array<Tensor, 3> call_backward(const Problem& p, const Tensor& dy, const Tensor& z, const Tensor& weight,
                                    const std::array<bool, 3>& mask) {
    using torch::stable::detail::from;
    const Geometry geometry(p);
    std::array<StableIValue, 11> stack{from(dy),
                                       from(z),
                                       from(weight),
                                       from(std::optional(std::vector<std::int64_t>{p.out})),
                                       from(geometry.stride),
                                       from(geometry.padding),
                                       from(geometry.dilation),
                                       from(false),
                                       from(geometry.no_padding),
                                       from(std::int64_t{1}),
                                       from(torch::headeronly::HeaderOnlyArrayRef<bool>(mask.data(), mask.size()))};
    STABLE_TORCH_ERROR_CODE_CHECK(
        torch_call_dispatcher("aten::convolution_backward", "", stack.data(), TORCH_ABI_VERSION));
    std::array<Tensor, 3> gradients;
    for (std::size_t i = 0; i < gradients.size(); ++i) gradients[i] = torch::stable::detail::to<Tensor>(stack[i]);
    return gradients;
}

Tensor map_of(const Tensor& x) { return aligned(nhwc(x)); }
Maybe map_of(const Maybe& x) { return x ? Maybe(map_of(*x)) : std::nullopt; }

// z, which is x itself without a prologue.
Tensor make_z(const Problem& p, const Tensor& x, const Tensor& weight, const PrologueTensors& t, bool shuffle,
              void* stream) {
    const Tensor map = map_of(x);
    const Maybe residual = map_of(t.residual);
    Vectors vectors(weight);
    const cuda::Source source = source_of(p, map, residual, t, shuffle, vectors);
    if (!source.affine && !shuffle) return map;
    check_whole(x.size(1), "before"), check_whole(p.in, "before");  // shuffled, a unit is of one pixel
    const Tensor z = new_map(x, p.batch, p.in, p.height, p.width);
    check_launch(cuda::launch_source_pass(type_of(x), {pass_over(map), source, z.mutable_data_ptr()}, stream),
                 "source_pass");
    return z;
}

}  // namespace

Dy make_dy(const Tensor& g, const Maybe& y, const GradientTensors& behind, const Tensor& weight, bool sums) {
    void* const stream = current_stream(g);
    const Tensor g_map = map_of(g), none = new_vector(weight, 0);
    const Maybe y_map = map_of(y);
    Vectors vectors(weight);
    const std::int64_t channels = weight.size(0);
    const cuda::Gradient gradient = gradient_of(channels, g_map, y_map, behind, vectors);
    const bool changes = gradient.moments || gradient.activation;
    if (!changes && !sums) return {g_map, none};
    check_whole(channels, "behind");
    const Tensor dy = changes ? new_map(g, g.size(0), channels, g.size(2), g.size(3)) : g_map;
    const cuda::Pass pass = pass_over(g_map);
    const Tensor parts = new_vector(weight, sums ? pass.blocks() * channels : 0);
    const cuda::GradientPassParams a{pass, gradient, changes ? dy.mutable_data_ptr() : nullptr,
                                     sums ? floats(parts) : nullptr};
    check_launch(cuda::launch_gradient_pass(type_of(g), a, stream), "gradient_pass");
    const int blocks = static_cast<int>(pass.blocks());
    return {dy, sums ? add_up(parts, blocks, static_cast<int>(channels), channels, weight, stream) : none};
}

Forward forward_by_library(const Problem& p, const ForwardCall& call) {
    const Tensor &x = call.x, &weight = call.weight;
    void* const stream = current_stream(x);
    const Tensor z = make_z(p, x, weight, call.prologue, call.shuffle, stream);
    const bool adds = call.bias && !call.activation && !call.moments && !whole(p.out);
    if (adds) check_vector(call.bias, weight, p.out, "bias");
    const Tensor y = call_convolution(p, z, cast_weights(weight, call.cast, x), adds ? call.bias : std::nullopt);
    const std::int64_t size = call.moments ? p.out : 0;
    const Tensor mean = new_vector(weight, size), var = new_vector(weight, size);
    if (!adds && (call.bias || call.activation || call.moments)) {
        check_whole(p.out, "behind");
        Vectors vectors(weight);
        const cuda::Pass pass = pass_over(y);
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
    STD_TORCH_CHECK(!sum_gradient || call.prologue.residual, "srgan_fast::conv: a sum's gradient goes with a residual");
    const Tensor dy = make_dy(call.g, call.y, call.behind, weight, false).map;
    const Tensor map = map_of(x);
    const Maybe residual = map_of(call.prologue.residual), more = map_of(sum_gradient);
    // PyTorch only uses the input's sizes.
    const Tensor like_z = call.shuffle ? new_map(x, p.batch, p.in, p.height, p.width) : map;
    const Tensor dz = map_of(call_backward(p, dy, like_z, cast_weights(weight, call.cast, x), {true, false, false})[0]);
    Vectors vectors(weight);
    cuda::SourceGradientPassParams a{};
    a.source = source_of(p, map, residual, call.prologue, call.shuffle, vectors);
    if (!a.source.affine && !call.shuffle) {
        const SourceGradients none = add_up(new_vector(weight, 0), 0, 0, a.source, weight, stream);
        return {dz, new_vector(x, 0), none.center, none.scale, none.shift, none.slope};
    }
    const std::int64_t channels = a.source.affine ? x.size(1) : 0;
    check_whole(x.size(1), "before"), check_whole(p.in, "before");  // shuffled, a unit is of one pixel
    a.pass = pass_over(map);
    a.dz = dz.const_data_ptr(), a.sum_gradient = more ? more->const_data_ptr() : nullptr;
    const Tensor x_gradient = new_map(x, x.size(0), x.size(1), x.size(2), x.size(3));
    const Tensor residual_gradient =
        residual ? new_map(x, x.size(0), x.size(1), x.size(2), x.size(3)) : new_vector(x, 0);
    a.x_gradient = x_gradient.mutable_data_ptr();
    a.residual_gradient = residual ? residual_gradient.mutable_data_ptr() : nullptr;
    const Tensor parts = new_vector(weight, a.pass.blocks() * 3 * channels);
    a.sums = a.source.affine ? floats(parts) : nullptr;
    check_launch(cuda::launch_source_gradient_pass(type_of(x), a, stream), "source_gradient_pass");
    const SourceGradients sums = add_up(parts, static_cast<int>(a.pass.blocks()), channels, a.source, weight, stream);
    return {x_gradient, residual_gradient, sums.center, sums.scale, sums.shift, sums.slope};
}

Wgrad wgrad_by_library(const Problem& p, const GradientCall& call, bool bias) {
    const Tensor &x = call.x, &weight = call.weight;
    void* const stream = current_stream(x);
    const bool by_pass = whole(p.out);
    const Dy dy = make_dy(call.g, call.y, call.behind, weight, bias && by_pass);
    const Tensor z = make_z(p, x, weight, call.prologue, call.shuffle, stream);
    // PyTorch only uses the weights' sizes.
    const Tensor like_weight = torch::stable::empty({p.out, p.in, p.taps, p.taps}, x.scalar_type(), std::nullopt,
                                                    x.device(), std::nullopt, MemoryFormat::ChannelsLast);
    const std::array<Tensor, 3> gradients = call_backward(p, dy.map, z, like_weight, {false, true, bias && !by_pass});
    Tensor result = new_weight_gradient(p, weight);
    torch::stable::copy_(result, gradients[1]);
    return {result, bias && !by_pass ? in_type(gradients[2], weight.scalar_type()) : dy.sums};
}

}  // namespace srgan_fast::torch_ops
