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

// Values with zeros behind them.
Aligned<float> padded_with_zeros(std::span<const float> values, std::int64_t size) {
    Aligned<float> out(size);
    std::fill(std::copy(values.begin(), values.end(), out.data()), out.data() + size, 0.0f);
    return out;
}

// The layer with channels padded by zeros. Where `phases` is 4, output channel c * 4 + phase, which is the order of a
// pixel shuffle, becomes phase * C + c, which lets the kernel write whole pixels.
Conv pack_conv(const PlainConv& plain, std::int64_t phases, Precision precision, std::int64_t panel) {
    const std::int64_t in = padded(plain.in_channels), per_phase = padded(plain.out_channels / phases);
    const std::int64_t out = per_phase * phases, taps = plain.size * plain.size;
    std::vector<float> weight(out * in * taps, 0.0f), bias(out, 0.0f), slope(out, 0.0f);
    for (std::int64_t o = 0; o < plain.out_channels; ++o) {
        const std::int64_t channel = o / phases, target = o % phases * per_phase + channel;
        bias[target] = plain.bias[o];
        if (!plain.slope.empty()) slope[target] = plain.slope[plain.slope.size() == 1 ? 0 : channel];
        for (std::int64_t i = 0; i < plain.in_channels; ++i)
            std::copy_n(plain.weight.data() + (o * plain.in_channels + i) * taps, taps,
                        weight.data() + (target * in + i) * taps);
    }
    Conv conv;
    conv.in_channels = in;
    conv.out_channels = out;
    conv.bias = padded_with_zeros(bias, out);
    if (!plain.slope.empty()) conv.slope = padded_with_zeros(slope, out);
    if (precision == Precision::kBf16) {
        conv.bf16 = Aligned<std::uint16_t>(cpu::packed_conv3x3_size(in, out));
        cpu::pack_conv3x3(weight, in, out, panel, conv.bf16.span());
    } else {
        conv.fp32 = Aligned<float>(cpu::packed_conv3x3_size(in, out));
        cpu::pack_conv3x3(weight, in, out, panel, conv.fp32.span());
    }
    return conv;
}

Conv pack_head_conv(const PlainConv& plain, std::int64_t panel) {
    const std::int64_t out = padded(plain.out_channels);
    std::vector<float> weight(out * 243, 0.0f);
    std::copy(plain.weight.begin(), plain.weight.end(), weight.begin());
    Conv conv;
    conv.out_channels = out;
    conv.fp32 = Aligned<float>(cpu::packed_head_size(out));
    cpu::pack_head(weight, out, panel, conv.fp32.span());
    conv.bias = padded_with_zeros(plain.bias, out);
    const std::vector<float> shared(plain.slope.size() == 1 ? out : 0, plain.slope[0]);
    conv.slope = padded_with_zeros(shared.empty() ? plain.slope : std::span<const float>(shared), out);
    return conv;
}

Conv pack_tail_conv(const PlainConv& plain, std::int64_t panel) {
    const std::int64_t channels = padded(plain.in_channels);
    std::vector<float> weight(3 * channels * 81, 0.0f);
    for (std::int64_t o = 0; o < 3; ++o)
        std::copy_n(plain.weight.data() + o * plain.in_channels * 81, plain.in_channels * 81,
                    weight.data() + o * channels * 81);
    Conv conv;
    conv.in_channels = 4 * channels;
    conv.fp32 = Aligned<float>(cpu::packed_tail_size(channels));
    cpu::pack_tail(weight, channels, panel, conv.fp32.span());
    conv.bias = padded_with_zeros(plain.bias, 3);
    return conv;
}

}  // namespace

Model::Model(const PlainGenerator& plain, Precision precision, cpu::Isa isa)
    : input(plain.input), output(plain.output), tanh(plain.tanh), kernels_(&cpu::kernels(isa)), precision_(precision) {
    if (precision == Precision::kBf16 && !kernels_->conv3x3_bf16.run)
        throw std::invalid_argument("bf16 needs a processor with AVX-512 BF16; this is computed with " +
                                    std::string(cpu::isa_name(isa)));
    const std::int64_t c = plain.head.out_channels;
    if (c < 1) throw std::invalid_argument("the head has no output channels");
    if (plain.trunk.size() % 2 != 1) throw std::invalid_argument("the trunk must be pairs of convolutions and one more");
    if (plain.upsample.empty() || plain.upsample.size() > 3)
        throw std::invalid_argument("a generator has 1 to 3 upsampling stages, not " +
                                    std::to_string(plain.upsample.size()));
    channels_ = padded(c);
    const std::int64_t panel = kernels_->panel;
    check(plain.head, "head", c, 3, 9, c);
    head = pack_head_conv(plain.head, panel);
    for (std::size_t i = 0; i < plain.trunk.size(); ++i) {
        const bool first = i % 2 == 0 && i + 1 < plain.trunk.size();
        check(plain.trunk[i], "trunk " + std::to_string(i), c, c, 3, first ? c : 0);
        trunk.push_back(pack_conv(plain.trunk[i], 1, precision, panel));
    }
    for (std::size_t i = 0; i < plain.upsample.size(); ++i) {
        check(plain.upsample[i], "upsample " + std::to_string(i), 4 * c, c, 3, c);
        upsample.push_back(pack_conv(plain.upsample[i], 4, precision, panel));
    }
    check(plain.tail, "tail", 3, c, 9, 0);
    tail = pack_tail_conv(plain.tail, panel);
}

}  // namespace srgan_fast::engine
