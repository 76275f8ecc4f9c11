// In place of csrc/torch/device.h: CPU tensors count as CUDA tensors, and the CUDA operators are registered for CPU
// tensors, whose own operators they replace in a process that loads them later.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/tensor.h>

#undef STABLE_TORCH_LIBRARY_IMPL
#define STABLE_TORCH_LIBRARY_IMPL(library, key, m) SRGAN_FAST_IMPL(library, SRGAN_FAST_KEY_##key, m)
#define SRGAN_FAST_IMPL(library, key, m) _STABLE_TORCH_LIBRARY_IMPL(library, key, m, C10_UID)
#define SRGAN_FAST_KEY_CUDA CPU
#define SRGAN_FAST_KEY_CompositeExplicitAutograd CompositeExplicitAutograd

namespace srgan_fast::torch_ops {

inline bool on_cuda(const torch::stable::Tensor&) { return true; }

struct DeviceGuard {
    explicit DeviceGuard(std::int32_t) {}
};

inline void* current_stream(const torch::stable::Tensor&) { return nullptr; }

}  // namespace srgan_fast::torch_ops
