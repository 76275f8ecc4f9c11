// Training's kernels of every usable instruction set and type of map against the reference.
//
// All data are multiples of 1/8 of a few bits, so that prologues and gradients are exact in every type and the sign
// that an activation looks at is the same everywhere; what is left are the errors of the convolutions. Maps lie between
// guards, every other one off alignment; outputs and scratch memories hold NaN before; inputs must stay as
// they are. Each call is cut into tasks in several ways: maps must agree to the last bit whatever the cut, and
// everything whatever the order and the threads that tasks run on.
//
// Tolerances are root mean squares in units of rounding u of the type that is computed in (2^-24, 2^-53), on the scale
// of a sum: root mean squares of its two factors times the square root of its number of terms. What rounding a result
// to the map's type allows comes on top, value by value.
#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstring>
#include <numeric>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

#include "kernels/cpu/conv.h"
#include "kernels/reference/conv_training.h"
#include "tests/check.h"
#include "tests/training_case.h"

namespace {

using namespace srgan_fast;
using namespace srgan_fast::tests;
using cpu::Isa;
using cpu::padded;

// F(6x6, 3x3) and F(4x4, 5x5), which have their points in common, lose what kernel_case.h says of the second; most in a
// tile's corner, and there are results that are no more than one corner: at worst 99 and 154 units were measured. The
// pixels of a tile have errors in common, so those of sums over pixels do not fall by the square root of their number:
// 183 and 270. Sums over tiles are more even: 40 and 53. The coefficients of F(3x3, 2x2) are 1 and 1/2: it computes
// these data exactly until sums outgrow the 24 bits of a float: 0, 4 and 7. Bounds are two to three times as much.
struct Tolerance {
    double map, sums, weight;
};
Tolerance tolerance_of(Geometry geometry) {
    switch (geometry) {
        case Geometry::k3x3Stride2: return {2.0, 8.0, 16.0};
        case Geometry::k5x5: return {300.0, 550.0, 160.0};
        default: return {250.0, 450.0, 100.0};
    }
}
constexpr double kSum = 4.0;  // of the bias's gradient, one number after the other; exact but for very large maps
// How far the largest error may exceed the bound of the root mean square, as in kernel_case.h.
constexpr double kLargest = 12.0;

// One of so many cases is run; coprime to the numbers of sizes and channels, so all of these still have their turn.
#if defined(__SANITIZE_ADDRESS__)
constexpr int kEvery = 5;
#else
constexpr int kEvery = kSlow ? 53 : 1;
#endif

// What kernels of a type of map need.
template <typename E>
struct Element;
template <>
struct Element<float> {
    using Scalar = float;
    static constexpr double kRounding = 0x1p-24;
    static constexpr const char* kName = "float";
    static const cpu::ConvTable<float>& table(Isa isa) { return cpu::conv_float(isa); }
    static float from(double v) { return static_cast<float>(v); }
    static double to(float v) { return v; }
};
template <>
struct Element<double> {
    using Scalar = double;
    static constexpr double kRounding = 0x1p-53;
    static constexpr const char* kName = "double";
    static const cpu::ConvTable<double>& table(Isa isa) { return cpu::conv_double(isa); }
    static double from(double v) { return v; }
    static double to(double v) { return v; }
};
template <>
struct Element<std::uint16_t> {
    using Scalar = float;
    static constexpr double kRounding = 0x1p-8;
    static constexpr const char* kName = "bfloat16";
    static const cpu::ConvTable<float>& table(Isa isa) { return cpu::conv_bf16(isa); }
    // Rounds to nearest even.
    static std::uint16_t from(double v) {
        const auto bits = std::bit_cast<std::uint32_t>(static_cast<float>(v));
        return static_cast<std::uint16_t>((std::isnan(v) ? bits : bits + 0x7fff + (bits >> 16 & 1)) >> 16);
    }
    static double to(std::uint16_t v) { return std::bit_cast<float>(std::uint32_t{v} << 16); }
};
template <typename E>
using Scalar = typename Element<E>::Scalar;

template <typename T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
    return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

// `lead` elements that belong to nobody, and values after them.
template <typename T>
class Input {
  public:
    Input(const std::vector<double>& values, std::int64_t padding, std::int64_t lead)
        : lead_(lead), memory_(lead + static_cast<std::int64_t>(values.size()) + padding) {
        std::ranges::transform(values, memory_.data() + lead, Element<T>::from);
        std::fill_n(memory_.data() + lead + values.size(), padding, T(0));
        before_.assign(memory_.data(), memory_.data() + memory_.size());
    }
    const T* data() const { return memory_.data() + lead_; }
    void set(std::int64_t i, double value) { before_[lead_ + i] = memory_.data()[lead_ + i] = Element<T>::from(value); }
    bool unchanged() const {
        return memory_.intact() && same_bits({memory_.data(), memory_.data() + memory_.size()}, before_);
    }

