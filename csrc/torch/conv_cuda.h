// Shared by the CUDA convolutions, whether our GEMMs or cuDNN compute them: checks, and kernel arguments.
#pragma once

#include <limits>
#include <vector>

#include "torch/bn.h"
#include "torch/cuda.h"
#include "torch/problem.h"

namespace srgan_fast::torch_ops {

inline void check_types(const Tensor& x, const Tensor& weight) {
    const ScalarType type = x.scalar_type();
    STD_TORCH_CHECK(weight.device() == x.device(), "srgan_fast::conv: a map and weights on different devices");
    STD_TORCH_CHECK(type == ScalarType::BFloat16 || type == ScalarType::Half || type == ScalarType::Float,
                    "srgan_fast::conv takes CUDA maps of bfloat16, float16 or float32");
    STD_TORCH_CHECK(weight.scalar_type() == ScalarType::Float, "srgan_fast::conv takes weights of float32 with a ",
                    "CUDA map");
}

inline cuda::Convolution convolution_of(const Problem& p) {
    constexpr std::int64_t kMost = std::numeric_limits<int>::max();
    constexpr std::int64_t kUnit = 8;
    const auto pitch = [](std::int64_t channels) { return (channels + kUnit - 1) / kUnit * kUnit; };  // at most
    // Kernels use 32-bit indices for pixels of an image and for blocks.
    STD_TORCH_CHECK(p.height * p.width * pitch(p.in) <= kMost && p.out_height * p.out_width * pitch(p.out) <= kMost &&
                        p.batch * p.height * p.width <= kMost,
                    "srgan_fast::conv: an image of ", p.height, "x", p.width, " is too large for the CUDA kernels");
    return {static_cast<int>(p.batch), static_cast<int>(p.in),   static_cast<int>(p.out),   static_cast<int>(p.height),
            static_cast<int>(p.width), static_cast<int>(p.taps), static_cast<int>(p.stride)};
}

// Vectors that outlive the launch: contiguous, or contiguous copies.
class Vectors {
  public:
    explicit Vectors(const Tensor& weight) : weight_(weight) {}

    cuda::Vector put(const Maybe& values, std::int64_t count, const char* name) {
        if (!values) return {nullptr, 0};
        check_vector(values, weight_, count, name);
        kept_.push_back(torch::stable::contiguous(*values));
        return {static_cast<const float*>(kept_.back().const_data_ptr()), values->numel() == 1 && count != 1 ? 0 : 1};
    }

  private:
    const Tensor& weight_;
    std::vector<Tensor> kept_;
};

// The map in the kernels' layout: NHWC, with pixels in multiples of 16 bytes. Maps before a shuffle are unchanged,
// since their channels belong to four pixels.
inline Tensor whole_map(const Tensor& x, bool shuffle, void* stream) {
    const cuda::Type type = type_of(x);
    const std::int64_t unit = 16 / cuda::bytes_of(type);
    const Tensor map = aligned(nhwc(x));
    if (shuffle || x.size(1) % unit == 0) return map;
    const std::int64_t pitch = (x.size(1) + unit - 1) / unit * unit;
    const Tensor padded = new_map(x, x.size(0), pitch, x.size(2), x.size(3));
    check_launch(cuda::launch_pad(type,
                                  {map.const_data_ptr(), padded.mutable_data_ptr(), x.size(0) * x.size(2) * x.size(3),
                                   static_cast<int>(x.size(1)), static_cast<int>(pitch)},
                                  stream),
                 "pad");
    return padded;
}
inline Maybe whole_map(const Maybe& x, void* stream) { return x ? Maybe(whole_map(*x, false, stream)) : std::nullopt; }

// `x` and `residual` are the source's maps in the kernels' layout; they outlive the launch.
inline cuda::Source source_of(const Sizes& p, const Tensor& x, const Maybe& residual, const SourceArguments& t,
                              Vectors& vectors) {
    const std::int64_t channels = p.in * (t.shuffle ? 4 : 1);
    STD_TORCH_CHECK(!t.shuffle || p.stride == 1, "srgan_fast::conv: a shuffle goes with a stride of 1 on CUDA");
    check_combination(p, t);
    cuda::Source s{};
    s.x = x.const_data_ptr();
    s.residual = residual ? residual->const_data_ptr() : nullptr;
    s.center = vectors.put(t.center, channels, "center"), s.scale = vectors.put(t.scale, channels, "scale");
    s.shift = vectors.put(t.shift, channels, "shift"), s.slope = vectors.put(t.slope, channels, "slope");
    s.height = static_cast<int>(p.height), s.width = static_cast<int>(p.width), s.channels = static_cast<int>(p.in);
    s.pitch = static_cast<int>(t.shuffle ? p.in : x.size(1));
    s.shuffle = t.shuffle, s.activates = t.slope.has_value();
    s.affine = t.center || t.scale || t.shift || t.slope || residual;
    return s;
}

// `g` and `y` are the result's maps in the kernels' layout, and may have more channels than the convolution's
// `channels`; the rest is zero.
inline cuda::Gradient gradient_of(std::int64_t channels, const Tensor& g, const Maybe& y, const ResultArguments& t,
                                  Vectors& vectors) {
    check_combination(t);
    cuda::Gradient s{};
    s.g = g.const_data_ptr();
    s.height = static_cast<int>(g.size(2)), s.width = static_cast<int>(g.size(3));
    s.channels = static_cast<int>(channels), s.pitch = static_cast<int>(g.size(1));
    s.moments = t.mean.has_value(), s.activation = t.activation.has_value();
    if (s.moments || s.activation) s.y = y->const_data_ptr();
    s.slope = static_cast<float>(t.activation.value_or(0.0));
    s.share = 1.0f / static_cast<float>(g.size(0) * g.size(2) * g.size(3));
    if (!s.moments) return s;  // autograd may still pass empty gradients of unused moments
    s.mean = vectors.put(t.mean, channels, "mean");
    s.mean_gradient = vectors.put(t.mean_gradient, channels, "gradient of the mean");
    s.var_gradient = vectors.put(t.var_gradient, channels, "gradient of the variance");
    return s;
}

// Memory for `count` parts of `values` sums, and for the number of blocks that have finished adding them up.
class Parts {
  public:
    Parts(const Tensor& like, std::int64_t count, std::int64_t values)
        : memory_(new_vector(like, count * values + 1)), count_(static_cast<int>(count)) {}
    float* sums() const { return floats(memory_); }
    int* finished() const { return static_cast<int*>(memory_.mutable_data_ptr()) + (memory_.numel() - 1); }
    int count() const { return count_; }

