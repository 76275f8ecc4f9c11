#include "engine/model.h"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "kernels/cpu/pack.h"

namespace srgan_fast::engine {
namespace {

std::int64_t padded(std::int64_t channels) {
    return (channels + cpu::kChannelBlock - 1) / cpu::kChannelBlock * cpu::kChannelBlock;
}

void check(const PlainConv& conv, const std::string& name, std::int64_t out, std::int64_t in, std::int64_t size,
           std::int64_t slopes) {
    const auto text = [](std::int64_t a, std::int64_t b, std::int64_t c) {
        return std::to_string(a) + ", " + std::to_string(b) + ", " + std::to_string(c) + ", " + std::to_string(c);
    };
    if (conv.out_channels != out || conv.in_channels != in || conv.size != size ||
        static_cast<std::int64_t>(conv.weight.size()) != out * in * size * size)
        throw std::invalid_argument(name + ": weight has shape (" +
                                    text(conv.out_channels, conv.in_channels, conv.size) + "), expected (" +
                                    text(out, in, size) + ")");
    if (static_cast<std::int64_t>(conv.bias.size()) != out)
        throw std::invalid_argument(name + ": bias has " + std::to_string(conv.bias.size()) + " values, expected " +
                                    std::to_string(out));
    const auto given = static_cast<std::int64_t>(conv.slope.size());
    if (slopes == 0 ? given != 0 : given != 1 && given != slopes)
        throw std::invalid_argument(name + ": " + std::to_string(given) + " slopes, expected " +
                                    (slopes == 0 ? "none" : "1 or " + std::to_string(slopes)));
}

// Upper bound of what a packed layer takes, with its bias and slopes, each on cache lines of its own.
std::int64_t bytes_of(std::int64_t weights, std::int64_t channels) {
    return (weights + 2 * channels) * static_cast<std::int64_t>(sizeof(float)) + 3 * cpu::kAlignment;
}

}  // namespace

template <typename T>
std::span<T> Model::take(std::int64_t size) {
    T* const start = reinterpret_cast<T*>(memory_.data() + used_);
    used_ += (size * std::int64_t(sizeof(T)) + cpu::kAlignment - 1) / cpu::kAlignment * cpu::kAlignment;
    return {start, static_cast<std::size_t>(size)};
}

// Channels are padded by zeros. Where `phases` is 4, output channel c * 4 + phase, which is the order of a pixel
// shuffle, becomes phase * C + c, which lets the kernel write whole pixels.
Conv Model::pack_conv(const PlainConv& plain, std::int64_t phases) {
    const std::int64_t in = padded(plain.in_channels), per_phase = padded(plain.out_channels / phases);
    const std::int64_t out = per_phase * phases, taps = plain.size * plain.size;
    std::vector<float> weight(out * in * taps, 0.0f);
    const auto bias = take<float>(out), slope = take<float>(plain.slope.empty() ? 0 : out);
    std::ranges::fill(bias, 0.0f);
    std::ranges::fill(slope, 0.0f);
    for (std::int64_t o = 0; o < plain.out_channels; ++o) {
        const std::int64_t channel = o / phases, target = o % phases * per_phase + channel;
        bias[target] = plain.bias[o];
        if (!plain.slope.empty()) slope[target] = plain.slope[plain.slope.size() == 1 ? 0 : channel];
        for (std::int64_t i = 0; i < plain.in_channels; ++i)
            std::copy_n(plain.weight.data() + (o * plain.in_channels + i) * taps, taps,
                        weight.data() + (target * in + i) * taps);
    }
    Conv conv{in, out, nullptr, bias.data(), plain.slope.empty() ? nullptr : slope.data()};
    const std::int64_t size = cpu::packed_conv3x3_size(in, out);
    if (precision_ == Precision::kBf16) {
        const auto packed = take<std::uint16_t>(size);
        cpu::pack_conv3x3(weight, in, out, kernels_->panel, packed);
        conv.weights = packed.data();
    } else {
        const auto packed = take<float>(size);
        cpu::pack_conv3x3(weight, in, out, kernels_->panel, packed);
        conv.weights = packed.data();
    }
    return conv;
}

Conv Model::pack_head(const PlainConv& plain) {
    const std::int64_t out = padded(plain.out_channels);
    std::vector<float> weight(out * 243, 0.0f);
    std::ranges::copy(plain.weight, weight.begin());
    const auto bias = take<float>(out), slope = take<float>(out);
    std::fill(std::ranges::copy(plain.bias, bias.begin()).out, bias.end(), 0.0f);
    std::ranges::fill(slope, plain.slope[0]);
    std::ranges::copy(plain.slope, slope.begin());
    const auto packed = take<float>(cpu::packed_head_size(out));
    cpu::pack_head(weight, out, kernels_->panel, packed);
    return {3, out, packed.data(), bias.data(), slope.data()};
}

Conv Model::pack_tail(const PlainConv& plain) {
    const std::int64_t channels = padded(plain.in_channels);
    std::vector<float> weight(3 * channels * 81, 0.0f);
    for (std::int64_t o = 0; o < 3; ++o)
        std::copy_n(plain.weight.data() + o * plain.in_channels * 81, plain.in_channels * 81,
                    weight.data() + o * channels * 81);
    const auto bias = take<float>(3), packed = take<float>(cpu::packed_tail_size(channels));
    std::ranges::copy(plain.bias, bias.begin());
    cpu::pack_tail(weight, channels, kernels_->panel, packed);
    return {4 * channels, 3, packed.data(), bias.data(), nullptr};
}

Model::Model(const PlainGenerator& plain, Precision precision, cpu::Isa isa)
    : input(plain.input), output(plain.output), tanh(plain.tanh), kernels_(&cpu::kernels(isa)), precision_(precision) {
    if (precision == Precision::kBf16 && !kernels_->conv3x3_bf16.run)
        throw std::invalid_argument("bf16 needs a processor with AVX-512 BF16; this is computed with " +
                                    std::string(cpu::isa_name(isa)));
    const std::int64_t c = plain.head.out_channels;
    if (c < 1) throw std::invalid_argument("the head has no output channels");
    if (plain.trunk.size() % 2 != 1)
        throw std::invalid_argument("the trunk must be pairs of convolutions and one more");
    if (plain.upsample.empty() || plain.upsample.size() > 3)
        throw std::invalid_argument("a generator has 1 to 3 upsampling stages, not " +
                                    std::to_string(plain.upsample.size()));
    channels_ = padded(c);
    check(plain.head, "head", c, 3, 9, c);
    for (std::size_t i = 0; i < plain.trunk.size(); ++i) {
        const bool activated = i % 2 == 0 && i + 1 < plain.trunk.size();
        check(plain.trunk[i], "trunk " + std::to_string(i), c, c, 3, activated ? c : 0);
    }
    for (std::size_t i = 0; i < plain.upsample.size(); ++i)
        check(plain.upsample[i], "upsample " + std::to_string(i), 4 * c, c, 3, c);
    check(plain.tail, "tail", 3, c, 9, 0);

    const auto layers = static_cast<std::int64_t>(plain.trunk.size()), stages = std::int64_t(plain.upsample.size());
    memory_ = Aligned<std::byte>(bytes_of(cpu::packed_head_size(channels_), channels_) +
                                 layers * bytes_of(cpu::packed_conv3x3_size(channels_, channels_), channels_) +
                                 stages * bytes_of(cpu::packed_conv3x3_size(channels_, 4 * channels_), 4 * channels_) +
                                 bytes_of(cpu::packed_tail_size(channels_), cpu::kChannelBlock));
    head = pack_head(plain.head);
    for (const PlainConv& conv : plain.trunk) trunk.push_back(pack_conv(conv, 1));
    for (const PlainConv& conv : plain.upsample) upsample.push_back(pack_conv(conv, 4));
    tail = pack_tail(plain.tail);
}

}  // namespace srgan_fast::engine
