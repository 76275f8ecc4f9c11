// A generator's layers with weights packed for one instruction set; immutable once built.
#pragma once

#include <array>
#include <cstdint>
#include <new>
#include <span>
#include <utility>
#include <vector>

#include "kernels/cpu/kernels.h"

namespace srgan_fast::engine {

enum class Precision { kFp32, kBf16 };

// Memory on whole cache lines.
template <typename T>
class Aligned {
   public:
    explicit Aligned(std::int64_t size = 0)
        : size_(size), data_(static_cast<T*>(::operator new(size * sizeof(T), std::align_val_t{cpu::kAlignment}))) {}
    Aligned(Aligned&& other) noexcept : size_(std::exchange(other.size_, 0)), data_(std::exchange(other.data_, nullptr)) {}
    Aligned& operator=(Aligned&& other) noexcept {
        std::swap(size_, other.size_);
        std::swap(data_, other.data_);
        return *this;
    }
    ~Aligned() { ::operator delete(data_, std::align_val_t{cpu::kAlignment}); }

    T* data() { return data_; }
    const T* data() const { return data_; }
    std::int64_t size() const { return size_; }
    std::span<T> span() { return {data_, static_cast<std::size_t>(size_)}; }

   private:
    std::int64_t size_;
    T* data_;
};

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

struct Conv {
    Aligned<float> fp32;
    Aligned<std::uint16_t> bf16;
    Aligned<float> bias, slope;  // slope is empty where there is no PReLU
    std::int64_t in_channels = 0, out_channels = 0;

    const void* weights() const { return fp32.size() ? static_cast<const void*>(fp32.data()) : bf16.data(); }
};

class Model {
   public:
    // Throws std::invalid_argument where shapes do not fit each other, or the level cannot compute in that precision.
    Model(const PlainGenerator& plain, Precision precision, cpu::Isa isa);

    const cpu::KernelTable& kernels() const { return *kernels_; }
    const cpu::Kernel<cpu::Conv3x3>& conv3x3() const {
        return precision_ == Precision::kBf16 ? kernels_->conv3x3_bf16 : kernels_->conv3x3;
    }
    std::int64_t channels() const { return channels_; }  // padded to whole blocks
    std::int64_t scale() const { return std::int64_t{1} << upsample.size(); }

    Conv head, tail;
    std::vector<Conv> trunk, upsample;
    ColourMap input, output;
    bool tanh;

   private:
    const cpu::KernelTable* kernels_;
    Precision precision_;
    std::int64_t channels_;
};

}  // namespace srgan_fast::engine
