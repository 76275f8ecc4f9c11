// As much of CUDA's runtime as launch.cuh and reduce.cu call, on the host: a launch counts, and runs the kernel's
// threads as fibers (kernels/cuda/simt) before it returns.
#pragma once

#include <cstddef>
#include <typeinfo>

#include "kernels/cuda/simt/simt.h"

enum cudaError_t { cudaSuccess, cudaErrorLaunchFailure };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize };
enum cudaLaunchAttributeID { cudaLaunchAttributeProgrammaticStreamSerialization };
enum cudaDeviceAttr { cudaDevAttrMultiProcessorCount, cudaDevAttrMaxSharedMemoryPerBlockOptin };

struct dim3 {
    dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
    unsigned x, y, z;
};
struct cudaFuncAttributes {
    int ptxVersion;
};
struct cudaLaunchAttribute {
    cudaLaunchAttributeID id;
    struct {
        int programmaticStreamSerializationAllowed;
    } val;
};
using cudaStream_t = struct Stream*;
struct cudaLaunchConfig_t {
    dim3 gridDim, blockDim;
    std::size_t dynamicSmemBytes;
    cudaStream_t stream;
    cudaLaunchAttribute* attrs;
    unsigned numAttrs;
};

cudaError_t cudaGetLastError();
const char* cudaGetErrorString(cudaError_t error);
cudaError_t cudaGetDevice(int* device);
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
