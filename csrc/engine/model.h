// Layers of a network with weights packed for one instruction set; immutable after construction.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "engine/memory.h"
#include "engine/network.h"
#include "engine/pool.h"
#include "kernels/cpu/kernels.h"

namespace srgan_fast::engine {

enum class Precision { kFp32, kBf16 };

enum class LayerKind {
    kConv3x3,
    kHead9x9,  // from an image of three colours
    kTail9x9,  // to an image of three colours, before the shuffle that precedes it
};

// A packed layer; pointers refer to the model's memory. It computes `out_channels` for every pixel of its grid.
struct Layer {
    LayerKind kind;
    std::string name;
    std::vector<std::int64_t> inputs;
    std::vector<Residual> residuals;
    std::int64_t grid;          // grid pixels along a side per pixel of the network's input
    std::int64_t out_channels;  // padded to whole blocks
    std::int64_t shuffle;       // factor of the pixel shuffle of its result
    bool upsamples;             // followed by a shuffle, in its own epilogue or in its reader
    double multiply_adds;       // of direct convolution, per pixel of its grid
    const cpu::LayerKernel<cpu::Conv3x3>* kernel = nullptr;  // of 3x3 convolutions
    const void* weights = nullptr;
    const float* bias = nullptr;
    const float* slope = nullptr;  // null without PReLU

    std::int64_t radius() const { return kind == LayerKind::kHead9x9 ? 4 : kind == LayerKind::kTail9x9 ? 2 : 1; }
};

// Map of a value.
struct Value {
    std::int64_t channels;  // padded to whole blocks
    std::int64_t grid;      // pixels along a side per pixel of the network's input
};

class Model {
  public:
    // Throws std::invalid_argument if the parts do not fit together, if there is no kernel for a layer, or if the level
    // does not support the precision; the message begins with the layer's name. `pool` packs the weights.
    Model(const Network& network, Precision precision, cpu::Isa isa, ThreadPool& pool);

    const cpu::KernelTable& level() const { return *level_; }
    const cpu::NetworkKernels& kernels() const { return *kernels_; }
    const std::vector<Layer>& layers() const { return layers_; }
    const std::vector<Value>& values() const { return values_; }  // values of the image and of all layers but the last
    std::int64_t channels() const { return channels_; }
    std::int64_t unshuffle() const { return unshuffle_; }
    // Output pixels along a side per pixel of the last layer's grid, and per pixel of the network's input; and the
    // upscaling factor.
    std::int64_t output_shuffle() const { return output_shuffle_; }
    std::int64_t output_grid() const { return layers_.back().grid * output_shuffle_; }
    std::int64_t scale() const { return output_grid() / unshuffle_; }
    std::int64_t weight_bytes() const { return memory_.size(); }

    Skip skip;
    ColourMap input, output;
    bool tanh;

  private:
    void describe(const Network& network);
    void pack(const Network& network, ThreadPool& pool);
    std::span<std::byte> take(std::int64_t bytes);
    std::span<float> take_floats(std::int64_t size);
    std::vector<float> arranged(const PlainConv& conv, const Layer& layer) const;
    std::int64_t arranged_inputs(const Layer& layer) const;

    const cpu::KernelTable* level_;
    const cpu::NetworkKernels* kernels_;
    std::int64_t channels_, unshuffle_, output_shuffle_ = 1;
    std::vector<Layer> layers_;
    std::vector<Value> values_;
    std::vector<std::int64_t> value_channels_;  // without padding
    Aligned<std::byte> memory_;
    std::int64_t used_ = 0;  // bytes of memory in use
};

}  // namespace srgan_fast::engine
