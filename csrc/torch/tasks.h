// Runs the CPU kernels' tasks on PyTorch's threads.
#pragma once

#include "kernels/cpu/conv.h"
#include "torch/problem.h"
#include "torch/workspace.h"

namespace srgan_fast::torch_ops {

inline thread_local Workspace scratch_memory;

inline const cpu::ConvTable<float>& table(float, bool bf16) {
    static const cpu::Isa isa = cpu::choose_isa();
    return bf16 ? cpu::conv_bf16(isa) : cpu::conv_float(isa);
}
inline const cpu::ConvTable<double>& table(double, bool) {
    static const cpu::Isa isa = cpu::choose_isa();
    return cpu::conv_double(isa);
}

inline int threads() { return static_cast<int>(torch::stable::get_num_threads()); }

template <typename A>
void run(const cpu::Kernel<A>& kernel, const A& arguments, std::int64_t tasks) {
    const std::int64_t bytes = kernel.scratch(arguments, tasks);
    torch::stable::parallel_for(0, tasks, 1, [&](std::int64_t begin, std::int64_t end) {
        void* const scratch = scratch_memory.need(bytes);
        for (std::int64_t task = begin; task < end; ++task) kernel.run(arguments, task, tasks, scratch);
    });
}

}  // namespace srgan_fast::torch_ops
