// CPU operators srgan_fast::max_pool and max_pool_backward: 2x2 pixels to one. See srgan_fast/ops/pool.py for what they
// compute.
#include "torch/tasks.h"

namespace srgan_fast::torch_ops {
namespace {

const cpu::Kernel<cpu::MaxPool>& kernel_for(const Tensor& x) {
    return x.scalar_type() == ScalarType::Double ? table(double{}, false).max_pool
                                                 : table(float{}, x.scalar_type() == ScalarType::BFloat16).max_pool;
}

void check_pool(const Tensor& x) {
    STD_TORCH_CHECK(x.dim() == 4 && x.numel() > 0 && x.size(2) > 1 && x.size(3) > 1,
                    "srgan_fast::max_pool takes N, C, H, W maps of two rows and columns at least, not ", shape_of(x));
    const ScalarType type = x.scalar_type();
    STD_TORCH_CHECK(type == ScalarType::BFloat16 || type == ScalarType::Float || type == ScalarType::Double,
                    "srgan_fast::max_pool takes maps of bfloat16, float32 or float64 on a CPU");
}

void pool(const Tensor& map, const void* g, void* to) {
    const cpu::MaxPool a{map.const_data_ptr(), map.size(0), map.size(2), map.size(3), map.size(1), g, to};
    const cpu::Kernel<cpu::MaxPool>& kernel = kernel_for(map);
    run(kernel, a, kernel.tasks(a, threads()));
}

Tensor max_pool(const Tensor& x) {
    check_pool(x);
    const Tensor map = nhwc(x), y = new_map(x, x.size(0), x.size(1), x.size(2) / 2, x.size(3) / 2);
    pool(map, nullptr, y.mutable_data_ptr());
    return y;
}

Tensor max_pool_backward(const Tensor& g, const Tensor& x) {
    check_pool(x);
    STD_TORCH_CHECK(g.dim() == 4 && g.size(0) == x.size(0) && g.size(1) == x.size(1) && g.size(2) == x.size(2) / 2 &&
                        g.size(3) == x.size(3) / 2 && g.scalar_type() == x.scalar_type() && g.is_cpu(),
                    "srgan_fast::max_pool_backward: a gradient ", shape_of(g), " of a map ", shape_of(x));
    const Tensor map = nhwc(x), gradient = nhwc(g);
    const Tensor result = new_map(x, x.size(0), x.size(1), x.size(2), x.size(3));
    pool(map, gradient.const_data_ptr(), result.mutable_data_ptr());
    return result;
}

}  // namespace
}  // namespace srgan_fast::torch_ops

STABLE_TORCH_LIBRARY_FRAGMENT(srgan_fast, m) {
    m.def("max_pool(Tensor x) -> Tensor");
    m.def("max_pool_backward(Tensor g, Tensor x) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(srgan_fast, CPU, m) {
    m.impl("max_pool", TORCH_BOX(&srgan_fast::torch_ops::max_pool));
    m.impl("max_pool_backward", TORCH_BOX(&srgan_fast::torch_ops::max_pool_backward));
}