  private:
    std::int64_t lead_;
    Guarded<T> memory_;
    std::vector<T> before_;
};

template <typename T>
class Output {
  public:
    explicit Output(std::int64_t size, std::int64_t lead = 0) : lead_(lead), memory_(lead + size) {}
    T* data() const { return size() ? memory_.data() + lead_ : nullptr; }
    std::int64_t size() const { return memory_.size() - lead_; }
    std::vector<T> values() const { return {memory_.data() + lead_, memory_.data() + memory_.size()}; }
    bool intact() const {
        const auto* const bytes = reinterpret_cast<const unsigned char*>(memory_.data());
        return memory_.intact() &&
               std::all_of(bytes, bytes + lead_ * sizeof(T), [](unsigned char c) { return c == 0xff; });
    }

  private:
    std::int64_t lead_;
    Guarded<T> memory_;
};

// A case's data as kernels take them.
template <typename E>
struct Memory {
    using S = Scalar<E>;
    const Case& c;
    Input<E> x, residual, g, y, sum_gradient;
    Input<S> center, scale, shift, slope, mean, offset, factor, bias, weight;
    S slope_behind;
    cpu::WeightStrides strides;

    explicit Memory(const Problem& p)
        : c(p.c),
          x(p.x.values, 0, c.lead),
          residual(p.residual.values, 0, c.lead),
          g(p.g.values, 0, c.lead),
          y(p.y_before.values, 0, c.lead),
          sum_gradient(p.sum_gradient.values, 0, c.lead),
          center(p.prologue.center, cpu::kChannelBlock, 0),
          scale(p.prologue.scale, cpu::kChannelBlock, 0),
          shift(p.prologue.shift, cpu::kChannelBlock, 0),
          slope(p.prologue.slope, cpu::kChannelBlock, 0),
          mean(p.mean, cpu::kChannelBlock, 0),
          offset(p.offset, cpu::kChannelBlock, 0),
          factor(p.factor, cpu::kChannelBlock, 0),
          bias(p.bias, padded(c.out) - c.out, 0),
          weight(std::vector<double>(p.filters.values.size()), 0, 0),
          slope_behind(static_cast<S>(p.slope)),
          strides(weight_strides(c)) {
        each_weight(c, [&](std::int64_t place, std::int64_t o, std::int64_t i, std::int64_t row, std::int64_t column) {
            weight.set(place, p.filters.at(o, i, row, column));
        });
    }

    static cpu::WeightStrides weight_strides(const Case& c) {
        const std::int64_t n = c.size();
        if (c.channels_last) return {n * n * c.in, 1, n * c.in, c.in};
        return {c.in * n * n, n * n, n, 1};
    }
    template <typename Visit>
    static void each_weight(const Case& c, const Visit& visit) {
        const cpu::WeightStrides s = weight_strides(c);
        for (std::int64_t o = 0; o < c.out; ++o)
            for (std::int64_t i = 0; i < c.in; ++i)
                for (std::int64_t row = 0; row < c.size(); ++row)
                    for (std::int64_t column = 0; column < c.size(); ++column)
                        visit(o * s.out + i * s.in + row * s.row + column * s.column, o, i, row, column);
    }

