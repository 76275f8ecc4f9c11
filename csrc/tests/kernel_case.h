// What the tests of the inference kernels share: the kernels of every usable instruction set, maps whose rows lie
// anywhere, and calls cut into tasks.
//
// Every call works on a window of rows of a larger map, reached through tables of pointers to rows that lie in
// scattered order. It is cut into tasks in several ways, which must agree to the last bit; tasks run in shuffled order,
// each with a scratch memory of its own that holds garbage. Outputs are NaN before, pads must be zeros
// afterwards, and nothing else may be written.
//
// Tolerances. Inputs are normal and weights scaled so that a sum over all taps has variance 1; errors are root mean
// squares on that scale. u = 2^-24 is float's unit of rounding.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <numeric>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "kernels/cpu/kernels.h"
#include "tests/check.h"

namespace srgan_fast::tests {

// 243 additions one after the other, each rounding a partial sum that has half the final variance on average:
// u / sqrt(3) * sqrt(243 / 2) = 3.8e-7. The bound is twice that.
inline constexpr double kDirect = 8e-7;
// Winograd's F(4, 3) at the points 0, 1, -1, 2, -2 in both directions. Where operands are rounded with a relative error
// of e each, the squares of the coefficients of its transforms add up to an error of 10.8 * sqrt(2) * e (3 of it in a
// tile's first row and column, 31 in its last corner). With operands of 8 bits e is 1.66e-3: 2.5e-2; up to a fifth more
// where a case is only a few tiles.
inline constexpr double kWinograd43Bf16 = 4e-2;
// Direct, from maps of bfloat16 to maps of bfloat16: e for each of inputs, weights and a residual, and for results,
// whose variance is 2.25 with bias and residual, half as much more: 3.8e-3.
inline constexpr double kDirectBf16 = 6e-3;
// F(4, 5) and F(6, 3) have two points more, and coefficients up to 32; 5.1e-6 is the worst measured.
inline constexpr double kWinograd45 = 1e-5, kWinograd63 = 1e-5;
// How far the largest error may exceed the root mean square's bound: a tile's corner has 3 times the average, and the
// largest of some thousands is below 4 times its own.
inline constexpr double kLargest = 12.0;
// The same in maps of hundreds of channels, which share the errors of their inputs: 12.5 is the worst measured.
inline constexpr double kLargestOfMaps = 16.0;

// Rounds to nearest even; for finite values.
inline std::uint16_t to_bf16(float value) {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    return static_cast<std::uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// What is tested: the kernels of a level for a precision, and their errors.
struct Way {
    std::string name;
    const cpu::NetworkKernels* kernels;
    double conv3x3, head, tail;
};

// Each kernel once: levels and precisions share some.
inline const std::vector<Way>& ways() {
    static const std::vector<Way> all = [] {
        std::vector<Way> list;
        for (const cpu::Isa isa : cpu::usable_isas()) {
            const cpu::KernelTable& table = cpu::kernels(isa);
            const std::string name(cpu::isa_name(isa));
            if (isa != cpu::Isa::kAmx) list.push_back({name, &table.fp32, kWinograd63, kDirect, kWinograd45});
            if (!table.bf16.conv3x3.run) continue;
            if (table.bf16.element == 2)
                list.push_back({name + " bf16", &table.bf16, kDirectBf16, kDirectBf16, kDirectBf16});
            else
                list.push_back({name + " bf16", &table.bf16, kWinograd43Bf16, kDirect, kWinograd45});
        }
        return list;
    }();
    return all;
}

// A map whose rows lie anywhere, with pads of zeros beside the pixels; of floats or, with elements of 2 bytes,
// bfloat16.
class RowMap {
  public:
    RowMap(std::int64_t rows, std::int64_t width, std::int64_t channels, std::int64_t left, std::int64_t right,
           std::int64_t element, Random& random)
        : row_(width * channels), left_(left * channels), right_(right * channels), element_(element), places_(rows) {
        std::iota(places_.begin(), places_.end(), 0);
        std::shuffle(places_.begin(), places_.end(), random);
        for (std::int64_t i = 0; i < rows; ++i) {
            memory_.emplace_back((left_ + row_ + right_) * element);
            std::byte* const start = memory_.back().data();
            std::fill_n(start, left_ * element, std::byte{0});
            std::fill_n(start + (left_ + row_) * element, right_ * element, std::byte{0});
        }
    }
    // A feature map as kernels want it.
    RowMap(std::int64_t rows, std::int64_t width, std::int64_t channels, const cpu::NetworkKernels& kernels,
           Random& random)
        : RowMap(rows, width, channels, cpu::kLeftPad, kernels.right_pad, kernels.element, random) {}

    void* row(std::int64_t y) const { return memory_[places_[y]].data() + left_ * element_; }
    float at(std::int64_t y, std::int64_t i) const {
        if (element_ == 4) return static_cast<const float*>(row(y))[i];
        return std::bit_cast<float>(static_cast<std::uint32_t>(static_cast<const std::uint16_t*>(row(y))[i]) << 16);
    }
    // Rounds where the map does; what is not finite stays so.
    void set(std::int64_t y, std::int64_t i, float value) const {
        if (element_ == 4)
            static_cast<float*>(row(y))[i] = value;
        else
            static_cast<std::uint16_t*>(row(y))[i] =
                std::isfinite(value) ? to_bf16(value)
                                     : static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(value) >> 16);
    }
    void fill(std::span<const float> dense) const {
        for (std::size_t y = 0; y < places_.size(); ++y)
            for (std::int64_t i = 0; i < row_; ++i) set(y, i, dense[static_cast<std::int64_t>(y) * row_ + i]);
    }
    std::vector<float> dense() const {
        std::vector<float> values;
        for (std::size_t y = 0; y < places_.size(); ++y)
            for (std::int64_t i = 0; i < row_; ++i) values.push_back(at(y, i));
        return values;
    }
    // Whether the pads are zeros and the guards untouched.
    bool intact() const {
        const auto zero = [](std::byte b) { return b == std::byte{0}; };
        return std::ranges::all_of(memory_, [&](const Guarded<std::byte>& m) {
            return m.intact() && std::all_of(m.data(), m.data() + left_ * element_, zero) &&
                   std::all_of(m.data() + (left_ + row_) * element_, m.data() + m.size(), zero);
        });
    }

  private:
    std::int64_t row_, left_, right_;  // values
    std::int64_t element_;
    std::vector<std::size_t> places_;
    std::vector<Guarded<std::byte>> memory_;
};

// Pointers to the rows first .. first + count of a map of `height` rows; those outside lead to `zeros`.
inline std::vector<const void*> row_table(const RowMap& map, const RowMap& zeros, std::int64_t height,
                                          std::int64_t first, std::int64_t count) {
    std::vector<const void*> table;
    for (std::int64_t y = first; y < first + count; ++y)
        table.push_back(y < 0 || y >= height ? zeros.row(0) : map.row(y));
    return table;
}

inline Guarded<float> aligned(std::span<const float> values) {
    Guarded<float> copy(static_cast<std::int64_t>(values.size()));
    std::ranges::copy(values, copy.data());
    return copy;
}

// Weights of a layer as the kernel of each of ways() wants them; kernel(kernels) picks it.
template <typename Pick>
std::vector<Guarded<std::byte>> packed_for_all(std::span<const float> weight, std::int64_t in_channels,
                                               std::int64_t out_channels, const Pick& kernel) {
    std::vector<Guarded<std::byte>> packed;
    for (const Way& way : ways()) {
        const auto& chosen = kernel(*way.kernels);
        packed.emplace_back(chosen.packed_bytes(in_channels, out_channels));
        chosen.pack(weight.data(), in_channels, out_channels, packed.back().data());
        check(packed.back().intact(), way.name + ": packed weights are larger than they said");
    }
    return packed;
}

// The rows that a call computes of a map of `height` rows.
struct Window {
    std::int64_t height, width, first, rows;
};

inline std::string text(const Window& w) {
    return "rows " + std::to_string(w.first) + " + " + std::to_string(w.rows) + " of " + std::to_string(w.height) +
           "x" + std::to_string(w.width);
}

inline std::vector<Window> windows(Random& random) {
    constexpr std::int64_t kSizes[][2] = {{1, 1}, {1, 2}, {1, 13}, {11, 1},  {2, 3},  {3, 5},  {4, 4},
                                          {5, 8}, {7, 7}, {8, 13}, {13, 11}, {6, 31}, {17, 9}, {29, 30}};
    std::vector<Window> all;
    for (const auto& [height, width] : kSizes) {
        all.push_back({height, width, 0, height});
        const std::int64_t first = below(height, random);
        if (height > 2) all.push_back({height, width, first, 1 + below(height - first, random)});
    }
    return all;
}

// In how many tasks to cut a call: as the kernel would for some threads, not at all, and in more than there are tiles.
template <typename Arguments>
std::set<std::int64_t> cuts(const cpu::Kernel<Arguments>& kernel, const Arguments& arguments) {
    std::set<std::int64_t> counts{1, 2, std::min<std::int64_t>(arguments.rows * arguments.width + 1, 70)};
    for (const int threads : {1, 2, 3, 7}) counts.insert(kernel.tasks(arguments, threads));
    return counts;
}

// Runs all tasks in shuffled order; whether scratch memories are of a good size and nothing was written beside them.
template <typename Arguments>
bool run_tasks(const cpu::Kernel<Arguments>& kernel, const Arguments& arguments, std::int64_t tasks, Random& random) {
    const std::int64_t bytes = kernel.scratch(arguments, tasks);
    bool good = bytes % cpu::kAlignment == 0;
    std::vector<std::int64_t> order(tasks);
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), random);
    for (const std::int64_t task : order) {
        const Guarded<std::byte> scratch(bytes);
        kernel.run(arguments, task, tasks, scratch.data());
        good = good && scratch.intact();
    }
    return good;
}

inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// Checks a kernel that writes feature maps in every cut: it completes the arguments with the rows to write, of elements
// of that many bytes, and compares them with `expected`.
template <typename Arguments>
void check_map_kernel(const Way& way, const cpu::Kernel<Arguments>& kernel, Arguments arguments, std::int64_t out_rows,
                      std::int64_t out_width, std::int64_t out_channels, std::int64_t element,
                      std::span<const float> expected, double tolerance, const std::string& layer, Random& random) {
    const std::string name = way.name + layer;
    std::optional<std::vector<float>> first;
    for (const std::int64_t tasks : cuts(kernel, arguments)) {
        const std::string cut = name + ", " + std::to_string(tasks) + " tasks";
        const RowMap out(out_rows, out_width, out_channels, cpu::kLeftPad, way.kernels->right_pad, element, random);
        std::vector<void*> table;
        for (std::int64_t y = 0; y < out_rows; ++y) table.push_back(out.row(y));
        arguments.out = table.data();
        check(run_tasks(kernel, arguments, tasks, random), cut + ": scratch memory");
        check(out.intact(), cut + ": wrote beside the pixels");
        std::vector<float> got = out.dense();
        if (first) {
            check(same_bits(got, *first), cut + ": other bits than in one task");
            continue;
        }
        Error error;
        for (std::size_t i = 0; i < got.size(); ++i) error.add(got[i], expected[i]);
        check(error.rms() <= tolerance && error.largest() <= kLargestOfMaps * tolerance,
              cut + ": rms error " + tests::text(error.rms()) + ", largest " + tests::text(error.largest()));
        first = std::move(got);
    }
}
// The order of a shuffled layer's channels in the kernels is phase by phase; in the reference, channel by channel.
inline std::int64_t kernel_channel(std::int64_t channel, std::int64_t channels, std::int64_t factor) {
    const std::int64_t phases = factor * factor;
    return channel % phases * (channels / phases) + channel / phases;
}

}  // namespace srgan_fast::tests
