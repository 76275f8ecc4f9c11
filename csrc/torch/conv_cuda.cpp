// CUDA operators srgan_fast::conv_forward, conv_dgrad and conv_wgrad: checks, tensors, launches on the current stream.
// Memory is PyTorch's, so that calls can be captured in CUDA graphs. Schemas are in conv.cpp.
#include "torch/conv_cuda.h"

#include <atomic>
#include <iterator>

namespace srgan_fast::torch_ops {
namespace {

// GEMM implementation: the faster one on the GPU, unless one is requested.
std::atomic<cuda::Products> asked_products{cuda::Products::kFaster};

std::string conv_products(std::string which) {
    constexpr const char* kNames[] = {"faster", "own", "own-tf32", "library"};
    for (int i = 0; i < static_cast<int>(std::size(kNames)); ++i)
        if (which == kNames[i]) return kNames[static_cast<int>(asked_products.exchange(cuda::Products{i}))];
    STD_TORCH_CHECK(false, "srgan_fast::conv_products takes faster, own, own-tf32 or library, not ", which);
}

bool by_library(cuda::Direction direction, const cuda::Convolution& c, const Tensor& x) {
    return cuda::uses_library(asked_products.load(std::memory_order_relaxed), direction, c, cuda::bytes_of(type_of(x)));
}

template <typename Params>
void set_strides(Params& p, const Tensor& weight) {
    p.out_stride = weight.stride(0), p.in_stride = weight.stride(1);
    p.row_stride = weight.stride(2), p.column_stride = weight.stride(3);
}

// Packs weights in the order of loading, in the map's dtype.
Tensor pack(cuda::ConvParams& p, cuda::Tile tile, const cuda::Convolution& c, const Tensor& x, const Tensor& weight,
            bool backward, void* stream) {
    cuda::set_weights(p, cuda::size_of(tile, cuda::bytes_of(type_of(x))), nullptr);
    const Tensor packed = new_vector(x, std::int64_t{c.taps} * c.taps * p.weight_rows * p.weight_columns);
    cuda::PackParams a{};
    a.weight = static_cast<const float*>(weight.const_data_ptr());
    set_strides(a, weight);
    a.out = c.out, a.in = c.in, a.taps = c.taps, a.backward = backward;
    a.rows = p.weight_rows, a.columns = p.weight_columns;
    a.packed = packed.mutable_data_ptr();
    check_launch(cuda::launch_pack(type_of(x), a, stream), "conv_pack");
    p.weights = a.packed;
    return packed;
}

// What every convolution begins with: checks, the device and its stream.
struct Call {
    Problem problem;
    cuda::Convolution convolution;
    DeviceGuard guard;
    void* stream;
    cuda::Device device;

