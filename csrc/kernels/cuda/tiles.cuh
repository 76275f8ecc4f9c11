// Tiles of a map in shared memory, laid out for the matrix instructions: one row per pixel, its channels in units of 16
// bytes that are permuted so that eight adjacent pixels are in different banks. The prologue is applied once per
// element, on the way from global memory; zeros are stored outside the image. Maps are 16-bit, or floats, which are
// rounded to TF32 after the prologue.
#pragma once

#include "kernels/cuda/intrinsics.cuh"
#include "kernels/cuda/params.h"

namespace srgan_fast::cuda {

// Channels per unit.
template <typename T>
inline constexpr int kUnit = static_cast<int>(sizeof(Vec16) / sizeof(T));

// Byte offset of a unit of a pixel.
template <int row_bytes>
SRGAN_FAST_DEVICE int tile_offset(int pixel, int unit) {
    static_assert(row_bytes == 256 || row_bytes == 128 || row_bytes == 64 || row_bytes == 32);
    if constexpr (row_bytes >= 128) return pixel * row_bytes + ((unit ^ (pixel & 7)) << 4);
    if constexpr (row_bytes == 64) return pixel * 64 + ((unit ^ ((pixel >> 1) & 3)) << 4);
    return pixel * 32 + ((unit ^ ((pixel >> 2) & 1)) << 4);
}

// Products of one step's fragments: m_count blocks of 16 pixels by n_count blocks of 8 channels.
template <typename T, int m_count, int n_count>
SRGAN_FAST_DEVICE void multiply_fragments(float (&sums)[m_count][n_count][4], const std::uint32_t (&a)[m_count][4],
                                          const std::uint32_t (&b)[n_count / 2][4]) {
#pragma unroll
    for (int m = 0; m < m_count; ++m)
#pragma unroll
        for (int n = 0; n < n_count; ++n)
            multiply_add<T>(sums[m][n], a[m], b[n / 2][n % 2 * 2], b[n / 2][n % 2 * 2 + 1]);
}

SRGAN_FAST_DEVICE float value_of(const Vector& v, int i, float otherwise) {
    return v.data ? v.data[static_cast<std::int64_t>(i) * v.step] : otherwise;
}

// Number of elements of a unit of `size` that exist.
template <int size>
SRGAN_FAST_DEVICE int present(int channels, int first) {
    const int left = channels - first;
    return left < 0 ? 0 : left > size ? size : left;
}

// A unit with zeros from element `count` on; `whole`: the map's pixels are multiples of 16 bytes.
template <typename T>
SRGAN_FAST_DEVICE Vec16 read_unit(const T* from, int count, bool whole) {
    if (whole) return *reinterpret_cast<const Vec16*>(from);
    constexpr int kOfWord = kUnit<T> / 4, kBits = 32 / kOfWord;
    Vec16 unit{};
#pragma unroll
    for (int i = 0; i < kUnit<T>; ++i)
        if (i < count) unit.word[i / kOfWord] |= bits_of(from[i]) << (i % kOfWord * kBits);
    return unit;
}

template <typename T>
SRGAN_FAST_DEVICE void write_unit(T* to, const Vec16& unit, int count, bool whole) {
    if (whole) {
        *reinterpret_cast<Vec16*>(to) = unit;
        return;
    }
    constexpr int kOfWord = kUnit<T> / 4, kBits = 32 / kOfWord;
#pragma unroll
    for (int i = 0; i < kUnit<T>; ++i)
        if (i < count) to[i] = of_bits<T>(unit.word[i / kOfWord] >> (i % kOfWord * kBits));
}

template <typename T>
SRGAN_FAST_DEVICE void widen_unit(const Vec16& unit, float (&values)[kUnit<T>]) {
    if constexpr (std::is_same_v<T, float>) {
#pragma unroll
        for (int i = 0; i < 4; ++i) values[i] = of_bits<float>(unit.word[i]);
    } else {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const Pair pair = widen_pair<T>(unit.word[i]);
            values[2 * i] = pair.low, values[2 * i + 1] = pair.high;
        }
    }
}

