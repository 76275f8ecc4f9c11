// The CPU kernels of the 9x9 convolutions, from an image of three colours and to one, against the reference; see
// kernel_case.h.
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kernels/cpu/kernels.h"
#include "kernels/reference/conv2d.h"
#include "tests/check.h"
#include "tests/kernel_case.h"

namespace {

using namespace srgan_fast;
using namespace srgan_fast::tests;

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
        check_map_kernel(way, way.kernels->head, arguments, window.rows, window.width, channels, way.kernels->element,
                         wanted, way.head, name, random);
    }
    check(in.intact() && zeros.intact(), name + ": an input was changed");
}

// Pixels as a sink writes them, with columns beside them that must stay as they are.
template <typename Pixel>
struct TestImage {
    static constexpr bool kPlanes = std::is_same_v<Pixel, float>;
    static constexpr std::int64_t kMargin = 5;

    std::int64_t rows, columns, stride;
    Guarded<Pixel> memory;

    TestImage(std::int64_t rows, std::int64_t columns)
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
    bool operator==(const TestImage& other) const {
        return std::memcmp(memory.data(), other.memory.data(), memory.size() * sizeof(Pixel)) == 0;
    }
};

struct Tail {
    std::int64_t channels;  // after the shuffle
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
    std::optional<TestImage<Pixel>> first;
    for (const std::int64_t tasks : cuts(way.kernels->tail, given)) {
        const std::string cut = what + ", " + std::to_string(tasks) + " tasks";
        TestImage<Pixel> test_image(height, width);
        cpu::Conv9x9Tail arguments = given;
        arguments.sink = test_image.sink(tanh, gain, offset);
        check(run_tasks(way.kernels->tail, arguments, tasks, random), cut + ": scratch memory");
        check(test_image.intact(), cut + ": wrote beside the pixels");
        if (first) {
            check(test_image == *first, cut + ": other bits than in one task");
            continue;
        }
        Error error;
        bool others = true, rounded = true;
        for (std::int64_t y = 0; y < height; ++y)
            for (std::int64_t x = 0; x < width; ++x)
                for (std::int64_t c = 0; c < 3; ++c) {
                    const Pixel got = test_image.at(y, x, c);
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
        first.emplace(std::move(test_image));
    }
}

// A value that is not finite may spoil what its Winograd tiles reach, but nothing else, and no integer.
template <typename Pixel>
void check_tail_not_finite(const Way& way, const Tail& tail, const RowMap& in, float value, Random& random) {
    const Window& window = tail.window;
    const std::int64_t row = window.height / 2, place = window.width / 2 * 4 * tail.channels;
    const float before = in.at(row, place);
    TestImage<Pixel> good(2 * window.height, 2 * window.width), bad(2 * window.height, 2 * window.width);
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
                else if (!TestImage<Pixel>::kPlanes && dy == 0 && dx == 0 && std::isnan(value))
                    black = black && bad.at(y, x, c) == 0;
            }
    const std::string what = way.name + tail.name + ", with " + tests::text(value);
    check(local, what + ": spread too far");
    check(black, what + ": not-a-number is not black");
}

// Random weights, as the reference takes them and packed for each of ways().
struct TailLayer {
    std::int64_t channels;  // after the shuffle
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
    reference::pixel_shuffle(window.height, window.width, channels, 2, input, shuffled);
    for (std::int64_t i = 0; i < pixels; ++i)
        for (std::int64_t c = 0; c < in_channels; ++c)
            kernel_input[i * in_channels + kernel_channel(c, in_channels, 2)] = input[i * in_channels + c];
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
    return finish();
}