    Call(const SourceArguments& t, const WeightArguments& w)
        : problem(checked<check_types>(t, w)),
          convolution(convolution_of(problem)),
          guard(t.x.get_device_index()),
          stream(current_stream(t.x)),
          device(cuda::current_device()) {}
};

NormForward forward(const SourceArguments& t, const WeightArguments& w, const Epilogue& e) {
    const Tensor &x = t.x, &weight = w.weight;
    const bool moments = e.moments;
    const Call call(t, w);
    const Problem& problem = call.problem;
    const cuda::Convolution& c = call.convolution;
    void* const stream = call.stream;
    if (by_library(cuda::Direction::kForward, c, x)) return forward_by_library(problem, t, w, e);
    const Tensor map = whole_map(x, t.shuffle, stream);
    const Maybe residual_map = whole_map(t.residual, stream);
    Vectors vectors(weight);
    cuda::ConvParams p = cuda::forward_plan(c);
    p.source = source_of(problem, map, residual_map, t, vectors);
    const cuda::Tile tile =
        cuda::choose_tile(p, p.source.affine, t.residual.has_value(), call.device, cuda::bytes_of(type_of(x)));
    const Tensor weights = pack(p, tile, c, x, weight, false, stream);
    p.bias = vectors.put(e.bias, problem.out, "bias");
    p.activate = e.activation.has_value(), p.slope = static_cast<float>(e.activation.value_or(0.0));
    const Tensor y = new_map(x, problem.batch, problem.out, problem.out_height, problem.out_width);
    p.y = y.mutable_data_ptr();
    Tensor sum = t.residual ? new_map(x, problem.batch, problem.in, problem.height, problem.width) : new_vector(x, 0);
    p.source.sum = t.residual ? sum.mutable_data_ptr() : nullptr;
    const cuda::Grid grid = cuda::grid_of(tile, p.batch, p.height, p.width, p.channels, p.spread);
    const Tensor parts = new_vector(weight, moments ? std::int64_t{grid.x} * 2 * problem.out : 0);
    p.moments = moments ? floats(parts) : nullptr;
    check_launch(cuda::launch_forward(type_of(x), tile, p, stream), "conv_forward");
    if (!moments) return {y, new_vector(weight, 0), new_vector(weight, 0), sum, new_vector(weight, 0)};
    const cuda::TileSize tile_size = cuda::size_of(tile);
    cuda::MomentsParams m{};
    m.parts = floats(parts), m.batch = p.batch, m.height = p.height, m.width = p.width, m.channels = p.channels;
    m.tile_rows = tile_size.rows, m.tile_columns = tile_size.columns;
    const Moments merged = merge_moments(m, e.norm, weight, stream);
    return {y, merged.mean, merged.var, sum, merged.scale};
}

Dgrad conv_dgrad(const SourceArguments& t, const WeightArguments& w, const ResultArguments& r,
                 const Maybe& sum_gradient) {
    const Tensor &x = t.x, &weight = w.weight;
    const Call call(t, w);
    const Problem& problem = call.problem;
    const cuda::Convolution& c = call.convolution;
    void* const stream = call.stream;
    check_result(problem, t, r);
    check_like_source(problem, t, sum_gradient, "the sum's gradient");
    if (by_library(cuda::Direction::kDataGradient, c, x)) return dgrad_by_library(problem, t, w, r, sum_gradient);
    const Tensor g_map = whole_map(r.g, false, stream), x_map = aligned(nhwc(x));  // the epilogue reads x
    const Maybe y_map = whole_map(r.y, stream);
    const Maybe residual_map = t.residual ? Maybe(aligned(nhwc(*t.residual))) : std::nullopt;
    const Maybe sum_map = sum_gradient ? Maybe(aligned(nhwc(*sum_gradient))) : std::nullopt;
    Vectors vectors(weight);
    cuda::ConvParams p = cuda::dgrad_plan(c);
    p.source = source_of(problem, x_map, residual_map, t, vectors);
    p.gradient = gradient_of(problem.out, g_map, y_map, r, vectors);
    const bool transforms = p.gradient.moments || p.gradient.activation;
    const cuda::Tile tile = cuda::choose_tile(p, transforms, transforms, call.device, cuda::bytes_of(type_of(x)));
    const Tensor weights = pack(p, tile, c, x, weight, true, stream);
    p.sum_gradient = sum_map ? sum_map->const_data_ptr() : nullptr;
    const Tensor x_gradient = new_map(x, x.size(0), x.size(1), x.size(2), x.size(3));
    p.x_gradient = x_gradient.mutable_data_ptr();
    const Tensor residual_gradient =
        t.residual ? new_map(x, x.size(0), x.size(1), x.size(2), x.size(3)) : new_vector(x, 0);
    p.residual_gradient = t.residual ? residual_gradient.mutable_data_ptr() : nullptr;
    const cuda::Grid grid = cuda::grid_of(tile, p.batch, p.height, p.width, p.channels, p.spread);
    const std::int64_t channels = p.source.affine ? x.size(1) : 0;
    const Parts parts(weight, std::int64_t{grid.x} * grid.z, 3 * channels);
    p.sums = p.source.affine ? parts.sums() : nullptr, p.finished = parts.finished();
    check_launch(cuda::launch_dgrad(type_of(x), tile, p, stream), "conv_dgrad");
    const SourceGradients sums = add_up(parts, channels, p.source, t, weight, stream);
    return {x_gradient, sums.center, sums.scale, sums.shift, sums.slope, residual_gradient, sums.var, sums.weight};
}

Wgrad conv_wgrad(const SourceArguments& t, const WeightArguments& w, const ResultArguments& r, bool bias) {
    const Tensor &x = t.x, &weight = w.weight;
    const Call call(t, w);
    const Problem& problem = call.problem;
    const cuda::Convolution& c = call.convolution;
    void* const stream = call.stream;
    check_result(problem, t, r);
    if (by_library(cuda::Direction::kWeightGradient, c, x)) return wgrad_by_library(problem, t, w, r, bias);
    const Tensor g_map = whole_map(r.g, false, stream), x_map = whole_map(x, t.shuffle, stream);
    const Maybe y_map = whole_map(r.y, stream), residual_map = whole_map(t.residual, stream);
    Vectors vectors(weight);
    const bool two_gradients = r.mean.has_value() || r.activation.has_value();
    const cuda::Type type = type_of(x);
    const cuda::WgradTile tile =
        cuda::choose_wgrad_tile(c, cuda::bytes_of(type), two_gradients, t.residual.has_value(), call.device);
    const cuda::WgradSize size = cuda::size_of(tile);
    cuda::WgradParams p{};
    p.batch = c.batch, p.taps = c.taps, p.stride = c.stride;
    p.splits = cuda::wgrad_splits(c, tile, call.device);
    p.source = source_of(problem, x_map, residual_map, t, vectors);
    p.gradient = gradient_of(problem.out, g_map, y_map, r, vectors);
    p.stages = cuda::wgrad_stages(type, tile, p, call.device);
    p.rows = cuda::round_up(c.out, size.rows), p.columns = cuda::round_up(c.in, size.columns);
    const Tensor partial = new_vector(weight, std::int64_t{p.splits} * c.taps * c.taps * p.rows * p.columns);
    const Tensor partial_bias = new_vector(weight, bias ? std::int64_t{p.splits} * p.rows : 0);
    p.weight = floats(partial), p.bias = bias ? floats(partial_bias) : nullptr;
    check_launch(cuda::launch_wgrad(type, tile, p, stream), "conv_wgrad");
    const Tensor result = new_weight_gradient(problem, weight);
    cuda::WgradSumParams a{};
    a.parts = floats(partial), a.splits = p.splits, a.taps = c.taps, a.rows = p.rows, a.columns = p.columns;
    a.out = c.out, a.in = c.in;
    set_strides(a, result);
    a.weight = floats(result);
    check_launch(cuda::launch_sum_weights(a, stream), "sum_weights");
    return {result, bias ? add_up(partial_bias, p.splits, p.rows, problem.out, weight, stream) : new_vector(weight, 0)};
}

// dy and its sums, once for both gradients of a convolution.
Wgrad conv_dy(const ResultArguments& r, const Tensor& weight, bool bias) {
    const Tensor& g = r.g;
    check_types(g, weight);
    constexpr std::int64_t kUnit = 8;
    STD_TORCH_CHECK(g.dim() == 4 && weight.dim() == 4 && g.size(1) == weight.size(0) && g.numel() > 0 &&
                        g.size(1) % kUnit == 0 && g.size(1) <= kUnit * cuda::kPassThreads,
                    "srgan_fast::conv_dy: a gradient ", shape_of(g), " of weights ", shape_of(weight));
    STD_TORCH_CHECK(r.mean || r.activation, "srgan_fast::conv_dy: nothing stands behind the convolution");
    check_map(r.y, g, {g.size(0), g.size(1), g.size(2), g.size(3)}, "the result");
    const DeviceGuard guard(g.get_device_index());
    const Dy dy = make_dy(r, weight, bias);
    return {dy.map, dy.sums};
}

}  // namespace
}  // namespace srgan_fast::torch_ops

STABLE_TORCH_LIBRARY_IMPL(srgan_fast, CUDA, m) {
    using namespace srgan_fast::torch_ops;
    m.impl("conv_forward", &Boxed<&conv_forward<&forward>>::call);
    m.impl("conv_bn_forward", &Boxed<&conv_bn_forward<&forward>>::call);
    m.impl("conv_dgrad", &Boxed<&conv_dgrad>::call);
    m.impl("conv_wgrad", &Boxed<&conv_wgrad>::call);
    m.impl("conv_dy", &Boxed<&conv_dy>::call);
}

STABLE_TORCH_LIBRARY_FRAGMENT(srgan_fast, m) {
    using namespace srgan_fast::torch_ops;
    m.def("conv_products(str which) -> str");
    m.def(schema("conv_dy", {ResultArguments::kSchema, "Tensor weight, bool bias"}, "(Tensor, Tensor)").c_str());
}

STABLE_TORCH_LIBRARY_IMPL(srgan_fast, CompositeExplicitAutograd, m) {
    m.impl("conv_products", TORCH_BOX(&srgan_fast::torch_ops::conv_products));
}