    cpu::Source<S> source() const {
        cpu::Source<S> s{};
        s.x = x.data();
        s.height = c.height, s.width = c.width, s.channels = c.in;
        s.shuffle = c.shuffle(), s.affine = c.affine();
        if (c.affine())
            s.center = center.data(), s.scale = scale.data(), s.shift = shift.data(), s.slope = slope.data();
        if (c.residual()) s.residual = residual.data();
        return s;
    }
    cpu::Gradient<S> gradient() const {
        cpu::Gradient<S> s{};
        s.g = g.data();
        s.height = c.out_height(), s.width = c.out_width(), s.channels = c.out;
        if (c.behind != Behind::kNothing) s.y = y.data();
        if (c.behind == Behind::kActivation) s.slope = slope_behind;
        if (c.behind == Behind::kMoments) s.mean = mean.data(), s.offset = offset.data(), s.factor = factor.data();
        return s;
    }
    bool unchanged() const {
        return x.unchanged() && residual.unchanged() && g.unchanged() && y.unchanged() && sum_gradient.unchanged() &&
               center.unchanged() && scale.unchanged() && shift.unchanged() && slope.unchanged() && mean.unchanged() &&
               offset.unchanged() && factor.unchanged() && bias.unchanged() && weight.unchanged();
    }
};

enum class Order { kInOrder, kShuffled, kThreads };

// Runs all tasks, each with a scratch memory full of NaN; whether that was of a good size and enough.
template <typename A>
bool run_tasks(const cpu::Kernel<A>& kernel, const A& arguments, std::int64_t tasks, Order order, Random& random) {
    const std::int64_t bytes = kernel.scratch(arguments, tasks);
    std::vector<std::int64_t> list(tasks);
    std::iota(list.begin(), list.end(), 0);
    if (order != Order::kInOrder) std::shuffle(list.begin(), list.end(), random);
    std::atomic<std::int64_t> next = 0;
    std::atomic<bool> good = bytes % cpu::kAlignment == 0;
    const auto work = [&] {
        const Guarded<std::byte> scratch(bytes);
        for (std::int64_t i; (i = next++) < tasks;) {
            std::memset(scratch.data(), 0xff, bytes);
            kernel.run(arguments, list[i], tasks, scratch.data());
        }
        if (!scratch.intact()) good = false;
    };
    if (order == Order::kThreads) {
        std::vector<std::thread> threads;
        for (int i = 0; i < 3; ++i) threads.emplace_back(work);
        for (std::thread& thread : threads) thread.join();
    } else {
        work();
    }
    return good;
}

// More threads than anything has tiles or channels.
constexpr int kMostThreads = 1 << 20;

// Numbers of tasks, the last of them the largest.
template <typename A>
std::set<std::int64_t> cuts(const cpu::Kernel<A>& kernel, const A& arguments) {
    std::set<std::int64_t> counts;
    for (const int threads : {1, 2, 5, kMostThreads}) counts.insert(kernel.tasks(arguments, threads));
    return counts;
}

// Weights as products read them.
template <typename E>
Output<Scalar<E>> pack(const Memory<E>& m, Isa isa, bool backward, const std::string& name, Random& random) {
    const auto& table = Element<E>::table(isa);
    const auto& kernel = table.pack;
    cpu::ConvPack<Scalar<E>> a{m.c.geometry, backward, m.weight.data(), m.strides, m.c.in, m.c.out, nullptr};
    Output<Scalar<E>> packed(table.packed_size(a));
    a.packed = packed.data();
    for (const int threads : {1, 5})
        check(run_tasks(kernel, a, kernel.tasks(a, threads), threads == 1 ? Order::kShuffled : Order::kThreads, random),
              name + ", pack: scratch memory");
    check(packed.intact() && m.weight.unchanged(), name + ", pack: wrote beside the result");
    check(std::ranges::none_of(packed.values(), [](Scalar<E> v) { return std::isnan(v); }),
          name + ", pack: left something out");
    return packed;
}

// Whether values are right, to `tolerance` (absolute) beyond what rounding them by `rounding` allows.
template <typename T>
void check_values(const std::vector<T>& got, const std::vector<double>& expected, double tolerance, double rounding,
                  const std::string& what) {
    if (!check(got.size() == expected.size(), what + ": size")) return;
    Error error;
    for (std::size_t i = 0; i < got.size(); ++i) {
        const double value = Element<T>::to(got[i]), right = expected[i];
        const double beyond = std::abs(value - right) - rounding * std::abs(right);
        error.add(std::isnan(value) ? value : right + std::max(beyond, 0.0), right);
    }
    check(error.rms() <= tolerance && error.largest() <= kLargest * tolerance,
          what + ": rms error " + tests::text(error.rms()) + ", largest " + tests::text(error.largest()) +
              ", tolerance " + tests::text(tolerance));
}

template <typename E>
constexpr double unit() {
    return Element<Scalar<E>>::kRounding;
}

// What rounding the factors of products adds to a tolerance, on the same scale: z and dy to bfloat16 where it is
// multiplied, if they are computed and need more than its 8 bits. Weights are of fewer.
template <typename E>
double factor_rounding(Isa isa, Geometry geometry, bool computed) {
    const bool rounds = isa == Isa::kAmx || (isa == Isa::kAvx512Bf16 && geometry == Geometry::k3x3Stride2);
    return computed && rounds && std::is_same_v<E, std::uint16_t> ? Element<E>::kRounding : 0.0;
}

// What a forward call writes.
template <typename E>
struct Forward {
    std::vector<E> y, sum;
    std::vector<Scalar<E>> moments;

    bool operator==(const Forward& o) const {
        return same_bits(y, o.y) && same_bits(sum, o.sum) && same_bits(moments, o.moments);
    }
};

template <typename E>
class ForwardCall {
  public:
    using S = Scalar<E>;

