// A generator's layers with weights packed for one instruction set; immutable once built.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/memory.h"
#include "kernels/cpu/kernels.h"

namespace srgan_fast::engine {

enum class Precision { kFp32, kBf16 };

// A convolution as it comes, with BatchNorm folded: weight [out][in][k][k], bias [out], slopes of its PReLU: one or one
// for each channel (counted behind a pixel shuffle, where there is one), empty for none.
struct PlainConv {
    std::int64_t out_channels, in_channels, size;
    std::span<const float> weight, bias, slope;
};

struct ColourMap {
    std::array<float, 3> gain{1.0f, 1.0f, 1.0f}, offset{};
};

struct PlainGenerator {
    PlainConv head;
    std::vector<PlainConv> trunk;     // pairs of a block, then the one that closes the trunk
    std::vector<PlainConv> upsample;  // each before a pixel shuffle by 2
    PlainConv tail;
    ColourMap input, output;
    bool tanh = false;
};

// A packed layer; the values lie in the model's memory.
struct Conv {
    std::int64_t in_channels = 0, out_channels = 0;
    const void* weights = nullptr;
    const float* bias = nullptr;
    const float* slope = nullptr;  // null where there is no PReLU
};

class Model {
  public:
    // Throws std::invalid_argument where shapes do not fit each other, or the level cannot compute in that precision.
    Model(const PlainGenerator& plain, Precision precision, cpu::Isa isa);

    const cpu::KernelTable& level() const { return *level_; }
    const cpu::GeneratorKernels& kernels() const { return *kernels_; }
    std::int64_t channels() const { return channels_; }  // padded to whole blocks
    std::int64_t scale() const { return std::int64_t{1} << upsample.size(); }

    Conv head, tail;
    std::vector<Conv> trunk, upsample;
    ColourMap input, output;
    bool tanh;

  private:
    Conv pack_head(const PlainConv& plain);
    Conv pack_conv(const PlainConv& plain, std::int64_t phases);
    Conv pack_tail(const PlainConv& plain);
    template <typename Arguments>
    const void* pack(const cpu::LayerKernel<Arguments>& kernel, std::span<const float> weight, std::int64_t in_channels,
                     std::int64_t out_channels);
    std::span<std::byte> take(std::int64_t bytes);
    std::span<float> take_floats(std::int64_t size);

    const cpu::KernelTable* level_;
    const cpu::GeneratorKernels* kernels_;
    std::int64_t channels_ = 0;
    Aligned<std::byte> memory_;
    std::int64_t used_ = 0;  // bytes of it
};

}  // namespace srgan_fast::engine
