#include "engine/model.h"

#include <algorithm>
#include <atomic>
#include <functional>
#include <new>
#include <stdexcept>

namespace srgan_fast::engine {
namespace {

// Far above any network, far below where sizes computed from them would overflow.
constexpr std::int64_t kMaxChannels = 1 << 14, kMaxGrid = 64;

std::int64_t rounded_up(std::int64_t value, std::int64_t step) { return (value + step - 1) / step * step; }
std::int64_t padded(std::int64_t channels) { return rounded_up(channels, cpu::kChannelBlock); }

[[noreturn]] void refuse(const std::string& name, const std::string& why) {
    throw std::invalid_argument(name + ": " + why);
}

std::string shape(std::int64_t out, std::int64_t in, std::int64_t size) {
    return std::to_string(out) + ", " + std::to_string(in) + ", " + std::to_string(size) + ", " + std::to_string(size);
}

// Checks of a single convolution.
void check(const PlainConv& conv, std::int64_t in_channels) {
    const std::int64_t out = conv.out_channels, in = conv.in_channels, size = conv.size;
    if (out < 1 || in < 1 || out > kMaxChannels || in > kMaxChannels)
        refuse(conv.name, "it has " + std::to_string(in) + " input and " + std::to_string(out) + " output channels");
    if (size != 1 && size != 3 && size != 9)
        refuse(conv.name,
               "there is no kernel for a convolution of " + std::to_string(size) + "x" + std::to_string(size));
    if (in != in_channels || static_cast<std::int64_t>(conv.weight.size()) != out * in * size * size)
        refuse(conv.name, "weight has shape (" + shape(out, in, size) + ") and " + std::to_string(conv.weight.size()) +
                              " values, expected (" + shape(out, in_channels, size) + ")");
    if (static_cast<std::int64_t>(conv.bias.size()) != out)
        refuse(conv.name, "bias has " + std::to_string(conv.bias.size()) + " values, expected " + std::to_string(out));
    const auto slopes = static_cast<std::int64_t>(conv.slope.size());
    if (slopes > 1 && slopes != out)
        refuse(conv.name, std::to_string(slopes) + " slopes, expected none, 1 or " + std::to_string(out));
    if (conv.shuffle < 1 || conv.shuffle > kMaxGrid || out % (conv.shuffle * conv.shuffle) != 0)
        refuse(conv.name, "a pixel shuffle by " + std::to_string(conv.shuffle) + " does not fit " +
                              std::to_string(out) + " channels");
}

std::int64_t whole_lines(std::int64_t bytes) { return rounded_up(bytes, cpu::kAlignment); }

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

// Determines the layers and the maps between them.
void Model::describe(const Network& network) {
    const auto count = static_cast<std::int64_t>(network.convs.size());
    if (count == 0) throw std::invalid_argument("the network has no layers");
    if (network.channels < 1 || network.channels > kMaxImageChannels)
        throw std::invalid_argument("an image has 1 to 4 channels, not " + std::to_string(network.channels));
    if (network.unshuffle < 1 || network.unshuffle > 8)
        throw std::invalid_argument("unshuffle is " + std::to_string(network.unshuffle) + ", it may be 1 to 8");
    const bool float_maps = kernels_->element == sizeof(float);
    const std::int64_t image = network.channels * network.unshuffle * network.unshuffle;
    // In bfloat16 maps the image is exact as the sum of two channels.
    values_.push_back({padded(float_maps ? image : 2 * image), 1});
    value_channels_.push_back(image);
    std::vector<int> uses(count + 1, 0);
    for (std::int64_t i = 0; i < count; ++i) {
        const PlainConv& conv = network.convs[i];
        const bool last = i + 1 == count;
        if (conv.inputs.empty()) refuse(conv.name, "it has no inputs");
        std::int64_t in = 0, grid = 0;
        for (const std::int64_t value : conv.inputs) {
            if (value < 0 || value > i) refuse(conv.name, "it reads a value that is not there yet");
            if (grid != 0 && values_[value].grid != grid) refuse(conv.name, "its inputs differ in size");
            grid = values_[value].grid;
            in += value_channels_[value];
            ++uses[value];
        }
        check(conv, in);
        Layer layer{LayerKind::kConv3x3,
                    conv.name,
                    conv.inputs,
                    conv.residuals,
                    grid,
                    0,
                    conv.shuffle,
                    conv.shuffle > 1,
                    9.0 * static_cast<double>(in * conv.out_channels)};
        if (conv.size == 9) {
            layer.multiply_adds *= 9.0;
            const std::int64_t value = conv.inputs[0];
            if (conv.inputs.size() != 1 || !conv.residuals.empty() || conv.shuffle != 1)
                refuse(conv.name, "there is no kernel for a convolution of 9x9 with several inputs or a residual");
            if (value == 0 && !last && image == 3) {
                layer.kind = LayerKind::kHead9x9;
            } else if (last && conv.out_channels == 3 && value > 0 && network.convs[value - 1].shuffle == 2 &&
                       uses[value] == 1 && network.skip == Skip::kNone && conv.slope.empty()) {
                layer.kind = LayerKind::kTail9x9;
                layer.multiply_adds *= 4.0;
                // It reads the map before its shuffle.
                Layer& before = layers_[value - 1];
                before.shuffle = 1;
                values_[value] = {before.out_channels, before.grid};
                layer.grid = before.grid;
            } else {
                refuse(conv.name,
                       "there is a kernel for a convolution of 9x9 only from an image of three channels, or "
                       "to one after a pixel shuffle by 2");
            }
        }
        for (const Residual& residual : conv.residuals) {
            if (residual.value < 1 || residual.value > i)
                refuse(conv.name, "its residual is the image or a value that is not there yet");
            if (values_[residual.value].grid != grid || value_channels_[residual.value] != conv.out_channels)
                refuse(conv.name, "its residual has another shape than its result");
            if (conv.shuffle > 1 || last)
                refuse(conv.name, "there is no kernel for a residual before a pixel shuffle or the output");
            ++uses[residual.value];
        }
        const std::int64_t phases = conv.shuffle * conv.shuffle, channels = conv.out_channels / phases;
        if (last) {
            output_shuffle_ = layer.kind == LayerKind::kTail9x9 ? 2 : conv.shuffle;
            layer.shuffle = 1;
            if (channels != network.channels)
                refuse(conv.name, "the output has " + std::to_string(channels) + " channels, the image " +
                                      std::to_string(network.channels));
            layer.out_channels = padded(conv.out_channels);  // adjacent pixels, as they are written
        } else {
            layer.out_channels = padded(channels) * phases;
            values_.push_back({padded(channels), grid * conv.shuffle});
            value_channels_.push_back(channels);
        }
        if (grid * conv.shuffle > kMaxGrid) refuse(conv.name, "it enlarges by more than 64");
        const bool exact = float_maps && (last || std::ranges::count(conv.inputs, 0) > 0);
        layer.kernel = exact ? &level_->fp32.conv3x3 : &kernels_->conv3x3;
        layers_.push_back(std::move(layer));
    }
    for (std::int64_t i = 1; i < count; ++i)
        if (uses[i] == 0) refuse(network.convs[i - 1].name, "its result is not used");
    if (output_grid() % network.unshuffle != 0)
        throw std::invalid_argument("the network makes images smaller, or larger by a fraction");
    if (network.skip != Skip::kNone && network.unshuffle != 1)
        throw std::invalid_argument("there is no skip of an image that is unshuffled");
}

std::int64_t Model::arranged_inputs(const Layer& layer) const {
    std::int64_t sum = 0;
    for (const std::int64_t value : layer.inputs) sum += rounded_up(values_[value].channels, kernels_->input_block);
    return sum;
}

// Weights of a 3x3 convolution, [out][in][3][3], with channels placed as in its maps; zero elsewhere. Before a shuffle,
// output channels become phase-major (c * phases + phase becomes phase * C + c), so that kernels write whole pixels.
std::vector<float> Model::arranged(const PlainConv& conv, const Layer& layer) const {
    const std::int64_t in = arranged_inputs(layer), taps = conv.size * conv.size;
    std::vector<float> weight(layer.out_channels * in * 9, 0.0f);
    const std::int64_t phases = conv.shuffle * conv.shuffle, channels = conv.out_channels / phases;
    const bool last = &layer == &layers_.back();
    const std::int64_t per_phase = last ? channels : padded(channels);
    for (std::int64_t o = 0; o < conv.out_channels; ++o) {
        const float* from = conv.weight.data() + o * conv.in_channels * taps;
        float* to = weight.data() + (o % phases * per_phase + o / phases) * in * 9;
        for (const std::int64_t value : layer.inputs) {
            const std::int64_t count = value_channels_[value];
            // In bfloat16 maps the image is the sum of two channels.
            const std::int64_t copies = value == 0 && kernels_->element != sizeof(float) ? 2 : 1;
            for (std::int64_t i = 0; i < count; ++i, from += taps)
                for (std::int64_t copy = 0; copy < copies; ++copy)
                    std::copy_n(from, taps, to + (copy * count + i) * 9 + (taps == 1 ? 4 : 0));
            to += rounded_up(values_[value].channels, kernels_->input_block) * 9;
        }
    }
    return weight;
}

void Model::pack(const Network& network, ThreadPool& pool) {
    const auto each = [&](const auto& visit) {
        for (std::size_t i = 0; i < layers_.size(); ++i) {
            Layer& layer = layers_[i];
            const PlainConv& conv = network.convs[i];
            switch (layer.kind) {
                case LayerKind::kHead9x9: visit(layer, conv, kernels_->head, 3, layer.out_channels); break;
                case LayerKind::kTail9x9:
                    visit(layer, conv, kernels_->tail, values_[conv.inputs[0]].channels / 4, 3);
                    break;
                case LayerKind::kConv3x3:
                    visit(layer, conv, *layer.kernel, arranged_inputs(layer), layer.out_channels);
                    break;
            }
        }
    };
    std::int64_t bytes = 0;
    each([&](const Layer& layer, const PlainConv&, const auto& kernel, std::int64_t in, std::int64_t out) {
        bytes += whole_lines(kernel.packed_bytes(in, out)) +
                 2 * whole_lines(layer.out_channels * static_cast<std::int64_t>(sizeof(float)));
    });
    memory_ = Aligned<std::byte>(bytes);
    std::vector<std::function<void()>> packings;  // one per layer; most of the work
    each([&](Layer& layer, const PlainConv& conv, const auto& kernel, std::int64_t in, std::int64_t out) {
        const std::int64_t phases = conv.shuffle * conv.shuffle, channels = conv.out_channels / phases;
        const std::int64_t per_phase = &layer == &layers_.back() ? channels : padded(channels);
        const auto place = [&](std::int64_t o) { return o % phases * per_phase + o / phases; };
        const bool activated = !conv.slope.empty() || layer.kind == LayerKind::kHead9x9;
        const auto bias = take_floats(layer.out_channels), slope = take_floats(activated ? layer.out_channels : 0);
        std::ranges::fill(bias, 0.0f);
        std::ranges::fill(slope, 1.0f);  // means no activation for the head's kernel
        for (std::int64_t o = 0; o < conv.out_channels; ++o) {
            bias[place(o)] = conv.bias[o];
            if (!conv.slope.empty()) slope[place(o)] = conv.slope[conv.slope.size() == 1 ? 0 : o];
        }
        layer.bias = bias.data();
        layer.slope = activated ? slope.data() : nullptr;
        void* const packed = take(kernel.packed_bytes(in, out)).data();
        layer.weights = packed;
        packings.emplace_back([this, &layer, &conv, &kernel, in, out, packed] {
            std::vector<float> weight;
            if (layer.kind == LayerKind::kConv3x3) {
                weight = arranged(conv, layer);
            } else {  // padded to whole blocks of channels
                const bool head = layer.kind == LayerKind::kHead9x9;
                const std::int64_t columns = head ? 3 : in, rows = head ? out : 3;
                weight.assign(rows * columns * 81, 0.0f);
                for (std::int64_t o = 0; o < conv.out_channels; ++o)
                    std::copy_n(conv.weight.data() + o * conv.in_channels * 81, conv.in_channels * 81,
                                weight.data() + o * columns * 81);
            }
            kernel.pack(weight.data(), in, out, packed);
        });
    });
    std::atomic<bool> fits = true;
    pool.run(static_cast<std::int64_t>(packings.size()), [&](std::int64_t i, int) {
        try {
            packings[i]();
        } catch (const std::bad_alloc&) {
            fits = false;
        }
    });
    if (!fits) throw std::bad_alloc();
}

Model::Model(const Network& network, Precision precision, cpu::Isa isa, ThreadPool& pool)
    : skip(network.skip),
      input(network.input),
      output(network.output),
      tanh(network.tanh),
      level_(&cpu::kernels(isa)),
      kernels_(precision == Precision::kBf16 ? &level_->bf16 : &level_->fp32),
      channels_(network.channels),
      unshuffle_(network.unshuffle) {
    if (!kernels_->conv3x3.run)
        throw std::invalid_argument("bf16 needs a processor with AVX-512 BF16; this is computed with " +
                                    std::string(cpu::isa_name(isa)));
    describe(network);
    pack(network, pool);
}

}  // namespace srgan_fast::engine