    ForwardCall(const Memory<E>& m, Isa isa, const std::string& name, Random& random)
        : m_(m),
          kernel_(Element<E>::table(isa).forward),
          name_(name + ", forward"),
          random_(random),
          weights_(pack(m, isa, false, name, random)),
          before_(weights_.values()) {
        const Case& c = m.c;
        a_.geometry = c.geometry, a_.batch = c.batch;
        a_.source = m.source();
        a_.height = c.out_height(), a_.width = c.out_width(), a_.channels = c.out;
        a_.weights = weights_.data(), a_.bias = m.bias.data();
        a_.activate = c.behind == Behind::kActivation;
        a_.slope = a_.activate ? m.slope_behind : std::numeric_limits<S>::quiet_NaN();
    }

    std::set<std::int64_t> counts() const {
        std::set<std::int64_t> counts = cuts(kernel_, a_);
        // Tasks without a tile have no moments to give.
        if (m_.c.behind != Behind::kMoments) counts.insert(*counts.rbegin() + 3);
        return counts;
    }

    Forward<E> run(std::int64_t tasks, Order order) {
        const Case& c = m_.c;
        const Output<E> y(c.batch * a_.height * a_.width * c.out, c.lead);
        const Output<E> sum(c.residual() && c.side ? c.batch * c.height * c.width * c.in : 0, c.lead);
        const Output<S> moments(c.behind == Behind::kMoments ? tasks * cpu::moments_size(c.out) : 0);
        a_.y = y.data(), a_.source.sum = sum.data(), a_.moments = moments.data();
        const std::string what = name_ + ", " + std::to_string(tasks) + " tasks";
        check(run_tasks(kernel_, a_, tasks, order, random_), what + ": scratch memory");
        check(y.intact() && sum.intact() && moments.intact(), what + ": wrote beside a result");
        check(m_.unchanged() && weights_.intact() && same_bits(weights_.values(), before_),
              what + ": changed an input");
        return {y.values(), sum.values(), moments.values()};
    }

    const std::string& name() const { return name_; }

  private:
    const Memory<E>& m_;
    const cpu::Kernel<cpu::ConvForward<S>>& kernel_;
    std::string name_;
    Random& random_;
    Output<S> weights_;
    std::vector<S> before_;
    cpu::ConvForward<S> a_{};
};

// Merges the moments of tasks (Chan, Golub and LeVeque 1979).
template <typename S>
reference::Moments merge(const std::vector<S>& parts, std::int64_t channels, double& count) {
    reference::Moments all{std::vector<double>(channels), std::vector<double>(channels)};
    count = 0.0;
    for (const S* part = parts.data(); part < parts.data() + parts.size(); part += cpu::moments_size(channels)) {
        const double more = part[2 * padded(channels)], total = count + more;
        for (std::int64_t c = 0; c < channels; ++c) {
            const double apart = part[c] - all.mean[c];
            all.mean[c] += apart * more / total;
            all.variance[c] += part[padded(channels) + c] + apart * apart * count * more / total;
        }
        count = total;
    }
    for (double& v : all.variance) v /= count;
    return all;
}

template <typename E>
void check_moments(const Problem& p, const std::vector<Scalar<E>>& parts, double tolerance_of_y,
                   const std::string& what) {
    double count;
    const reference::Moments got = merge(parts, p.c.out, count);
    check(count == static_cast<double>(p.y.pixels()), what + ": count of pixels");
    const double e = kLargest * tolerance_of_y;
    for (std::int64_t c = 0; c < p.c.out; ++c) {
        // Where every value is off by e, so is the mean, and the deviation, by no more. Merging rounds means.
        const double mean = p.moments.mean[c], variance = p.moments.variance[c];
        const double off = e + kLargest * unit<E>() * std::abs(mean);
        const double mean_error = std::abs(got.mean[c] - mean), error = std::abs(got.variance[c] - variance);
        const std::string channel = what + " of channel " + std::to_string(c);
        check(mean_error <= off, channel + ": mean " + tests::text(mean) + ", error " + tests::text(mean_error) +
                                     ", tolerance " + tests::text(off));
        // The squares are of differences from a task's first value, which may lie 4 deviations from the mean.
        const double tolerance =
            2.0 * std::sqrt(variance) * off + off * off + 16.0 * std::sqrt(count) * unit<E>() * variance;
        check(error <= tolerance, channel + ": variance " + tests::text(variance) + ", error " + tests::text(error) +
                                      ", tolerance " + tests::text(tolerance));
    }
}

template <typename E>
void check_forward(const Problem& p, const Memory<E>& m, Isa isa, const std::string& name, Random& random) {
    ForwardCall<E> call(m, isa, name, random);
    const double tolerance =
        (tolerance_of(p.c.geometry).map * unit<E>() + factor_rounding<E>(isa, p.c.geometry, p.c.affine())) * p.y_scale;
    const double rounding = Element<E>::kRounding + unit<E>();
    std::optional<Forward<E>> first;
    const std::set<std::int64_t> counts = call.counts();
    for (const std::int64_t tasks : counts) {
        const std::string what = call.name() + ", " + std::to_string(tasks) + " tasks";
        Forward<E> got = call.run(tasks, Order::kInOrder);
        if (!first) {
            check_values(got.y, p.y.values, tolerance, rounding, what + ", y");
            if (!got.sum.empty()) {
                std::vector<E> sum(p.z.values.size());
                std::ranges::transform(p.z.values, sum.begin(), Element<E>::from);
                check(same_bits(got.sum, sum), what + ": sum");
            }
        } else {
            check(same_bits(got.y, first->y) && same_bits(got.sum, first->sum), what + ": other bits than in one cut");
        }
        if (!got.moments.empty()) check_moments<E>(p, got.moments, tolerance, what + ", moments");
        if (tasks == *counts.rbegin())
            for (const Order order : {Order::kShuffled, Order::kThreads})
                check(call.run(tasks, order) == got,
                      what + (order == Order::kThreads ? ", on threads" : ", shuffled") + ": other bits");
        if (!first) first = std::move(got);
    }
}

template <typename E>
struct Dgrad {
    std::vector<E> x, residual;
    std::vector<Scalar<E>> sums;

