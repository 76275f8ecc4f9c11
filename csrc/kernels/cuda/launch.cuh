// Launch of one kernel, with error checks.
#pragma once

#include <cuda_runtime_api.h>

#include <map>
#include <mutex>
#include <utility>

#include "kernels/cuda/intrinsics.cuh"
#include "kernels/cuda/launch.h"

namespace srgan_fast::cuda {

inline constexpr int kOrdinaryShared = 48 * 1024;  // bytes; more must be requested

// Returns the error and clears it in CUDA, which would otherwise report it to the next caller.
inline const char* failure(cudaError_t error) {
    static_cast<void>(cudaGetLastError());
    return cudaGetErrorString(error);
}

// Caches what CUDA reports about the kernels of each device, instead of querying it at each launch.
class KernelFacts {
  public:
    // Allows a kernel that much shared memory on the current device. The limit only grows: a thread that launches the
    // kernel with less never lowers another thread's limit between its request and its launch.
    cudaError_t allow(const void* kernel, int shared) {
        if (shared <= kOrdinaryShared) return cudaSuccess;
        const std::lock_guard lock(mutex_);
        Facts* facts = nullptr;
        cudaError_t error = find(kernel, facts);
        if (error != cudaSuccess || facts->shared >= shared) return error;
        error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared);
        if (error == cudaSuccess) facts->shared = shared;
        return error;
    }

    // Virtual architecture that it was compiled for: 90 for 9.0.
    cudaError_t architecture(const void* kernel, int& found) {
        const std::lock_guard lock(mutex_);
        Facts* facts = nullptr;
        cudaError_t error = find(kernel, facts);
        if (error == cudaSuccess && facts->architecture == 0) {
            cudaFuncAttributes attributes{};
            error = cudaFuncGetAttributes(&attributes, kernel);
            facts->architecture = attributes.ptxVersion;
        }
        if (error == cudaSuccess) found = facts->architecture;
        return error;
    }

  private:
    struct Facts {
        int shared = kOrdinaryShared, architecture = 0;
    };
    cudaError_t find(const void* kernel, Facts*& facts) {
        int device = 0;
        const cudaError_t error = cudaGetDevice(&device);
        if (error == cudaSuccess) facts = &facts_[{device, kernel}];
        return error;
    }
    std::mutex mutex_;
    std::map<std::pair<int, const void*>, Facts> facts_;
};

inline KernelFacts& kernel_facts() {
    static KernelFacts facts;
    return facts;
}

template <typename Params>
const char* launch(void (*kernel)(Params), const Grid& grid, int threads, int shared, const Params& p, void* stream,
                   bool early = false) {
    const cudaError_t refused = kernel_facts().allow(reinterpret_cast<const void*>(kernel), shared);
    if (refused != cudaSuccess) return failure(refused);
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

// For kernels that call wait_for_previous_kernel(): if they were compiled with that wait, they start before the
// previous kernel ends, on any GPU.
template <typename Params>
const char* launch_early(void (*kernel)(Params), const Grid& grid, int threads, int shared, const Params& p,
                         void* stream) {
    int architecture = 0;
    const cudaError_t error = kernel_facts().architecture(reinterpret_cast<const void*>(kernel), architecture);
    if (error != cudaSuccess) return failure(error);
    constexpr int kFirst = 90;  // first virtual architecture that has it
    return launch(kernel, grid, threads, shared, p, stream, architecture >= kFirst);
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
