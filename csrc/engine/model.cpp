#include "engine/model.h"

#include <algorithm>
#include <stdexcept>
#include <string>

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

std::int64_t whole_lines(std::int64_t bytes) {
    return (bytes + cpu::kAlignment - 1) / cpu::kAlignment * cpu::kAlignment;
}

// Upper bound of what a packed layer takes, with its bias and slopes, each on cache lines of its own.
template <typename Arguments>
std::int64_t bytes_of(const cpu::LayerKernel<Arguments>& kernel, std::int64_t in_channels, std::int64_t out_channels) {
    const std::int64_t vector = whole_lines(out_channels * static_cast<std::int64_t>(sizeof(float)));
    return whole_lines(kernel.packed_bytes(in_channels, out_channels)) + 2 * vector;
}

}  // namespace

std::span<std::byte> Model::take(std::int64_t bytes) {
    std::byte* const start = memory_.data() + used_;
    used_ += whole_lines(bytes);
    return {start, static_cast<std::size_t>(bytes)};
}

std::span<float> Model::take_floats(std::int64_t size) {
    const std::span<std::byte> bytes = take(size * static_cast<std::int64_t>(sizeof(float)));
    return {reinterpret_cast<float*>(bytes.data()), static_cast<std::size_t>(size)};
}

template <typename Arguments>
const void* Model::pack(const cpu::LayerKernel<Arguments>& kernel, std::span<const float> weight,
                        std::int64_t in_channels, std::int64_t out_channels) {
    void* const packed = take(kernel.packed_bytes(in_channels, out_channels)).data();
    kernel.pack(weight.data(), in_channels, out_channels, packed);
    return packed;
}

// Channels are padded by zeros. Where `phases` is 4, output channel c * 4 + phase, which is the order of a pixel
// shuffle, becomes phase * C + c, which lets the kernel write whole pixels.
Conv Model::pack_conv(const PlainConv& plain, std::int64_t phases) {
    const std::int64_t in = padded(plain.in_channels), per_phase = padded(plain.out_channels / phases);
    const std::int64_t out = per_phase * phases, taps = plain.size * plain.size;
    std::vector<float> weight(out * in * taps, 0.0f);
    const auto bias = take_floats(out), slope = take_floats(plain.slope.empty() ? 0 : out);
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
    return {in, out, pack(kernels_->conv3x3, weight, in, out), bias.data(),
            plain.slope.empty() ? nullptr : slope.data()};
}

Conv Model::pack_head(const PlainConv& plain) {
    const std::int64_t out = padded(plain.out_channels);
    std::vector<float> weight(out * 243, 0.0f);
    std::ranges::copy(plain.weight, weight.begin());
    const auto bias = take_floats(out), slope = take_floats(out);
    std::fill(std::ranges::copy(plain.bias, bias.begin()).out, bias.end(), 0.0f);
    std::ranges::fill(slope, plain.slope[0]);
    std::ranges::copy(plain.slope, slope.begin());
    return {3, out, pack(kernels_->head, weight, 3, out), bias.data(), slope.data()};
}

Conv Model::pack_tail(const PlainConv& plain) {
    const std::int64_t channels = padded(plain.in_channels);
    std::vector<float> weight(3 * channels * 81, 0.0f);
    for (std::int64_t o = 0; o < 3; ++o)
        std::copy_n(plain.weight.data() + o * plain.in_channels * 81, plain.in_channels * 81,
                    weight.data() + o * channels * 81);
    const auto bias = take_floats(3);
    std::ranges::copy(plain.bias, bias.begin());
    return {4 * channels, 3, pack(kernels_->tail, weight, channels, 3), bias.data(), nullptr};
}

Model::Model(const PlainGenerator& plain, Precision precision, cpu::Isa isa)
    : input(plain.input),
      output(plain.output),
      tanh(plain.tanh),
      level_(&cpu::kernels(isa)),
      kernels_(precision == Precision::kBf16 ? &level_->bf16 : &level_->fp32) {
    if (!kernels_->conv3x3.run)
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
    memory_ = Aligned<std::byte>(
        bytes_of(kernels_->head, 3, channels_) + layers * bytes_of(kernels_->conv3x3, channels_, channels_) +
        stages * bytes_of(kernels_->conv3x3, channels_, 4 * channels_) + bytes_of(kernels_->tail, channels_, 3));
    head = pack_head(plain.head);
    for (const PlainConv& conv : plain.trunk) trunk.push_back(pack_conv(conv, 1));
    for (const PlainConv& conv : plain.upsample) upsample.push_back(pack_conv(conv, 4));
    tail = pack_tail(plain.tail);
}

}  // namespace srgan_fast::engine
