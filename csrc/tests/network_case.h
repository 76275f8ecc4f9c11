// What the tests of the engine share: random networks, images, and what is right, the same convolutions chained with
// the reference.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "engine/engine.h"
#include "kernels/reference/conv2d.h"
#include "tests/check.h"

namespace srgan_fast::tests {

using cpu::PixelType;

// A convolution with its values; see engine::PlainConv.
struct TestConv {
    std::string name;
    std::vector<std::int64_t> inputs;
    std::int64_t out_channels, in_channels, size;
    std::vector<float> weight, bias, slope;
    std::vector<engine::Residual> residuals;
    std::int64_t shuffle;
};

struct TestNetwork {
    std::string name;
    std::vector<TestConv> convs;
    std::int64_t channels = 3, unshuffle = 1;
    engine::Skip skip = engine::Skip::kNone;
    engine::ColourMap input{{2.0f, 1.9f, 1.8f, 1.7f}, {-1.0f, -0.9f, -0.8f, -0.7f}};
    engine::ColourMap output{{0.3f, 0.28f, 0.26f, 0.24f}, {0.5f, 0.51f, 0.52f, 0.53f}};
    bool tanh = false;

    // As the engine takes it; a view of this.
    engine::Network plain() const {
        engine::Network plain{{}, channels, unshuffle, skip, input, output, tanh};
        for (const TestConv& c : convs)
            plain.convs.push_back({c.name, c.inputs, c.out_channels, c.in_channels, c.size, c.weight, c.bias, c.slope,
                                   c.residuals, c.shuffle});
        return plain;
    }
    // Rows of an image that a result may depend on, above and below its own: more than the layers look aside.
    std::int64_t reach() const {
        std::int64_t rows = 2;  // the skip, and a row that is cut by a shuffle
        for (const TestConv& conv : convs) rows += conv.size / 2;
        return rows * unshuffle;
    }
};

// Makes a network of random convolutions, one after the other.
class NetworkBuilder {
  public:
    enum class Slopes { kNone, kOne, kEach };
    struct Spec {
        std::vector<std::int64_t> inputs;
        std::int64_t out_channels = 0, size = 3;
        float gain = 1.0f;  // of the standard deviation, without what is activated
        Slopes slopes = Slopes::kNone;
        std::vector<engine::Residual> residuals{};
        std::int64_t shuffle = 1;
    };

    NetworkBuilder(std::string name, std::int64_t channels, std::int64_t unshuffle, Random& random)
        : channels_{channels * unshuffle * unshuffle}, random_(random) {
        network_.name = std::move(name);
        network_.channels = channels;
        network_.unshuffle = unshuffle;
    }

    // The number of its result.
    std::int64_t add(const Spec& spec) {
        std::int64_t in = 0;
        for (const std::int64_t value : spec.inputs) in += channels_[value];
        const std::int64_t taps = spec.size * spec.size, out = spec.out_channels;
        const std::int64_t slopes = spec.slopes == Slopes::kNone ? 0 : spec.slopes == Slopes::kOne ? 1 : out;
        const float scale = spec.gain / std::sqrt(static_cast<float>(in * taps));
        network_.convs.push_back({"conv " + std::to_string(network_.convs.size()), spec.inputs, out, in, spec.size,
                                  normal_values(out * in * taps, scale, random_), normal_values(out, 0.1f, random_),
                                  normal_values(slopes, 0.3f, random_), spec.residuals, spec.shuffle});
        channels_.push_back(out / (spec.shuffle * spec.shuffle));
        return static_cast<std::int64_t>(network_.convs.size());
    }
    // Adds the last one, to the image's channels.
    TestNetwork finish(Spec spec) {
        spec.out_channels = network_.channels * spec.shuffle * spec.shuffle;
        add(spec);
        return network_;
    }
    TestNetwork& network() { return network_; }

