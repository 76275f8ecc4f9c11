// CUDA convolutions computed by cuDNN, called through PyTorch: our passes apply prologues and epilogues. Autograd saves
// the same tensors as with our own kernels; intermediate maps live for one call.
#include <array>

#include "torch/conv_cuda.h"

namespace srgan_fast::torch_ops {
namespace {

Tensor in_type(const Tensor& values, ScalarType type) { return torch::stable::to(values, type); }

// Weights in a map's dtype: the caller's, or a copy.
Tensor cast_weights(const WeightArguments& weights, const Tensor& x) {
    const Tensor& weight = weights.weight;
    const Maybe& cast = weights.packed;
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
Tensor make_z(const Sizes& p, const SourceArguments& t, const Tensor& weight, void* stream) {
    const Tensor& x = t.x;
    const Tensor map = map_of(x);
    const Maybe residual = map_of(t.residual);
    Vectors vectors(weight);
    const cuda::Source source = source_of(p, map, residual, t, vectors);
    if (!source.affine && !t.shuffle) return map;
    check_whole(x.size(1), "before"), check_whole(p.in, "before");  // shuffled, a unit is of one pixel
    const Tensor z = new_map(x, p.batch, p.in, p.height, p.width);
    check_launch(cuda::launch_source_pass(type_of(x), {pass_over(map), source, z.mutable_data_ptr()}, stream),
                 "source_pass");
    return z;
}

// From dz to the gradients of the prologue's inputs; dz itself without a prologue.
Dgrad prologue_gradient(const Sizes& p, const SourceArguments& t, const Tensor& dz, const Maybe& sum_gradient,
                        const Tensor& weight) {
    const Tensor x = map_of(t.x);
    void* const stream = current_stream(x);
    const Maybe residual = map_of(t.residual);
    Vectors vectors(weight);
    cuda::SourceGradientPassParams a{};
    a.source = source_of(p, x, residual, t, vectors);
    if (!a.source.affine && !t.shuffle) {
        const auto none = [&] { return new_vector(weight, 0); };
        return {dz, none(), none(), none(), none(), new_vector(x, 0), none(), none()};
    }
    const std::int64_t channels = a.source.affine ? x.size(1) : 0;
    check_whole(x.size(1), "before"), check_whole(p.in, "before");  // shuffled, a unit is of one pixel
    a.pass = pass_over(x);
    a.dz = dz.const_data_ptr(), a.sum_gradient = sum_gradient ? sum_gradient->const_data_ptr() : nullptr;
    const Tensor x_gradient = new_map(x, x.size(0), x.size(1), x.size(2), x.size(3));
    const Tensor residual_gradient =
        residual ? new_map(x, x.size(0), x.size(1), x.size(2), x.size(3)) : new_vector(x, 0);
    a.x_gradient = x_gradient.mutable_data_ptr();
    a.residual_gradient = residual ? residual_gradient.mutable_data_ptr() : nullptr;
    const Parts parts(weight, a.pass.blocks(), 3 * channels);
    a.sums = a.source.affine ? parts.sums() : nullptr, a.finished = parts.finished();
    check_launch(cuda::launch_source_gradient_pass(type_of(x), a, stream), "source_gradient_pass");
    const SourceGradients sums = add_up(parts, channels, a.source, t, weight, stream);
    return {x_gradient, sums.center, sums.scale, sums.shift, sums.slope, residual_gradient, sums.var, sums.weight};
}

// Sizes of a prologue without a convolution; `like` is one of its vectors.
struct Alone {
    Sizes sizes;
    Tensor like;
};
Alone alone(const SourceArguments& t) {
    const Tensor& x = t.x;
    const Maybe& vector = t.scale ? t.scale : t.shift ? t.shift : t.slope ? t.slope : t.center;
    STD_TORCH_CHECK(vector && x.dim() == 4 && x.numel() > 0,
                    "srgan_fast::prologue takes N, C, H, W maps, and a center, scale, shift or slope");
    check_types(x, *vector);
    const std::int64_t factor = t.shuffle ? 2 : 1, h = x.size(2) * factor, w = x.size(3) * factor;
    const std::int64_t channels = x.size(1) / (factor * factor);
    check_map(t.residual, x, {x.size(0), channels, h, w}, "residual");
    return {{x.size(0), channels, channels, 3, 1, h, w, h, w}, *vector};
}

std::tuple<Tensor> prologue(const SourceArguments& t) {
    const Alone a = alone(t);
    const DeviceGuard guard(t.x.get_device_index());
    return {make_z(a.sizes, t, a.like, current_stream(t.x))};
}

Dgrad prologue_backward(const SourceArguments& t, const Tensor& g) {
    const Alone a = alone(t);
    const Sizes& p = a.sizes;
    check_map(g, t.x, {p.batch, p.in, p.height, p.width}, "the result's gradient");
    const DeviceGuard guard(t.x.get_device_index());
    return prologue_gradient(p, t, map_of(g), std::nullopt, a.like);
}

}  // namespace

Dy make_dy(const ResultArguments& result, const Tensor& weight, bool sums) {
    const Tensor& g = result.g;
    void* const stream = current_stream(g);
    const Tensor g_map = map_of(g), none = new_vector(weight, 0);
    const Maybe y_map = map_of(result.y);
    Vectors vectors(weight);
    const std::int64_t channels = weight.size(0);
    const cuda::Gradient gradient = gradient_of(channels, g_map, y_map, result, vectors);
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

NormForward forward_by_library(const Problem& p, const SourceArguments& source, const WeightArguments& weights,
                               const Epilogue& e) {
    const Tensor &x = source.x, &weight = weights.weight;
    void* const stream = current_stream(x);
    const Tensor z = make_z(p, source, weight, stream);
    const bool adds = e.bias && !e.activation && !e.moments && !whole(p.out);
    if (adds) check_vector(e.bias, weight, p.out, "bias");
    const Tensor y = call_convolution(p, z, cast_weights(weights, x), adds ? e.bias : std::nullopt);
    const std::int64_t size = e.moments ? p.out : 0;
    Moments moments{new_vector(weight, 0), new_vector(weight, 0), new_vector(weight, 0)};
    if (!adds && (e.bias || e.activation || e.moments)) {
        check_whole(p.out, "behind");
        Vectors vectors(weight);
        const cuda::Pass pass = pass_over(y);
        const Tensor parts = new_vector(weight, pass.blocks() * 2 * size);
        cuda::ResultPassParams a{};
        a.pass = pass, a.y = y.mutable_data_ptr();
        a.bias = vectors.put(e.bias, p.out, "bias");
        a.activate = e.activation.has_value(), a.slope = static_cast<float>(e.activation.value_or(0.0));
        a.moments = e.moments ? floats(parts) : nullptr;
        check_launch(cuda::launch_result_pass(type_of(x), a, stream), "result_pass");
        if (e.moments) {
            cuda::MomentsParams m{};
            m.parts = floats(parts), m.batch = 1, m.height = 1, m.width = static_cast<int>(pass.pixels);
            m.channels = pass.channels, m.tile_rows = 1, m.tile_columns = pass.per_block;
            moments = merge_moments(m, e.norm, weight, stream);
        }
    }
    return {y, moments.mean, moments.var, source.residual ? z : new_vector(x, 0), moments.scale};
}

Dgrad dgrad_by_library(const Problem& p, const SourceArguments& source, const WeightArguments& weights,
                       const ResultArguments& result, const Maybe& sum_gradient) {
    const Tensor &x = source.x, &weight = weights.weight;
    STD_TORCH_CHECK(!sum_gradient || source.residual, "srgan_fast::conv: a sum's gradient goes with a residual");
    const Tensor dy = make_dy(result, weight, false).map;
    const Maybe more = map_of(sum_gradient);
    // PyTorch only uses the input's sizes.
    const Tensor like_z = source.shuffle ? new_map(x, p.batch, p.in, p.height, p.width) : map_of(x);
    const Tensor dz = map_of(call_backward(p, dy, like_z, cast_weights(weights, x), {true, false, false})[0]);
    return prologue_gradient(p, source, dz, more, weight);
}

Wgrad wgrad_by_library(const Problem& p, const SourceArguments& source, const WeightArguments& weights,
                       const ResultArguments& result, bool bias) {
    const Tensor &x = source.x, &weight = weights.weight;
    void* const stream = current_stream(x);
    const bool by_pass = whole(p.out);
    const Dy dy = make_dy(result, weight, bias && by_pass);
    const Tensor z = make_z(p, source, weight, stream);
    // PyTorch only uses the weights' sizes.
    const Tensor like_weight = torch::stable::empty({p.out, p.in, p.taps, p.taps}, x.scalar_type(), std::nullopt,
                                                    x.device(), std::nullopt, MemoryFormat::ChannelsLast);
    const std::array<Tensor, 3> gradients = call_backward(p, dy.map, z, like_weight, {false, true, bias && !by_pass});
    Tensor weight_gradient = new_weight_gradient(p, weight);
    torch::stable::copy_(weight_gradient, gradients[1]);
    return {weight_gradient, bias && !by_pass ? in_type(gradients[2], weight.scalar_type()) : dy.sums};
}

}  // namespace srgan_fast::torch_ops

STABLE_TORCH_LIBRARY_FRAGMENT(srgan_fast, m) {
    using namespace srgan_fast::torch_ops;
    m.def(schema("prologue", {SourceArguments::kSchema}, "Tensor").c_str());
    m.def(schema("prologue_backward", {SourceArguments::kSchema, "Tensor g"},
                 "(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)")
              .c_str());
}

STABLE_TORCH_LIBRARY_IMPL(srgan_fast, CUDA, m) {
    using namespace srgan_fast::torch_ops;
    m.impl("prologue", &Boxed<&prologue>::call);
    m.impl("prologue_backward", &Boxed<&prologue_backward>::call);
}
