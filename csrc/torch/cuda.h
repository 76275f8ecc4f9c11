// Shared by all operators on CUDA tensors that launch kernels.
#pragma once

#include "kernels/cuda/launch.h"
#include "torch/problem.h"

namespace srgan_fast::torch_ops {

inline void check_launch(const char* error, const char* what) {
    STD_TORCH_CHECK(error == nullptr, "srgan_fast: CUDA refused to launch ", what, ": ", error);
}

inline cuda::Type type_of(const Tensor& x) {
    return x.scalar_type() == ScalarType::BFloat16 ? cuda::Type::kBf16
           : x.scalar_type() == ScalarType::Float  ? cuda::Type::kFloat
                                                   : cuda::Type::kHalf;
}

// The map itself if it can be read in units of 16 bytes, else a copy.
inline Tensor aligned(const Tensor& map) {
    constexpr std::uintptr_t kUnit = 16;
    return reinterpret_cast<std::uintptr_t>(map.const_data_ptr()) % kUnit == 0 ? map : torch::stable::clone(map);
}

// A pass over the pixels of an NHWC map, or over one of `share`.
inline cuda::Pass pass_over(const Tensor& map, std::int64_t share = 1) {
    const std::int64_t pixels = map.size(0) * map.size(2) * map.size(3) / share;
    STD_TORCH_CHECK(pixels <= cuda::kMostPixels, "srgan_fast: a map of ", pixels, " pixels is too large for the CUDA ",
                    "kernels, which count up to ", cuda::kMostPixels);
    return cuda::pass_over(pixels, static_cast<int>(map.size(1)));
}

inline float* floats(const Tensor& t) { return static_cast<float*>(t.mutable_data_ptr()); }

}  // namespace srgan_fast::torch_ops
