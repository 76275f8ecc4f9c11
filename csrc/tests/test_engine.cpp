// The engine on random generators: whole pictures against the same layers chained with the reference, for every usable
// instruction set; and the same bits whatever the number of threads, the pictures before, and the callers.
#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "engine/engine.h"
#include "kernels/reference/conv2d.h"
#include "tests/check.h"

namespace {

using namespace srgan_fast;
using namespace srgan_fast::engine;
using namespace srgan_fast::tests;
using cpu::PixelType;

// Largest errors of a whole generator, in units of the output's range; root mean squares must be an eighth of that.
constexpr double kFp32 = 2e-5;  // what the engine promises; 8.5e-6 is the worst measured
// A layer in bf16 has an error of 2.5e-2 in places where Winograd is at its worst (see test_conv.cpp), and a random
// generator does not damp it: 4.2e-2 is the worst measured, 7e-3 in the root mean square.
constexpr double kBf16 = 8e-2;
// Direct, with maps of bfloat16: 9.1e-3 is the worst measured, 2e-3 in the root mean square.
constexpr double kDirectBf16 = 2.4e-2;

// A layer with its values.
struct Layer {
    std::int64_t out, in, size;
    std::vector<float> weight, bias, slope;

    PlainConv plain() const { return {out, in, size, weight, bias, slope}; }
};

struct Shape {
    std::int64_t scale, blocks, channels;
    bool shared_slope, tanh;
};

std::string text(const Shape& s) {
    return "x" + std::to_string(s.scale) + ", " + std::to_string(s.blocks) + " blocks of " +
           std::to_string(s.channels) + " channels" + (s.shared_slope ? ", one slope" : "") + (s.tanh ? ", tanh" : "");
}

struct Generator {
    Shape shape;
    Layer head, tail;
    std::vector<Layer> trunk, upsample;
    ColourMap input{{2.0f, 1.9f, 1.8f}, {-1.0f, -0.9f, -0.8f}}, output{{0.3f, 0.28f, 0.26f}, {0.5f, 0.51f, 0.52f}};

    PlainGenerator plain() const {
        PlainGenerator plain{head.plain(), {}, {}, tail.plain(), input, output, shape.tanh};
        for (const Layer& layer : trunk) plain.trunk.push_back(layer.plain());
        for (const Layer& layer : upsample) plain.upsample.push_back(layer.plain());
        return plain;
    }
};

Generator random_generator(const Shape& shape, Random& random) {
    // Slopes 0 (none), 1 or one for each channel; behind a shuffle there are `channels`.
    const auto layer = [&](std::int64_t out, std::int64_t in, std::int64_t size, bool activated, float gain) {
        const float scale = gain / std::sqrt(static_cast<float>(in * size * size));
        const std::int64_t slopes = !activated ? 0 : shape.shared_slope ? 1 : shape.channels;
        return Layer{out,
                     in,
                     size,
                     normal_values(out * in * size * size, scale, random),
                     normal_values(out, 0.1f, random),
                     normal_values(slopes, 0.3f, random)};
    };
    const std::int64_t c = shape.channels;
    Generator generator{shape, layer(c, 3, 9, true, 2.0f), layer(3, c, 9, false, 1.5f), {}, {}};
    for (std::int64_t i = 0; i < shape.blocks; ++i) {
        generator.trunk.push_back(layer(c, c, 3, true, 1.4f));
        generator.trunk.push_back(layer(c, c, 3, false, 0.5f));
    }
    generator.trunk.push_back(layer(c, c, 3, false, 0.7f));
    for (std::int64_t s = 1; s < shape.scale; s *= 2) generator.upsample.push_back(layer(4 * c, c, 3, true, 1.4f));
    return generator;
}

// A picture of one of the three types, as the engine takes and returns it.
struct Picture {
    PixelType type;
    std::int64_t height, width;
    std::vector<std::uint8_t> bytes;

    Picture(PixelType t, std::int64_t h, std::int64_t w)
        : type(t), height(h), width(w), bytes(3 * h * w * size(), 0xff) {}

