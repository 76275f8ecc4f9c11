// The engine in use: the same bits whatever the number of threads, the images before, and the callers; runs that end
// early; and what it refuses. Results are compared with the reference in test_networks.cpp.
#include <atomic>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "engine/engine.h"
#include "tests/check.h"
#include "tests/network_case.h"

namespace {

using namespace srgan_fast;
using namespace srgan_fast::engine;
using namespace srgan_fast::tests;

// One engine, images of many sizes one after the other: nothing of the ones before may be left.
void test_series(const TestNetwork& network, const std::vector<EngineWay>& chosen, Random& random) {
    const std::int64_t step = network.unshuffle;
    for (const EngineWay& way : chosen) {
        std::vector<TestImage> test_images, expected;
        for (const auto& [height, width] : {std::pair{9, 14}, {1, 1}, {9, 14}, {30, 5}, {5, 30}, {30, 5}, {9, 14}})
            test_images.push_back(
                random_image(PixelType::kUint8, network.channels, height * step, width * step, random));
        for (const TestImage& test_image : test_images) {
            Engine fresh(network.plain(), way.precision, way.isa, 1);
            expected.push_back(run(fresh, test_image));
        }
        for (const int threads : {1, 2, 3, 7}) {
            Engine engine(network.plain(), way.precision, way.isa, threads);
            for (std::size_t i = 0; i < test_images.size(); ++i)
                check(run(engine, test_images[i]) == expected[i], text(way) + ", " + network.name + ", series, image " +
                                                                      std::to_string(i) + " on " +
                                                                      std::to_string(threads) + " threads");
        }
    }
}

void test_callers(const TestNetwork& network, Random& random) {
    const EngineWay way = engine_ways().back();
    const TestImage small = random_image(PixelType::kFloat, network.channels, 9, 13, random),
                    large = random_image(PixelType::kUint8, network.channels, 21, 18, random);
    Engine shared(network.plain(), way.precision, way.isa, 2);
    const TestImage small_expected = run(shared, small), large_expected = run(shared, large);
    std::atomic<int> wrong{0};
    std::vector<std::thread> callers;
    for (int i = 0; i < 3; ++i)
        callers.emplace_back([&, i] {
            // Engines of their own, made and used at the same time; and one that all of them use.
            Engine own(network.plain(), way.precision, way.isa, 1 + i);
            for (int turn = 0; turn < 4; ++turn) {
                if (run(own, small) != small_expected || run(own, large) != large_expected) ++wrong;
                if (run(shared, i % 2 ? small : large) != (i % 2 ? small_expected : large_expected)) ++wrong;
                if (shared.layer_times().empty() || shared.working_memory(3, 4) <= 0) ++wrong;
            }
        });
    for (std::thread& caller : callers) caller.join();
    check(wrong == 0, network.name + ", several callers: " + std::to_string(wrong) + " wrong results");
}

// Engines beside each other with the weights of one, which may be gone before them.
void test_siblings(const TestNetwork& network, Random& random) {
    const EngineWay way = engine_ways().back();
    const TestImage test_image = random_image(PixelType::kUint8, network.channels, 21, 18, random);
    auto first = std::make_unique<Engine>(network.plain(), way.precision, way.isa, 2);
    const TestImage expected = run(*first, test_image);
    std::vector<std::unique_ptr<Engine>> engines;
    for (int threads = 1; threads < 4; ++threads) engines.push_back(std::make_unique<Engine>(*first, threads));
    for (const auto& engine : engines)
        check(&engine->model() == &first->model(), network.name + ", a sibling has weights of its own");
    first.reset();
    std::atomic<int> wrong{0};
    std::vector<std::thread> callers;
    for (const auto& engine : engines)
        callers.emplace_back([&, engine = engine.get()] {
            for (int turn = 0; turn < 4; ++turn)
                if (run(*engine, test_image) != expected) ++wrong;
        });
    for (std::thread& caller : callers) caller.join();
    check(wrong == 0, network.name + ", siblings: " + std::to_string(wrong) + " wrong results");
}

void test_ended_runs(const TestNetwork& network, Random& random) {
    const EngineWay way = engine_ways().back();
    Engine engine(network.plain(), way.precision, way.isa, 2), other(network.plain(), way.precision, way.isa, 2);
    const TestImage test_image = random_image(PixelType::kUint8, network.channels, tall(network, 40), 40, random);
    const TestImage expected = run(other, test_image);
    TestImage out(test_image.type, test_image.channels, expected.height, expected.width);
    for (int after = kSlow ? 2 : 1; after <= 2; ++after) {
        int calls = 0;
        const auto end = [&](std::int64_t) { return ++calls < after; };
        check(!engine.run(test_image.view(), out.bytes.data(), end) && calls == after, "ended by progress");
        check(run(engine, test_image) == expected, network.name + ", a run after one that was ended");
        calls = 0;
        const auto raise = [&](std::int64_t) -> bool {
            if (++calls == after) throw std::runtime_error("raised");
            return true;
        };
        bool raised = false;
        try {
            engine.run(test_image.view(), out.bytes.data(), raise);
        } catch (const std::runtime_error&) {
            raised = true;
        }
        check(raised, "progress raises");
        check(run(engine, test_image) == expected, network.name + ", a run after one in which progress raised");
    }
}

// An image that comes and goes in rows gives the same bits; each row is asked for once, from top to bottom.
void test_rows(const TestNetwork& network, const std::vector<EngineWay>& chosen, Random& random) {
    const std::int64_t step = network.unshuffle;
    for (const EngineWay& way : chosen)
        for (const auto& [type, height] :
             {std::pair{PixelType::kUint8, 5 * step}, {PixelType::kUint16, tall(network, 40 * step)}}) {
            if (kSlow && height > 5 * step) continue;
            Engine engine(network.plain(), way.precision, way.isa, 2);
            const TestImage test_image = random_image(type, network.channels, height, 40 * step, random);
            const TestImage expected = run(engine, test_image);
            TestImage got(type, test_image.channels, expected.height, expected.width);
            const std::string what = text(way) + ", " + network.name + ", rows of " + text(test_image);
            const std::int64_t in_row = test_image.width * test_image.channels * test_image.size(),
                               out_row = got.width * got.channels * got.size();
            std::int64_t asked = 0, finished = 0, calls = 0, ends_at = 0;
            std::vector<std::uint8_t> rows;  // moves with every call, so that no older row can be read
            const auto read = [&](std::int64_t first, std::int64_t count) -> const void* {
                check(first == asked && count > 0, what + ": asked for row " + std::to_string(first));
                if (++calls == ends_at) return nullptr;
                asked = first + count;
                rows = std::vector<std::uint8_t>(test_image.bytes.begin() + first * in_row,
                                                 test_image.bytes.begin() + asked * in_row);
                return rows.data();
            };
            const auto write = [&](const void* pixels, std::int64_t first, std::int64_t count) {
                check(first == finished && count > 0, what + ": gave row " + std::to_string(first));
                std::memcpy(got.bytes.data() + first * out_row, pixels, count * out_row);
                finished = first + count;
                return ++calls != ends_at;
            };
            const auto run_rows = [&](std::int64_t end) {
                asked = finished = calls = 0, ends_at = end;
                return engine.run_rows(type, test_image.height, test_image.width, read, write);
            };
            check(run_rows(0) && asked == test_image.height && finished == got.height && got == expected, what);
            for (const std::int64_t end : {1, 2})
                check(!run_rows(end) && run_rows(0) && got == expected, what + ", after a run that was ended");
        }
}

// What `call` throws as an Exception, or that it throws nothing.
template <typename Exception, typename Call>
std::string message_of(const Call& call) {
    try {
        call();
    } catch (const Exception& error) {
        return error.what();
    }
    return "nothing was thrown";
}

void test_refusals(Random& random) {
    const TestNetwork network = mixed(3, 2, random);
    const auto starts_with = [](const std::string& message, const std::string& start) {
        check(message.starts_with(start), "expected \"" + start + "...\", but: " + message);
    };
    for (const int threads : {0, -1, 1025})
        starts_with(message_of<std::invalid_argument>([&] {
                        const Engine engine(network.plain(), Precision::kFp32, cpu::usable_isas().front(), threads);
                    }),
                    "threads is " + std::to_string(threads));

    Engine engine(network.plain(), Precision::kFp32, cpu::usable_isas().front(), 2);
    const TestImage good = random_image(PixelType::kUint8, 3, 4, 6, random), expected = run(engine, good);
    for (const auto& [height, width] : {std::pair{3, 4}, {4, 3}, {1, 1}})
        starts_with(
            message_of<std::invalid_argument>([&] { run(engine, TestImage(PixelType::kUint8, 3, height, width)); }),
            "the sides of an image must be multiples of 2, got " + std::to_string(height) + " x " +
                std::to_string(width));
    check(run(engine, good) == expected, "a run after a refused image");
    starts_with(message_of<std::logic_error>(
                    [&] { run(engine, good, [&](std::int64_t) { return engine.working_memory(4, 6) > 0; }); }),
                "an engine cannot be used by what its own run reports progress to");
    check(run(engine, good) == expected, "a run after one in which progress used the engine");
    starts_with(message_of<std::invalid_argument>([&] { engine.run_rows(PixelType::kFloat, 4, 6, {}, {}); }),
                "rows must be integers");
}

}  // namespace

int main() {
    Random random(20261127);
    const std::vector<EngineWay> all = engine_ways(), last{all.back()};
    test_series(srgan({4, 1, 40, false, true}, random), all, random);
    test_series(mixed(3, 2, random), last, random);
    test_callers(srgan({4, 1, 16, false, false}, random), random);
    test_callers(mixed(4, 1, random), random);
    test_siblings(mixed(4, 1, random), random);
    test_ended_runs(srgan({2, 1, 16, false, false}, random), random);
    if (!kSlow) {
        test_series(compact({3, 2, 24, 1}, random), last, random);
        test_series(rrdb({4, 16, 16, 1, 3, 1}, random), last, random);
        test_ended_runs(mixed(3, 1, random), random);
    }
    test_rows(srgan({4, 1, 16, false, true}, random), last, random);
    test_rows(mixed(3, 2, random), last, random);
    test_refusals(random);
    return finish();
}