  private:
    TestNetwork network_;
    std::vector<std::int64_t> channels_;  // of the values
    Random& random_;
};

// SRGAN's generator: a 9x9 head, residual blocks, shuffles by 2, a 9x9 tail.
struct SrganShape {
    std::int64_t scale, blocks, channels;
    bool shared_slope, tanh;
};

inline TestNetwork srgan(const SrganShape& shape, Random& random) {
    using Slopes = NetworkBuilder::Slopes;
    const std::int64_t c = shape.channels;
    const Slopes slopes = shape.shared_slope ? Slopes::kOne : Slopes::kEach;
    NetworkBuilder b("SRGAN x" + std::to_string(shape.scale) + ", " + std::to_string(shape.blocks) + " blocks of " +
                         std::to_string(c) + " channels" + (shape.shared_slope ? ", one slope" : "") +
                         (shape.tanh ? ", tanh" : ""),
                     3, 1, random);
    b.network().tanh = shape.tanh;
    const std::int64_t head = b.add({.inputs = {0}, .out_channels = c, .size = 9, .gain = 2.0f, .slopes = slopes});
    std::int64_t x = head;
    for (std::int64_t i = 0; i < shape.blocks; ++i) {
        const std::int64_t y = b.add({.inputs = {x}, .out_channels = c, .gain = 1.4f, .slopes = slopes});
        x = b.add({.inputs = {y}, .out_channels = c, .gain = 0.5f, .residuals = {{x, 1.0f}}});
    }
    x = b.add({.inputs = {x}, .out_channels = c, .gain = 0.7f, .residuals = {{head, 1.0f}}});
    for (std::int64_t s = 1; s < shape.scale; s *= 2)
        x = b.add({.inputs = {x}, .out_channels = 4 * c, .gain = 1.4f, .slopes = slopes, .shuffle = 2});
    return b.finish({.inputs = {x}, .size = 9, .gain = 1.5f});
}

// ESRGAN's generator: dense blocks in residual blocks, whose last convolution has two residuals.
struct RrdbShape {
    std::int64_t grid;  // the output's pixels for one of the network's input, in each direction
    std::int64_t channels, growth, blocks, image_channels, unshuffle;
};

inline TestNetwork rrdb(const RrdbShape& shape, Random& random) {
    using Slopes = NetworkBuilder::Slopes;
    const std::int64_t c = shape.channels;
    NetworkBuilder b("RRDB x" + std::to_string(shape.grid) + " / " + std::to_string(shape.unshuffle) + ", " +
                         std::to_string(shape.blocks) + " blocks of " + std::to_string(c) + " + " +
                         std::to_string(shape.growth) + " channels",
                     shape.image_channels, shape.unshuffle, random);
    const std::int64_t first = b.add({.inputs = {0}, .out_channels = c, .gain = 1.4f});
    std::int64_t x = first;
    for (std::int64_t i = 0; i < shape.blocks; ++i) {
        const std::int64_t before = x;
        for (int dense = 0; dense < 3; ++dense) {
            std::vector<std::int64_t> inputs{x};
            for (int k = 0; k < 4; ++k)
                inputs.push_back(b.add({.inputs = inputs, .out_channels = shape.growth, .slopes = Slopes::kOne}));
            const bool last = dense == 2;
            std::vector<engine::Residual> residuals{{x, last ? 0.2f : 1.0f}};
            if (last) residuals.push_back({before, 1.0f});
            x = b.add({.inputs = inputs, .out_channels = c, .gain = last ? 0.04f : 0.2f, .residuals = residuals});
        }
    }
    x = b.add({.inputs = {x}, .out_channels = c, .gain = 0.7f, .residuals = {{first, 1.0f}}});
    for (std::int64_t s = 1; s < shape.grid; s *= 2)
        x = b.add({.inputs = {x}, .out_channels = 4 * c, .gain = 1.4f, .slopes = Slopes::kOne, .shuffle = 2});
    x = b.add({.inputs = {x}, .out_channels = c, .gain = 1.4f, .slopes = Slopes::kOne});
    return b.finish({.inputs = {x}});
}

// Real-ESRGAN's compact generator: all at the image's size, to a shuffle that is the output, and the image enlarged to
// its nearest pixels.
struct CompactShape {
    std::int64_t scale, layers, channels, image_channels;
};

inline TestNetwork compact(const CompactShape& shape, Random& random) {
    using Slopes = NetworkBuilder::Slopes;
    NetworkBuilder b("compact x" + std::to_string(shape.scale) + ", " + std::to_string(shape.layers) + " layers of " +
                         std::to_string(shape.channels) + " channels",
                     shape.image_channels, 1, random);
    b.network().skip = engine::Skip::kNearest;
    std::int64_t x = 0;
    for (std::int64_t i = 0; i < shape.layers; ++i)
        x = b.add({.inputs = {x}, .out_channels = shape.channels, .gain = 1.4f, .slopes = Slopes::kEach});
    return b.finish({.inputs = {x}, .gain = 0.5f, .shuffle = shape.scale});
}

// EDSR: residual blocks with a ReLU, a shuffle by 2 or 3, or two by 2; here with the image enlarged bilinearly.
struct EdsrShape {
    std::int64_t scale, blocks, channels, image_channels;
};

inline TestNetwork edsr(const EdsrShape& shape, Random& random) {
    const std::int64_t c = shape.channels;
    NetworkBuilder b("EDSR x" + std::to_string(shape.scale) + ", " + std::to_string(shape.blocks) + " blocks of " +
                         std::to_string(c) + " channels",
                     shape.image_channels, 1, random);
    b.network().skip = engine::Skip::kBilinear;
    const std::int64_t head = b.add({.inputs = {0}, .out_channels = c, .gain = 1.4f});
    std::int64_t x = head;
    for (std::int64_t i = 0; i < shape.blocks; ++i) {
        const std::int64_t y = b.add({.inputs = {x}, .out_channels = c, .slopes = NetworkBuilder::Slopes::kOne});
        b.network().convs.back().slope = {0.0f};
        x = b.add({.inputs = {y}, .out_channels = c, .residuals = {{x, 1.0f}}});
    }
    x = b.add({.inputs = {x}, .out_channels = c, .gain = 0.7f, .residuals = {{head, 1.0f}}});
    const std::int64_t factor = shape.scale % 3 == 0 ? 3 : 2;
    for (std::int64_t s = 1; s < shape.scale; s *= factor)
        x = b.add({.inputs = {x}, .out_channels = factor * factor * c, .shuffle = factor});
    return b.finish({.inputs = {x}, .gain = 0.7f});
}

// Everything that no known network does: 1x1 convolutions, the image read late and by several, a map read twice by one
// layer, a residual of negative scale and one that is an input as well, layers of the image's size after one that
// enlarges, several maps and residuals of a larger size, one of which nothing else reads, and a last shuffle after
// others.
inline TestNetwork mixed(std::int64_t image_channels, std::int64_t unshuffle, Random& random) {
    using Slopes = NetworkBuilder::Slopes;
    NetworkBuilder b(
        "mixed, " + std::to_string(image_channels) + " channels, unshuffled by " + std::to_string(unshuffle),
        image_channels, unshuffle, random);
    if (unshuffle == 1) b.network().skip = engine::Skip::kBilinear;
    const std::int64_t first = b.add({.inputs = {0}, .out_channels = 20, .size = 1, .slopes = Slopes::kEach});
    const std::int64_t second = b.add({.inputs = {0, first}, .out_channels = 36, .slopes = Slopes::kOne});
    const std::int64_t third = b.add({.inputs = {second, 0, second},
                                      .out_channels = 36,
                                      .slopes = Slopes::kEach,
                                      .residuals = {{second, -0.5f}, {second, 0.25f}}});
    const std::int64_t large = b.add({.inputs = {third}, .out_channels = 4 * 12, .shuffle = 2});
    const std::int64_t fourth =
        b.add({.inputs = {first, third}, .out_channels = 20, .slopes = Slopes::kOne, .residuals = {{first, 0.7f}}});
    const std::int64_t other =
        b.add({.inputs = {fourth, 0}, .out_channels = 4 * 24, .size = 1, .slopes = Slopes::kEach, .shuffle = 2});
    const std::int64_t joined =
        b.add({.inputs = {large, other}, .out_channels = 12, .slopes = Slopes::kEach, .residuals = {{large, 0.3f}}});
    const std::int64_t beside = b.add({.inputs = {first}, .out_channels = 4 * 24, .shuffle = 2});
    const std::int64_t last =
        b.add({.inputs = {joined, large}, .out_channels = 24, .residuals = {{other, 0.5f}, {beside, 0.25f}}});
    return b.finish({.inputs = {last, joined}, .gain = 0.7f, .slopes = Slopes::kOne, .shuffle = 2});
}

// A single convolution.
inline TestNetwork single(std::int64_t image_channels, std::int64_t size, std::int64_t shuffle, engine::Skip skip,
                          Random& random) {
    NetworkBuilder b(
        "one layer of " + std::to_string(size) + "x" + std::to_string(size) + ", x" + std::to_string(shuffle),
        image_channels, 1, random);
    b.network().skip = skip;
    return b.finish({.inputs = {0}, .size = size, .gain = 0.7f, .shuffle = shuffle});
}

// An image of one of the three types, as the engine takes and returns it.
struct TestImage {
    PixelType type;
    std::int64_t channels, height, width;
    std::vector<std::uint8_t> bytes;

