// Argument checks of the BatchNorm operators, shared by all devices.
#pragma once

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
