// Arguments that several operators share, in groups. Each group is written once for C++: its values in the operators'
// schemas, and how they are read from PyTorch's stack. In Python they are tuples of the same order
// (srgan_fast/ops/prologue.py, srgan_fast/ops/conv.py).
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

namespace srgan_fast::torch_ops {

using torch::stable::Tensor;
using Maybe = std::optional<Tensor>;

// The arguments of a call, read one after the other.
class Stack {
  public:
    explicit Stack(const StableIValue* first) : next_(first) {}
    template <typename T>
    T next() {
        return torch::stable::detail::to<T>(*next_++);
    }

  private:
    const StableIValue* next_;
};

// The input of a convolution: a raw map and its prologue. If `var` is there, `scale` is gamma / sqrt(var + eps), and
// its gradient is computed for those two.
struct SourceArguments {
    static constexpr const char* kSchema =
        "Tensor x, Tensor? center, Tensor? scale, Tensor? shift, Tensor? slope, Tensor? residual, bool shuffle, "
        "Tensor? var, Tensor? gamma, float eps";
    static constexpr std::uint64_t kCount = 10;
    Tensor x;
    Maybe center, scale, shift, slope, residual;
    bool shuffle;
    Maybe var, gamma;
    double eps;

    // An initialiser list is evaluated in order.
    static SourceArguments read(Stack& s) {
        return {s.next<Tensor>(), s.next<Maybe>(), s.next<Maybe>(), s.next<Maybe>(), s.next<Maybe>(),
                s.next<Maybe>(),  s.next<bool>(),  s.next<Maybe>(), s.next<Maybe>(), s.next<double>()};
    }
};

// The weights of a convolution: O, I, k, k; on CPUs `packed` has them in the layout of the kernel that is called, on
// CUDA in the maps' dtype.
struct WeightArguments {
    static constexpr const char* kSchema = "Tensor weight, int stride, Tensor? packed";
    static constexpr std::uint64_t kCount = 3;
    Tensor weight;
    std::int64_t stride;
    Maybe packed;

    static WeightArguments read(Stack& s) { return {s.next<Tensor>(), s.next<std::int64_t>(), s.next<Maybe>()}; }
};

// The gradient of a convolution's result y, before its epilogue's part: with moments, those of mean and variance are
// added; with an activation, it is applied.
struct ResultArguments {
    static constexpr const char* kSchema =
        "Tensor g, Tensor? y, Tensor? mean, Tensor? mean_gradient, Tensor? var_gradient, float? activation";
    static constexpr std::uint64_t kCount = 6;
    Tensor g;
    Maybe y, mean, mean_gradient, var_gradient;
    std::optional<double> activation;

    static ResultArguments read(Stack& s) {
        return {s.next<Tensor>(), s.next<Maybe>(), s.next<Maybe>(),
                s.next<Maybe>(),  s.next<Maybe>(), s.next<std::optional<double>>()};
    }
};

// The BatchNorm after a convolution: its factors, and the running statistics that the call updates, if there are any.
struct NormArguments {
    static constexpr const char* kSchema =
        "Tensor? bn_weight, float bn_eps, Tensor(a!)? running_mean, Tensor(b!)? running_var, Tensor(c!)? batches, "
        "float momentum";
    static constexpr std::uint64_t kCount = 6;
    Maybe weight;
    double eps;
    Maybe running_mean, running_var, batches;
    double momentum;

    static NormArguments read(Stack& s) {
        return {s.next<Maybe>(), s.next<double>(), s.next<Maybe>(), s.next<Maybe>(), s.next<Maybe>(), s.next<double>()};
    }
};

// Schema of an operator with these arguments, for example "name(Tensor x, bool y) -> Tensor".
inline std::string schema(const char* name, std::initializer_list<const char*> arguments, const char* results) {
    std::string text = std::string(name) + "(";
    const char* separator = "";
    for (const char* const group : arguments) text += separator + std::string(group), separator = ", ";
    return text + ") -> " + results;
}

template <typename T, typename = void>
inline constexpr bool kIsGroup = false;
template <typename T>
inline constexpr bool kIsGroup<T, std::void_t<decltype(T::kCount)>> = true;

// Number of an operator's arguments that a parameter is.
template <typename T>
constexpr std::uint64_t count_of() {
    if constexpr (kIsGroup<T>)
        return T::kCount;
    else
        return 1;
}

template <typename T>
T read_argument(Stack& stack) {
    if constexpr (kIsGroup<T>)
        return T::read(stack);
    else
        return stack.next<T>();
}

// How PyTorch calls a function whose parameters are groups or single values, and that returns a tuple; as TORCH_BOX.
template <auto kFunction>
struct Boxed;
template <typename... Results, typename... Parameters, std::tuple<Results...> (*kFunction)(Parameters...)>
struct Boxed<kFunction> {
    static void call(StableIValue* stack, std::uint64_t arguments, std::uint64_t results) {
        constexpr std::uint64_t kCount = (count_of<std::decay_t<Parameters>>() + ...);
        STD_TORCH_CHECK(arguments == kCount && results == sizeof...(Results), "srgan_fast: an operator of ", kCount,
                        " arguments and ", sizeof...(Results), " results is declared with ", arguments, " and ",
                        results);
        Stack given(stack);
        const std::tuple<std::decay_t<Parameters>...> in_order{read_argument<std::decay_t<Parameters>>(given)...};
        write(stack, std::apply(kFunction, in_order), std::index_sequence_for<Results...>());
    }

    template <std::size_t... kIndices>
    static void write(StableIValue* stack, const std::tuple<Results...>& results, std::index_sequence<kIndices...>) {
        ((stack[kIndices] = torch::stable::detail::from<Results>(std::get<kIndices>(results))), ...);
    }
};

}  // namespace srgan_fast::torch_ops
