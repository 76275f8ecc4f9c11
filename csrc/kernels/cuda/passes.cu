#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/passes.cuh"

namespace srgan_fast::cuda {
namespace {

Grid grid_of(const Pass& p) { return {static_cast<unsigned>(p.blocks()), 1, 1}; }

}  // namespace

const char* launch_source_pass(Type type, const SourcePassParams& p, void* stream) {
    return with_map_type(type, [&](auto element) {
        return launch(source_pass_kernel<decltype(element)>, grid_of(p.pass), kPassThreads, 0, p, stream);
    });
}

const char* launch_result_pass(Type type, const ResultPassParams& p, void* stream) {
    return with_map_type(type, [&](auto element) {
        return launch(result_pass_kernel<decltype(element)>, grid_of(p.pass), kPassThreads, pass_bytes(2), p, stream);
    });
}

const char* launch_gradient_pass(Type type, const GradientPassParams& p, void* stream) {
    return with_map_type(type, [&](auto element) {
        return launch(gradient_pass_kernel<decltype(element)>, grid_of(p.pass), kPassThreads, pass_bytes(1), p, stream);
    });
}

const char* launch_source_gradient_pass(Type type, const SourceGradientPassParams& p, void* stream) {
    return with_map_type(type, [&](auto element) {
        return launch(source_gradient_pass_kernel<decltype(element)>, grid_of(p.pass), kPassThreads, pass_bytes(3), p,
                      stream);
    });
}

const char* launch_pool(Type type, const PoolParams& p, void* stream) {
    return with_map_type(type, [&](auto element) {
        return launch(pool_kernel<decltype(element)>, grid_of(p.pass), kPassThreads, 0, p, stream);
    });
}

const char* launch_pool_gradient(Type type, const PoolParams& p, void* stream) {
    return with_map_type(type, [&](auto element) {
        return launch(pool_gradient_kernel<decltype(element)>, grid_of(p.pass), kPassThreads, 0, p, stream);
    });
}

}  // namespace srgan_fast::cuda
