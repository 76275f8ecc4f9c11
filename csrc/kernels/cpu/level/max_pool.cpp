// Max pooling; see kernels/cpu/max_pool.h.
#include "kernels/cpu/max_pool.h"

#include "kernels/cpu/level/maps.h"
#include "kernels/cpu/level/table.h"

namespace srgan_fast::cpu::SRGAN_FAST_LEVEL {
namespace {

template <typename X>
struct Pool {
    using S = Scalar<X>;
    using V = Simd<S>;

    // Rows of results, plus one if x has an odd last row, whose gradient is zero.
    static std::int64_t rows(const MaxPool& a) { return a.g ? (a.height + 1) / 2 : a.height / 2; }
    static std::int64_t tasks(const MaxPool& a, int threads) {
        return smaller<std::int64_t>(a.batch * rows(a), std::int64_t{4} * threads);
    }
    static std::int64_t scratch(const MaxPool&, std::int64_t) { return 0; }

    // Vectors of channels of four pixels: at `x`, to its right, below it, and diagonally.
    template <bool kWhole>
    static SRGAN_FAST_INLINE void pool(const X* x, std::int64_t right, std::int64_t below, int count, X* to) {
        V largest = read<kWhole>(x, count);
        const auto meet = [&](const X* p) SRGAN_FAST_INLINE_LAMBDA {
            const V value = read<kWhole>(p, count);
            largest = ((value > largest) | (value != value)) ? value : largest;
        };
        meet(x + right), meet(x + below), meet(x + below + right);
        write<kWhole>(to, largest, count);
    }
    template <bool kWhole>
    static SRGAN_FAST_INLINE void pool_gradient(const X* x, std::int64_t right, std::int64_t below, int count,
                                                const X* g, X* to) {
        V largest = read<kWhole>(x, count);
        const V gradient = read<kWhole>(g, count), none{};
        const auto meets = [&](const X* p) SRGAN_FAST_INLINE_LAMBDA {
            const V value = read<kWhole>(p, count);
            const auto larger = (value > largest) | (value != value);
            largest = larger ? value : largest;
            return larger;
        };
        const auto second = meets(x + right), third = meets(x + below), fourth = meets(x + below + right);
        write<kWhole>(to, second | third | fourth ? none : gradient, count);
        write<kWhole>(to + right, second & ~(third | fourth) ? gradient : none, count);
        write<kWhole>(to + below, third & ~fourth ? gradient : none, count);
        write<kWhole>(to + below + right, fourth ? gradient : none, count);
    }

    static void zero(X* to, std::int64_t elements) {
        for (std::int64_t i = 0; i < elements; ++i) to[i] = X{};
    }

    // A row of results; `x` and `to` are its first pixels, g is the gradient of the result.
    static void run_row(const MaxPool& a, const X* x, const X* g, X* to) {
        const std::int64_t below = a.width * a.channels, across = a.width / 2;
        for (std::int64_t j = 0; j < across; ++j)
            for (std::int64_t c = 0; c < a.channels; c += kLanesOf<S>) {
                const int count = static_cast<int>(smaller<std::int64_t>(kLanesOf<S>, a.channels - c));
                const bool whole = count == kLanesOf<S>;
                const std::int64_t here = 2 * j * a.channels + c, result = j * a.channels + c;
                if (!g)
                    whole ? pool<true>(x + here, a.channels, below, count, to + result)
                          : pool<false>(x + here, a.channels, below, count, to + result);
                else
                    whole ? pool_gradient<true>(x + here, a.channels, below, count, g + result, to + here)
                          : pool_gradient<false>(x + here, a.channels, below, count, g + result, to + here);
            }
        if (g && a.width % 2) {
            const std::int64_t last = (a.width - 1) * a.channels;
            zero(to + last, a.channels), zero(to + below + last, a.channels);
        }
    }

    static void run(const MaxPool& a, std::int64_t task, std::int64_t tasks, void*) {
        const std::int64_t all = rows(a), begin = a.batch * all * task / tasks;
        const std::int64_t end = a.batch * all * (task + 1) / tasks, pixels = a.width * a.channels;
        for (std::int64_t row = begin; row < end; ++row) {
            const std::int64_t image = row / all, i = row % all;
            const std::int64_t here = (image * a.height + 2 * i) * pixels;
            const std::int64_t result = (image * (a.height / 2) + i) * (a.width / 2) * a.channels;
            if (i == a.height / 2)
                zero(static_cast<X*>(a.to) + here, pixels);
            else
                run_row(a, static_cast<const X*>(a.x) + here, a.g ? static_cast<const X*>(a.g) + result : nullptr,
                        static_cast<X*>(a.to) + (a.g ? here : result));
        }
    }
};

}  // namespace

Kernel<MaxPool> max_pool(float) { return {Pool<float>::tasks, Pool<float>::scratch, Pool<float>::run}; }
Kernel<MaxPool> max_pool(Bf16) { return {Pool<Bf16>::tasks, Pool<Bf16>::scratch, Pool<Bf16>::run}; }
Kernel<MaxPool> max_pool(double) { return {Pool<double>::tasks, Pool<double>::scratch, Pool<double>::run}; }

}  // namespace srgan_fast::cpu::SRGAN_FAST_LEVEL
