// As much of CUDA's runtime as launch.cuh and reduce.cu call, on the host: a launch counts, and runs the kernel's
// threads as fibers (kernels/cuda/simt) before it returns.
#pragma once

#include <typeinfo>

#include "kernels/cuda/simt/simt.h"
#include "tests/cuda_stand_in.h"

enum cudaDeviceAttr { cudaDevAttrMultiProcessorCount, cudaDevAttrMaxSharedMemoryPerBlockOptin };

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device);

template <typename Kernel>
cudaError_t cudaFuncSetAttribute(Kernel*, cudaFuncAttribute, int) {
    return cudaSuccess;
}
template <typename Kernel>
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, Kernel*) {
    attributes->ptxVersion = 90;
    return cudaSuccess;
}

namespace srgan_fast::tests {
// Counts a launch of a kernel that takes `params`, and runs it unless launches are only counted.
cudaError_t launched(const std::type_info& params, const cudaLaunchConfig_t& config,
                     const std::function<void()>& kernel);
}  // namespace srgan_fast::tests

template <typename Params>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Params), const Params& p) {
    return srgan_fast::tests::launched(typeid(Params), *config, [&] { kernel(p); });
}
