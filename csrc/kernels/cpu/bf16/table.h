// Kernels that multiply bfloat16. The AMX level has all of them, and takes what it does in float and double from the
// level below; that one has those of training, too, and its tables say for which convolutions it takes them.
#pragma once

#include "kernels/cpu/conv.h"
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/level/geometry.h"

namespace srgan_fast::cpu::SRGAN_FAST_LEVEL {

// Maps of bfloat16.
LayerKernel<Conv3x3> conv3x3();
LayerKernel<Conv9x9Head> conv9x9_head();
LayerKernel<Conv9x9Tail> conv9x9_tail();

// Of training.
Kernel<ConvForward<float>> conv_fwd();
Kernel<ConvDgrad<float>> conv_dgrad();
Kernel<ConvWgrad<float>> conv_wgrad();
std::int64_t conv_wgrad_splits(const ConvWgrad<float>& a, int threads);
Kernel<ConvPack<float>> conv_pack();
std::int64_t conv_packed_size(const ConvPack<float>& a);

// To be called only where the level can run: even this is compiled for it.
KernelTable table();
ConvTable<float> conv_float();
ConvTable<float> conv_bf16();
ConvTable<double> conv_double();

// The kernel of whatever geometry the arguments have.
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
