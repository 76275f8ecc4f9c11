// As much of CUDA's runtime as launch.cuh calls, for test_launch.cpp, which says what each function does.
#pragma once

#include "tests/cuda_stand_in.h"

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value);
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* kernel);
cudaError_t launch_for_test(const cudaLaunchConfig_t& config, const void* kernel);

// Of the real ones, which take any pointer to a function.
template <typename Kernel>
cudaError_t cudaFuncSetAttribute(Kernel* kernel, cudaFuncAttribute attribute, int value) {
    return cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), attribute, value);
}
template <typename Kernel>
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, Kernel* kernel) {
    return cudaFuncGetAttributes(attributes, reinterpret_cast<const void*>(kernel));
}
template <typename Params>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Params), const Params&) {
    return launch_for_test(*config, reinterpret_cast<const void*>(kernel));
}