template <typename T>
SRGAN_FAST_DEVICE Vec16 narrow_unit(const float (&values)[kUnit<T>]) {
    Vec16 unit;
#pragma unroll
    for (int i = 0; i < 4; ++i)
        if constexpr (std::is_same_v<T, float>)
            unit.word[i] = bits_of(values[i]);
        else
            unit.word[i] = narrow_pair<T>(values[2 * i], values[2 * i + 1]);
    return unit;
}

// Converts to tensor core operands: floats are rounded to TF32.
template <typename T>
inline constexpr bool kRounds = std::is_same_v<T, float>;

template <typename T>
SRGAN_FAST_DEVICE Vec16 operand_unit(Vec16 unit) {
    if constexpr (kRounds<T>) {
#pragma unroll
        for (int i = 0; i < 4; ++i) unit.word[i] = bits_of(round_to_tf32(of_bits<float>(unit.word[i])));
    }
    return unit;
}

// u = scale * x + shift for `size` channels, with the mean folded into `shift`, and the activation.
template <int size>
struct Affine {
    float scale[size], shift[size], slope[size];

    SRGAN_FAST_DEVICE void read(const Source& s, int first, int count) {
#pragma unroll
        for (int i = 0; i < size; ++i) {
            const bool there = i < count;
            scale[i] = there ? value_of(s.scale, first + i, 1.0f) : 1.0f;
            const float center = there ? value_of(s.center, first + i, 0.0f) : 0.0f;
            shift[i] = (there ? value_of(s.shift, first + i, 0.0f) : 0.0f) - scale[i] * center;
            slope[i] = there ? value_of(s.slope, first + i, 1.0f) : 1.0f;
        }
    }

    // Computes z from x.
    SRGAN_FAST_DEVICE void apply(float (&values)[size], const float (&residual)[size], bool adds) const {
#pragma unroll
        for (int i = 0; i < size; ++i) {
            const float u = scale[i] * values[i] + shift[i];
            values[i] = adds ? u + residual[i] : u > 0.0f ? u : slope[i] * u;
        }
    }
};

// Gradient: from dz to the gradient of x, while those of scale, shift and slope are accumulated.
template <int size>
struct SourceAdjoint {
    Affine<size> affine;
    float center[size], sums[3][size] = {};
    bool activates;

    SRGAN_FAST_DEVICE SourceAdjoint(const Source& s, int first, int count) : activates(s.activates) {
        if (!s.affine) return;
        affine.read(s, first, count);
#pragma unroll
        for (int i = 0; i < size; ++i) center[i] = i < count ? value_of(s.center, first + i, 0.0f) : 0.0f;
    }

    SRGAN_FAST_DEVICE void go_back(float (&values)[size], const float (&raw)[size]) {
#pragma unroll
        for (int i = 0; i < size; ++i) {
            const float u = affine.scale[i] * raw[i] + affine.shift[i];
            const bool negative = activates && !(u > 0.0f);
            const float du = negative ? affine.slope[i] * values[i] : values[i];
            sums[0][i] += du * (raw[i] - center[i]);
            sums[1][i] += du;
            sums[2][i] += negative ? values[i] * u : 0.0f;
            values[i] = du * affine.scale[i];
        }
    }
};

// Reads units of z, for fixed channels, from any pixel of an image.
template <typename T>
class SourceReader {
  public:
    using Element = T;
    static constexpr int kSize = kUnit<T>;

    SRGAN_FAST_DEVICE SourceReader(const Source& s, int channel)
        : s_(s), channel_(channel), count_(present<kSize>(s.channels, channel)), x_(nullptr), residual_(nullptr) {
        by_phase_ = s.shuffle && (s.center.step | s.scale.step | s.shift.step | s.slope.step) != 0;
    }

    // Reads the per-channel values that combine() needs.
    SRGAN_FAST_DEVICE void prepare() {
        if (s_.affine && !by_phase_) affine_.read(s_, channel_, count_);
    }

    SRGAN_FAST_DEVICE void choose_image(int image) {
        const std::int64_t first = static_cast<std::int64_t>(image) * s_.height * s_.width * s_.pitch;
        x_ = static_cast<const T*>(s_.x) + first;
        residual_ = s_.residual ? static_cast<const T*>(s_.residual) + first : nullptr;
    }

