// Inference operators, which only exist on CUDA: srgan_fast::infer_head, infer_conv, infer_picture, infer_block and
// infer_tail. See srgan_fast/ops/infer.py for what they compute and how their weights are packed.
#include <algorithm>
#include <limits>

#include "torch/cuda.h"

namespace srgan_fast::torch_ops {
namespace {

// Checked sizes of a call's map: kernels use 32-bit indices for an image's pixels and for blocks.
struct MapSize {
    int batch, height, width;
};

MapSize size_of(const Tensor& x, std::int64_t channels, const char* name) {
    STD_TORCH_CHECK(x.dim() == 4 && x.numel() > 0, name, " takes N, C, H, W maps that are not empty, got ",
                    shape_of(x));
    constexpr std::int64_t kMost = std::numeric_limits<int>::max();
    STD_TORCH_CHECK(
        x.size(2) * x.size(3) * channels <= kMost && x.size(0) * (x.size(2) + 1) * x.size(3) * channels / 8 <= kMost,
        name, ": an image of ", x.size(2), "x", x.size(3), " is too large for the CUDA kernels");
    return {static_cast<int>(x.size(0)), static_cast<int>(x.size(2)), static_cast<int>(x.size(3))};
}

void check_map_type(const Tensor& x, const char* name) {
    const ScalarType type = x.scalar_type();
    STD_TORCH_CHECK(type == ScalarType::BFloat16 || type == ScalarType::Half, name,
                    " takes maps of bfloat16 or float16");
}

// A map whose pixels are `pitch` elements apart: dense, or a channel slice of a wider one.
struct Pitched {
    Tensor map;
    int pitch;
};

// Elements per pixel if an NHWC map is dense or a channel slice of one; 0 if it is not, or cannot be read in units of
// 16 bytes.
std::int64_t pitch_of(const Tensor& x) {
    const std::int64_t h = x.size(2), w = x.size(3);
    const std::int64_t pitch = w > 1 ? x.stride(3) : h > 1 ? x.stride(2) : x.size(0) > 1 ? x.stride(0) : x.size(1);
    const bool fits = (x.size(1) == 1 || x.stride(1) == 1) && (w == 1 || x.stride(3) == pitch) &&
                      (h == 1 || x.stride(2) == w * pitch) && (x.size(0) == 1 || x.stride(0) == h * w * pitch);
    constexpr std::uintptr_t kUnit = 16;
    const bool whole = pitch % 8 == 0 && reinterpret_cast<std::uintptr_t>(x.const_data_ptr()) % kUnit == 0;
    return fits && whole && pitch >= x.size(1) ? pitch : 0;
}

// The map itself if kernels can read it as it is, else a copy.
Pitched pitched(const Tensor& x, const char* name) {
    const std::int64_t pitch = pitch_of(x);
    if (pitch == 0) return {aligned(nhwc(x)), static_cast<int>(x.size(1))};
    size_of(x, pitch, name);
    return {x, static_cast<int>(pitch)};
}

// Kernel side of packed weights.
int side_of(const Tensor& weights, const char* name) {
    for (int side = 1; weights.dim() == 3 && side * side <= cuda::kTaps; side += 2)
        if (weights.size(0) == side * side) return side;
    STD_TORCH_CHECK(false, name, ": weights ", shape_of(weights),
                    " are not packed for it; expected k * k, O, C with k ", "odd and at most 9");
}

// Checks packed weights against a plan, and sets them.
void set_weights(cuda::ConvParams& p, const Tensor& weights, const Tensor& like, const char* name) {
    const bool fits = weights.dim() == 3 && weights.size(0) == p.taps[0].count && weights.size(1) == p.weight_rows &&
                      weights.size(2) == p.weight_columns && weights.stride(2) == 1 &&
                      weights.stride(1) == weights.size(2) && weights.stride(0) == weights.size(1) * weights.size(2);
    STD_TORCH_CHECK(fits, name, ": weights ", shape_of(weights), " are not packed for it; expected (", p.taps[0].count,
                    ", ", p.weight_rows, ", ", p.weight_columns, ")");
    STD_TORCH_CHECK(weights.scalar_type() == like.scalar_type() && weights.device() == like.device(), name,
                    ": weights must be of the map's type, on its device");
    constexpr std::uintptr_t kUnit = 16;  // bytes per copy
    STD_TORCH_CHECK(reinterpret_cast<std::uintptr_t>(weights.const_data_ptr()) % kUnit == 0, name,
                    ": packed weights must begin at a multiple of 16 bytes; clone() the view");
    p.weights = weights.const_data_ptr();
}

// Per-channel values: dense, and of the right number.
cuda::Vector vector_of(const Tensor& values, std::int64_t count, const Tensor& like, const char* name,
                       const char* which) {
    STD_TORCH_CHECK(values.dim() == 1 && values.size(0) == count && values.stride(0) == 1 &&
                        values.scalar_type() == ScalarType::Float && values.device() == like.device(),
                    name, ": ", which, " must be ", count, " values of float32 on the map's device");
    return {static_cast<const float*>(values.const_data_ptr()), 1};
}

Tensor new_planes(const Tensor& like, std::int64_t n, std::int64_t colours, std::int64_t h, std::int64_t w) {
    return torch::stable::empty(std::vector<std::int64_t>{n, colours, h, w}, ScalarType::Float, std::nullopt,
                                like.device(), std::nullopt, MemoryFormat::Contiguous);
}

void launch(const cuda::InferParams& p, const Tensor& x, const char* what) {
    const cuda::InferLaunch how = cuda::choose_infer_launch(p.conv, cuda::current_device());
    check_launch(cuda::launch_infer(type_of(x), how, p, current_stream(x)), what);
}

Tensor infer_head(const Tensor& planes, const std::vector<double>& gain, const std::vector<double>& offset,
                  const Tensor& weights, const Tensor& bias, const Tensor& slope, bool weights_are_constant) {
    constexpr const char* kName = "srgan_fast::infer_head";
    check_map_type(weights, kName);
    const MapSize size =
        size_of(planes, std::max<std::int64_t>(2 * cuda::UnfoldParams::kChannels, bias.numel()), kName);
    STD_TORCH_CHECK(planes.size(1) == cuda::kColours && planes.scalar_type() == ScalarType::Float, kName,
                    " takes N, 3, H, W images of float32, got ", shape_of(planes));
    STD_TORCH_CHECK(gain.size() == cuda::kColours && offset.size() == cuda::kColours, kName,
                    ": gain and offset must have a value for each colour");
    STD_TORCH_CHECK(weights.device() == planes.device(), kName, ": images and weights on different devices");
    const DeviceGuard guard(planes.get_device_index());
    void* const stream = current_stream(planes);
    const Tensor source = torch::stable::contiguous(planes);
    const std::int64_t out = bias.numel();
    STD_TORCH_CHECK(out % 8 == 0, kName, ": ", out, " channels are no multiple of 8");
    cuda::InferParams p{};
    p.weights_are_constant = weights_are_constant;
    p.conv = cuda::head_plan(size.batch, size.height, size.width, static_cast<int>(out));
    const Tensor unfolded = new_map(weights, size.batch, cuda::UnfoldParams::kChannels, size.height + 1, size.width);
    cuda::UnfoldParams u{};
    u.planes = static_cast<const float*>(source.const_data_ptr());
    u.batch = size.batch, u.height = size.height, u.width = size.width;
    for (int i = 0; i < cuda::kColours; ++i)
        u.gain[i] = static_cast<float>(gain[i]), u.offset[i] = static_cast<float>(offset[i]);
    u.to = unfolded.mutable_data_ptr();
    check_launch(cuda::launch_unfold(type_of(weights), u, stream), "unfold");
    p.conv.source.x = unfolded.const_data_ptr();
    set_weights(p.conv, weights, unfolded, kName);
    p.conv.bias = vector_of(bias, out, planes, kName, "bias"), p.slope = vector_of(slope, out, planes, kName, "slope");
    const Tensor y = new_map(weights, size.batch, out, size.height, size.width);
    p.conv.y = y.mutable_data_ptr(), p.pitch = static_cast<int>(out), p.shuffle = 1;
    launch(p, weights, "infer_head");
    return y;
}

// Writes to `given`, which may be a channel slice of a wider map, or to a new map.
Tensor convolve(const Tensor& x, const Tensor& weights, const Tensor& bias, const Maybe& slope,
                const std::vector<Tensor>& residuals, const std::vector<double>& scales, std::int64_t shuffle,
                bool weights_are_constant, const Maybe& given) {
    constexpr const char* kName = "srgan_fast::infer_conv";
    check_map_type(x, kName);
    const std::int64_t channels = x.dim() == 4 ? x.size(1) : 0, out = bias.numel();
    const MapSize size = size_of(x, channels > out ? channels : out, kName);
    STD_TORCH_CHECK(shuffle >= 1 && shuffle <= 16, kName, ": a shuffle by ", shuffle, "; it must be 1 to 16");
    const std::int64_t phases = shuffle * shuffle;
    STD_TORCH_CHECK(channels % 8 == 0 && out % (8 * phases) == 0, kName, ": ", channels, " and ", out,
                    " channels are no multiples of 8", phases > 1 ? " for each of the pixels of a shuffle" : "");
    STD_TORCH_CHECK(shuffle == 1 || residuals.empty(), kName, ": a residual and a shuffle exclude each other");
    STD_TORCH_CHECK(residuals.size() <= cuda::InferParams::kResiduals && residuals.size() == scales.size(), kName, ": ",
                    residuals.size(), " residuals with ", scales.size(), " scales; at most ",
                    cuda::InferParams::kResiduals, ", each with one");
    const Pitched map = pitched(x, kName);
    cuda::InferParams p{};
    p.conv = cuda::infer_plan(size.batch, size.height, size.width, static_cast<int>(channels), static_cast<int>(out),
                              side_of(weights, kName));
    p.conv.source.x = map.map.const_data_ptr(), p.conv.source.pitch = map.pitch;
    set_weights(p.conv, weights, x, kName);
    p.conv.bias = vector_of(bias, out, x, kName, "bias");
    if (slope) p.slope = vector_of(*slope, out, x, kName, "slope");
    std::vector<Pitched> addends;  // kept alive until the launch
    for (std::size_t i = 0; i < residuals.size(); ++i) {
        check_map(residuals[i], x, {size.batch, out, size.height, size.width}, "residual");
        addends.push_back(pitched(residuals[i], kName));
        p.residuals[i] = {addends[i].map.const_data_ptr(), addends[i].pitch, static_cast<float>(scales[i])};
    }
    p.shuffle = static_cast<int>(shuffle), p.weights_are_constant = weights_are_constant;
    const std::int64_t height = size.height * shuffle, width = size.width * shuffle;
    check_map(given, x, {size.batch, out / phases, height, width}, "result");
    const Tensor y = given ? *given : new_map(x, size.batch, out / phases, height, width);
    const std::int64_t pitch = pitch_of(y);
    STD_TORCH_CHECK(pitch > 0, kName, ": a result must be NHWC, or channels of such a map from a multiple of 8 on");
    size_of(y, pitch, kName);
    p.conv.y = y.mutable_data_ptr(), p.pitch = static_cast<int>(pitch);
    const DeviceGuard guard(x.get_device_index());
    launch(p, x, "infer_conv");
    return y;
}

Tensor infer_conv(const Tensor& x, const Tensor& weights, const Tensor& bias, const Maybe& slope,
                  const std::vector<Tensor>& residuals, const std::vector<double>& scales, std::int64_t shuffle,
                  bool weights_are_constant) {
    return convolve(x, weights, bias, slope, residuals, scales, shuffle, weights_are_constant, std::nullopt);
}

void infer_conv_into(const Tensor& x, const Tensor& weights, const Tensor& bias, const Maybe& slope,
                     const std::vector<Tensor>& residuals, const std::vector<double>& scales, std::int64_t shuffle,
                     bool weights_are_constant, const Tensor& y) {
    convolve(x, weights, bias, slope, residuals, scales, shuffle, weights_are_constant, y);
}

Tensor infer_picture(const Tensor& x, const Tensor& weights, const Tensor& bias, const Maybe& slope,
                     std::int64_t colours, std::int64_t shuffle) {
    constexpr const char* kName = "srgan_fast::infer_picture";
    check_map_type(x, kName);
    STD_TORCH_CHECK(shuffle >= 1 && shuffle <= 16 && colours >= 1 && colours <= 16, kName, ": ", colours,
                    " colours, shuffled by ", shuffle, "; both must be 1 to 16");
    const std::int64_t channels = x.dim() == 4 ? x.size(1) : 0, out = colours * shuffle * shuffle;
    const MapSize size = size_of(x, channels > out ? channels : out, kName);
    STD_TORCH_CHECK(channels % 8 == 0, kName, ": ", channels, " channels are no multiple of 8");
    const Pitched map = pitched(x, kName);
    cuda::PictureParams p{};
    p.conv = cuda::infer_plan(size.batch, size.height, size.width, static_cast<int>(channels), static_cast<int>(out),
                              side_of(weights, kName));
    p.conv.source.x = map.map.const_data_ptr(), p.conv.source.pitch = map.pitch;
    set_weights(p.conv, weights, x, kName);
    p.conv.bias = vector_of(bias, out, x, kName, "bias");
    if (slope) p.slope = vector_of(*slope, out, x, kName, "slope");
    p.shuffle = static_cast<int>(shuffle);
    const Tensor planes = new_planes(x, size.batch, colours, size.height * shuffle, size.width * shuffle);
    p.planes = floats(planes);
    const DeviceGuard guard(x.get_device_index());
    check_launch(cuda::launch_picture(type_of(x), cuda::choose_picture_tile(p.conv), p, current_stream(x)),
                 "infer_picture");
    return planes;
}

// Runs as one kernel if it fits: `way` is an index in cuda::kBlockSizes, or negative for the fastest.
Tensor infer_block(const Tensor& x, const Tensor& weights, const Tensor& bias, const Tensor& slope,
                   const Tensor& outer_weights, const Tensor& outer_bias, bool weights_are_constant, std::int64_t way) {
    constexpr const char* kName = "srgan_fast::infer_block";
    check_map_type(x, kName);
    const MapSize size = size_of(x, cuda::kBlockChannels, kName);
    STD_TORCH_CHECK(x.size(1) == cuda::kBlockChannels, kName, " takes ", cuda::kBlockChannels, " channels, got ",
                    x.size(1));
    STD_TORCH_CHECK(way < cuda::kBlockWays, kName, ": there is no way ", way);
    const DeviceGuard guard(x.get_device_index());
    const cuda::Device device = cuda::current_device();
    const cuda::BlockLaunch how =
        way < 0 ? cuda::choose_block_launch(size.batch, size.height, size.width, device)
                : cuda::block_launch(static_cast<int>(way), size.batch, size.height, size.width, device);
    if (how.way < 0)
        return infer_conv(infer_conv(x, weights, bias, slope, {}, {}, 1, weights_are_constant), outer_weights,
                          outer_bias, std::nullopt, {x}, {1.0}, 1, weights_are_constant);
    const Tensor map = aligned(nhwc(x));
    cuda::ConvParams plan =
        cuda::infer_plan(size.batch, size.height, size.width, cuda::kBlockChannels, cuda::kBlockChannels);
    cuda::BlockParams p{};
    p.batch = size.batch, p.height = size.height, p.width = size.width;
    p.x = map.const_data_ptr(), p.weights_are_constant = weights_are_constant;
    set_weights(plan, weights, x, kName), p.weights[0] = plan.weights;
    set_weights(plan, outer_weights, x, kName), p.weights[1] = plan.weights;
    p.bias[0] = vector_of(bias, cuda::kBlockChannels, x, kName, "bias");
    p.bias[1] = vector_of(outer_bias, cuda::kBlockChannels, x, kName, "outer_bias");
    p.slope = vector_of(slope, cuda::kBlockChannels, x, kName, "slope");
    const Tensor y = new_map(x, size.batch, cuda::kBlockChannels, size.height, size.width);
    p.y = y.mutable_data_ptr();
    check_launch(cuda::launch_block(type_of(x), how, p, current_stream(x)), "infer_block");
    return y;
}

Tensor infer_tail(const Tensor& x, const Tensor& weights, const Tensor& bias) {
    constexpr const char* kName = "srgan_fast::infer_tail";
    check_map_type(x, kName);
    const std::int64_t channels = x.dim() == 4 ? x.size(1) : 0;
    const MapSize size = size_of(x, channels, kName);
    STD_TORCH_CHECK(channels % 8 == 0, kName, ": ", channels, " channels are no multiple of 8");
    const DeviceGuard guard(x.get_device_index());
    const Tensor map = aligned(nhwc(x));
    cuda::TailParams p{};
    p.conv = cuda::tail_plan(size.batch, size.height, size.width, static_cast<int>(channels));
    p.conv.source.x = map.const_data_ptr();
    set_weights(p.conv, weights, x, kName);
    p.conv.bias = vector_of(bias, cuda::kColours, x, kName, "bias");
    const Tensor planes =
        new_planes(x, size.batch, cuda::kColours, 2 * std::int64_t{size.height}, 2 * std::int64_t{size.width});
    p.planes = floats(planes);
    check_launch(cuda::launch_tail(type_of(x), p, current_stream(x)), "infer_tail");
    return planes;
}

}  // namespace
}  // namespace srgan_fast::torch_ops

