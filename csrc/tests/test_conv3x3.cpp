// The CPU kernels of the 3x3 convolution against the reference: one map or several, every epilogue; see kernel_case.h.
#include <algorithm>
#include <cmath>
#include <numeric>
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

constexpr std::int64_t kTaps = 9;

std::int64_t rounded_up(std::int64_t value, std::int64_t step) { return (value + step - 1) / step * step; }

// Random weights, as the reference takes them and packed for each of ways().
struct Layer {
    std::vector<std::int64_t> inputs;  // channels of the maps that it reads side by side
    std::int64_t in_channels, out_channels, shuffle;
    std::vector<float> weight, bias, slope;
    Guarded<float> kernel_bias, kernel_slope;
    std::vector<Guarded<std::byte>> packed;

    Layer(std::vector<std::int64_t> in, std::int64_t out, std::int64_t factor, Random& random)
        : inputs(std::move(in)),
          in_channels(std::accumulate(inputs.begin(), inputs.end(), std::int64_t{0})),
          out_channels(out),
          shuffle(factor),
          weight(normal_values(out * in_channels * kTaps, std::sqrt(1.0f / static_cast<float>(kTaps * in_channels)),
                               random)),
          bias(normal_values(out, 0.5f, random)),
          slope(normal_values(out, 0.5f, random)),
          kernel_bias(out),
          kernel_slope(out) {
        for (std::int64_t o = 0; o < out; ++o) {
            kernel_bias.data()[kernel_channel(o, out, shuffle)] = bias[o];
            kernel_slope.data()[kernel_channel(o, out, shuffle)] = slope[o];
        }
        for (const Way& way : ways()) pack(way);
    }

  private:
    // The weights of each map are padded with zeros to whole blocks of the kernel's.
    void pack(const Way& way) {
        const std::int64_t block = way.kernels->input_block;
        std::int64_t padded = 0;
        for (const std::int64_t channels : inputs) padded += rounded_up(channels, block);
        std::vector<float> arranged(out_channels * padded * kTaps, 0.0f);
        for (std::int64_t o = 0; o < out_channels; ++o) {
            const float* from = weight.data() + o * in_channels * kTaps;
            float* to = arranged.data() + kernel_channel(o, out_channels, shuffle) * padded * kTaps;
            for (const std::int64_t channels : inputs) {
                std::copy_n(from, channels * kTaps, to);
                from += channels * kTaps;
                to += rounded_up(channels, block) * kTaps;
            }
        }
        const auto& kernel = way.kernels->conv3x3;
        packed.emplace_back(kernel.packed_bytes(padded, out_channels));
        kernel.pack(arranged.data(), padded, out_channels, packed.back().data());
        check(packed.back().intact(), way.name + ": packed weights are larger than they said");
    }
};

struct Epilogue {
    std::vector<float> residuals;  // their scales
    bool prelu, float_out;
};

// Of layers with or without a shuffle.
std::vector<Epilogue> epilogues(bool shuffles) {
    std::vector<Epilogue> all;
    for (const bool prelu : {false, true}) {
        all.push_back({{}, prelu, false});
        if (shuffles) continue;
        all.push_back({{}, prelu, true});
        for (const std::vector<float>& scales :
             {std::vector{1.0f}, std::vector{-0.7f}, std::vector{1.0f, 0.2f}, std::vector{0.2f, 0.3f, 1.0f}})
            all.push_back({scales, prelu, false});
    }
    return all;
}

std::string text(const Layer& layer, const Epilogue& epilogue) {
    std::string name = " conv3x3 ";
    for (std::size_t i = 0; i < layer.inputs.size(); ++i) name += (i ? " + " : "") + std::to_string(layer.inputs[i]);
    name += " -> " + std::to_string(layer.out_channels);
    if (epilogue.prelu) name += ", PReLU";
    for (const float scale : epilogue.residuals) name += ", residual * " + tests::text(scale);
    if (layer.shuffle > 1) name += ", shuffled by " + std::to_string(layer.shuffle);
    return name + (epilogue.float_out ? ", to floats" : "");
}

// A dense map of several, their channels side by side.
std::vector<float> concatenated(const std::vector<std::vector<float>>& maps, const std::vector<std::int64_t>& channels,
                                std::int64_t pixels) {
    std::vector<float> all;
    for (std::int64_t p = 0; p < pixels; ++p)
        for (std::size_t i = 0; i < maps.size(); ++i)
            all.insert(all.end(), maps[i].begin() + p * channels[i], maps[i].begin() + (p + 1) * channels[i]);
    return all;
}

