// A network as passed to the engine: srgan_fast/network/graph.py in plain memory.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace srgan_fast::engine {

inline constexpr std::int64_t kMaxImageChannels = 4;

struct Residual {
    std::int64_t value;
    float scale;
};

// y = shuffle(act(conv(concat(inputs)) + bias) + sum of scale * residual). Values have indices: 0 is the image after
// its colour map and pixel-unshuffle, i + 1 the result of convolution i.
struct PlainConv {
    std::string name;
    std::vector<std::int64_t> inputs;
    std::int64_t out_channels, in_channels, size;
    std::span<const float> weight, bias;  // [out][in][size][size], [out]
    std::span<const float> slope;         // PReLU slopes, before the shuffle: 1, `out`, or none
    std::vector<Residual> residuals;
    std::int64_t shuffle = 1;
};

struct ColourMap {
    std::array<float, kMaxImageChannels> gain{1.0f, 1.0f, 1.0f, 1.0f}, offset{};
};

enum class Skip { kNone, kNearest, kBilinear };

// output_map(tanh?(convs(unshuffle(input_map(image))) + enlarged(input_map(image))))
struct Network {
    std::vector<PlainConv> convs;
    std::int64_t channels = 3;  // of the image and of the output
    std::int64_t unshuffle = 1;
    Skip skip = Skip::kNone;
    ColourMap input, output;
    bool tanh = false;
};

}  // namespace srgan_fast::engine
