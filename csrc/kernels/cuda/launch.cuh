// One kernel's launch, checked.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/cuda/intrinsics.cuh"
#include "kernels/cuda/launch.h"

namespace srgan_fast::cuda {

inline constexpr int kOrdinaryShared = 48 * 1024;  // bytes; more has to be asked for

template <typename Params>
const char* launch(void (*kernel)(Params), const Grid& grid, int threads, int shared, const Params& p, void* stream) {
    if (shared > kOrdinaryShared) {
        const cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared);
        if (error != cudaSuccess) return cudaGetErrorString(error);
    }
    kernel<<<dim3(grid.x, grid.y, grid.z), threads, shared, static_cast<cudaStream_t>(stream)>>>(p);
    const cudaError_t error = cudaGetLastError();
    return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

// visit(Bf16{}) or visit(Half{}).
template <typename Visit>
const char* with_type(Type type, const Visit& visit) {
    return type == Type::kBf16 ? visit(Bf16{}) : visit(Half{});
}

}  // namespace srgan_fast::cuda
