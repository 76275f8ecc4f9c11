// Shared by the operators of all devices: a call's tensors, their sizes, and checks.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/MemoryFormat.h>
#include <torch/headeronly/core/ScalarType.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "torch/arguments.h"
#include "torch/device.h"

namespace srgan_fast::torch_ops {

using torch::headeronly::MemoryFormat;
using torch::headeronly::ScalarType;

using Forward = std::tuple<Tensor, Tensor, Tensor, Tensor>;  // y, mean, var, sum
// The same, and BatchNorm's scale.
using NormForward = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;
// Gradients of a source's tensors, in their order: x, center, scale, shift, slope, residual, var, gamma.
using Dgrad = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;
using Wgrad = std::tuple<Tensor, Tensor>;  // of weight, bias

inline std::string shape_of(const Tensor& x) {
    std::string text = "(";
    for (std::int64_t i = 0; i < x.dim(); ++i) text += (i ? ", " : "") + std::to_string(x.size(i));
    return text + ")";
}

// The tensor itself if it is dense NHWC, else a copy that is.
inline Tensor nhwc(const Tensor& x) {
    const std::int64_t order[4] = {1, 3, 2, 0};
    std::int64_t stride = 1;
    for (const std::int64_t d : order) {
        if (x.size(d) != 1 && x.stride(d) != stride) return torch::stable::contiguous(x, MemoryFormat::ChannelsLast);
        stride *= x.size(d);
    }
    return x;
}

// New uninitialised tensors with another's dtype and device. PyTorch's own functions for that go through its dispatcher
// by name, which for the six results of a small convolution takes as long as the convolution.
template <std::size_t kDims>
Tensor new_tensor(const Tensor& like, const std::array<std::int64_t, kDims>& sizes,
                  const std::array<std::int64_t, kDims>& strides) {
    std::int32_t type = 0, device = 0, index = 0;
    STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_dtype(like.get(), &type));
    STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(like.get(), &device));
    STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_index(like.get(), &index));
    AtenTensorHandle made = nullptr;
    STABLE_TORCH_ERROR_CODE_CHECK(
        aoti_torch_empty_strided(kDims, sizes.data(), strides.data(), type, device, index, &made));
    return Tensor(made);
}

inline Tensor new_map(const Tensor& like, std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w) {
    return new_tensor<4>(like, {n, c, h, w}, {h * w * c, 1, w * c, c});
}

inline Tensor new_vector(const Tensor& like, std::int64_t size) { return new_tensor<1>(like, {size}, {1}); }

// Kernel side of a convolution; fails if there is no kernel for it.
inline std::int64_t taps_of(const Tensor& weight, std::int64_t stride) {
    const std::int64_t taps = weight.size(3);
    const bool cuda = on_cuda(weight);
    STD_TORCH_CHECK(weight.size(2) == taps && (taps == 3 || taps == 5 || (taps == 9 && cuda)) &&
                        (stride == 1 || (stride == 2 && taps == 3)),
                    "srgan_fast::conv does 3x3 of stride 1 or 2 and 5x5 ", cuda ? "or 9x9 " : "", "of stride 1, not ",
                    shape_of(weight), " of stride ", stride);
    return taps;
}

struct Sizes {
    std::int64_t batch, in, out;  // channels of z and y
    std::int64_t taps, stride;
    std::int64_t height, width;          // of z
    std::int64_t out_height, out_width;  // of y
};

// A call's convolution: checked sizes and dtypes.
struct Problem : Sizes {
    Problem(const SourceArguments& source, const WeightArguments& weights) : Sizes{} {
        const Tensor &x = source.x, &weight = weights.weight;
        const bool shuffle = source.shuffle;
        stride = weights.stride;
        STD_TORCH_CHECK(x.dim() == 4 && weight.dim() == 4, "srgan_fast::conv takes N, C, H, W maps and O, I, k, k ",
                        "weights, got ", shape_of(x), " and ", shape_of(weight));
        taps = taps_of(weight, stride);
        const std::int64_t factor = shuffle ? 2 : 1;
        batch = x.size(0), in = weight.size(1), out = weight.size(0);
        height = x.size(2) * factor, width = x.size(3) * factor;
        STD_TORCH_CHECK(x.size(1) == in * factor * factor, "srgan_fast::conv: weights ", shape_of(weight),
                        " do not fit a map ", shape_of(x), shuffle ? " that is shuffled" : "");
        STD_TORCH_CHECK(x.numel() > 0 && weight.numel() > 0, "srgan_fast::conv: an empty map ", shape_of(x),
                        " or empty weights ", shape_of(weight));
        out_height = (height + stride - 1) / stride, out_width = (width + stride - 1) / stride;
    }
};

// The BatchNorm after a convolution, and the values per channel of its input.
struct ResultNorm : NormArguments {
    std::int64_t count;

