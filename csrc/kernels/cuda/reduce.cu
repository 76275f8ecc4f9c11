#include <stdexcept>
#include <string>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/reduce.cuh"

namespace srgan_fast::cuda {
namespace {

constexpr int kMostBlocks = 1024;  // for grid-stride kernels

Grid over(std::int64_t elements) {
    const std::int64_t blocks = (elements + kReduceThreads - 1) / kReduceThreads;
    return {static_cast<unsigned>(blocks < kMostBlocks ? blocks : kMostBlocks), 1, 1};
}

Grid columns_of(int size) { return {static_cast<unsigned>(blocks_of(size, kReduceColumns)), 1, 1}; }

}  // namespace

const char* launch_pack(Type type, const PackParams& p, void* stream) {
    return with_map_type(type, [&](auto element) {
        return launch(pack_kernel<decltype(element), kReduceThreads>,
                      over(static_cast<std::int64_t>(p.taps) * p.taps * p.rows * p.columns), kReduceThreads, 0, p,
                      stream);
    });
}

const char* launch_merge_moments(const MomentsParams& p, void* stream) {
    return launch(merge_moments_kernel<kReduceThreads>, columns_of(p.channels), kReduceThreads,
                  kReduceThreads * static_cast<int>(sizeof(double)), p, stream);
}

const char* launch_sum(const SumParams& p, void* stream) {
    return launch(sum_kernel<kReduceThreads>, columns_of(p.vectors * p.length), kReduceThreads,
                  kReduceThreads * static_cast<int>(sizeof(double)), p, stream);
}

const char* launch_sum_weights(const WgradSumParams& p, void* stream) {
    return launch(sum_weights_kernel<kReduceThreads>,
                  over(static_cast<std::int64_t>(p.taps) * p.taps * p.rows * p.columns), kReduceThreads, 0, p, stream);
}

const char* launch_pad(Type type, const PadParams& p, void* stream) {
    const auto pad = [&](auto kernel) {
        return launch(kernel, over(p.pixels * p.pitch), kReduceThreads, 0, p, stream);
    };
    return type == Type::kFloat ? pad(pad_kernel<std::uint32_t, kReduceThreads>)
                                : pad(pad_kernel<std::uint16_t, kReduceThreads>);
}

const char* launch_bn_scale(const BnScaleParams& p, void* stream) {
    return launch(bn_scale_kernel<kReduceThreads>, {1, 1, 1}, kReduceThreads, 0, p, stream);
}

const char* launch_bn_scale_backward(const BnScaleBackwardParams& p, void* stream) {
    return launch(bn_scale_backward_kernel<kReduceThreads>, {1, 1, 1}, kReduceThreads, 0, p, stream);
}

const char* launch_bn_follow(const BnFollowParams& p, void* stream) {
    return launch(bn_follow_kernel<kReduceThreads>, {1, 1, 1}, kReduceThreads, 0, p, stream);
}

Device current_device() {
    static std::mutex mutex;
    static std::map<int, Device> known;  // a query takes a microsecond, and every call needs one
    int device = 0;
    cudaError_t error = cudaGetDevice(&device);
    const std::lock_guard lock(mutex);
    if (error == cudaSuccess && known.count(device) != 0) return known[device];
    Device found{};
    if (error == cudaSuccess)
        error = cudaDeviceGetAttribute(&found.multiprocessors, cudaDevAttrMultiProcessorCount, device);
    if (error == cudaSuccess)
        error = cudaDeviceGetAttribute(&found.shared_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
    if (error != cudaSuccess) throw std::runtime_error(std::string("CUDA: ") + cudaGetErrorString(error));
    return known[device] = found;
}

}  // namespace srgan_fast::cuda
