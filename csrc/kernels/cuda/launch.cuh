// One kernel's launch, checked.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/cuda/intrinsics.cuh"
#include "kernels/cuda/launch.h"

namespace srgan_fast::cuda {

inline constexpr int kOrdinaryShared = 48 * 1024;  // bytes; more has to be asked for

// What went wrong, taken back from CUDA, which would else tell it to whoever asks next.
inline const char* failure(cudaError_t error) {
    static_cast<void>(cudaGetLastError());
    return cudaGetErrorString(error);
}

template <typename Params>
const char* launch(void (*kernel)(Params), const Grid& grid, int threads, int shared, const Params& p, void* stream,
                   bool early = false) {
    if (shared > kOrdinaryShared) {
        const cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared);
        if (error != cudaSuccess) return failure(error);
    }
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(grid.x, grid.y, grid.z), config.blockDim = dim3(threads);
    config.dynamicSmemBytes = shared, config.stream = static_cast<cudaStream_t>(stream);
    cudaLaunchAttribute attribute{};
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    config.attrs = &attribute, config.numAttrs = early ? 1 : 0;
    const cudaError_t error = cudaLaunchKernelEx(&config, kernel, p);
    return error == cudaSuccess ? nullptr : failure(error);
}

// For kernels that call wait_for_previous_kernel(): they begin before the one before them ends where they were compiled
// with that wait, whatever the GPU.
template <typename Params>
const char* launch_early(void (*kernel)(Params), const Grid& grid, int threads, int shared, const Params& p,
                         void* stream) {
    cudaFuncAttributes attributes{};
    const cudaError_t error = cudaFuncGetAttributes(&attributes, kernel);
    if (error != cudaSuccess) return failure(error);
    constexpr int kFirst = 90;  // virtual architecture that has it
    return launch(kernel, grid, threads, shared, p, stream, attributes.ptxVersion >= kFirst);
}

// visit(Bf16{}) or visit(Half{}); with_map_type also visit(float{}).
template <typename Visit>
const char* with_type(Type type, const Visit& visit) {
    return type == Type::kBf16 ? visit(Bf16{}) : visit(Half{});
}
template <typename Visit>
const char* with_map_type(Type type, const Visit& visit) {
    return type == Type::kFloat ? visit(0.0f) : with_type(type, visit);
}

}  // namespace srgan_fast::cuda
