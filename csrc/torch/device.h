// Device of a tensor: whether it is a GPU, the guard that makes it current, and PyTorch's current stream there. Apart
// from the other headers, so that tests can run the CUDA operators without a GPU (csrc/tests/emulated_gpu).
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/tensor.h>

namespace srgan_fast::torch_ops {

inline bool on_cuda(const torch::stable::Tensor& x) { return x.is_cuda(); }

#ifdef USE_CUDA
using torch::stable::accelerator::DeviceGuard;

inline void* current_stream(const torch::stable::Tensor& x) {
    void* stream = nullptr;
    STD_TORCH_CHECK(aoti_torch_get_current_cuda_stream(x.get_device_index(), &stream) == 0,
                    "srgan_fast: torch gives no CUDA stream");
    return stream;
}
#endif

}  // namespace srgan_fast::torch_ops
