// A network whose parts do not fit each other, or for which there is no kernel, is refused with a message that says so
// and begins with the layer's name.
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "engine/model.h"
#include "tests/check.h"
#include "tests/network_case.h"

namespace {

using namespace srgan_fast;
using namespace srgan_fast::engine;
using namespace srgan_fast::tests;

std::string message_of(const TestNetwork& network, Precision precision = Precision::kFp32) {
    try {
        ThreadPool pool(2);
        const Model model(network.plain(), precision, cpu::usable_isas().front(), pool);
    } catch (const std::invalid_argument& error) {
        return error.what();
    }
    return "nothing was thrown";
}

// What `change` does to a good network must be refused with this message.
template <typename Change>
void refused(const TestNetwork& good, const std::string& expected, const Change& change) {
    TestNetwork bad = good;
    change(bad);
    const std::string message = message_of(bad);
    check(message == expected, "expected \"" + expected + "\", but: " + message);
}

// Another size, with weights that fit.
void resize(TestConv& conv, std::int64_t size) {
    conv.size = size;
    conv.weight.resize(conv.out_channels * conv.in_channels * size * size);
}

// Convolutions 0 to 5: head, trunk 1 to 3, a shuffle by 2, the tail.
void test_layers(Random& random) {
    const TestNetwork good = srgan({2, 1, 16, false, false}, random);
    for (const TestNetwork& network : {good, mixed(3, 1, random), mixed(4, 2, random),
                                       rrdb({4, 16, 16, 1, 3, 4}, random), compact({3, 1, 16, 1}, random)})
        check(message_of(network) == "nothing was thrown", network.name + ": " + message_of(network));
    constexpr std::int64_t kHuge = std::numeric_limits<std::int64_t>::max();

    for (const std::int64_t channels : {std::int64_t{0}, std::int64_t{-16}, std::int64_t{16385}, kHuge})
        refused(good, "conv 1: it has 16 input and " + std::to_string(channels) + " output channels",
                [&](TestNetwork& n) { n.convs[1].out_channels = channels; });
    for (const std::int64_t channels : {std::int64_t{0}, kHuge})
        refused(good, "conv 1: it has " + std::to_string(channels) + " input and 16 output channels",
                [&](TestNetwork& n) { n.convs[1].in_channels = channels; });
    for (const std::int64_t size : {std::int64_t{0}, std::int64_t{2}, std::int64_t{5}, std::int64_t{7}, kHuge})
        refused(good,
                "conv 2: there is no kernel for a convolution of " + std::to_string(size) + "x" + std::to_string(size),
                [&](TestNetwork& n) { n.convs[2].size = size; });

    refused(good, "conv 0: weight has shape (16, 4, 9, 9) and 3888 values, expected (16, 3, 9, 9)",
            [](TestNetwork& n) { n.convs[0].in_channels = 4; });
    refused(good, "conv 1: weight has shape (16, 16, 3, 3) and 2303 values, expected (16, 16, 3, 3)",
            [](TestNetwork& n) { n.convs[1].weight.pop_back(); });
    refused(good, "conv 2: weight has shape (16, 16, 1, 1) and 2304 values, expected (16, 16, 1, 1)",
            [](TestNetwork& n) { n.convs[2].size = 1; });
    refused(good, "conv 3: weight has shape (16, 16, 3, 3) and 2304 values, expected (16, 32, 3, 3)",
            [](TestNetwork& n) { n.convs[3].inputs.push_back(1); });
    refused(good, "conv 4: weight has shape (64, 16, 3, 3) and 0 values, expected (64, 16, 3, 3)",
            [](TestNetwork& n) { n.convs[4].weight.clear(); });

    refused(good, "conv 0: bias has 17 values, expected 16", [](TestNetwork& n) { n.convs[0].bias.push_back(0.0f); });
    refused(good, "conv 4: bias has 0 values, expected 64", [](TestNetwork& n) { n.convs[4].bias.clear(); });
    refused(good, "conv 1: 15 slopes, expected none, 1 or 16", [](TestNetwork& n) { n.convs[1].slope.pop_back(); });
    refused(good, "conv 4: 16 slopes, expected none, 1 or 64", [](TestNetwork& n) { n.convs[4].slope.resize(16); });

    for (const std::int64_t factor : {std::int64_t{0}, std::int64_t{-2}, std::int64_t{3}, std::int64_t{65}, kHuge})
        refused(good, "conv 4: a pixel shuffle by " + std::to_string(factor) + " does not fit 64 channels",
                [&](TestNetwork& n) { n.convs[4].shuffle = factor; });
}

void test_connections(Random& random) {
    const TestNetwork good = srgan({2, 1, 16, false, false}, random);
    refused(good, "conv 1: it has no inputs", [](TestNetwork& n) { n.convs[1].inputs.clear(); });
    for (const std::int64_t value : {2, 3, 7, -1})
        refused(good, "conv 1: it reads a value that is not there yet",
                [&](TestNetwork& n) { n.convs[1].inputs = {value}; });
    refused(good, "conv 5: its inputs differ in size", [](TestNetwork& n) { n.convs[5].inputs = {5, 4}; });

    for (const std::int64_t value : {0, -1, 3, 4})
        refused(good, "conv 2: its residual is the image or a value that is not there yet",
                [&](TestNetwork& n) { n.convs[2].residuals = {{value, 1.0f}}; });
    // 64 channels after a shuffle are 16, so a residual of the result's channels is 64 wide.
    refused(good, "conv 4: its residual has another shape than its result",
            [](TestNetwork& n) { n.convs[4].residuals = {{1, 1.0f}}; });
    refused(mixed(3, 1, random), "conv 6: its residual has another shape than its result",
            [](TestNetwork& n) { n.convs[6].residuals = {{6, 1.0f}}; });
    refused(rrdb({2, 16, 16, 0, 3, 1}, random), "conv 3: its residual has another shape than its result",
            [](TestNetwork& n) { n.convs[3].residuals = {{1, 1.0f}}; });  // of half the size
    refused(good, "conv 4: there is no kernel for a residual before a pixel shuffle or the output", [](TestNetwork& n) {
        TestConv& wide = n.convs[3];  // to 64 channels
        wide.out_channels = 64;
        wide.weight.resize(64 * 16 * 9);
        wide.bias.resize(64);
        wide.residuals.clear();
        n.convs[4].in_channels = 64;
        n.convs[4].weight.resize(64 * 64 * 9);
        n.convs[4].residuals = {{4, 1.0f}};
    });
    const TestNetwork flat = compact({1, 1, 3, 3}, random);
    refused(flat, "conv 1: there is no kernel for a residual before a pixel shuffle or the output",
            [](TestNetwork& n) { n.convs[1].residuals = {{1, 1.0f}}; });

    refused(good, "conv 1: its result is not used", [](TestNetwork& n) { n.convs[2].inputs = {1}; });
}

void test_convolutions_of_9x9(Random& random) {
    const TestNetwork good = srgan({2, 1, 16, false, false}, random);
    const std::string alone = ": there is no kernel for a convolution of 9x9 with several inputs or a residual";
    refused(good, "conv 3" + alone, [](TestNetwork& n) { resize(n.convs[3], 9); });
    refused(good, "conv 4" + alone, [](TestNetwork& n) { resize(n.convs[4], 9); });
    refused(good, "conv 1" + alone, [](TestNetwork& n) {
        n.convs[1].inputs = {1, 1};
        n.convs[1].in_channels = 32;
        resize(n.convs[1], 9);
    });
    const std::string where =
        ": there is a kernel for a convolution of 9x9 only from an image of three channels, or to one after a pixel "
        "shuffle by 2";
    refused(good, "conv 1" + where, [](TestNetwork& n) { resize(n.convs[1], 9); });
    refused(good, "conv 5" + where, [](TestNetwork& n) { n.convs[5].slope = {0.1f}; });
    refused(good, "conv 5" + where, [](TestNetwork& n) { n.skip = Skip::kNearest; });
    // From an image of one channel, to the output, after a shuffle by 4.
    refused(edsr({2, 0, 16, 1}, random), "conv 0" + where, [](TestNetwork& n) { resize(n.convs[0], 9); });
    refused(single(3, 3, 1, Skip::kNone, random), "conv 0" + where, [](TestNetwork& n) { resize(n.convs[0], 9); });
    refused(edsr({3, 0, 16, 3}, random), "conv 3" + where, [](TestNetwork& n) {
        n.skip = Skip::kNone;
        resize(n.convs[3], 9);
    });
}

void test_whole_networks(Random& random) {
    const TestNetwork good = srgan({2, 1, 16, false, false}, random);
    refused(good, "the network has no layers", [](TestNetwork& n) { n.convs.clear(); });
    for (const std::int64_t channels : {0, -1, 5})
        refused(good, "an image has 1 to 4 channels, not " + std::to_string(channels),
                [&](TestNetwork& n) { n.channels = channels; });
    for (const std::int64_t factor : {0, -1, 9})
        refused(good, "unshuffle is " + std::to_string(factor) + ", it may be 1 to 8",
                [&](TestNetwork& n) { n.unshuffle = factor; });
    refused(compact({2, 1, 16, 3}, random), "conv 1: the output has 12 channels, the image 3",
            [](TestNetwork& n) { n.convs[1].shuffle = 1; });
    refused(compact({2, 1, 16, 3}, random), "there is no skip of an image that is unshuffled", [](TestNetwork& n) {
        n.unshuffle = 2;
        n.convs[0].in_channels = 12;
        resize(n.convs[0], 3);
    });
    refused(rrdb({2, 16, 16, 1, 3, 4}, random), "the network makes images smaller, or larger by a fraction",
            [](TestNetwork&) {});
    refused(rrdb({4, 16, 16, 1, 3, 3}, random), "the network makes images smaller, or larger by a fraction",
            [](TestNetwork&) {});
    // By 64 it may.
    check(message_of(edsr({64, 0, 1, 1}, random)) == "nothing was thrown", "EDSR x64 was refused");
    refused(edsr({128, 0, 1, 1}, random), "conv 8: it enlarges by more than 64", [](TestNetwork&) {});
    refused(edsr({64, 0, 1, 1}, random), "conv 8: it enlarges by more than 64", [](TestNetwork& n) {
        TestConv& last = n.convs[8];
        last.shuffle = 2;
        last.out_channels = 4;
        last.bias.resize(4);
        resize(last, 3);
    });
    if (cpu::kernels(cpu::usable_isas().front()).bf16.conv3x3.run) return;  // there is no level without bfloat16
    const std::string bf16 = message_of(good, Precision::kBf16);
    check(bf16.starts_with("bf16 needs a processor with AVX-512 BF16; this is computed with "),
          "bf16 on the baseline: " + bf16);
}

}  // namespace

int main() {
    Random random(20261128);
    test_layers(random);
    test_connections(random);
    test_convolutions_of_9x9(random);
    test_whole_networks(random);
    return finish();
}
