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
Tensor make_z(const Sizes& p, const Tensor& x, const Tensor& weight, const PrologueTensors& t, bool shuffle,
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

// From dz to the gradients of the prologue's inputs; dz itself without a prologue.
Dgrad prologue_gradient(const Sizes& p, const Tensor& dz, const Maybe& sum_gradient, const Tensor& x,
                        const Tensor& weight, const PrologueTensors& t, bool shuffle, const SourceNorm& norm) {
    void* const stream = current_stream(x);
    const Maybe residual = map_of(t.residual);
    Vectors vectors(weight);
    cuda::SourceGradientPassParams a{};
    a.source = source_of(p, x, residual, t, shuffle, vectors);
    if (!a.source.affine && !shuffle) {
        const auto none = [&] { return new_vector(weight, 0); };
        return {dz, new_vector(x, 0), none(), none(), none(), none(), none(), none()};
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
    const SourceGradients sums = add_up(parts, channels, a.source, t, norm, weight, stream);
    return {x_gradient, residual_gradient, sums.center, sums.scale, sums.shift, sums.slope, sums.var, sums.weight};
}

// Sizes of a prologue without a convolution; `like` is one of its vectors.
struct Alone {
    Sizes sizes;
    Tensor map, like;
};
Alone alone(const Tensor& x, const PrologueTensors& t, bool shuffle) {
    const Maybe& vector = t.scale ? t.scale : t.shift ? t.shift : t.slope ? t.slope : t.center;
    STD_TORCH_CHECK(vector && x.dim() == 4 && x.numel() > 0,
                    "srgan_fast::prologue takes N, C, H, W maps, and a center, scale, shift or slope");
    check_types(x, *vector);
    const std::int64_t factor = shuffle ? 2 : 1, h = x.size(2) * factor, w = x.size(3) * factor;
    const std::int64_t channels = x.size(1) / (factor * factor);
    check_map(t.residual, x, {x.size(0), channels, h, w}, "residual");
    return {{x.size(0), channels, channels, 3, 1, h, w, h, w}, map_of(x), *vector};
}

Tensor prologue(const Tensor& x, const Maybe& center, const Maybe& scale, const Maybe& shift, const Maybe& slope,
                const Maybe& residual, bool shuffle, const Maybe&, const Maybe&, double) {
    const PrologueTensors t{center, scale, shift, slope, residual};
    const Alone a = alone(x, t, shuffle);
    const DeviceGuard guard(x.get_device_index());
    return make_z(a.sizes, a.map, a.like, t, shuffle, current_stream(x));
}

Dgrad prologue_backward(const Tensor& g, const Tensor& x, const Maybe& center, const Maybe& scale, const Maybe& shift,
                        const Maybe& slope, const Maybe& residual, bool shuffle, const Maybe& var, const Maybe& gamma,
                        double eps) {
    const PrologueTensors t{center, scale, shift, slope, residual};
    const Alone a = alone(x, t, shuffle);
    const Sizes& p = a.sizes;
    check_map(g, x, {p.batch, p.in, p.height, p.width}, "the result's gradient");
    const DeviceGuard guard(x.get_device_index());
    return prologue_gradient(p, map_of(g), std::nullopt, a.map, a.like, t, shuffle, {var, gamma, eps});
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

NormForward forward_by_library(const Problem& p, const ForwardCall& call) {
    const Tensor &x = call.x, &weight = call.weight;
    void* const stream = current_stream(x);
    const Tensor z = make_z(p, x, weight, call.prologue, call.shuffle, stream);
    const bool adds = call.bias && !call.activation && !call.moments && !whole(p.out);
    if (adds) check_vector(call.bias, weight, p.out, "bias");
    const Tensor y = call_convolution(p, z, cast_weights(weight, call.cast, x), adds ? call.bias : std::nullopt);
    const std::int64_t size = call.moments ? p.out : 0;
    Moments moments{new_vector(weight, 0), new_vector(weight, 0), new_vector(weight, 0)};
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
        if (call.moments) {
            cuda::MomentsParams m{};
            m.parts = floats(parts), m.batch = 1, m.height = 1, m.width = static_cast<int>(pass.pixels);
            m.channels = pass.channels, m.tile_rows = 1, m.tile_columns = pass.per_block;
            moments = merge_moments(m, call.norm, weight, stream);
        }
    }
    return {y, moments.mean, moments.var, call.prologue.residual ? z : new_vector(x, 0), moments.scale};
}

Dgrad dgrad_by_library(const Problem& p, const GradientCall& call, const Maybe& sum_gradient) {
    const Tensor &x = call.x, &weight = call.weight;
    STD_TORCH_CHECK(!sum_gradient || call.prologue.residual, "srgan_fast::conv: a sum's gradient goes with a residual");
    const Tensor dy = make_dy(call.g, call.y, call.behind, weight, false).map;
    const Maybe more = map_of(sum_gradient);
    const Tensor map = map_of(x);
    // PyTorch only uses the input's sizes.
    const Tensor like_z = call.shuffle ? new_map(x, p.batch, p.in, p.height, p.width) : map;
    const Tensor dz = map_of(call_backward(p, dy, like_z, cast_weights(weight, call.cast, x), {true, false, false})[0]);
    return prologue_gradient(p, dz, more, map, weight, call.prologue, call.shuffle, call.norm);
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

STABLE_TORCH_LIBRARY_FRAGMENT(srgan_fast, m) {
    m.def(
        "prologue(Tensor x, Tensor? center, Tensor? scale, Tensor? shift, Tensor? slope, Tensor? residual, "
        "bool shuffle, Tensor? var=None, Tensor? gamma=None, float eps=0.0) -> Tensor");
    m.def(
        "prologue_backward(Tensor g, Tensor x, Tensor? center, Tensor? scale, Tensor? shift, Tensor? slope, "
        "Tensor? residual, bool shuffle, Tensor? var=None, Tensor? gamma=None, float eps=0.0) "
        "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(srgan_fast, CUDA, m) {
    m.impl("prologue", TORCH_BOX(&srgan_fast::torch_ops::prologue));
    m.impl("prologue_backward", TORCH_BOX(&srgan_fast::torch_ops::prologue_backward));
}
