// CPU operators srgan_fast::bn_scale, bn_scale_backward and bn_follow: BatchNorm's per-channel arithmetic, each a loop
// instead of a dozen of PyTorch's operators. See srgan_fast/ops/bn.py for what they compute.
#include "torch/bn.h"

#include <cmath>

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
        for (std::int64_t i = 0; i < var.size(0); ++i)
            write<T>(scale)[i] =
                (weight ? read<T>(*weight)[i] : T{1}) / std::sqrt(read<T>(var)[i] + static_cast<T>(eps));
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
        for (std::int64_t i = 0; i < var.size(0); ++i) {
            const T inverse = T{1} / std::sqrt(read<T>(var)[i] + static_cast<T>(eps)), g = read<T>(gradient)[i];
            write<T>(d_var)[i] = T(-0.5) * g * (weight ? read<T>(*weight)[i] : T{1}) * inverse * inverse * inverse;
            if (weight) write<T>(d_weight)[i] = g * inverse;
        }
    });
    return {d_var, d_weight};
}

void bn_follow(const Tensor& mean, const Tensor& var, const Tensor& running_mean, const Tensor& running_var,
               const Tensor& batches, std::optional<double> momentum, std::int64_t count) {
    check_follow({mean, var, running_mean, running_var, batches}, count);
    const std::int64_t seen = ++*write<std::int64_t>(batches);
    with_float_type(mean, "srgan_fast::bn_follow", [&](auto zero) {
        using T = decltype(zero);
        const T share = static_cast<T>(momentum.value_or(1.0 / static_cast<double>(seen)));
        const T unbias = static_cast<T>(static_cast<double>(count) / static_cast<double>(count - 1));
        T* const means = write<T>(running_mean);
        T* const variances = write<T>(running_var);
        for (std::int64_t i = 0; i < mean.size(0); ++i) {
            means[i] += share * (read<T>(mean)[i] - means[i]);
            variances[i] += share * (read<T>(var)[i] * unbias - variances[i]);
        }
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
