// The GPU that the CUDA operators find in tests without one: an H200's size, kernels on the host. It counts launches by
// the type of their arguments, and calls of PyTorch's operators by name; see tests/emulated_gpu.py.
#include <cxxabi.h>

#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "cuda_runtime_api.h"
#include "torch/problem.h"

namespace srgan_fast::tests {
namespace {

std::mutex mutex;
std::map<std::string, int> counts;
bool computes = true;
std::string error;

std::string name_of(const std::type_info& type) {
    const std::unique_ptr<char, void (*)(void*)> name(abi::__cxa_demangle(type.name(), nullptr, nullptr, nullptr),
                                                      std::free);
    const std::string whole = name.get();
    return whole.substr(whole.rfind(':') + 1);
}

void count(const std::string& name) {
    const std::lock_guard lock(mutex);
    ++counts[name];
}

// "name count" lines since the last call.
std::string emulated_launches() {
    const std::lock_guard lock(mutex);
    std::string text;
    for (const auto& [name, times] : counts) text += name + " " + std::to_string(times) + "\n";
    counts.clear();
    return text;
}

void emulated_computes(bool value) { computes = value; }

}  // namespace

cudaError_t launched(const std::type_info& params, const cudaLaunchConfig_t& config,
                     const std::function<void()>& kernel) {
    count(name_of(params));
    if (!computes) return cudaSuccess;
    const dim3& grid = config.gridDim;
    try {
        cuda::simt::launch({grid.x, grid.y, grid.z}, static_cast<int>(config.blockDim.x), config.dynamicSmemBytes, {},
                           kernel);
    } catch (const cuda::simt::Error& failed) {
        error = failed.what();
        return cudaErrorLaunchFailure;
    }
    return cudaSuccess;
}

}  // namespace srgan_fast::tests

cudaError_t cudaGetLastError() { return cudaSuccess; }
const char* cudaGetErrorString(cudaError_t) { return srgan_fast::tests::error.c_str(); }
cudaError_t cudaGetDevice(int* device) {
    *device = 0;
    return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
    *value = attribute == cudaDevAttrMultiProcessorCount ? 132 : 227 * 1024;
    return cudaSuccess;
}

// PyTorch's dispatcher, as the operators call it (CMake defines the macro for them).
#undef torch_call_dispatcher
extern "C" AOTITorchError torch_call_dispatcher(const char*, const char*, StableIValue*, std::uint64_t);
AOTITorchError srgan_fast_call_dispatcher(const char* name, const char* overload, StableIValue* stack,
                                          std::uint64_t version) {
    srgan_fast::tests::count(name);
    return torch_call_dispatcher(name, overload, stack, version);
}

STABLE_TORCH_LIBRARY_FRAGMENT(srgan_fast, m) {
    m.def("emulated_launches() -> str");
    m.def("emulated_computes(bool value) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(srgan_fast, CompositeExplicitAutograd, m) {
    m.impl("emulated_launches", TORCH_BOX(&srgan_fast::tests::emulated_launches));
    m.impl("emulated_computes", TORCH_BOX(&srgan_fast::tests::emulated_computes));
}