    bool operator==(const Dgrad& o) const {
        return same_bits(x, o.x) && same_bits(residual, o.residual) && same_bits(sums, o.sums);
    }
};

template <typename E>
class DgradCall {
  public:
    using S = Scalar<E>;

    DgradCall(const Memory<E>& m, Isa isa, const std::string& name, Random& random)
        : m_(m),
          kernel_(Element<E>::table(isa).dgrad),
          name_(name + ", dgrad"),
          random_(random),
          weights_(pack(m, isa, true, name, random)),
          before_(weights_.values()) {
        a_.geometry = m.c.geometry, a_.batch = m.c.batch;
        a_.gradient = m.gradient(), a_.source = m.source();
        a_.weights = weights_.data();
        if (m.c.residual() && m.c.side) a_.sum_gradient = m.sum_gradient.data();
    }

    std::set<std::int64_t> counts() const {
        std::set<std::int64_t> counts = cuts(kernel_, a_);
        counts.insert(*counts.rbegin() + 3);  // tasks without a tile
        return counts;
    }

    Dgrad<E> run(std::int64_t tasks, Order order) {
        const Case& c = m_.c;
        const std::int64_t size = c.batch * c.height * c.width * c.in;
        const Output<E> x(size, c.lead), residual(c.residual() ? size : 0, c.lead);
        const Output<S> sums(c.affine() ? tasks * 3 * padded(c.x_channels()) : 0);
        a_.x_gradient = x.data(), a_.residual_gradient = residual.data(), a_.sums = sums.data();
        const std::string what = name_ + ", " + std::to_string(tasks) + " tasks";
        check(run_tasks(kernel_, a_, tasks, order, random_), what + ": scratch memory");
        check(x.intact() && residual.intact() && sums.intact(), what + ": wrote beside a result");
        check(m_.unchanged() && weights_.intact() && same_bits(weights_.values(), before_),
              what + ": changed an input");
        return {x.values(), residual.values(), sums.values()};
    }

    const std::string& name() const { return name_; }