    ResultNorm(const NormArguments& norm, const SourceArguments& source, std::int64_t stride)
        : NormArguments(norm), count(0) {
        const Tensor& x = source.x;
        if (x.dim() != 4) return;  // refused by Problem
        const auto side = [&](std::int64_t i) { return (x.size(i) * (source.shuffle ? 2 : 1) + stride - 1) / stride; };
        count = x.size(0) * side(2) * side(3);
    }
};

// What a forward call computes besides the convolution.
struct Epilogue {
    const Maybe& bias;
    bool moments;
    std::optional<double> activation;
    std::optional<ResultNorm> norm;
};

inline void check_map(const Maybe& map, const Tensor& like, const std::vector<std::int64_t>& shape, const char* name) {
    if (!map) return;
    bool fits = map->dim() == 4 && map->scalar_type() == like.scalar_type() && map->device() == like.device();
    for (std::int64_t i = 0; fits && i < 4; ++i) fits = map->size(i) == shape[i];
    STD_TORCH_CHECK(fits, "srgan_fast::conv: ", name, " of shape ", shape_of(*map),
                    " or its type does not fit the map");
}

// A per-channel vector: one value per channel, or one for all, with the weights' dtype.
inline void check_vector(const Maybe& values, const Tensor& weight, std::int64_t count, const char* name) {
    if (!values) return;
    const std::int64_t given = values->numel();
    STD_TORCH_CHECK(given == count || given == 1, "srgan_fast::conv: ", name, " has ", given, " values, not ", count);
    STD_TORCH_CHECK(values->scalar_type() == weight.scalar_type(), "srgan_fast::conv: ", name,
                    " must be of the weights' type");
    STD_TORCH_CHECK(values->device() == weight.device(), "srgan_fast::conv: ", name, " is on another device");
}

// Checks which prologues and epilogues may be combined.
inline void check_combination(const Sizes& p, const SourceArguments& source) {
    STD_TORCH_CHECK(!source.residual || (!source.shuffle && p.taps == 3 && p.stride == 1 && !source.slope),
                    "srgan_fast::conv: a residual goes with a 3x3 convolution of stride 1, without shuffle or slope");
}
inline void check_combination(const ResultArguments& result) {
    STD_TORCH_CHECK(!(result.mean && result.activation),
                    "srgan_fast::conv: moments and an activation exclude each other");
    STD_TORCH_CHECK(!(result.mean || result.activation) || result.y.has_value(),
                    "srgan_fast::conv: this gradient needs the forward call's result");
}

// Checks a source's residual, or another map of its size.
inline void check_like_source(const Problem& p, const SourceArguments& source, const Maybe& map, const char* name) {
    check_map(map, source.x, {p.batch, p.in, p.height, p.width}, name);
}

// Sizes of a call whose maps and weights fit, and have types that the device takes.
template <void (*check_types)(const Tensor& x, const Tensor& weight)>
Problem checked(const SourceArguments& t, const WeightArguments& w) {
    check_types(t.x, w.weight);
    const Problem p(t, w);
    check_like_source(p, t, t.residual, "residual");
    return p;
}

// The forward operators of a device, by its function that does both.
using ForwardFunction = NormForward(const SourceArguments&, const WeightArguments&, const Epilogue&);

template <ForwardFunction* forward>
Forward conv_forward(const SourceArguments& t, const WeightArguments& w, const Maybe& bias, bool moments,
                     std::optional<double> activation, const Maybe&) {
    STD_TORCH_CHECK(!(moments && activation),
                    "srgan_fast::conv: moments are taken before an activation, not behind one");
    const auto [y, mean, var, sum, none] = forward(t, w, {bias, moments, activation, std::nullopt});
    return {y, mean, var, sum};
}

template <ForwardFunction* forward>
NormForward conv_bn_forward(const SourceArguments& t, const WeightArguments& w, const Maybe& bias,
                            const NormArguments& norm) {
    return forward(t, w, {bias, true, std::nullopt, ResultNorm(norm, t, w.stride)});
}

inline void check_result(const Problem& p, const SourceArguments& source, const ResultArguments& result) {
    const std::vector<std::int64_t> shape{p.batch, p.out, p.out_height, p.out_width};
    check_map(result.g, source.x, shape, "the result's gradient");
    check_map(result.y, source.x, shape, "the result");
}

// A gradient that is one value if the vector is.
inline std::int64_t size_of_gradient(const Maybe& vector, std::int64_t channels) {
    return vector && vector->numel() == 1 ? 1 : channels;
}

// Allocates a weight gradient in the parameter's memory format, so that it need not be copied when it is accumulated.
inline Tensor new_weight_gradient(const Problem& p, const Tensor& weight) {
    if (weight.stride(1) == 1 && p.in > 1) return new_map(weight, p.out, p.in, p.taps, p.taps);
    const std::int64_t filter = p.taps * p.taps;
    return new_tensor<4>(weight, {p.out, p.in, p.taps, p.taps}, {p.in * filter, filter, p.taps, 1});
}

}  // namespace srgan_fast::torch_ops