  private:
    Tensor memory_;
    int count_;
};

// The prologue's gradients from sums of its three vectors; empty without a prologue.
struct SourceGradients {
    Tensor center, scale, shift, slope, var, weight;
};
inline SourceGradients add_up(const Parts& parts, std::int64_t channels, const cuda::Source& source,
                              const SourceArguments& t, const Tensor& weight, void* stream) {
    const std::int64_t size = source.affine ? channels : 0;
    const bool has_norm = source.affine && t.var, has_weight = has_norm && t.gamma;
    const SourceGradients sums{new_vector(weight, size),
                               new_vector(weight, size),
                               new_vector(weight, size),
                               new_vector(weight, source.affine ? size_of_gradient(t.slope, channels) : 0),
                               new_vector(weight, has_norm ? size : 0),
                               new_vector(weight, has_weight ? size : 0)};
    if (!source.affine) return sums;
    const int length = static_cast<int>(channels);
    const bool one_slope = sums.slope.numel() != channels;
    const Tensor slopes = one_slope ? new_vector(weight, size) : sums.slope;
    cuda::SumParams p{};
    p.parts = parts.sums(), p.count = parts.count(), p.stride = 3 * length, p.vectors = 3, p.length = length;
    p.sums[0] = floats(sums.scale), p.sums[1] = floats(sums.shift), p.sums[2] = floats(slopes);
    p.scale = source.scale, p.scaled = floats(sums.center);
    if (has_norm) {
        constexpr const char* kName = "srgan_fast::conv_dgrad";
        check_channels(*t.var, sums.scale, kName, "var");
        if (has_weight) check_channels(*t.gamma, sums.scale, kName, "gamma");
        p.norm = {static_cast<const float*>(t.var->const_data_ptr()),
                  has_weight ? static_cast<const float*>(t.gamma->const_data_ptr()) : nullptr,
                  static_cast<float>(t.eps), floats(sums.var), has_weight ? floats(sums.weight) : nullptr};
    }
    if (one_slope) p.total = floats(sums.slope), p.finished = parts.finished();
    check_launch(cuda::launch_sum(p, stream), "sum");
    return sums;
}

// Sums of `length` values, `stride` apart.
inline Tensor add_up(const Tensor& parts, int count, int stride, std::int64_t length, const Tensor& weight,
                     void* stream) {
    const Tensor sums = new_vector(weight, length);
    cuda::SumParams p{};
    p.parts = floats(parts), p.count = count, p.stride = stride, p.vectors = 1, p.length = static_cast<int>(length);
    p.sums[0] = floats(sums);
    check_launch(cuda::launch_sum(p, stream), "sum");
    return sums;
}

// Merges moments from parts (see cuda::MomentsParams, whose parts and sizes are set), and computes BatchNorm's vectors
// in the same launch.
struct Moments {
    Tensor mean, var, scale;
};
inline Moments merge_moments(cuda::MomentsParams p, const std::optional<ResultNorm>& norm, const Tensor& weight,
                             void* stream) {
    const std::int64_t channels = p.channels;
    const Moments moments{new_vector(weight, channels), new_vector(weight, channels),
                          new_vector(weight, norm ? channels : 0)};
    p.mean = floats(moments.mean), p.var = floats(moments.var);
    if (norm) {
        check_norm(*norm, moments.mean);
        const auto maybe = [](const Maybe& t) { return t ? floats(*t) : nullptr; };
        const double count = static_cast<double>(norm->count);
        p.norm = {norm->weight ? static_cast<const float*>(norm->weight->const_data_ptr()) : nullptr,
                  static_cast<float>(norm->eps),
                  floats(moments.scale),
                  maybe(norm->running_mean),
                  maybe(norm->running_var),
                  norm->batches ? static_cast<std::int64_t*>(norm->batches->mutable_data_ptr()) : nullptr,
                  static_cast<float>(norm->momentum),
                  static_cast<float>(count / (count - 1.0))};
    }
    check_launch(cuda::launch_merge_moments(p, stream), "merge_moments");
    return moments;
}

// dy, and optionally its sums, which are the bias' gradient; its channels are whole units.
struct Dy {
    Tensor map, sums;
};
Dy make_dy(const ResultArguments& result, const Tensor& weight, bool sums);

// Computed by cuDNN (conv_library.cpp), under the caller's device guard; `problem` was checked.
NormForward forward_by_library(const Problem& problem, const SourceArguments& source, const WeightArguments& weights,
                               const Epilogue& epilogue);
Dgrad dgrad_by_library(const Problem& problem, const SourceArguments& source, const WeightArguments& weights,
                       const ResultArguments& result, const Maybe& sum_gradient);
Wgrad wgrad_by_library(const Problem& problem, const SourceArguments& source, const WeightArguments& weights,
                       const ResultArguments& result, bool bias);

}  // namespace srgan_fast::torch_ops
