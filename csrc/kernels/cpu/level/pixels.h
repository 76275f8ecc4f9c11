// Output of the 9x9 convolution to RGB: converts its sums to pixels of the caller's type.
#pragma once

#include <cstring>

#include "kernels/cpu/kernels.h"
#include "kernels/cpu/level/vec.h"
#include "kernels/cpu/pack.h"

namespace srgan_fast::cpu::SRGAN_FAST_LEVEL {

// Four pixels at a time, the phases of one pixel before the shuffle: [dy][dx][colour], 12 of kTailOutputs values.
class Pixels {
  public:
    explicit Pixels(const Conv9x9Tail& a) : sink_(a.sink), first_row_(a.first_row) {
        for (int k = 0; k < kValues; ++k) {
            bias_[k] = a.bias[k % 3];
            gain_[k] = a.sink.gain[k % 3];
            offset_[k] = a.sink.offset[k % 3];
        }
    }

    // Pixel x in row y, relative to the call's first.
    SRGAN_FAST_INLINE void write(std::int64_t y, std::int64_t x, const float* sums) const {
        alignas(kAlignment) float values[kTailOutputs];
        for (int k = 0; k < kTailOutputs; k += kLanes) store(values + k, load(sums + k) + load(bias_ + k));
        if (sink_.tanh)
            for (int k = 0; k < kValues; ++k) values[k] = __builtin_tanhf(values[k]);
        for (int k = 0; k < kTailOutputs; k += kLanes)
            store(values + k, load(values + k) * load(gain_ + k) + load(offset_ + k));
        switch (sink_.type) {
            case PixelType::kUint8: return write_integers<std::uint8_t>(y, x, values, 255.0f);
            case PixelType::kUint16: return write_integers<std::uint16_t>(y, x, values, 65535.0f);
            case PixelType::kFloat: return write_planes(y, x, values);
        }
    }

  private:
    static constexpr int kValues = 12, kHalf = kValues / 2;

    template <typename Pixel>
    SRGAN_FAST_INLINE void write_integers(std::int64_t y, std::int64_t x, const float* values, float white) const {
        // Rounds a value in 0 .. 2^22 to nearest even without a call: adding 1.5 * 2^23 removes the fraction bits.
        constexpr float kMagic = 12582912.0f;
        typedef std::int32_t Integers __attribute__((vector_size(kLanes * sizeof(std::int32_t))));
        typedef Pixel Narrow __attribute__((vector_size(kLanes * sizeof(Pixel)), may_alias));
        alignas(kAlignment) Pixel pixels[kTailOutputs];
        for (int k = 0; k < kTailOutputs; k += kLanes) {
            const Vec value = load(values + k), low = value > 0.0f ? value : Vec{};  // NaN becomes 0
            const Vec rounded = (low < 1.0f ? low : broadcast(1.0f)) * white + kMagic - kMagic;
            *reinterpret_cast<Narrow*>(pixels + k) =
                __builtin_convertvector(__builtin_convertvector(rounded, Integers), Narrow);
        }
        Pixel* const out = static_cast<Pixel*>(sink_.data) + 2 * (first_row_ + y) * sink_.row_stride + kHalf * x;
        std::memcpy(out, pixels, kHalf * sizeof(Pixel));
        std::memcpy(out + sink_.row_stride, pixels + kHalf, kHalf * sizeof(Pixel));
    }

    SRGAN_FAST_INLINE void write_planes(std::int64_t y, std::int64_t x, const float* values) const {
        float* const out = static_cast<float*>(sink_.data) + 2 * (first_row_ + y) * sink_.row_stride + 2 * x;
        for (int k = 0; k < kValues; ++k)
            out[k % 3 * sink_.plane_stride + k / kHalf * sink_.row_stride + k % kHalf / 3] = values[k];
    }

    PixelSink sink_;
    std::int64_t first_row_;
    alignas(kAlignment) float bias_[kTailOutputs]{}, gain_[kTailOutputs]{}, offset_[kTailOutputs]{};
};

}  // namespace srgan_fast::cpu::SRGAN_FAST_LEVEL
