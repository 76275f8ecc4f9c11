// The CPU kernels of every usable instruction set against the reference.
//
// Every call works on a window of rows of a larger map, reached through tables of pointers to rows that lie in
// scattered order. It is cut into tasks in several ways, which must agree to the last bit; tasks run in shuffled order,
// each with a scratch memory of its own that holds garbage. Outputs are not-a-numbers before, pads must be zeros
// afterwards, and nothing else may be written.
//
// Tolerances. Inputs are normal and weights scaled so that a sum over all taps has variance 1; errors are root mean
// squares on that scale. u = 2^-24 is float's unit of rounding.
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
#include "kernels/reference/conv2d.h"
#include "tests/check.h"

namespace {

using namespace srgan_fast;
using namespace srgan_fast::tests;

// 243 additions one after the other, each rounding a partial sum that has half the final variance on average:
// u / sqrt(3) * sqrt(243 / 2) = 3.8e-7. The bound is twice that.
constexpr double kDirect = 8e-7;
// Winograd's F(4, 3) at the points 0, 1, -1, 2, -2 in both directions. Where operands are rounded with a relative error
// of e each, the squares of the coefficients of its transforms add up to an error of 10.8 * sqrt(2) * e (3 of it in a
// tile's first row and column, 31 in its last corner). In float e is u / sqrt(3) and about 10 roundings in the
// transforms and sums go the same way: 10.8 * sqrt(12) * u / sqrt(3) = 1.3e-6; 2.3e-6 is the worst measured.
constexpr double kWinograd43 = 5e-6;
// The same with operands of 8 bits, e = 1.66e-3: 2.5e-2; up to a fifth more where a case is only a few tiles.
constexpr double kWinograd43Bf16 = 4e-2;
// Direct, from maps of bfloat16 to maps of bfloat16: e for each of inputs, weights and a residual, and for results,
// whose variance is 2.25 with bias and residual, half as much more: 3.8e-3.
constexpr double kDirectBf16 = 6e-3;
// F(4, 5) has two points more, and coefficients up to 32; 5.1e-6 is the worst measured.
constexpr double kWinograd45 = 1e-5;
// How far the largest error may exceed the root mean square's bound: a tile's corner has 3 times the average, and the
// largest of some thousands is below 4 times its own.
constexpr double kLargest = 12.0;

// Rounds to nearest even; for finite values.
std::uint16_t to_bf16(float value) {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    return static_cast<std::uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// What is tested: the kernels of a level for a precision, and their errors.
struct Way {
    std::string name;
    const cpu::GeneratorKernels* kernels;
    double conv3x3, head, tail;
};

// Each kernel once: levels and precisions share some.
const std::vector<Way>& ways() {
    static const std::vector<Way> all = [] {
        std::vector<Way> list;
        for (const cpu::Isa isa : cpu::usable_isas()) {
            const cpu::KernelTable& table = cpu::kernels(isa);
            const std::string name(cpu::isa_name(isa));
            if (isa != cpu::Isa::kAmx) list.push_back({name, &table.fp32, kWinograd43, kDirect, kWinograd45});
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
    RowMap(std::int64_t rows, std::int64_t width, std::int64_t channels, const cpu::GeneratorKernels& kernels,
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
std::vector<const void*> row_table(const RowMap& map, const RowMap& zeros, std::int64_t height, std::int64_t first,
                                   std::int64_t count) {
    std::vector<const void*> table;
    for (std::int64_t y = first; y < first + count; ++y)
        table.push_back(y < 0 || y >= height ? zeros.row(0) : map.row(y));
    return table;
}

Guarded<float> aligned(std::span<const float> values) {
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

std::string text(const Window& w) {
    return "rows " + std::to_string(w.first) + " + " + std::to_string(w.rows) + " of " + std::to_string(w.height) +
           "x" + std::to_string(w.width);
}

std::vector<Window> windows(Random& random) {
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

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// Checks a kernel that writes feature maps in every cut: `make` completes the arguments with the rows to write.
template <typename Arguments>
void check_map_kernel(const Way& way, const cpu::Kernel<Arguments>& kernel, Arguments arguments, std::int64_t out_rows,
                      std::int64_t out_width, std::int64_t out_channels, std::span<const float> expected,
                      double tolerance, const std::string& layer, Random& random) {
    const std::string name = way.name + layer;
    std::optional<std::vector<float>> first;
    for (const std::int64_t tasks : cuts(kernel, arguments)) {
        const std::string cut = name + ", " + std::to_string(tasks) + " tasks";
        const RowMap out(out_rows, out_width, out_channels, *way.kernels, random);
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
        check(error.rms() <= tolerance && error.largest() <= kLargest * tolerance,
              cut + ": rms error " + tests::text(error.rms()) + ", largest " + tests::text(error.largest()));
        first = std::move(got);
    }
}

// The order of a shuffled layer's channels in the kernels is phase by phase; in the reference, colour by colour.
std::int64_t kernel_channel(std::int64_t channel, std::int64_t channels, bool shuffle) {
    return shuffle ? channel % 4 * (channels / 4) + channel / 4 : channel;
}

// Random weights, as the reference takes them and packed for each of ways().
struct Layer3x3 {
    std::int64_t in_channels, out_channels;
    bool shuffle;
    std::vector<float> weight, bias, slope;
    Guarded<float> kernel_bias, kernel_slope;
    std::vector<Guarded<std::byte>> packed;

    Layer3x3(std::int64_t in, std::int64_t out, bool shuffled, Random& random)
        : in_channels(in),
          out_channels(out),
          shuffle(shuffled),
          weight(normal_values(out * in * 9, std::sqrt(1.0f / static_cast<float>(9 * in)), random)),
          bias(normal_values(out, 0.5f, random)),
          slope(normal_values(out, 0.5f, random)),
          kernel_bias(out),
          kernel_slope(out) {
        std::vector<float> kernel_weight(weight.size());
        for (std::int64_t o = 0; o < out; ++o) {
            const std::int64_t to = kernel_channel(o, out, shuffle);
            std::copy_n(weight.data() + o * in * 9, in * 9, kernel_weight.data() + to * in * 9);
            kernel_bias.data()[to] = bias[o];
            kernel_slope.data()[to] = slope[o];
        }
        packed = packed_for_all(kernel_weight, in, out, [](const auto& k) -> const auto& { return k.conv3x3; });
    }
};

void test_conv3x3(const Layer3x3& layer, bool with_residual, bool prelu, const Window& window, Random& random) {
    const std::int64_t in_channels = layer.in_channels, out_channels = layer.out_channels;
    const std::int64_t pixels = window.height * window.width;
    const std::vector<float> input = normal_values(pixels * in_channels, 1.0f, random);
    const std::vector<float> residual = normal_values(with_residual ? pixels * out_channels : 0, 1.0f, random);

    std::vector<float> expected(pixels * out_channels);
    reference::conv2d({in_channels, out_channels, 3, layer.weight, layer.bias,
                       prelu ? std::span<const float>(layer.slope) : std::span<const float>()},
                      window.height, window.width, input, residual, expected);
    const std::int64_t factor = layer.shuffle ? 2 : 1, map_channels = out_channels / (factor * factor);
    if (layer.shuffle) {
        std::vector<float> shuffled(expected.size());
        reference::pixel_shuffle(window.height, window.width, map_channels, expected, shuffled);
        expected = std::move(shuffled);
    }
    const std::int64_t row_values = window.width * factor * map_channels;
    const auto wanted =
        std::span<const float>(expected).subspan(window.first * factor * row_values, window.rows * factor * row_values);

    const std::string name = " conv3x3 " + std::to_string(in_channels) + " -> " + std::to_string(out_channels) +
                             (with_residual ? ", residual" : "") + (prelu ? ", PReLU" : "") +
                             (layer.shuffle ? ", shuffled" : "") + ", " + text(window);
    for (std::size_t i = 0; i < ways().size(); ++i) {
        const Way& way = ways()[i];
        const RowMap in(window.height, window.width, in_channels, *way.kernels, random);
        in.fill(input);
        const RowMap added(with_residual ? window.height : 0, window.width, out_channels, *way.kernels, random);
        added.fill(residual);
        const RowMap zeros(1, window.width, in_channels, *way.kernels, random);
        zeros.fill(std::vector<float>(window.width * in_channels));
        const auto in_rows = row_table(in, zeros, window.height, window.first - 1, window.rows + 5);
        std::vector<const void*> residual_rows;
        for (std::int64_t y = 0; with_residual && y < window.rows; ++y)
            residual_rows.push_back(added.row(window.first + y));
        const cpu::Conv3x3 arguments{window.rows,
                                     window.width,
                                     in_channels,
                                     out_channels,
                                     in_rows.data(),
                                     nullptr,
                                     with_residual ? residual_rows.data() : nullptr,
                                     layer.packed[i].data(),
                                     layer.kernel_bias.data(),
                                     prelu ? layer.kernel_slope.data() : nullptr,
                                     layer.shuffle};
        check_map_kernel(way, way.kernels->conv3x3, arguments, window.rows * factor, window.width * factor,
                         map_channels, wanted, way.conv3x3, name, random);
        check(in.intact() && added.intact() && zeros.intact(), way.name + name + ": an input was changed");
    }
}

void test_head(std::int64_t channels, const Window& window, Random& random) {
    const std::int64_t pixels = window.height * window.width;
    const std::vector<float> input = normal_values(pixels * 3, 1.0f, random);
    const std::vector<float> weight = normal_values(channels * 243, std::sqrt(1.0f / 243.0f), random);
    const auto bias = aligned(normal_values(channels, 0.5f, random)),
               slope = aligned(normal_values(channels, 0.5f, random));
    std::vector<float> expected(pixels * channels);
    reference::conv2d({3, channels, 9, weight, bias.span(), slope.span()}, window.height, window.width, input, {},
                      expected);
    const auto wanted = std::span<const float>(expected).subspan(window.first * window.width * channels,
                                                                 window.rows * window.width * channels);
    const RowMap in(window.height, window.width, 3, 4, 4, sizeof(float), random),
        zeros(1, window.width, 3, 4, 4, sizeof(float), random);
    in.fill(input);
    zeros.fill(std::vector<float>(window.width * 3));
    const auto in_rows = row_table(in, zeros, window.height, window.first - 4, window.rows + 9);
    const std::string name = " head -> " + std::to_string(channels) + ", " + text(window);
    const auto packed = packed_for_all(weight, 3, channels, [](const auto& k) -> const auto& { return k.head; });
    for (std::size_t i = 0; i < ways().size(); ++i) {
        const Way& way = ways()[i];
        const cpu::Conv9x9Head arguments{window.rows, window.width,     channels,    in_rows.data(),
                                         nullptr,     packed[i].data(), bias.data(), slope.data()};
        check_map_kernel(way, way.kernels->head, arguments, window.rows, window.width, channels, wanted, way.head, name,
                         random);
    }
    check(in.intact() && zeros.intact(), name + ": an input was changed");
}

// Pixels as a sink writes them, with columns beside them that must stay as they are.
template <typename Pixel>
struct Picture {
    static constexpr bool kPlanes = std::is_same_v<Pixel, float>;
    static constexpr std::int64_t kMargin = 5;

    std::int64_t rows, columns, stride;
    Guarded<Pixel> memory;

    Picture(std::int64_t rows, std::int64_t columns)
        : rows(rows),
          columns(columns),
          stride((kPlanes ? 1 : 3) * columns + kMargin),
          memory((kPlanes ? 3 : 1) * rows * stride) {}

    cpu::PixelSink sink(bool tanh, float gain, float offset) const {
        constexpr auto type = kPlanes              ? cpu::PixelType::kFloat
                              : sizeof(Pixel) == 1 ? cpu::PixelType::kUint8
                                                   : cpu::PixelType::kUint16;
        // Colours differ, so that they cannot be mistaken for each other.
        return {type,
                memory.data(),
                stride,
                rows * stride,
                tanh,
                {gain, 0.9f * gain, 0.8f * gain},
                {offset, offset + 0.01f, offset + 0.02f}};
    }
    Pixel at(std::int64_t y, std::int64_t x, std::int64_t colour) const {
        return kPlanes ? memory.data()[(colour * rows + y) * stride + x] : memory.data()[y * stride + 3 * x + colour];
    }
    bool intact() const {
        const std::int64_t used = stride - kMargin;
        for (std::int64_t line = 0; line < memory.size() / stride; ++line) {
            const auto* margin = reinterpret_cast<const unsigned char*>(memory.data() + line * stride + used);
            if (std::any_of(margin, margin + kMargin * sizeof(Pixel), [](unsigned char c) { return c != 0xff; }))
                return false;
        }
        return memory.intact();
    }
    bool operator==(const Picture& other) const {
        return std::memcmp(memory.data(), other.memory.data(), memory.size() * sizeof(Pixel)) == 0;
    }
};

struct Tail {
    std::int64_t channels;  // behind the shuffle
    Window window;          // before the shuffle
    std::vector<float> expected;
    cpu::Conv9x9Tail arguments;
    std::string name;
};

template <typename Pixel>
void check_tail(const Way& way, const Tail& tail, bool tanh, Random& random) {
    const auto& [channels, window, expected, given, name] = tail;
    const std::int64_t height = 2 * window.height, width = 2 * window.width;
    // A gain of 1 leaves the float result as it is; for integers, some values lie outside 0..1 and are clamped.
    const bool plain = std::is_same_v<Pixel, float> && !tanh;
    const float gain = plain ? 1.0f : tanh ? 0.5f : 0.4f, offset = plain ? 0.0f : 0.5f;
    const std::string what = way.name + name +
                             (std::is_same_v<Pixel, float> ? ", float"
                              : sizeof(Pixel) == 1         ? ", uint8"
                                                           : ", uint16") +
                             (tanh ? ", tanh" : "");
    std::optional<Picture<Pixel>> first;
    for (const std::int64_t tasks : cuts(way.kernels->tail, given)) {
        const std::string cut = what + ", " + std::to_string(tasks) + " tasks";
        Picture<Pixel> picture(height, width);
        cpu::Conv9x9Tail arguments = given;
        arguments.sink = picture.sink(tanh, gain, offset);
        check(run_tasks(way.kernels->tail, arguments, tasks, random), cut + ": scratch memory");
        check(picture.intact(), cut + ": wrote beside the pixels");
        if (first) {
            check(picture == *first, cut + ": other bits than in one task");
            continue;
        }
        Error error;
        bool others = true, rounded = true;
        for (std::int64_t y = 0; y < height; ++y)
            for (std::int64_t x = 0; x < width; ++x)
                for (std::int64_t c = 0; c < 3; ++c) {
                    const Pixel got = picture.at(y, x, c);
                    if (y < 2 * window.first || y >= 2 * (window.first + window.rows)) {
                        Pixel untouched;
                        std::memset(&untouched, 0xff, sizeof untouched);
                        others = others && std::memcmp(&got, &untouched, sizeof got) == 0;
                        continue;
                    }
                    double value = expected[(y * width + x) * 3 + c];
                    if (tanh) value = std::tanh(value);
                    value = value * arguments.sink.gain[c] + arguments.sink.offset[c];
                    if constexpr (std::is_same_v<Pixel, float>) {
                        error.add(got, value);
                    } else {
                        // Half a step, and what the convolution's error can do to a value that is nearly at a half.
                        const double white = std::numeric_limits<Pixel>::max();
                        rounded = rounded && std::abs(got - std::clamp(value, 0.0, 1.0) * white) <=
                                                 0.5 + kLargest * way.tail * white;
                    }
                }
        check(others, cut + ": wrote rows of others");
        check(rounded, cut + ": wrongly rounded or clamped");
        check(error.rms() <= way.tail && error.largest() <= kLargest * way.tail,
              cut + ": rms error " + tests::text(error.rms()) + ", largest " + tests::text(error.largest()));
        first.emplace(std::move(picture));
    }
}

// A value that is not finite may spoil what its Winograd tiles reach, but nothing else, and no integer.
template <typename Pixel>
void check_tail_not_finite(const Way& way, const Tail& tail, const RowMap& in, float value, Random& random) {
    const Window& window = tail.window;
    const std::int64_t row = window.height / 2, place = window.width / 2 * 4 * tail.channels;
    const float before = in.at(row, place);
    Picture<Pixel> good(2 * window.height, 2 * window.width), bad(2 * window.height, 2 * window.width);
    cpu::Conv9x9Tail arguments = tail.arguments;
    arguments.sink = good.sink(false, 0.4f, 0.5f);
    run_tasks(way.kernels->tail, arguments, 1, random);
    in.set(row, place, value);
    arguments.sink = bad.sink(false, 0.4f, 0.5f);
    run_tasks(way.kernels->tail, arguments, 3, random);
    in.set(row, place, before);
    bool local = bad.intact(), black = true;
    for (std::int64_t y = 0; y < good.rows; ++y)
        for (std::int64_t x = 0; x < good.columns; ++x)
            for (std::int64_t c = 0; c < 3; ++c) {
                const std::int64_t dy = y / 2 - window.height / 2, dx = x / 2 - window.width / 2;
                if (std::max(std::abs(dy), std::abs(dx)) > 2 + 3)  // the radius, and the rest of a tile
                    local = local && good.at(y, x, c) == bad.at(y, x, c);
                else if (!Picture<Pixel>::kPlanes && dy == 0 && dx == 0 && std::isnan(value))
                    black = black && bad.at(y, x, c) == 0;
            }
    const std::string what = way.name + tail.name + ", with " + tests::text(value);
    check(local, what + ": spread too far");
    check(black, what + ": not-a-number is not black");
}

// Random weights, as the reference takes them and packed for each of ways().
struct TailLayer {
    std::int64_t channels;  // behind the shuffle
    std::vector<float> weight;
    Guarded<float> bias;
    std::vector<Guarded<std::byte>> packed;

    TailLayer(std::int64_t c, Random& random)
        : channels(c),
          weight(normal_values(3 * c * 81, std::sqrt(1.0f / static_cast<float>(81 * c)), random)),
          bias(aligned(normal_values(3, 0.5f, random))),
          packed(packed_for_all(weight, c, 3, [](const auto& k) -> const auto& { return k.tail; })) {}
};

void test_tail(const TailLayer& layer, const Window& window, Random& random) {
    const std::int64_t channels = layer.channels, in_channels = 4 * channels;
    const std::int64_t pixels = window.height * window.width;
    const std::vector<float> input = normal_values(pixels * in_channels, 1.0f, random);
    std::vector<float> shuffled(input.size()), kernel_input(input.size());
    reference::pixel_shuffle(window.height, window.width, channels, input, shuffled);
    for (std::int64_t i = 0; i < pixels; ++i)
        for (std::int64_t c = 0; c < in_channels; ++c)
            kernel_input[i * in_channels + kernel_channel(c, in_channels, true)] = input[i * in_channels + c];
    Tail tail{channels, window, std::vector<float>(4 * pixels * 3), {}, {}};
    reference::conv2d({channels, 3, 9, layer.weight, layer.bias.span(), {}}, 2 * window.height, 2 * window.width,
                      shuffled, {}, tail.expected);

    tail.name = " tail of " + std::to_string(channels) + ", " + text(window);
    for (std::size_t i = 0; i < ways().size(); ++i) {
        const Way& way = ways()[i];
        const RowMap in(window.height, window.width, in_channels, *way.kernels, random);
        in.fill(kernel_input);
        const RowMap zeros(1, window.width, in_channels, *way.kernels, random);
        zeros.fill(std::vector<float>(window.width * in_channels));
        const auto in_rows = row_table(in, zeros, window.height, window.first - 2, window.rows + 7);
        tail.arguments = {
            window.first,      window.rows, window.width, in_channels, in_rows.data(), layer.packed[i].data(),
            layer.bias.data(), {}};
        check_tail<float>(way, tail, false, random);
        check_tail<float>(way, tail, true, random);
        check_tail<std::uint8_t>(way, tail, false, random);
        check_tail<std::uint16_t>(way, tail, random() % 2 == 0, random);
        if (window.rows == window.height && channels == 16)
            for (const float value :
                 {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
                check_tail_not_finite<float>(way, tail, in, value, random);
                check_tail_not_finite<std::uint8_t>(way, tail, in, value, random);
                check_tail_not_finite<std::uint16_t>(way, tail, in, value, random);
            }
        check(in.intact() && zeros.intact(), way.name + tail.name + ": an input was changed");
    }
}

}  // namespace

int main() {
    Random random(20261125);
    std::vector<Window> all = windows(random);
    if (kSlow) all.pop_back(), all.pop_back();  // the largest
    for (const std::int64_t channels : {16, 32, 48, 64, 80, 128})
        for (const Window& window : all) test_head(channels, window, random);
    for (const std::int64_t channels : {16, 48, 64}) {
        const TailLayer layer(channels, random);
        for (const Window& window : all) test_tail(layer, window, random);
    }
    // The epilogues take turns.
    constexpr std::int64_t kChannels[][2] = {{16, 16}, {32, 48}, {48, 32}, {64, 64},  {80, 80},
                                             {16, 80}, {80, 16}, {64, 16}, {128, 128}};
    unsigned epilogue = 0;
    for (const auto& [in, out] : kChannels) {
        const Layer3x3 layer(in, out, false, random);
        for (const Window& window : all) {
            test_conv3x3(layer, (epilogue & 1) != 0, (epilogue & 2) != 0, window, random);
            ++epilogue;
        }
    }
    for (const std::int64_t channels : {16, 48, 64}) {
        const Layer3x3 layer(channels, 4 * channels, true, random);
        for (const Window& window : all) test_conv3x3(layer, false, epilogue++ % 2 != 0, window, random);
    }
    return finish();
}