    SRGAN_FAST_DEVICE int count() const { return count_; }
    SRGAN_FAST_DEVICE int height() const { return s_.height; }
    SRGAN_FAST_DEVICE int width() const { return s_.width; }
    // Whether pixels are multiples of 16 bytes.
    SRGAN_FAST_DEVICE bool whole() const { return s_.pitch % kSize == 0; }
    // Whether it does more than copy.
    SRGAN_FAST_DEVICE bool transforms() const { return s_.affine; }
    SRGAN_FAST_DEVICE bool has_second() const { return s_.residual != nullptr; }

    SRGAN_FAST_DEVICE const T* first(int y, int x) const {
        if (!s_.shuffle) return x_ + (y * s_.width + x) * s_.pitch + channel_;
        const int phase = (y & 1) * 2 + (x & 1);
        return x_ + (((y >> 1) * (s_.width >> 1) + (x >> 1)) * kPhases + phase) * s_.pitch + channel_;
    }

    SRGAN_FAST_DEVICE const T* second(int y, int x) const {
        return residual_ + (y * s_.width + x) * s_.pitch + channel_;
    }

    SRGAN_FAST_DEVICE Vec16 combine(const Vec16& x_unit, const Vec16& residual_unit, int y, int x) {
        if (by_phase_) affine_.read(s_, ((y & 1) * 2 + (x & 1)) * s_.channels + channel_, count_);
        float z[kSize], residual[kSize];
        widen_unit<T>(x_unit, z);
        widen_unit<T>(residual_unit, residual);
        affine_.apply(z, residual, has_second());
#pragma unroll
        for (int i = 0; i < kSize; ++i)
            if (i >= count_) z[i] = 0.0f;
        return narrow_unit<T>(z);
    }

    SRGAN_FAST_DEVICE void write_sum(T* sum, const Vec16& unit, int image, int y, int x) const {
        const std::int64_t first = static_cast<std::int64_t>(image) * s_.height * s_.width * s_.channels;
        write_unit(sum + first + (y * s_.width + x) * s_.channels + channel_, unit, count_, s_.channels % kSize == 0);
    }

  private:
    const Source& s_;
    int channel_, count_;
    bool by_phase_;
    const T* x_;
    const T* residual_;
    Affine<kSize> affine_;
};

// The same for units of dy; or for vectors of `size` channels.
template <typename T, int size = kUnit<T>>
class GradientReader {
  public:
    using Element = T;

    SRGAN_FAST_DEVICE GradientReader(const Gradient& s, int channel)
        : s_(s), channel_(channel), count_(present<size>(s.channels, channel)), g_(nullptr), y_(nullptr) {}

    SRGAN_FAST_DEVICE void prepare() {
        if (!s_.moments) return;
#pragma unroll
        for (int i = 0; i < size; ++i) {
            const bool there = i < count_;
            factor_[i] = there ? 2.0f * value_of(s_.var_gradient, channel_ + i, 0.0f) * s_.share : 0.0f;
            offset_[i] = there ? value_of(s_.mean_gradient, channel_ + i, 0.0f) * s_.share -
                                     factor_[i] * value_of(s_.mean, channel_ + i, 0.0f)
                               : 0.0f;
        }
    }

    SRGAN_FAST_DEVICE void choose_image(int image) {
        const std::int64_t first = static_cast<std::int64_t>(image) * s_.height * s_.width * s_.pitch;
        g_ = static_cast<const T*>(s_.g) + first;
        y_ = s_.y ? static_cast<const T*>(s_.y) + first : nullptr;
    }

    SRGAN_FAST_DEVICE int count() const { return count_; }
    SRGAN_FAST_DEVICE int height() const { return s_.height; }
    SRGAN_FAST_DEVICE int width() const { return s_.width; }
    SRGAN_FAST_DEVICE bool whole() const { return s_.pitch % kUnit<T> == 0; }
    SRGAN_FAST_DEVICE bool transforms() const { return has_second(); }
    SRGAN_FAST_DEVICE bool has_second() const { return s_.moments || s_.activation; }

    SRGAN_FAST_DEVICE const T* first(int y, int x) const { return g_ + (y * s_.width + x) * s_.pitch + channel_; }
    SRGAN_FAST_DEVICE const T* second(int y, int x) const { return y_ + (y * s_.width + x) * s_.pitch + channel_; }

