// Kernels of the level that is being compiled.
#pragma once

#include "kernels/cpu/conv.h"
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/level/vec.h"

namespace srgan_fast::cpu::SRGAN_FAST_LEVEL {

LayerKernel<Conv3x3> conv3x3();
LayerKernel<Conv3x3> conv3x3_bf16();
LayerKernel<Conv9x9Head> conv9x9_head();
LayerKernel<Conv9x9Tail> conv9x9_tail();

// For training, overloaded by map type.
Kernel<ConvForward<float>> conv_fwd(float);
Kernel<ConvForward<float>> conv_fwd(Bf16);
Kernel<ConvForward<double>> conv_fwd(double);
Kernel<ConvDgrad<float>> conv_dgrad(float);
Kernel<ConvDgrad<float>> conv_dgrad(Bf16);
Kernel<ConvDgrad<double>> conv_dgrad(double);
Kernel<ConvWgrad<float>> conv_wgrad(float);
Kernel<ConvWgrad<float>> conv_wgrad(Bf16);
Kernel<ConvWgrad<double>> conv_wgrad(double);
std::int64_t conv_wgrad_splits(const ConvWgrad<float>& a, int threads);
std::int64_t conv_wgrad_splits(const ConvWgrad<double>& a, int threads);
Kernel<ConvPack<float>> conv_pack(float);
Kernel<ConvPack<double>> conv_pack(double);
std::int64_t conv_packed_size(const ConvPack<float>& a);
std::int64_t conv_packed_size(const ConvPack<double>& a);
Kernel<MaxPool> max_pool(float);
Kernel<MaxPool> max_pool(Bf16);
Kernel<MaxPool> max_pool(double);

std::int64_t multiply_adds(std::int64_t repeats);

// Only call it if the level is supported: even this function is compiled for it.
KernelTable table();
ConvTable<float> conv_float();
ConvTable<float> conv_bf16();
ConvTable<double> conv_double();

}  // namespace srgan_fast::cpu::SRGAN_FAST_LEVEL
