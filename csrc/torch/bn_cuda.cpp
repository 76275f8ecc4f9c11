// CUDA versions of the BatchNorm operators, one kernel each. Schemas are in bn.cpp.
#include "torch/bn.h"
#include "torch/cuda.h"

namespace srgan_fast::torch_ops {
namespace {

void check_float(const Tensor& values, const char* op) {
    check_first(values, op);
    STD_TORCH_CHECK(values.scalar_type() == ScalarType::Float, op, " takes float32 on CUDA");
}

const float* read(const Tensor& t) { return static_cast<const float*>(t.const_data_ptr()); }

Tensor bn_scale(const Tensor& var, const Maybe& weight, double eps) {
    constexpr const char* kName = "srgan_fast::bn_scale";
    check_float(var, kName);
    if (weight) check_channels(*weight, var, kName, "weight");
    const DeviceGuard guard(var.get_device_index());
    const Tensor scale = new_vector(var, var.size(0));
    check_launch(cuda::launch_bn_scale({read(var), weight ? read(*weight) : nullptr, static_cast<float>(eps),
                                        static_cast<int>(var.size(0)), floats(scale)},
                                       current_stream(var)),
                 "bn_scale");
    return scale;
}

std::tuple<Tensor, Tensor> bn_scale_backward(const Tensor& gradient, const Tensor& var, const Maybe& weight,
                                             double eps) {
    constexpr const char* kName = "srgan_fast::bn_scale_backward";
    check_float(var, kName);
    check_channels(gradient, var, kName, "gradient");
    if (weight) check_channels(*weight, var, kName, "weight");
    const DeviceGuard guard(var.get_device_index());
    const Tensor d_var = new_vector(var, var.size(0)), d_weight = new_vector(var, weight ? var.size(0) : 0);
    check_launch(cuda::launch_bn_scale_backward({read(gradient),
                                                 static_cast<int>(var.size(0)),
                                                 {read(var), weight ? read(*weight) : nullptr, static_cast<float>(eps),
                                                  floats(d_var), weight ? floats(d_weight) : nullptr}},
                                                current_stream(var)),
                 "bn_scale_backward");
    return {d_var, d_weight};
}

void bn_follow(const Tensor& mean, const Tensor& var, const Tensor& running_mean, const Tensor& running_var,
               const Tensor& batches, std::optional<double> momentum, std::int64_t count) {
    check_float(mean, "srgan_fast::bn_follow");
    check_follow({mean, var, running_mean, running_var, batches}, count);
    const DeviceGuard guard(mean.get_device_index());
    const double unbias = static_cast<double>(count) / static_cast<double>(count - 1);
    check_launch(cuda::launch_bn_follow({read(mean), read(var), floats(running_mean), floats(running_var),
                                         static_cast<std::int64_t*>(batches.mutable_data_ptr()),
                                         static_cast<float>(momentum.value_or(-1.0)), static_cast<float>(unbias),
                                         static_cast<int>(mean.size(0))},
                                        current_stream(mean)),
                 "bn_follow");
}

}  // namespace
}  // namespace srgan_fast::torch_ops

STABLE_TORCH_LIBRARY_IMPL(srgan_fast, CUDA, m) {
    m.impl("bn_scale", TORCH_BOX(&srgan_fast::torch_ops::bn_scale));
    m.impl("bn_scale_backward", TORCH_BOX(&srgan_fast::torch_ops::bn_scale_backward));
    m.impl("bn_follow", TORCH_BOX(&srgan_fast::torch_ops::bn_follow));
}