  private:
    const Memory<E>& m_;
    const cpu::Kernel<cpu::ConvDgrad<S>>& kernel_;
    std::string name_;
    Random& random_;
    Output<S> weights_;
    std::vector<S> before_;
    cpu::ConvDgrad<S> a_{};
};

// Row `row` of the parts, all tasks added up.
template <typename S>
std::vector<double> add_up(const std::vector<S>& parts, std::int64_t rows, std::int64_t row, std::int64_t channels) {
    const std::int64_t stride = padded(channels);
    std::vector<double> sums(channels);
    for (const S* part = parts.data() + row * stride; part < parts.data() + parts.size(); part += rows * stride)
        for (std::int64_t c = 0; c < channels; ++c) sums[c] += part[c];
    return sums;
}

template <typename E>
void check_dgrad(const Problem& p, const Memory<E>& m, Isa isa, const std::string& name, Random& random) {
    DgradCall<E> call(m, isa, name, random);
    const double factors = factor_rounding<E>(isa, p.c.geometry, p.c.behind != Behind::kNothing);
    const double scale = (tolerance_of(p.c.geometry).map * unit<E>() + factors) * p.dz_scale;
    const double sum_scale = (tolerance_of(p.c.geometry).sums * unit<E>() + factors) * p.dz_scale;
    const double rounding = Element<E>::kRounding + unit<E>();
    std::optional<Dgrad<E>> first;
    const std::set<std::int64_t> counts = call.counts();
    for (const std::int64_t tasks : counts) {
        const std::string what = call.name() + ", " + std::to_string(tasks) + " tasks";
        Dgrad<E> got = call.run(tasks, Order::kInOrder);
        if (!first) {
            check_values(got.x, p.gradient.x.values, scale, rounding, what + ", gradient of x");
            if (!got.residual.empty())
                check_values(got.residual, p.residual_gradient.values, scale, rounding, what + ", of the residual");
        } else {
            check(same_bits(got.x, first->x) && same_bits(got.residual, first->residual),
                  what + ": other bits than in one cut");
        }
        if (!got.sums.empty()) {
            const std::int64_t channels = p.c.x_channels();
            const double terms = std::sqrt(static_cast<double>(p.x.pixels()));
            check_values(add_up(got.sums, 3, 0, channels), p.gradient.scale, sum_scale * p.x_rms, unit<E>(),
                         what + ", of scale");
            check_values(add_up(got.sums, 3, 1, channels), p.gradient.shift, sum_scale * terms, unit<E>(),
                         what + ", of shift");
            check_values(add_up(got.sums, 3, 2, channels), p.gradient.slope, sum_scale * p.x_rms, unit<E>(),
                         what + ", of slope");
        }
        if (tasks == *counts.rbegin())
            for (const Order order : {Order::kShuffled, Order::kThreads})
                check(call.run(tasks, order) == got,
                      what + (order == Order::kThreads ? ", on threads" : ", shuffled") + ": other bits");
        if (!first) first = std::move(got);
    }
}

template <typename S>
struct Wgrad {
    std::vector<S> weight, bias;

