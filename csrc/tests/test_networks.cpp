// The engine on random networks: whole images against the same convolutions chained with the reference, for every
// usable instruction set and precision.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "tests/check.h"
#include "tests/network_case.h"

namespace {

using namespace srgan_fast;
using namespace srgan_fast::engine;
using namespace srgan_fast::tests;

// Largest errors of a whole network, in units of the output's range; root mean squares must be an eighth of that.
constexpr double kFp32 = 2e-5;  // what the engine promises; 7.7e-6 is the worst measured
// A layer in bf16 has an error of 2.5e-2 in places where Winograd is at its worst (see kernel_case.h), and a random
// network does not damp it: 8e-2 is the worst measured, 1.1e-2 in the root mean square.
constexpr double kBf16 = 1.2e-1;
// Direct, with maps of bfloat16: 1.2e-2 is the worst measured, 2.7e-3 in the root mean square.
constexpr double kDirectBf16 = 2.4e-2;

double tolerance(const EngineWay& way) {
    if (way.precision == Precision::kFp32) return kFp32;
    return way.isa == cpu::Isa::kAmx ? kDirectBf16 : kBf16;
}

// Compares rows of a result, the first being `first`, with `expected`, whose first `skip` rows are left out.
void compare(const TestImage& got, std::int64_t first, std::int64_t rows, const ReferenceMap& expected,
             std::int64_t skip, double tolerance, const std::string& what) {
    Error error;
    for (std::int64_t y = 0; y < rows; ++y)
        for (std::int64_t x = 0; x < got.width; ++x)
            for (std::int64_t c = 0; c < got.channels; ++c) {
                const double value = expected.at(skip + y, x, c);
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

void test_small_images(const TestNetwork& network, Random& random) {
    std::vector<std::unique_ptr<Engine>> engines;
    const std::vector<EngineWay> ways = engine_ways();
    for (const EngineWay& way : ways)
        engines.push_back(std::make_unique<Engine>(network.plain(), way.precision, way.isa, 2));
    constexpr std::int64_t kSizes[][2] = {{1, 1}, {1, 9}, {7, 1}, {5, 7}, {11, 6}};
    int turn = 0;
    for (const auto& [height, width] : kSizes) {
        const PixelType type = std::array{PixelType::kFloat, PixelType::kUint8, PixelType::kUint16}[turn++ % 3];
        const std::int64_t step = network.unshuffle;
        const TestImage test_image = random_image(type, network.channels, height * step, width * step, random);
        const ReferenceMap expected = reference_rows(network, test_image, 0, test_image.height);
        for (std::size_t i = 0; i < engines.size(); ++i) {
            const TestImage got = run(*engines[i], test_image);
            const std::string what = text(ways[i]) + ", " + network.name + ", " + text(test_image);
            if (check(got.height == expected.height && got.width == expected.width, what + ": size"))
                compare(got, 0, got.height, expected, 0, tolerance(ways[i]), what);
        }
    }
}

// Wide images, which are computed in panels from the first layer on that enlarges; all seams lie in the result that
// is compared. `width` is the network's input's, for three panels.
void test_wide_image(const TestNetwork& network, std::int64_t width, Random& random) {
    const std::int64_t step = network.unshuffle;
    const TestImage test_image = random_image(PixelType::kFloat, network.channels, 3 * step, width * step, random);
    const ReferenceMap expected = reference_rows(network, test_image, 0, test_image.height);
    for (const EngineWay& way : engine_ways()) {
        Engine engine(network.plain(), way.precision, way.isa, 2);
        const TestImage got = run(engine, test_image);
        compare(got, 0, got.height, expected, 0, tolerance(way),
                text(way) + ", " + network.name + ", " + text(test_image));
    }
}

// A tall image is computed in strips. What is near their seams and the image's ends is compared.
void test_tall_image(const TestNetwork& network, std::int64_t width, const std::vector<EngineWay>& chosen,
                     Random& random) {
    const std::int64_t step = network.unshuffle, halo = network.reach();
    const std::int64_t near = 12 * step, height = tall(network, width * step);
    const TestImage test_image = random_image(PixelType::kFloat, network.channels, height, width * step, random);
    for (const EngineWay& way : chosen) {
        Engine engine(network.plain(), way.precision, way.isa, 2);
        const std::int64_t scale = engine.model().scale();
        std::vector<std::int64_t> ends;
        const TestImage got = run(engine, test_image, [&](std::int64_t rows) {
            ends.push_back(rows);
            return true;
        });
        const std::string what = text(way) + ", " + network.name + ", " + text(test_image);
        check(ends.size() >= 3 && std::ranges::is_sorted(ends) && ends.back() == got.height,
              what + ": " + std::to_string(ends.size()) + " strips");
        ends.push_back(0);
        for (const std::int64_t end : ends) {
            // The layers before have their seams up to their lag below.
            const std::int64_t middle = end / scale / step * step;
            const std::int64_t first = std::clamp<std::int64_t>(middle - near, 0, height),
                               last = std::min(height, middle + near + halo);
            const std::int64_t from = std::max<std::int64_t>(0, first - halo), to = std::min(height, last + halo);
            compare(got, first * scale, (last - first) * scale, reference_rows(network, test_image, from, to),
                    (first - from) * scale, tolerance(way), what + ", near row " + std::to_string(end));
        }
        // More threads than processors are slow where calls are short, and no different from level to level.
        for (const int threads : {1, 3}) {
            if (threads == 3 && way.isa != engine_ways().back().isa) continue;
            Engine other(network.plain(), way.precision, way.isa, threads);
            check(run(other, test_image) == got, what + ": other bits on " + std::to_string(threads) + " threads");
        }
        // Memory grows with the width alone; a few rows more or less are kept at the ends.
        const auto one = static_cast<double>(engine.working_memory(height, test_image.width)),
                   four = static_cast<double>(engine.working_memory(4 * height, test_image.width));
        check(four < 1.02 * one, what + ": memory grows from " + tests::text(one) + " to " + tests::text(four));
    }
}

// Beyond some strips, the rows that a plan needs are counted on a lower image; they must be enough.
void test_very_tall_image(const TestNetwork& network, Random& random) {
    const EngineWay way = engine_ways().back();
    Engine engine(network.plain(), way.precision, way.isa, 1);
    const std::int64_t step = network.unshuffle, width = 24 * step;
    const std::int64_t about = tall(network, width);  // more than two strips; plans count at most nine
    const std::int64_t height = (9 * about + below(about, random)) / 2 / step * step;
    const TestImage test_image(PixelType::kUint8, network.channels, height, width);
    const std::int64_t before = engine.working_memory(height, width);
    const TestImage got = run(engine, test_image);
    const std::string what = text(way) + ", " + network.name + ", " + text(test_image);
    check(engine.working_memory(height, width) == before, what + ": took more memory than it said");
    // Rows far from the ends of an image of one colour are the same.
    const std::int64_t scale = engine.model().scale(), period = scale * step, far = network.reach() * scale;
    const std::int64_t row = got.width * got.channels;
    bool same = true;
    for (std::int64_t y = far; y < got.height - far; ++y)
        for (std::int64_t i = 0; i < row; ++i)
            same = same && std::abs(got.bytes[y * row + i] - got.bytes[(far + (y - far) % period) * row + i]) <= 1;
    check(same || way.precision == Precision::kBf16, what + ": rows differ");
}

// The widest images have the lowest strips, of one tile's rows; what layers look aside is more than that.
void test_low_strips(const TestNetwork& network, std::int64_t height, std::int64_t width, Random& random) {
    const EngineWay way = engine_ways().back();
    const TestImage test_image = random_image(PixelType::kFloat, network.channels, height, width, random);
    Engine engine(network.plain(), way.precision, way.isa, 2);
    const std::int64_t before = engine.working_memory(height, width);
    std::int64_t strips = 0;
    const TestImage got = run(engine, test_image, [&](std::int64_t) { return ++strips > 0; });
    const std::string what = text(way) + ", " + network.name + ", " + text(test_image);
    check(strips >= height / 6, what + ": " + std::to_string(strips) + " strips");
    check(engine.working_memory(height, width) == before, what + ": took more memory than it said");
    compare(got, 0, got.height, reference_rows(network, test_image, 0, height), 0, tolerance(way), what);
}

// Of integers a NaN becomes 0, what is too large white.
void test_values_that_are_not_finite(Random& random) {
    TestNetwork network = compact({2, 1, 16, 3}, random);
    constexpr float kInfinity = std::numeric_limits<float>::infinity();
    std::vector<float>& bias = network.convs.back().bias;  // four phases of three colours
    for (int phase = 0; phase < 4; ++phase) {
        bias[phase] = std::numeric_limits<float>::quiet_NaN();
        bias[4 + phase] = kInfinity;
        bias[8 + phase] = -kInfinity;
    }
    for (const EngineWay& way : engine_ways())
        for (const PixelType type : {PixelType::kUint8, PixelType::kUint16}) {
            Engine engine(network.plain(), way.precision, way.isa, 1);
            const TestImage got = run(engine, random_image(type, 3, 5, 6, random));
            bool good = true;
            for (std::int64_t y = 0; y < got.height; ++y)
                for (std::int64_t x = 0; x < got.width; ++x)
                    good = good && got.at(y, x, 0) == 0.0 && got.at(y, x, 1) == got.white() && got.at(y, x, 2) == 0.0;
            check(good, text(way) + ", " + text(got) + ": values that are not finite");
        }
}

// Rounding the image would cost every network in bf16 more than its layers do.
void test_the_image_is_not_rounded(Random& random) {
    TestNetwork network = single(3, 3, 1, Skip::kNone, random);
    TestConv& conv = network.convs[0];  // to the image itself
    std::ranges::fill(conv.weight, 0.0f);
    for (std::int64_t c = 0; c < 3; ++c) conv.weight[(c * 3 + c) * 9 + 4] = 1.0f;
    const TestImage test_image = random_image(PixelType::kFloat, 3, 9, 21, random);
    for (const EngineWay& way : engine_ways()) {
        Engine engine(network.plain(), way.precision, way.isa, 1);
        compare(run(engine, test_image), 0, test_image.height,
                reference_rows(network, test_image, 0, test_image.height), 0, kFp32, text(way) + ": an image as it is");
    }
}

void test_networks_of_srgan(Random& random) {
    test_small_images(srgan({2, 1, 16, false, false}, random), random);
    test_small_images(srgan({4, 1, 40, true, true}, random), random);
    test_small_images(srgan({8, 1, 16, false, false}, random), random);
    test_wide_image(srgan({2, 1, 16, false, false}, random), 2051, random);
    test_wide_image(srgan({8, 1, 16, false, false}, random), 531, random);
    test_tall_image(srgan({2, 1, 16, false, false}, random), 40, engine_ways(), random);
    if (kSlow) return;
    test_small_images(srgan({2, 0, 64, true, true}, random), random);
    test_small_images(srgan({4, 3, 40, false, true}, random), random);
    test_small_images(srgan({4, 1, 64, true, false}, random), random);
    test_small_images(srgan({8, 0, 40, false, true}, random), random);
    test_wide_image(srgan({4, 0, 16, false, false}, random), 1030, random);
    test_tall_image(srgan({4, 1, 40, false, false}, random), 33, {engine_ways().back()}, random);
    test_very_tall_image(srgan({2, 0, 16, false, false}, random), random);
    test_very_tall_image(srgan({4, 0, 16, false, false}, random), random);
}

void test_other_networks(Random& random) {
    const EngineWay last = engine_ways().back();
    test_small_images(rrdb({4, 32, 16, 1, 3, 1}, random), random);
    test_small_images(rrdb({4, 24, 12, 1, 4, 2}, random), random);
    test_small_images(rrdb({4, 16, 16, 1, 1, 4}, random), random);
    for (const std::int64_t scale : {1, 2, 3, 4}) {
        test_small_images(compact({scale, 2, 24, scale == 3 ? 4 : 3}, random), random);
        test_small_images(edsr({scale, 1, 24, scale == 4 ? 1 : 3}, random), random);
    }
    for (const std::int64_t channels : {1, 3, 4}) {
        test_small_images(mixed(channels, 1, random), random);
        test_small_images(mixed(channels, 2, random), random);
    }
    test_small_images(single(3, 3, 4, Skip::kNearest, random), random);
    test_small_images(single(2, 1, 3, Skip::kBilinear, random), random);
    test_small_images(single(1, 3, 1, Skip::kNone, random), random);
    test_wide_image(mixed(4, 1, random), 2051, random);
    test_wide_image(mixed(3, 2, random), 2051, random);
    test_tall_image(mixed(3, 1, random), 40, {last}, random);
    test_tall_image(mixed(1, 2, random), 30, {last}, random);
    if (kSlow) return;
    test_small_images(rrdb({2, 64, 32, 2, 3, 1}, random), random);
    test_small_images(compact({4, 3, 64, 3}, random), random);
    test_small_images(edsr({8, 0, 16, 3}, random), random);
    test_wide_image(rrdb({4, 16, 16, 1, 3, 1}, random), 2051, random);
    test_wide_image(compact({4, 1, 16, 3}, random), 2740, random);
    test_wide_image(edsr({3, 1, 16, 3}, random), 2740, random);
    test_tall_image(rrdb({2, 24, 12, 1, 3, 2}, random), 40, {last}, random);
    test_tall_image(compact({2, 2, 24, 3}, random), 33, {engine_ways().front(), last}, random);
    test_tall_image(edsr({3, 1, 24, 4}, random), 40, {engine_ways().front(), last}, random);
    test_low_strips(edsr({1, 2, 16, 1}, random), 60, 10300, random);
    test_very_tall_image(compact({2, 2, 16, 3}, random), random);
    test_very_tall_image(mixed(3, 1, random), random);
}

}  // namespace

int main() {
    Random random(20261126);
    test_networks_of_srgan(random);
    test_other_networks(random);
    test_the_image_is_not_rounded(random);
    test_values_that_are_not_finite(random);
    return finish();
}
