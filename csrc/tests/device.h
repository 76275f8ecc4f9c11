// What tests of CUDA kernels on the host share: "device" memory between guards, launches, and comparison of results.
#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <type_traits>
#include <vector>

#include "kernels/cuda/intrinsics.cuh"
#include "kernels/cuda/plan.h"
#include "tests/check.h"

namespace srgan_fast::tests {

template <typename T>
inline constexpr double kRounding = std::is_same_v<T, cuda::Bf16> ? 0x1p-8
                                    : std::is_same_v<T, float>    ? 0x1p-22
                                                                  : 0x1p-11;

template <typename T>
inline constexpr const char* kTypeName = std::is_same_v<T, cuda::Bf16> ? "bfloat16"
                                         : std::is_same_v<T, float>    ? "float"
                                                                       : "half";

template <typename T>
Guarded<T> device_map(const std::vector<double>& values) {
    Guarded<T> memory(static_cast<std::int64_t>(values.size()));
    std::ranges::transform(values, memory.data(), [](double v) {
        if constexpr (std::is_same_v<T, float>)
            return static_cast<float>(v);
        else
            return cuda::narrow<T>(static_cast<float>(v));
    });
    return memory;
}

inline Guarded<float> device_vector(const std::vector<double>& values, double factor = 1.0) {
    Guarded<float> memory(static_cast<std::int64_t>(values.size()));
    std::ranges::transform(values, memory.data(), [=](double v) { return static_cast<float>(factor * v); });
    return memory;
}

template <typename T>
std::vector<double> values_of(const Guarded<T>& memory) {
    std::vector<double> values(memory.size());
    std::ranges::transform(memory.span(), values.begin(), [](T v) {
        if constexpr (std::is_same_v<T, float>)
            return static_cast<double>(v);
        else
            return static_cast<double>(cuda::widen(v));
    });
    return values;
}

inline void check_values(const std::vector<double>& got, const std::vector<double>& expected, double absolute,
                         double relative, const std::string& what) {
    if (!check(got.size() == expected.size(), what + ": size")) return;
    for (std::size_t i = 0; i < got.size(); ++i) {
        const double bound = absolute + relative * std::abs(expected[i]);
        if (!(std::abs(got[i] - expected[i]) <= bound)) {
            check(false, what + ": element " + std::to_string(i) + " of " + std::to_string(got.size()) + " is " +
                             tests::text(got[i]) + ", not " + tests::text(expected[i]));
            return;
        }
    }
    check(true, what);
}

inline cuda::simt::Options options(Random& random) { return {.seed = random(), .shared_limit = 227 * 1024}; }

template <typename Kernel, typename Params>
void launch(const cuda::Grid& grid, int threads, int shared, Kernel kernel, const Params& p, Random& random) {
    cuda::simt::launch({grid.x, grid.y, grid.z}, threads, static_cast<std::size_t>(shared), options(random),
                       [&] { kernel(p); });
}

inline constexpr int kLittleShared = 99 * 1024;  // of compute capability 8.6, the least
inline constexpr cuda::Device kDevice{1, 227 * 1024};

}  // namespace srgan_fast::tests