    bool operator==(const Wgrad& o) const { return same_bits(weight, o.weight) && same_bits(bias, o.bias); }
};

template <typename E>
Wgrad<Scalar<E>> run_wgrad(const Memory<E>& m, const cpu::Kernel<cpu::ConvWgrad<Scalar<E>>>& kernel,
                           cpu::ConvWgrad<Scalar<E>> a, bool with_bias, std::int64_t tasks, Order order,
                           const std::string& what, Random& random) {
    using S = Scalar<E>;
    const Case& c = m.c;
    const Output<S> weight(a.splits * c.out * c.in * c.size() * c.size());
    const Output<S> bias(with_bias ? a.splits * padded(c.out) : 0);
    a.weight = weight.data(), a.bias = bias.data();
    check(run_tasks(kernel, a, tasks, order, random), what + ": scratch memory");
    check(weight.intact() && bias.intact(), what + ": wrote beside a result");
    check(m.unchanged(), what + ": changed an input");
    return {weight.values(), bias.values()};
}

template <typename E>
cpu::ConvWgrad<Scalar<E>> wgrad_arguments(const Memory<E>& m) {
    cpu::ConvWgrad<Scalar<E>> a{};
    a.geometry = m.c.geometry, a.batch = m.c.batch;
    a.source = m.source(), a.gradient = m.gradient();
    a.strides = m.strides;
    a.splits = 1;
    return a;
}

template <typename E>
void check_wgrad(const Problem& p, const Memory<E>& m, Isa isa, const std::string& name, Random& random) {
    using S = Scalar<E>;
    const cpu::ConvTable<S>& table = Element<E>::table(isa);
    cpu::ConvWgrad<S> a = wgrad_arguments(m);
    const std::int64_t size = p.c.out * p.c.in * p.c.size() * p.c.size(), tiles = table.wgrad_splits(a, kMostThreads);
    std::vector<double> expected(size);
    Memory<E>::each_weight(
        p.c, [&](std::int64_t place, std::int64_t o, std::int64_t i, std::int64_t row, std::int64_t column) {
            expected[place] = p.weight_gradient.at(o, i, row, column);
        });
    const std::set<std::int64_t> splits{1, std::min<std::int64_t>(3, tiles), table.wgrad_splits(a, 2),
                                        table.wgrad_splits(a, 5)};
    for (const std::int64_t parts : splits) {
        a.splits = parts;
        std::set<std::int64_t> counts = cuts(table.wgrad, a);
        counts.insert(parts);
        counts.insert(*counts.rbegin() + parts);  // shares without a channel
        std::optional<Wgrad<S>> first;
        for (const std::int64_t tasks : counts) {
            const std::string what =
                name + ", wgrad, " + std::to_string(parts) + " splits, " + std::to_string(tasks) + " tasks";
            check(tasks % parts == 0, what + ": not a multiple");
            Wgrad<S> got = run_wgrad(m, table.wgrad, a, true, tasks, Order::kInOrder, what, random);
            if (first) {
                check(got == *first, what + ": other bits than in one cut");
            } else {
                std::vector<double> sum(size);
                for (std::int64_t i = 0; i < parts * size; ++i) sum[i % size] += got.weight[i];
                const bool computed = p.c.affine() || p.c.behind != Behind::kNothing;
                const double tolerance =
                    tolerance_of(p.c.geometry).weight * unit<E>() + factor_rounding<E>(isa, p.c.geometry, computed);
                check_values(sum, expected, tolerance * p.weight_scale, unit<E>(), what + ", weights");
                check_values(add_up(got.bias, 1, 0, p.c.out), p.bias_gradient, kSum * unit<E>() * p.bias_scale,
                             unit<E>(), what + ", bias");
            }
            if (tasks == *counts.rbegin())
                for (const Order order : {Order::kShuffled, Order::kThreads}) {
                    const bool with_bias = order == Order::kThreads;
                    const Wgrad<S> again = run_wgrad(m, table.wgrad, a, with_bias, tasks, order, what, random);
                    check(same_bits(again.weight, got.weight) && (!with_bias || again == got),
                          what + (with_bias ? ", on threads" : ", shuffled, without bias") + ": other bits");
                }
            if (!first) first = std::move(got);
        }
    }
}

template <typename E>
void test(const Problem& p, Random& random) {
    const Memory<E> m(p);
    for (const Isa isa : cpu::usable_isas()) {
        const std::string name = std::string(cpu::isa_name(isa)) + " " + Element<E>::kName + " " + text(p.c);
        check_forward<E>(p, m, isa, name, random);
        check_dgrad<E>(p, m, isa, name, random);
        check_wgrad<E>(p, m, isa, name, random);
    }
}

void test(const Case& c, Random& random) {
    const Problem p(c, random);
    test<float>(p, random);
    test<std::uint16_t>(p, random);
    test<double>(p, random);
}

// Outputs of a tile that may lie between a value and what it spoils.
constexpr std::int64_t kTileReach = 4;

// A value that is no number, or too large for one, must not be lost, may spoil what its tiles reach, and nothing else.
template <typename E>
bool stays_near(const Map& shape, const std::vector<E>& clean, const std::vector<E>& spoilt, std::int64_t y,
                std::int64_t x, std::int64_t reach) {
    const auto far = [&](std::int64_t row, std::int64_t column) {
        return std::max(std::abs(row - y), std::abs(column - x)) > reach;
    };
    bool good = true;
    for (std::size_t i = 0; i < clean.size(); ++i) {
        const auto pixel = static_cast<std::int64_t>(i) / shape.channels;
        const std::int64_t row = pixel / shape.width % shape.height, column = pixel % shape.width;
        if (pixel >= shape.height * shape.width || far(row, column))
            good = good && std::memcmp(&clean[i], &spoilt[i], sizeof(E)) == 0;
        else if (row == y && column == x)
            good = good && !std::isfinite(Element<E>::to(spoilt[i]));
    }
    return good;
}

template <typename E>
void test_not_finite(const Problem& p, double value, Random& random) {
    const Case& c = p.c;
    Memory<E> m(p);
    const std::int64_t y = c.out_height() / 2, x = c.out_width() / 2, stride = c.stride(), channel = c.out / 2;
    const std::int64_t place = (y * stride * c.width + x * stride) * c.in + c.in / 2;
    const std::int64_t out_place = (y * c.out_width() + x) * c.out + channel;
    for (const Isa isa : cpu::usable_isas()) {
        const std::string name =
            std::string(cpu::isa_name(isa)) + " " + Element<E>::kName + " " + text(c) + ", with " + tests::text(value);
        ForwardCall<E> forward(m, isa, name, random);
        DgradCall<E> dgrad(m, isa, name, random);
        const Forward<E> y_clean = forward.run(1, Order::kInOrder);
        const Dgrad<E> x_clean = dgrad.run(1, Order::kInOrder);
        m.x.set(place, value);
        const Forward<E> y_spoilt = forward.run(3, Order::kInOrder);
        m.x.set(place, p.x.values[place]);
        m.g.set(out_place, value);
        const Dgrad<E> x_spoilt = dgrad.run(3, Order::kInOrder);
        m.bias.set(channel, value);
        const Forward<E> biased = forward.run(3, Order::kInOrder);
        m.bias.set(channel, p.bias[channel]);
        bool lost = false;
        for (std::size_t i = channel; i < biased.y.size(); i += c.out)
            lost = lost || std::isfinite(Element<E>::to(biased.y[i]));
        check(!lost, name + ", bias: lost");
        check(stays_near(p.y, y_clean.y, y_spoilt.y, y, x, c.size() / 2 + kTileReach),
              name + ", forward: spread or lost");
        check(stays_near(p.x, x_clean.x, x_spoilt.x, y * stride, x * stride, c.size() / 2 + stride * kTileReach),
              name + ", dgrad: spread or lost");
        m.x.set(place, value);
        const cpu::ConvTable<Scalar<E>>& table = Element<E>::table(isa);
        const Wgrad<Scalar<E>> spoilt =
            run_wgrad(m, table.wgrad, wgrad_arguments(m), true, 1, Order::kInOrder, name, random);
        check(!std::isfinite(spoilt.bias[channel]) &&
                  !std::isfinite(spoilt.weight[channel * m.strides.out + c.in / 2 * m.strides.in]),
              name + ", wgrad: lost");
        m.x.set(place, p.x.values[place]), m.g.set(out_place, p.g.values[out_place]);
    }
}

// Sizes and channels take turns.
void test_all(Random& random) {
    constexpr std::int64_t kSizes[][2] = {{1, 1}, {1, 13}, {11, 1}, {2, 3},   {3, 5},  {4, 4},
                                          {5, 8}, {7, 7},  {8, 13}, {13, 11}, {17, 21}};
    constexpr std::int64_t kChannels[][2] = {{1, 1},  {3, 64},   {15, 17}, {16, 16}, {17, 15}, {33, 3}, {64, 33},
                                             {70, 1}, {130, 16}, {1, 130}, {16, 70}, {3, 3},   {33, 15}};
    std::size_t turn = 0;
    for (const Geometry geometry : {Geometry::k3x3, Geometry::k3x3Stride2, Geometry::k5x5})
        for (const Kind kind :
             {Kind::kPlain, Kind::kAffine, Kind::kSlope, Kind::kResidual, Kind::kShuffle, Kind::kShuffleSlope})
            for (const Behind behind : {Behind::kNothing, Behind::kActivation, Behind::kMoments})
                for (const auto& [height, width] : kSizes) {
                    if (kind == Kind::kResidual && geometry != Geometry::k3x3) continue;
                    const auto& [in, out] = kChannels[turn % std::size(kChannels)];
                    Case c{geometry, kind, behind, 1 + 2 * below(2, random), height, width, in, out};
                    c.lead = below(2, random), c.channels_last = below(2, random), c.side = below(2, random);
                    if (c.shuffle()) c.height += height % 2, c.width += width % 2;
                    if (turn++ % kEvery == 0) test(c, random);
                }
}

// What does not take turns.
void test_special(Geometry geometry, Random& random) {
    const bool stride2 = geometry == Geometry::k3x3Stride2;
    const std::int64_t height = stride2 ? 71 : 46, width = stride2 ? 75 : 50;
    // More tiles than a weight gradient takes at a time, for few channels and for many.
    if (!kSlow) test({geometry, Kind::kSlope, Behind::kMoments, 1, height, width, 15, 3}, random);
    if (kEvery == 1) test({geometry, Kind::kAffine, Behind::kActivation, 1, height, width, 70, 1}, random);
    // The same for two rows of AMX's tiles and one.
    if (!kSlow) test({geometry, Kind::kSlope, Behind::kMoments, 1, height, width, 17, 48}, random);
    // Several groups of output channels, and several images.
    test({geometry, Kind::kSlope, Behind::kMoments, 3, 5, 7, 17, 130}, random);
    // Means of about 1000 times the deviation.
    test({geometry, Kind::kAffine, Behind::kMoments, 3, 13, 11, 17, 16, 0, false, true, 16000.0}, random);
    const Problem p({geometry, Kind::kSlope, Behind::kMoments, 2, 29, 31, 17, 18}, random);
    constexpr double kInfinity = std::numeric_limits<double>::infinity();
    const double all_bits = std::bit_cast<double>(~std::uint64_t{0});  // a NaN that rounding can overflow
    for (const double value : {all_bits, kInfinity, -kInfinity}) {
        test_not_finite<float>(p, value, random);
        test_not_finite<std::uint16_t>(p, value, random);
        if (!kSlow) test_not_finite<double>(p, value, random);
    }
}

}  // namespace

int main() {
    Random random(20261125);
    test_all(random);
    for (const Geometry geometry : {Geometry::k3x3, Geometry::k3x3Stride2, Geometry::k5x5})
        test_special(geometry, random);
    return finish();
}