STABLE_TORCH_LIBRARY_FRAGMENT(srgan_fast, m) {
    m.def(
        "infer_head(Tensor planes, float[] gain, float[] offset, Tensor weights, Tensor bias, Tensor slope, "
        "bool settled=False) -> Tensor");
    m.def(
        "infer_conv(Tensor x, Tensor weights, Tensor bias, Tensor? slope, Tensor[] residuals, float[] scales, "
        "int shuffle, bool settled=False) -> Tensor");
    m.def(
        "infer_conv_into(Tensor x, Tensor weights, Tensor bias, Tensor? slope, Tensor[] residuals, float[] scales, "
        "int shuffle, bool settled, Tensor(a!) y) -> ()");
    m.def("infer_picture(Tensor x, Tensor weights, Tensor bias, Tensor? slope, int colours, int shuffle) -> Tensor");
    m.def(
        "infer_block(Tensor x, Tensor weights, Tensor bias, Tensor slope, Tensor outer_weights, Tensor outer_bias, "
        "bool settled=False, int way=-1) -> Tensor");
    m.def("infer_tail(Tensor x, Tensor weights, Tensor bias) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(srgan_fast, CUDA, m) {
    m.impl("infer_head", TORCH_BOX(&srgan_fast::torch_ops::infer_head));
    m.impl("infer_conv", TORCH_BOX(&srgan_fast::torch_ops::infer_conv));
    m.impl("infer_conv_into", TORCH_BOX(&srgan_fast::torch_ops::infer_conv_into));
    m.impl("infer_picture", TORCH_BOX(&srgan_fast::torch_ops::infer_picture));
    m.impl("infer_block", TORCH_BOX(&srgan_fast::torch_ops::infer_block));
    m.impl("infer_tail", TORCH_BOX(&srgan_fast::torch_ops::infer_tail));
}