    TestImage(PixelType t, std::int64_t c, std::int64_t h, std::int64_t w)
        : type(t), channels(c), height(h), width(w), bytes(c * h * w * size(), 0xff) {}

    std::int64_t size() const { return type == PixelType::kUint8 ? 1 : type == PixelType::kUint16 ? 2 : 4; }
    double white() const { return type == PixelType::kUint8 ? 255.0 : type == PixelType::kUint16 ? 65535.0 : 1.0; }
    // Between 0 and white.
    double at(std::int64_t y, std::int64_t x, std::int64_t c) const {
        const std::int64_t dense = (y * width + x) * channels + c;
        switch (type) {
            case PixelType::kUint8: return bytes[dense];
            case PixelType::kUint16: return value<std::uint16_t>(dense);
            default: return value<float>((c * height + y) * width + x);
        }
    }
    engine::ImageIn view() const { return {type, bytes.data(), height, width}; }
    bool operator==(const TestImage& other) const = default;

  private:
    template <typename T>
    T value(std::int64_t i) const {
        T v;
        std::memcpy(&v, bytes.data() + i * sizeof(T), sizeof(T));
        return v;
    }
};

inline std::string text(const TestImage& p) {
    return std::to_string(p.height) + "x" + std::to_string(p.width) + " " +
           (p.type == PixelType::kUint8    ? "uint8"
            : p.type == PixelType::kUint16 ? "uint16"
                                           : "float");
}

inline TestImage random_image(PixelType type, std::int64_t channels, std::int64_t height, std::int64_t width,
                              Random& random) {
    TestImage test_image(type, channels, height, width);
    if (type == PixelType::kFloat) {
        std::uniform_real_distribution<float> uniform(0.0f, 1.0f);
        std::vector<float> values(channels * height * width);
        for (float& v : values) v = uniform(random);
        std::memcpy(test_image.bytes.data(), values.data(), test_image.bytes.size());
    } else {
        for (std::uint8_t& byte : test_image.bytes) byte = static_cast<std::uint8_t>(random());
    }
    return test_image;
}

// A dense map of the reference, [height][width][channels].
struct ReferenceMap {
    std::int64_t height, width, channels;
    std::vector<float> values;