    // Computes dy from g and y.
    SRGAN_FAST_DEVICE void apply(float (&dy)[size], const float (&result)[size]) const {
#pragma unroll
        for (int i = 0; i < size; ++i)
            dy[i] = s_.moments         ? dy[i] + (factor_[i] * result[i] + offset_[i])
                    : result[i] > 0.0f ? dy[i]
                                       : s_.slope * dy[i];
    }

    SRGAN_FAST_DEVICE Vec16 combine(const Vec16& g_unit, const Vec16& y_unit, int, int) const {
        float dy[size], result[size];
        widen_unit<T>(g_unit, dy);
        widen_unit<T>(y_unit, result);
        apply(dy, result);
        return narrow_unit<T>(dy);
    }

  private:
    const Gradient& s_;
    int channel_, count_;
    const T* g_;
    const T* y_;
    float factor_[size], offset_[size];
};

// A rectangle of pixels; (top, left) may be outside the image, and rows may be skipped.
struct Window {
    int top, left, rows, columns, row_step;
};

// Units of a window that belong to this thread: visit(offset in the tile, y, x, whether it is inside the image).
template <int row_bytes, int threads, typename Reader, typename Visit>
SRGAN_FAST_DEVICE void each_unit(const Reader& reader, const Window& w, Visit visit) {
    constexpr int kUnits = row_bytes / 16, kStride = threads / kUnits;
    const int unit = threadIdx.x % kUnits, pixels = w.rows * w.columns;
    const unsigned reciprocal = 65536u / static_cast<unsigned>(w.columns) + 1;  // exact below 2^16 / columns pixels
    for (int pixel = threadIdx.x / kUnits; pixel < pixels; pixel += kStride) {
        const int row = static_cast<int>(static_cast<unsigned>(pixel) * reciprocal >> 16);
        const int y = w.top + row * w.row_step, x = w.left + pixel - row * w.columns;
        const bool inside = reader.count() > 0 && y >= 0 && y < reader.height() && x >= 0 && x < reader.width();
        visit(tile_offset<row_bytes>(pixel, unit), y, x, inside);
    }
}

// Starts the copies of a window as it is in memory: the map that z or dy is computed from to `tile`, the second map, if
// any, to `second`.
template <int row_bytes, int threads, typename Reader>
SRGAN_FAST_DEVICE void request_window(std::byte* tile, std::byte* second, const Reader& reader, const Window& w) {
    if (!reader.whole()) return;  // finish_window reads what cannot be copied in units
    each_unit<row_bytes, threads>(reader, w, [&](int offset, int y, int x, bool inside) {
        copy_async_16(tile + offset, inside ? reader.first(y, x) : nullptr, inside);
        if (reader.has_second()) copy_async_16(second + offset, inside ? reader.second(y, x) : nullptr, inside);
    });
}

// Computes z or dy of a window in place, after this thread's copies: it only processes what it copied itself, so other
// threads need a barrier only afterwards. `each(unit, y, x)` is called for pixels inside the image, wherever z or dy is
// computed, or everywhere with `sees_all`.
template <int row_bytes, int threads, typename Reader, typename Each>
SRGAN_FAST_DEVICE void finish_window(std::byte* tile, const std::byte* second, Reader& reader, const Window& w,
                                     bool sees_all, Each each) {
    using T = typename Reader::Element;
    if (reader.whole() && !reader.transforms() && !kRounds<T> && !sees_all) return;
    each_unit<row_bytes, threads>(reader, w, [&](int offset, int y, int x, bool inside) {
        if (reader.whole() && !inside) return;
        Vec16& place = *reinterpret_cast<Vec16*>(tile + offset);
        Vec16 unit{}, other{};
        if (reader.whole()) {
            unit = place;
            if (reader.has_second()) other = *reinterpret_cast<const Vec16*>(second + offset);
        } else if (inside) {
            unit = read_unit(reader.first(y, x), reader.count(), false);
            if (reader.has_second()) other = read_unit(reader.second(y, x), reader.count(), false);
        }
        if (inside && reader.transforms()) unit = reader.combine(unit, other, y, x);
        if (inside) each(unit, y, x);
        place = operand_unit<T>(unit);
    });
}

}  // namespace srgan_fast::cuda
