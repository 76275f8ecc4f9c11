// CPU operators srgan_fast::bn_scale, bn_scale_backward and bn_follow: BatchNorm's per-channel arithmetic, each a loop
// instead of a dozen of PyTorch's operators. See srgan_fast/ops/bn.py for what they compute.
#include "torch/bn.h"

namespace srgan_fast::torch_ops {
namespace {

// visit(float{}) or visit(double{}).
template <typename Visit>
void with_float_type(const Tensor& values, const char* op, const Visit& visit) {
    const ScalarType type = values.scalar_type();
    STD_TORCH_CHECK(type == ScalarType::Float || type == ScalarType::Double, op, " takes float32 or float64");
    if (type == ScalarType::Float)
        visit(float{});
    else
        visit(double{});
}

template <typename T>
const T* read(const Tensor& t) {
    return static_cast<const T*>(t.const_data_ptr());
}
template <typename T>
T* write(const Tensor& t) {
    return static_cast<T*>(t.mutable_data_ptr());
}

Tensor bn_scale(const Tensor& var, const Maybe& weight, double eps) {
    constexpr const char* kName = "srgan_fast::bn_scale";
    check_first(var, kName);
    if (weight) check_channels(*weight, var, kName, "weight");
    const Tensor scale = new_vector(var, var.size(0));
    with_float_type(var, kName, [&](auto zero) {
        using T = decltype(zero);
        norm_scale(read<T>(var), weight ? read<T>(*weight) : nullptr, eps, var.size(0), write<T>(scale));
    });
    return scale;
}

std::tuple<Tensor, Tensor> bn_scale_backward(const Tensor& gradient, const Tensor& var, const Maybe& weight,
                                             double eps) {
    constexpr const char* kName = "srgan_fast::bn_scale_backward";
    check_first(var, kName);
    check_channels(gradient, var, kName, "gradient");
    if (weight) check_channels(*weight, var, kName, "weight");
    const Tensor d_var = new_vector(var, var.size(0)), d_weight = new_vector(var, weight ? var.size(0) : 0);
    with_float_type(var, kName, [&](auto zero) {
        using T = decltype(zero);
        norm_scale_gradient(read<T>(gradient), read<T>(var), weight ? read<T>(*weight) : nullptr, eps, var.size(0),
                            write<T>(d_var), weight ? write<T>(d_weight) : nullptr);
    });
    return {d_var, d_weight};
}

void bn_follow(const Tensor& mean, const Tensor& var, const Tensor& running_mean, const Tensor& running_var,
               const Tensor& batches, std::optional<double> momentum, std::int64_t count) {
    check_follow({mean, var, running_mean, running_var, batches}, count);
    with_float_type(mean, "srgan_fast::bn_follow", [&](auto zero) {
        using T = decltype(zero);
        norm_follow(read<T>(mean), read<T>(var), count, momentum, mean.size(0), write<T>(running_mean),
                    write<T>(running_var), write<std::int64_t>(batches));
    });
}

}  // namespace
}  // namespace srgan_fast::torch_ops

STABLE_TORCH_LIBRARY_FRAGMENT(srgan_fast, m) {
    m.def("bn_scale(Tensor var, Tensor? weight, float eps) -> Tensor");
    m.def("bn_scale_backward(Tensor gradient, Tensor var, Tensor? weight, float eps) -> (Tensor, Tensor)");
    m.def(
        "bn_follow(Tensor mean, Tensor var, Tensor(a!) running_mean, Tensor(b!) running_var, Tensor(c!) batches, "
        "float? momentum, int count) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(srgan_fast, CPU, m) {
    m.impl("bn_scale", TORCH_BOX(&srgan_fast::torch_ops::bn_scale));
    m.impl("bn_scale_backward", TORCH_BOX(&srgan_fast::torch_ops::bn_scale_backward));
    m.impl("bn_follow", TORCH_BOX(&srgan_fast::torch_ops::bn_follow));
}