    std::int64_t size() const { return type == PixelType::kUint8 ? 1 : type == PixelType::kUint16 ? 2 : 4; }
    double white() const { return type == PixelType::kUint8 ? 255.0 : type == PixelType::kUint16 ? 65535.0 : 1.0; }
    // Between 0 and white.
    double at(std::int64_t y, std::int64_t x, std::int64_t c) const {
        const std::int64_t dense = (y * width + x) * 3 + c;
        switch (type) {
            case PixelType::kUint8: return bytes[dense];
            case PixelType::kUint16: return value<std::uint16_t>(dense);
            default: return value<float>((c * height + y) * width + x);
        }
    }
    ImageIn view() const { return {type, bytes.data(), height, width}; }
    bool operator==(const Picture& other) const = default;

  private:
    template <typename T>
    T value(std::int64_t i) const {
        T v;
        std::memcpy(&v, bytes.data() + i * sizeof(T), sizeof(T));
        return v;
    }
};

std::string text(const Picture& p) {
    return std::to_string(p.height) + "x" + std::to_string(p.width) + " " +
           (p.type == PixelType::kUint8    ? "uint8"
            : p.type == PixelType::kUint16 ? "uint16"
                                           : "float");
}

Picture random_picture(PixelType type, std::int64_t height, std::int64_t width, Random& random) {
    Picture picture(type, height, width);
    if (type == PixelType::kFloat) {
        std::uniform_real_distribution<float> uniform(0.0f, 1.0f);
        std::vector<float> values(3 * height * width);
        for (float& v : values) v = uniform(random);
        std::memcpy(picture.bytes.data(), values.data(), picture.bytes.size());
    } else {
        for (std::uint8_t& byte : picture.bytes) byte = static_cast<std::uint8_t>(random());
    }
    return picture;
}

// Rows first .. first + rows of the result in 0..1, [row][column][colour], without the clamping of integers. Computed
// from the input rows `from .. to`, which must reach far enough; beyond them is the outside.
std::vector<float> reference_rows(const Generator& generator, const Picture& picture, std::int64_t from,
                                  std::int64_t to) {
    std::int64_t height = to - from, width = picture.width;
    const std::int64_t c = generator.shape.channels;
    std::vector<float> x(height * width * 3);
    for (std::int64_t i = 0; i < height * width * 3; ++i)
        x[i] = static_cast<float>(picture.at(from + i / 3 / width, i / 3 % width, i % 3) / picture.white() *
                                      generator.input.gain[i % 3] +
                                  generator.input.offset[i % 3]);
    const auto convolve = [&](const Layer& layer, const std::vector<float>& in, const std::vector<float>& residual) {
        std::vector<float> slope;
        if (!layer.slope.empty())
            for (std::int64_t o = 0; o < layer.out; ++o)  // four channels become one behind a shuffle
                slope.push_back(layer.slope[layer.slope.size() == 1 ? 0 : layer.out == 4 * c ? o / 4 : o]);
        std::vector<float> out(height * width * layer.out);
        reference::conv2d({layer.in, layer.out, layer.size, layer.weight, layer.bias, slope}, height, width, in,
                          residual, out);
        return out;
    };
    x = convolve(generator.head, x, {});
    const std::vector<float> head = x;
    for (std::size_t i = 0; i + 1 < generator.trunk.size(); i += 2)
        x = convolve(generator.trunk[i + 1], convolve(generator.trunk[i], x, {}), x);
    x = convolve(generator.trunk.back(), x, head);
    for (const Layer& layer : generator.upsample) {
        const std::vector<float> flat = convolve(layer, x, {});
        x.resize(flat.size());
        reference::pixel_shuffle(height, width, c, flat, x);
        height *= 2;
        width *= 2;
    }
    x = convolve(generator.tail, x, {});
    for (std::size_t i = 0; i < x.size(); ++i) {
        const double value = generator.shape.tanh ? std::tanh(double{x[i]}) : x[i];
        x[i] = static_cast<float>(value * generator.output.gain[i % 3] + generator.output.offset[i % 3]);
    }
    return x;
}

std::vector<float> reference_picture(const Generator& generator, const Picture& picture) {
    return reference_rows(generator, picture, 0, picture.height);
}

// Compares rows of a result, the first being `first`, with `expected`, whose first `skip` rows are left out.
void compare(const Picture& got, std::int64_t first, std::int64_t rows, std::span<const float> expected,
             std::int64_t skip, double tolerance, const std::string& what) {
    Error error;
    for (std::int64_t y = 0; y < rows; ++y)
        for (std::int64_t x = 0; x < got.width; ++x)
            for (std::int64_t c = 0; c < 3; ++c) {
                const double value = expected[((skip + y) * got.width + x) * 3 + c];
                const double clamped = got.type == PixelType::kFloat ? value : std::clamp(value, 0.0, 1.0);
                error.add(got.at(first + y, x, c) / got.white(), clamped);
            }
    const double rounding = got.type == PixelType::kFloat ? 0.0 : 0.5 / got.white();
    // A single pixel has no range to speak of.
    const double range = std::max(error.range(), 0.5);
    check(error.largest() <= tolerance * range + rounding && error.rms() <= tolerance / 8 * range + rounding,
          what + ": largest error " + tests::text(error.largest()) + ", rms " + tests::text(error.rms()) +
              " of a range of " + tests::text(range));
}

Picture run(Engine& engine, const Picture& picture, const Progress& progress = {}) {
    const std::int64_t scale = engine.model().scale();
    Picture out(picture.type, picture.height * scale, picture.width * scale);
    engine.run(picture.view(), out.bytes.data(), progress);
    return out;
}

// A level and a precision.
struct Way {
    cpu::Isa isa;
    Precision precision;
};

// All that can be used here. Of them, the thread sanitizer, which makes everything slow, sees the last: they share
// every line that has to do with threads.
std::vector<Way> ways() {
    std::vector<Way> all;
    for (const cpu::Isa isa : cpu::usable_isas()) {
        all.push_back({isa, Precision::kFp32});
        if (cpu::kernels(isa).bf16.conv3x3.run) all.push_back({isa, Precision::kBf16});
    }
#ifdef __SANITIZE_THREAD__
    all.erase(all.begin(), all.end() - 1);
#endif
    return all;
}

std::string text(const Way& way) {
    return std::string(cpu::isa_name(way.isa)) + (way.precision == Precision::kBf16 ? " bf16" : "");
}

double tolerance(const Way& way) {
    if (way.precision == Precision::kFp32) return kFp32;
    return way.isa == cpu::Isa::kAmx ? kDirectBf16 : kBf16;
}

void test_small_pictures(const Shape& shape, Random& random) {
    const Generator generator = random_generator(shape, random);
    std::vector<std::unique_ptr<Engine>> engines;
    for (const Way& way : ways())
        engines.push_back(std::make_unique<Engine>(generator.plain(), way.precision, way.isa, 2));
    constexpr std::int64_t kSizes[][2] = {{1, 1}, {1, 9}, {7, 1}, {5, 7}, {11, 6}};
    int turn = 0;
    for (const auto& [height, width] : kSizes) {
        const PixelType type = std::array{PixelType::kFloat, PixelType::kUint8, PixelType::kUint16}[turn++ % 3];
        const Picture picture = random_picture(type, height, width, random);
        const std::vector<float> expected = reference_picture(generator, picture);
        for (std::size_t i = 0; i < engines.size(); ++i) {
            const Picture got = run(*engines[i], picture);
            compare(got, 0, got.height, expected, 0, tolerance(ways()[i]),
                    text(ways()[i]) + ", " + text(shape) + ", " + text(picture));
        }
    }
}

// Wide pictures, which are computed in panels behind the trunk; all seams lie in the result that is compared.
void test_wide_picture(const Shape& shape, std::int64_t width, Random& random) {
    const Generator generator = random_generator(shape, random);
    const Picture picture = random_picture(PixelType::kFloat, 3, width, random);
    const std::vector<float> expected = reference_picture(generator, picture);
    for (const Way& way : ways()) {
        Engine engine(generator.plain(), way.precision, way.isa, 2);
        const Picture got = run(engine, picture);
        compare(got, 0, got.height, expected, 0, tolerance(way), text(way) + ", " + text(shape) + ", " + text(picture));
    }
}

// A height at which a picture takes at least three strips.
std::int64_t tall(const Generator& generator, std::int64_t width) {
    Engine engine(generator.plain(), Precision::kFp32, cpu::usable_isas().back(), 1);
    for (std::int64_t height = 1 << 15;; height *= 4) {
        std::int64_t strip = 0;
        run(engine, Picture(PixelType::kUint8, height, width), [&](std::int64_t rows) {
            strip = rows / generator.shape.scale;
            return false;
        });
        if (strip < height / 4) return 2 * strip + strip / 4 + 29;
    }
}

// A tall picture is computed in strips. What is near their seams and the picture's ends is compared.
void test_tall_picture(const Shape& shape, std::int64_t width, const std::vector<Way>& chosen, Random& random) {
    const Generator generator = random_generator(shape, random);
    const std::int64_t halo = 4 + std::int64_t(generator.trunk.size()) + 4 + 4;  // more than the layers look aside
    constexpr std::int64_t kNear = 12;
    const std::int64_t height = tall(generator, width);
    const Picture picture = random_picture(PixelType::kFloat, height, width, random);
    for (const Way& way : chosen) {
        Engine engine(generator.plain(), way.precision, way.isa, 2);
        std::vector<std::int64_t> ends;
        const Picture got = run(engine, picture, [&](std::int64_t rows) {
            ends.push_back(rows);
            return true;
        });
        const std::string what = text(way) + ", " + text(shape) + ", " + text(picture);
        check(ends.size() >= 3 && std::ranges::is_sorted(ends) && ends.back() == got.height,
              what + ": " + std::to_string(ends.size()) + " strips");
        ends.push_back(0);
        for (const std::int64_t end : ends) {
            // The layers before have their seams up to a trunk's lag below.
            const std::int64_t middle = end / shape.scale;
            const std::int64_t first = std::clamp<std::int64_t>(middle - kNear, 0, height),
                               last = std::min(height, middle + kNear + std::int64_t(generator.trunk.size()));
            const std::int64_t from = std::max<std::int64_t>(0, first - halo), to = std::min(height, last + halo);
            compare(got, first * shape.scale, (last - first) * shape.scale,
                    reference_rows(generator, picture, from, to), (first - from) * shape.scale, tolerance(way),
                    what + ", near row " + std::to_string(end));
        }
        // More threads than processors are slow where calls are short, and no different from level to level.
        for (const int threads : {1, 3}) {
            if (threads == 3 && way.isa != ways().back().isa) continue;
            Engine other(generator.plain(), way.precision, way.isa, threads);
            check(run(other, picture) == got, what + ": other bits on " + std::to_string(threads) + " threads");
        }
        // Memory grows with the width alone; a few rows more or less are kept at the ends.
        const auto one = static_cast<double>(engine.working_memory(height, width)),
                   four = static_cast<double>(engine.working_memory(4 * height, width));
        check(four < 1.02 * one, what + ": memory grows from " + tests::text(one) + " to " + tests::text(four));
    }
}

// Beyond some strips, the rows that a plan needs are counted on a lower picture; they must be enough.
void test_very_tall_picture(std::int64_t scale, Random& random) {
    const Generator generator = random_generator({scale, 0, 16, false, false}, random);
    const Way way = ways().back();
    Engine engine(generator.plain(), way.precision, way.isa, 1);
    const std::int64_t about = tall(generator, 1);  // more than two strips
    const std::int64_t height = 5 * about + below(about / 2, random);
    const Picture picture(PixelType::kUint8, height, 1);
    const std::int64_t before = engine.working_memory(height, 1);
    const Picture got = run(engine, picture);
    const std::string what = text(way) + ", " + text(generator.shape) + ", " + text(picture);
    check(engine.working_memory(height, 1) == before, what + ": took more memory than it said");
    // Rows far from the ends of a picture of one colour are the same.
    const auto row = [&](std::int64_t y) {
        const std::size_t size = 3 * scale;
        return std::vector<std::uint8_t>(got.bytes.begin() + y * size, got.bytes.begin() + (y + 1) * size);
    };
    bool same = true;
    for (std::int64_t y = 40 * scale; y < (height - 40) * scale; ++y) {
        const auto values = row(y), expected = row(40 * scale + y % scale);
        for (std::size_t i = 0; i < values.size(); ++i) same = same && std::abs(values[i] - expected[i]) <= 1;
    }
    check(same || way.precision == Precision::kBf16, what + ": rows differ");
}

// One engine, pictures of many sizes one after the other: nothing of the ones before may be left.
void test_series(Random& random) {
    const Generator generator = random_generator({4, 1, 40, false, true}, random);
    for (const Way& way : ways()) {
        std::vector<Picture> pictures, expected;
        for (const auto& [height, width] : {std::pair{9, 14}, {1, 1}, {9, 14}, {30, 5}, {5, 30}, {30, 5}, {9, 14}})
            pictures.push_back(random_picture(PixelType::kUint8, height, width, random));
        for (const Picture& picture : pictures) {
            Engine fresh(generator.plain(), way.precision, way.isa, 1);
            expected.push_back(run(fresh, picture));
        }
        for (const int threads : {1, 2, 3, 7}) {
            Engine engine(generator.plain(), way.precision, way.isa, threads);
            for (std::size_t i = 0; i < pictures.size(); ++i)
                check(run(engine, pictures[i]) == expected[i], text(way) + ", series, picture " + std::to_string(i) +
                                                                   " on " + std::to_string(threads) + " threads");
        }
    }
}

void test_callers(Random& random) {
    const Generator generator = random_generator({4, 1, 16, false, false}, random);
    const Way way = ways().back();
    const Picture small = random_picture(PixelType::kFloat, 9, 13, random),
                  large = random_picture(PixelType::kUint8, 21, 18, random);
    Engine shared(generator.plain(), way.precision, way.isa, 2);
    const Picture small_expected = run(shared, small), large_expected = run(shared, large);
    std::atomic<int> wrong{0};
    std::vector<std::thread> callers;
    for (int i = 0; i < 3; ++i)
        callers.emplace_back([&, i] {
            // Engines of their own, made and used at the same time; and one that all of them use.
            Engine own(generator.plain(), way.precision, way.isa, 1 + i);
            for (int turn = 0; turn < 4; ++turn) {
                if (run(own, small) != small_expected || run(own, large) != large_expected) ++wrong;
                if (run(shared, i % 2 ? small : large) != (i % 2 ? small_expected : large_expected)) ++wrong;
                if (shared.layer_times().empty() || shared.working_memory(3, 4) <= 0) ++wrong;
            }
        });
    for (std::thread& caller : callers) caller.join();
    check(wrong == 0, "several callers: " + std::to_string(wrong) + " wrong results");
}

void test_ended_runs(Random& random) {
    const Generator generator = random_generator({2, 1, 16, false, false}, random);
    const Way way = ways().back();
    Engine engine(generator.plain(), way.precision, way.isa, 2), other(generator.plain(), way.precision, way.isa, 2);
    const Picture picture = random_picture(PixelType::kUint8, tall(generator, 2), 2, random);
    const Picture expected = run(other, picture);
    Picture out(picture.type, expected.height, expected.width);
    for (int after = kSlow ? 2 : 1; after <= 2; ++after) {
        int calls = 0;
        const auto end = [&](std::int64_t) { return ++calls < after; };
        check(!engine.run(picture.view(), out.bytes.data(), end) && calls == after, "ended by progress");
        check(run(engine, picture) == expected, "a run after one that was ended");
        calls = 0;
        const auto raise = [&](std::int64_t) -> bool {
            if (++calls == after) throw std::runtime_error("raised");
            return true;
        };
        bool raised = false;
        try {
            engine.run(picture.view(), out.bytes.data(), raise);
        } catch (const std::runtime_error&) {
            raised = true;
        }
        check(raised, "progress raises");
        check(run(engine, picture) == expected, "a run after one in which progress raised");
    }
}

// What `change` does to a good generator must be refused with a message that starts with `layer`.
template <typename Change>
void refused(const Generator& good, const std::string& layer, const Change& change) {
    Generator bad = good;
    change(bad);
    std::string message = "nothing was thrown";
    try {
        const Engine engine(bad.plain(), Precision::kFp32, cpu::Isa::kBaseline, 1);
    } catch (const std::invalid_argument& error) {
        message = error.what();
    }
    check(message.starts_with(layer), "expected an error about " + layer + ", but: " + message);
}

void test_bad_shapes(Random& random) {
    const Generator good = random_generator({4, 2, 16, false, false}, random);
    refused(good, "head: weight", [](Generator& g) { g.head.in = 4; });
    refused(good, "head: weight", [](Generator& g) { g.head.size = 7; });
    refused(good, "head: weight", [](Generator& g) { g.head.weight.pop_back(); });
    refused(good, "head: bias", [](Generator& g) { g.head.bias.push_back(0.0f); });
    refused(good, "head: 0 slopes", [](Generator& g) { g.head.slope.clear(); });
    refused(good, "head: 15 slopes", [](Generator& g) { g.head.slope.pop_back(); });
    refused(good, "the head", [](Generator& g) { g.head = {0, 3, 9, {}, {}, {}}; });
    refused(good, "trunk 1: weight", [](Generator& g) { g.trunk[1].out = 32; });
    refused(good, "trunk 2: weight", [](Generator& g) { g.trunk[2].weight.clear(); });
    refused(good, "trunk 2: 0 slopes", [](Generator& g) { g.trunk[2].slope.clear(); });
    refused(good, "trunk 3: 1 slopes", [](Generator& g) { g.trunk[3].slope = {0.1f}; });
    refused(good, "trunk 4: bias", [](Generator& g) { g.trunk[4].bias.clear(); });
    refused(good, "the trunk", [](Generator& g) { g.trunk.pop_back(); });
    refused(good, "the trunk", [](Generator& g) { g.trunk.clear(); });
    refused(good, "upsample 0: weight", [](Generator& g) { g.upsample[0].out = 16; });
    refused(good, "upsample 1: weight", [](Generator& g) { g.upsample[1].size = 5; });
    refused(good, "upsample 1: 64 slopes", [](Generator& g) { g.upsample[1].slope.resize(64); });
    refused(good, "a generator has 1 to 3", [](Generator& g) { g.upsample.clear(); });
    refused(good, "a generator has 1 to 3", [](Generator& g) { g.upsample.resize(4, g.upsample[0]); });
    refused(good, "tail: weight", [](Generator& g) { g.tail.out = 4; });
    refused(good, "tail: bias", [](Generator& g) { g.tail.bias.pop_back(); });
    refused(good, "tail: 1 slopes", [](Generator& g) { g.tail.slope = {0.1f}; });
    for (const int threads : {0, -1}) {
        std::string message;
        try {
            const Engine engine(good.plain(), Precision::kFp32, cpu::Isa::kBaseline, threads);
        } catch (const std::invalid_argument& error) {
            message = error.what();
        }
        check(message.starts_with("threads is "), std::to_string(threads) + " threads: " + message);
    }
    std::string message;
    try {
        const Engine engine(good.plain(), Precision::kBf16, cpu::Isa::kBaseline, 1);
    } catch (const std::invalid_argument& error) {
        message = error.what();
    }
    check(message.starts_with("bf16 needs"), "bf16 on the baseline: " + message);
}

}  // namespace

int main() {
    Random random(20261126);
    test_small_pictures({2, 1, 16, false, false}, random);
    test_small_pictures({4, 1, 40, true, true}, random);
    test_small_pictures({8, 1, 16, false, false}, random);
    test_wide_picture({2, 1, 16, false, false}, 531, random);
    test_wide_picture({8, 1, 16, false, false}, 133, random);
    test_tall_picture({2, 1, 16, false, false}, 2, ways(), random);
    if (!kSlow) {
        test_small_pictures({2, 0, 64, true, true}, random);
        test_small_pictures({4, 3, 40, false, true}, random);
        test_small_pictures({4, 1, 64, true, false}, random);
        test_small_pictures({8, 0, 40, false, true}, random);
        test_wide_picture({4, 0, 16, false, false}, 270, random);
        test_tall_picture({4, 1, 40, false, false}, 3, {ways().back()}, random);
        test_very_tall_picture(2, random);
        test_very_tall_picture(4, random);
    }
    test_series(random);
    test_callers(random);
    test_ended_runs(random);
    test_bad_shapes(random);
    return finish();
}
