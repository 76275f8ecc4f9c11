// CUDA versions of srgan_fast::max_pool and max_pool_backward: 2x2 pixels to one.
#include "torch/cuda.h"

namespace srgan_fast::torch_ops {
namespace {

constexpr std::int64_t kUnit = 8;

// Arguments for maps that are checked and NHWC.
cuda::PoolParams params_of(const Tensor& map) {
    cuda::PoolParams p{};
    p.x = map.const_data_ptr();
    p.height = static_cast<int>(map.size(2)), p.width = static_cast<int>(map.size(3));
    p.pass = pass_over(map, cuda::kPhases);
    return p;
}

void check_pool(const Tensor& x) {
    STD_TORCH_CHECK(
        x.dim() == 4 && x.numel() > 0 && x.size(1) % kUnit == 0 && x.size(1) <= kUnit * cuda::kPassThreads &&
            x.size(2) % 2 == 0 && x.size(3) % 2 == 0,
        "srgan_fast::max_pool takes N, C, H, W maps with C in multiples of 8 up to 2048 and even sides, not ",
        shape_of(x));
    const ScalarType type = x.scalar_type();
    STD_TORCH_CHECK(type == ScalarType::BFloat16 || type == ScalarType::Half || type == ScalarType::Float,
                    "srgan_fast::max_pool takes CUDA maps of bfloat16, float16 or float32");
}

Tensor max_pool(const Tensor& x) {
    check_pool(x);
    const DeviceGuard guard(x.get_device_index());
    const Tensor map = aligned(nhwc(x));
    const Tensor y = new_map(x, x.size(0), x.size(1), x.size(2) / 2, x.size(3) / 2);
    cuda::PoolParams p = params_of(map);
    p.to = y.mutable_data_ptr();
    check_launch(cuda::launch_pool(type_of(x), p, current_stream(x)), "max_pool");
    return y;
}

Tensor max_pool_backward(const Tensor& g, const Tensor& x) {
    check_pool(x);
    STD_TORCH_CHECK(g.dim() == 4 && g.size(0) == x.size(0) && g.size(1) == x.size(1) && g.size(2) * 2 == x.size(2) &&
                        g.size(3) * 2 == x.size(3) && g.scalar_type() == x.scalar_type() && g.device() == x.device(),
                    "srgan_fast::max_pool_backward: a gradient ", shape_of(g), " of a map ", shape_of(x));
    const DeviceGuard guard(x.get_device_index());
    const Tensor map = aligned(nhwc(x)), gradient = aligned(nhwc(g));
    const Tensor result = new_map(x, x.size(0), x.size(1), x.size(2), x.size(3));
    cuda::PoolParams p = params_of(map);
    p.g = gradient.const_data_ptr(), p.to = result.mutable_data_ptr();
    check_launch(cuda::launch_pool_gradient(type_of(x), p, current_stream(x)), "max_pool_backward");
    return result;
}

}  // namespace
}  // namespace srgan_fast::torch_ops

STABLE_TORCH_LIBRARY_IMPL(srgan_fast, CUDA, m) {
    m.impl("max_pool", TORCH_BOX(&srgan_fast::torch_ops::max_pool));
    m.impl("max_pool_backward", TORCH_BOX(&srgan_fast::torch_ops::max_pool_backward));
}
