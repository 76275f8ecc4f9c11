// Argument checks of the BatchNorm operators, shared by all devices.
#pragma once

#include <cmath>

#include "torch/problem.h"

namespace srgan_fast::torch_ops {

// Dense per-channel vectors with the dtype and device of `like`.
inline void check_channels(const Tensor& values, const Tensor& like, const char* op, const char* name) {
    STD_TORCH_CHECK(values.dim() == 1 && values.size(0) == like.size(0) &&
                        (values.size(0) <= 1 || values.stride(0) == 1) && values.scalar_type() == like.scalar_type() &&
                        values.device() == like.device(),
                    op, ": ", name, " of shape ", shape_of(values), " does not fit vectors of ", like.size(0),
                    " values without gaps, of one type, on one device");
}

inline void check_first(const Tensor& values, const char* op) {
    STD_TORCH_CHECK(values.dim() == 1 && (values.size(0) <= 1 || values.stride(0) == 1), op,
                    " takes vectors without gaps, got ", shape_of(values));
}

// Checks the vectors of a BatchNorm after a convolution to `like`'s channels.
inline void check_norm(const ResultNorm& norm, const Tensor& like) {
    constexpr const char* kName = "srgan_fast::conv_bn_forward";
    if (norm.weight) check_channels(*norm.weight, like, kName, "bn_weight");
    STD_TORCH_CHECK(norm.count > 1, kName, ": ", norm.count, " values a channel have no unbiased variance");
    STD_TORCH_CHECK(norm.running_mean.has_value() == norm.running_var.has_value() &&
                        norm.running_mean.has_value() == norm.batches.has_value(),
                    kName, ": running statistics are a mean, a variance and a number of batches");
    if (!norm.running_mean) return;
    check_channels(*norm.running_mean, like, kName, "running_mean");
    check_channels(*norm.running_var, like, kName, "running_var");
    const Tensor& batches = *norm.batches;
    STD_TORCH_CHECK(
        batches.numel() == 1 && batches.scalar_type() == ScalarType::Long && batches.device() == like.device(), kName,
        ": the number of batches must be one int64 on the same device");
}

// BatchNorm's arithmetic on the host, by dense vectors of `channels` values; see srgan_fast/ops/bn.py.
template <typename T>
void norm_scale(const T* var, const T* weight, double eps, std::int64_t channels, T* scale) {
    for (std::int64_t i = 0; i < channels; ++i)
        scale[i] = (weight ? weight[i] : T{1}) / std::sqrt(var[i] + static_cast<T>(eps));
}

// `d_weight` is null if there is no weight.
template <typename T>
void norm_scale_gradient(const T* gradient, const T* var, const T* weight, double eps, std::int64_t channels, T* d_var,
                         T* d_weight) {
    for (std::int64_t i = 0; i < channels; ++i) {
        const T inverse = T{1} / std::sqrt(var[i] + static_cast<T>(eps)), g = gradient[i];
        d_var[i] = T(-0.5) * g * (weight ? weight[i] : T{1}) * inverse * inverse * inverse;
        if (d_weight) d_weight[i] = g * inverse;
    }
}

// By `momentum`; by one over the number of batches if there is none.
template <typename T>
void norm_follow(const T* mean, const T* var, std::int64_t count, std::optional<double> momentum, std::int64_t channels,
                 T* running_mean, T* running_var, std::int64_t* batches) {
    const std::int64_t seen = ++*batches;
    const T share = static_cast<T>(momentum.value_or(1.0 / static_cast<double>(seen)));
    const T unbias = static_cast<T>(static_cast<double>(count) / static_cast<double>(count - 1));
    for (std::int64_t i = 0; i < channels; ++i) {
        running_mean[i] += share * (mean[i] - running_mean[i]);
        running_var[i] += share * (var[i] * unbias - running_var[i]);
    }
}

struct FollowArguments {
    const Tensor &mean, &var, &running_mean, &running_var, &batches;
};

inline void check_follow(const FollowArguments& a, std::int64_t count) {
    constexpr const char* kName = "srgan_fast::bn_follow";
    check_first(a.mean, kName);
    check_channels(a.var, a.mean, kName, "var"), check_channels(a.running_mean, a.mean, kName, "running_mean");
    check_channels(a.running_var, a.mean, kName, "running_var");
    STD_TORCH_CHECK(
        a.batches.numel() == 1 && a.batches.scalar_type() == ScalarType::Long && a.batches.device() == a.mean.device(),
        kName, ": the number of batches must be one int64 on the same device");
    STD_TORCH_CHECK(count > 1, kName, ": ", count, " values a channel have no unbiased variance");
}

}  // namespace srgan_fast::torch_ops
