// One kernel's launch, checked.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/cuda/intrinsics.cuh"
#include "kernels/cuda/launch.h"

namespace srgan_fast::cuda {

inline constexpr int kOrdinaryShared = 48 * 1024;  // bytes; more has to be asked for

template <typename Params>
const char* launch(void (*kernel)(Params), const Grid& grid, int threads, int shared, const Params& p, void* stream,
                   bool early = false) {
    if (shared > kOrdinaryShared) {
        const cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared);
        if (error != cudaSuccess) return cudaGetErrorString(error);
    }
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(grid.x, grid.y, grid.z), config.blockDim = dim3(threads);
    config.dynamicSmemBytes = shared, config.stream = static_cast<cudaStream_t>(stream);
    cudaLaunchAttribute attribute{};
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    config.attrs = &attribute, config.numAttrs = early ? 1 : 0;
    const cudaError_t error = cudaLaunchKernelEx(&config, kernel, p);
    return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

// For kernels that call wait_for_previous_kernel(): where the GPU can, they begin before the one before them ends.
template <typename Params>
const char* launch_early(void (*kernel)(Params), const Grid& grid, int threads, int shared, const Params& p,
                         void* stream) {
    int device = 0, major = 0;
    cudaError_t error = cudaGetDevice(&device);
    if (error == cudaSuccess) error = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
    if (error != cudaSuccess) return cudaGetErrorString(error);
    constexpr int kFirst = 9;  // compute capability
    return launch(kernel, grid, threads, shared, p, stream, major >= kFirst);
}

// visit(Bf16{}) or visit(Half{}).
template <typename Visit>
const char* with_type(Type type, const Visit& visit) {
    return type == Type::kBf16 ? visit(Bf16{}) : visit(Half{});
}

}  // namespace srgan_fast::cuda
