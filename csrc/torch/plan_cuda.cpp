// The operator srgan_fast::kernel_plan: which kernel a convolution selects on a GPU with given properties, which need
// not be present. See plan_names.h.
#include <limits>

#include "kernels/cuda/plan_names.h"
#include "torch/cuda.h"

namespace srgan_fast::torch_ops {
namespace {

std::string kernel_plan(std::string kernel, const std::vector<std::int64_t>& sizes, std::int64_t bytes, bool own,
                        std::int64_t multiprocessors, std::int64_t shared_bytes) {
    STD_TORCH_CHECK((bytes == 2 || bytes == 4) && multiprocessors > 0 && shared_bytes > 0,
                    "srgan_fast::kernel_plan: elements of 2 or 4 bytes, and a GPU that is one");
    for (const std::int64_t size : sizes)
        STD_TORCH_CHECK(size >= 0 && size <= std::numeric_limits<int>::max(), "srgan_fast::kernel_plan: a size of ",
                        size);
    return cuda::plan_name(kernel, sizes, static_cast<int>(bytes), own ? cuda::Products::kOwn : cuda::Products::kFaster,
                           {static_cast<int>(multiprocessors), static_cast<int>(shared_bytes)});
}

}  // namespace
}  // namespace srgan_fast::torch_ops

STABLE_TORCH_LIBRARY_FRAGMENT(srgan_fast, m) {
    m.def("kernel_plan(str kernel, int[] sizes, int bytes, bool own, int multiprocessors, int shared_bytes) -> str");
}

STABLE_TORCH_LIBRARY_IMPL(srgan_fast, CompositeExplicitAutograd, m) {
    m.impl("kernel_plan", TORCH_BOX(&srgan_fast::torch_ops::kernel_plan));
}