    ReferenceMap(std::int64_t h, std::int64_t w, std::int64_t c)
        : height(h), width(w), channels(c), values(h * w * c) {}
    float& at(std::int64_t y, std::int64_t x, std::int64_t c) { return values[(y * width + x) * channels + c]; }
    float at(std::int64_t y, std::int64_t x, std::int64_t c) const { return values[(y * width + x) * channels + c]; }
};

// Rows from .. to of an image in the network's range.
inline ReferenceMap reference_image(const TestNetwork& network, const TestImage& test_image, std::int64_t from,
                                    std::int64_t to) {
    ReferenceMap image(to - from, test_image.width, network.channels);
    for (std::int64_t y = 0; y < image.height; ++y)
        for (std::int64_t x = 0; x < image.width; ++x)
            for (std::int64_t c = 0; c < image.channels; ++c)
                image.at(y, x, c) =
                    static_cast<float>(test_image.at(from + y, x, c) / test_image.white() * network.input.gain[c] +
                                       network.input.offset[c]);
    return image;
}

inline ReferenceMap reference_unshuffle(const ReferenceMap& in, std::int64_t factor) {
    ReferenceMap out(in.height / factor, in.width / factor, in.channels * factor * factor);
    for (std::int64_t y = 0; y < in.height; ++y)
        for (std::int64_t x = 0; x < in.width; ++x)
            for (std::int64_t c = 0; c < in.channels; ++c)
                out.at(y / factor, x / factor, (c * factor + y % factor) * factor + x % factor) = in.at(y, x, c);
    return out;
}

// The convolution on the values before it.
inline ReferenceMap reference_conv(const TestConv& conv, const std::vector<ReferenceMap>& values) {
    const ReferenceMap& first = values[conv.inputs[0]];
    ReferenceMap in(first.height, first.width, conv.in_channels), flat(in.height, in.width, conv.out_channels);
    std::int64_t before = 0;
    for (const std::int64_t value : conv.inputs) {
        const ReferenceMap& map = values[value];
        for (std::int64_t p = 0; p < in.height * in.width; ++p)
            std::copy_n(map.values.data() + p * map.channels, map.channels,
                        in.values.data() + p * in.channels + before);
        before += map.channels;
    }
    std::vector<float> slope = conv.slope;
    if (slope.size() == 1) slope.resize(conv.out_channels, slope[0]);
    std::vector<reference::Residual> residuals;
    for (const engine::Residual& residual : conv.residuals)
        residuals.push_back({values[residual.value].values, residual.scale});
    reference::conv2d({conv.in_channels, conv.out_channels, conv.size, conv.weight, conv.bias, slope}, in.height,
                      in.width, in.values, residuals, flat.values);
    const std::int64_t factor = conv.shuffle;
    ReferenceMap out(in.height * factor, in.width * factor, conv.out_channels / (factor * factor));
    reference::pixel_shuffle(in.height, in.width, out.channels, factor, flat.values, out.values);
    return out;
}

// An image's value at a place of the output. Bilinear: pixel centres lie at halves, what is outside repeats the border.
inline double reference_skip(engine::Skip skip, const ReferenceMap& image, std::int64_t scale, std::int64_t y,
                             std::int64_t x, std::int64_t c) {
    if (skip == engine::Skip::kNone) return 0.0;
    if (skip == engine::Skip::kNearest) return image.at(y / scale, x / scale, c);
    const auto at = [&](std::int64_t row, std::int64_t column) {
        return double{image.at(std::clamp<std::int64_t>(row, 0, image.height - 1),
                               std::clamp<std::int64_t>(column, 0, image.width - 1), c)};
    };
    const double place_y = (static_cast<double>(y) + 0.5) / static_cast<double>(scale) - 0.5;
    const double place_x = (static_cast<double>(x) + 0.5) / static_cast<double>(scale) - 0.5;
    const auto top = static_cast<std::int64_t>(std::floor(place_y));
    const auto left = static_cast<std::int64_t>(std::floor(place_x));
    const double down = place_y - static_cast<double>(top), right = place_x - static_cast<double>(left);
    return (1.0 - down) * ((1.0 - right) * at(top, left) + right * at(top, left + 1)) +
           down * ((1.0 - right) * at(top + 1, left) + right * at(top + 1, left + 1));
}

// The result in 0..1, without the clamping of integers, of the image's rows from .. to as if there were no others.
inline ReferenceMap reference_rows(const TestNetwork& network, const TestImage& test_image, std::int64_t from,
                                   std::int64_t to) {
    const ReferenceMap image = reference_image(network, test_image, from, to);
    std::vector<ReferenceMap> values{reference_unshuffle(image, network.unshuffle)};
    for (const TestConv& conv : network.convs) values.push_back(reference_conv(conv, values));
    ReferenceMap out = std::move(values.back());
    const std::int64_t scale = out.height / image.height;
    for (std::int64_t y = 0; y < out.height; ++y)
        for (std::int64_t x = 0; x < out.width; ++x)
            for (std::int64_t c = 0; c < out.channels; ++c) {
                double value = out.at(y, x, c) + reference_skip(network.skip, image, scale, y, x, c);
                if (network.tanh) value = std::tanh(value);
                out.at(y, x, c) = static_cast<float>(value * network.output.gain[c] + network.output.offset[c]);
            }
    return out;
}

inline TestImage run(engine::Engine& engine, const TestImage& test_image, const engine::Progress& progress = {}) {
    const std::int64_t scale = engine.model().scale();
    TestImage out(test_image.type, test_image.channels, test_image.height * scale, test_image.width * scale);
    engine.run(test_image.view(), out.bytes.data(), progress);
    return out;
}

// A level and a precision.
struct EngineWay {
    cpu::Isa isa;
    engine::Precision precision;
};

// All that can be used here. Of them, the thread sanitizer, which makes everything slow, sees the last: they share
// every line that has to do with threads.
inline std::vector<EngineWay> engine_ways() {
    std::vector<EngineWay> all;
    for (const cpu::Isa isa : cpu::usable_isas()) {
        all.push_back({isa, engine::Precision::kFp32});
        if (cpu::kernels(isa).bf16.conv3x3.run) all.push_back({isa, engine::Precision::kBf16});
    }
#ifdef __SANITIZE_THREAD__
    all.erase(all.begin(), all.end() - 1);
#endif
    return all;
}

inline std::string text(const EngineWay& way) {
    return std::string(cpu::isa_name(way.isa)) + (way.precision == engine::Precision::kBf16 ? " bf16" : "");
}

// A height at which an image takes at least three strips, in whatever way it is computed: they are highest where maps
// are of bfloat16.
inline std::int64_t tall(const TestNetwork& network, std::int64_t width) {
    const EngineWay last = engine_ways().back();
    engine::Engine engine(network.plain(), last.precision, last.isa, 1);
    for (std::int64_t height = 1 << 15;; height *= 4) {
        std::int64_t strip = 0;
        run(engine, TestImage(PixelType::kUint8, network.channels, height, width), [&](std::int64_t rows) {
            strip = rows / engine.model().scale();
            return false;
        });
        if (strip < height / 4) return (2 * strip + strip / 4 + 29) / network.unshuffle * network.unshuffle;
    }
}

}  // namespace srgan_fast::tests