void test(const Layer& layer, const Epilogue& epilogue, const Window& window, Random& random) {
    const std::int64_t pixels = window.height * window.width, out_channels = layer.out_channels;
    std::vector<std::vector<float>> inputs, residuals;
    for (const std::int64_t channels : layer.inputs) inputs.push_back(normal_values(pixels * channels, 1.0f, random));
    for (std::size_t i = 0; i < epilogue.residuals.size(); ++i)
        residuals.push_back(normal_values(pixels * out_channels, 1.0f, random));

    std::vector<reference::Residual> summands;
    for (std::size_t i = 0; i < residuals.size(); ++i) summands.push_back({residuals[i], epilogue.residuals[i]});
    std::vector<float> expected(pixels * out_channels);
    reference::conv2d({layer.in_channels, out_channels, 3, layer.weight, layer.bias,
                       epilogue.prelu ? std::span<const float>(layer.slope) : std::span<const float>()},
                      window.height, window.width, concatenated(inputs, layer.inputs, pixels), summands, expected);
    const std::int64_t factor = layer.shuffle, map_channels = out_channels / (factor * factor);
    std::vector<float> shuffled(expected.size());
    reference::pixel_shuffle(window.height, window.width, map_channels, factor, expected, shuffled);
    const std::int64_t row_values = window.width * factor * map_channels;
    const auto wanted =
        std::span<const float>(shuffled).subspan(window.first * factor * row_values, window.rows * factor * row_values);

    const std::string name = text(layer, epilogue) + ", " + tests::text(window);
    for (std::size_t w = 0; w < ways().size(); ++w) {
        const Way& way = ways()[w];
        std::vector<RowMap> maps;  // all that are read
        std::vector<std::vector<const void*>> in_rows, residual_rows;
        std::vector<cpu::InputMap> input_maps;
        std::vector<cpu::ResidualMap> residual_maps;
        maps.emplace_back(1, window.width, *std::ranges::max_element(layer.inputs), *way.kernels, random);
        maps[0].fill(std::vector<float>(window.width * *std::ranges::max_element(layer.inputs)));
        for (std::size_t i = 0; i < inputs.size(); ++i) {
            maps.emplace_back(window.height, window.width, layer.inputs[i], *way.kernels, random);
            maps.back().fill(inputs[i]);
            in_rows.push_back(row_table(maps.back(), maps[0], window.height, window.first - 1,
                                        window.rows + way.kernels->conv3x3.tile + 1));
        }
        for (const std::vector<float>& residual : residuals) {
            maps.emplace_back(window.height, window.width, out_channels, *way.kernels, random);
            maps.back().fill(residual);
            residual_rows.push_back(row_table(maps.back(), maps[0], window.height, window.first, window.rows));
        }
        for (std::size_t i = 0; i < inputs.size(); ++i) input_maps.push_back({in_rows[i].data(), layer.inputs[i]});
        for (std::size_t i = 0; i < residuals.size(); ++i)
            residual_maps.push_back({residual_rows[i].data(), epilogue.residuals[i]});
        const cpu::Conv3x3 arguments{.rows = window.rows,
                                     .width = window.width,
                                     .out_channels = out_channels,
                                     .inputs = input_maps.data(),
                                     .input_count = static_cast<std::int64_t>(input_maps.size()),
                                     .out = nullptr,
                                     .residuals = residual_maps.data(),
                                     .residual_count = static_cast<std::int64_t>(residual_maps.size()),
                                     .weights = layer.packed[w].data(),
                                     .bias = layer.kernel_bias.data(),
                                     .slope = epilogue.prelu ? layer.kernel_slope.data() : nullptr,
                                     .shuffle = factor,
                                     .float_out = epilogue.float_out};
        check_map_kernel(way, way.kernels->conv3x3, arguments, window.rows * factor, window.width * factor,
                         map_channels, epilogue.float_out ? sizeof(float) : way.kernels->element, wanted, way.conv3x3,
                         name, random);
        check(std::ranges::all_of(maps, &RowMap::intact), way.name + name + ": an input was changed");
    }
}

struct Shape {
    std::vector<std::int64_t> inputs;
    std::int64_t out_channels, shuffle = 1;
};

// Kernels multiply up to 64 input channels at a time and keep the products of up to 64 output channels: more of either,
// and rests of 16, 32 and 48.
const std::vector<Shape>& shapes() {
    static const std::vector<Shape> all{
        {{16}, 16},
        {{32}, 48},
        {{48}, 32},
        {{64}, 64},
        {{80}, 80},
        {{16}, 80},
        {{80}, 16},
        {{64}, 16},
        {{96}, 48},
        {{128}, 128},
        {{16, 48}, 32},
        {{64, 32}, 64},
        {{48, 16}, 48},
        {{96, 64}, 96},
        {{16, 16, 16, 16, 16}, 16},
        {{48, 96}, 160},
        {{16}, 64, 2},
        {{48}, 192, 2},
        {{64}, 256, 2},
        {{16}, 144, 3},
        {{32}, 288, 3},
        {{16}, 256, 4},
        {{48}, 768, 4},
        {{64, 48}, 144, 3},
        {{16, 32}, 64, 2},
        {{64, 32, 32, 32, 32}, 32},
        {{16, 32, 48, 64, 96}, 64},
    };
    return all;
}

}  // namespace

int main() {
    Random random(20261125);
    const std::vector<Window> all = windows(random);
    std::size_t turn = 0;  // so that every window sees every epilogue
    for (const Shape& shape : shapes()) {
        const Layer layer(shape.inputs, shape.out_channels, shape.shuffle, random);
        const std::vector<Epilogue> endings = epilogues(shape.shuffle > 1);
        // The largest images take most of the time, and add little to layers of many channels.
        const bool large = layer.in_channels * layer.out_channels > 128 * 96;
        const std::size_t count = all.size() - (kSlow || large ? 4 : 0);
        for (std::size_t i = 0; i < count; ++i) test(layer, endings[(turn + i) % endings.size()], all[i], random);
        ++turn;
    }
    return finish();
}
