// bfloat16 kernels. The AMX level has all of them, and takes float and double kernels from the level below; that level
// has those of training, too, and its table decides for which convolutions they are used.
#pragma once

#include "kernels/cpu/conv.h"
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/level/geometry.h"

namespace srgan_fast::cpu::SRGAN_FAST_LEVEL {

// For bfloat16 maps.
LayerKernel<Conv3x3> conv3x3();
LayerKernel<Conv9x9Head> conv9x9_head();
LayerKernel<Conv9x9Tail> conv9x9_tail();

// For training.
Kernel<ConvForward<float>> conv_fwd();
Kernel<ConvDgrad<float>> conv_dgrad();
Kernel<ConvWgrad<float>> conv_wgrad();
std::int64_t conv_wgrad_splits(const ConvWgrad<float>& a, int threads);
Kernel<ConvPack<float>> conv_pack();
std::int64_t conv_packed_size(const ConvPack<float>& a);

// Only call it if the level is supported: even this function is compiled for it.
KernelTable table();
ConvTable<float> conv_float();
ConvTable<float> conv_bf16();
ConvTable<double> conv_double();

// Selects the kernel of the arguments' geometry.
template <template <Geometry> typename Of, typename A>
Kernel<A> kernel_of() {
    return {[](const A& a, int threads) {
                return with_geometry(a.geometry, [&](auto g) { return Of<g.value>::tasks(a, threads); });
            },
            [](const A& a, std::int64_t tasks) {
                return with_geometry(a.geometry, [&](auto g) { return Of<g.value>::scratch(a, tasks); });
            },
            [](const A& a, std::int64_t task, std::int64_t tasks, void* scratch) {
                with_geometry(a.geometry, [&](auto g) { Of<g.value>::run(a, task, tasks, scratch); });
            }};
}

}  // namespace srgan_fast::cpu::SRGAN_FAST_LEVEL
