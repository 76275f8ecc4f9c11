// Separate passes around a convolution computed by cuDNN: prologue, epilogue and their gradients, each of which reads
// and writes a map once. A thread processes 8 channels, whose per-channel values it keeps in registers, of pixels that
// are apart; maps are dense NHWC, with channels in multiples of 8, in 16 bits or float.
#pragma once

#include "kernels/cuda/plan.h"
#include "kernels/cuda/tiles.cuh"

namespace srgan_fast::cuda {

// 8 elements of a map, moved together.
struct alignas(16) Vec32 {
    float value[8];
};
template <typename T>
struct UnitOf {
    using Type = Vec16;
};
template <>
struct UnitOf<float> {
    using Type = Vec32;
};
template <typename T>
using Unit = typename UnitOf<T>::Type;

template <typename T>
SRGAN_FAST_DEVICE void unpack(const Unit<T>& unit, float (&values)[8]) {
    if constexpr (sizeof(T) == sizeof(float)) {
#pragma unroll
        for (int i = 0; i < 8; ++i) values[i] = unit.value[i];
    } else {
        widen_unit<T>(unit, values);
    }
}
template <typename T>
SRGAN_FAST_DEVICE Unit<T> pack(const float (&values)[8]) {
    if constexpr (sizeof(T) == sizeof(float)) {
        Unit<T> unit;
#pragma unroll
        for (int i = 0; i < 8; ++i) unit.value[i] = values[i];
        return unit;
    } else {
        return narrow_unit<T>(values);
    }
}

// A thread's part of a pass: its first channel, and its pixels from `first` on, `step` apart, below `end`. They are
// 32-bit indices (kMostPixels), since 64-bit divisions take many instructions.
struct Share {
    int channel, row, step;
    int first, end;
};

SRGAN_FAST_DEVICE Share share_of(const Pass& p) {
    const int units = p.channels / 8, step = kPassThreads / units, row = static_cast<int>(threadIdx.x) / units;
    const int begin = static_cast<int>(blockIdx.x) * p.per_block, left = static_cast<int>(p.pixels) - begin;
    const int end = begin + (left < p.per_block ? left : p.per_block);
    return {static_cast<int>(threadIdx.x) % units * 8, row, step, row < step ? begin + row : end, end};
}

// Calls use(pixel, load(pixel)) for a thread's pixels, with several loads in flight.
template <typename T, typename Load, typename Use>
SRGAN_FAST_DEVICE void each_pixel(const Share& s, Load load, Use use) {
    // As many as fit in registers.
    constexpr int kUnits = sizeof(load(0)) / sizeof(Unit<T>), kAhead = sizeof(T) == 4 ? 2 : kUnits == 1 ? 4 : 3;
    int pixel = s.first;
    for (; pixel + (kAhead - 1) * s.step < s.end; pixel += kAhead * s.step) {
        decltype(load(pixel)) loaded[kAhead];
#pragma unroll
        for (int i = 0; i < kAhead; ++i) loaded[i] = load(pixel + i * s.step);
#pragma unroll
        for (int i = 0; i < kAhead; ++i) use(pixel + i * s.step, loaded[i]);
    }
    for (; pixel < s.end; pixel += s.step) use(pixel, load(pixel));
}

// The unit of a thread's channels at a pixel of the pass' map.
template <typename T>
SRGAN_FAST_DEVICE Unit<T> unit_at(const void* map, const Pass& p, const Share& s, int pixel) {
    return *reinterpret_cast<const Unit<T>*>(static_cast<const T*>(map) +
                                             static_cast<std::int64_t>(pixel) * p.channels + s.channel);
}
template <typename T>
SRGAN_FAST_DEVICE void put_unit(void* map, const Pass& p, const Share& s, int pixel, const Unit<T>& unit) {
    *reinterpret_cast<Unit<T>*>(static_cast<T*>(map) + static_cast<std::int64_t>(pixel) * p.channels + s.channel) =
        unit;
}

// Element offset in z of a thread's unit at a pixel of x.
SRGAN_FAST_DEVICE std::int64_t place_in_z(const Source& s, const Pass& p, const Share& own, int pixel) {
    if (!s.shuffle) return static_cast<std::int64_t>(pixel) * p.channels + own.channel;
    const int phase = own.channel / s.channels, width = s.width / 2, height = s.height / 2;
    const int row = pixel / width, image = row / height;  // rows of all images
    const int x = (pixel - row * width) * 2 + phase % 2, y = (row - image * height) * 2 + phase / 2;
    return static_cast<std::int64_t>((image * s.height + y) * s.width + x) * s.channels + own.channel % s.channels;
}

template <typename T>
struct TwoUnits {
    Unit<T> first, second;
};

// Computes z from x.
template <typename T>
SRGAN_FAST_GLOBAL(kPassThreads, 3)
void source_pass_kernel(SRGAN_FAST_CONSTANT SourcePassParams p) {
    const Source& s = p.source;
    const Share own = share_of(p.pass);
    Affine<8> affine;
    affine.read(s, own.channel, 8);
    each_pixel<T>(
        own,
        [&](int pixel) {
            return TwoUnits<T>{unit_at<T>(s.x, p.pass, own, pixel),
                               s.residual != nullptr ? unit_at<T>(s.residual, p.pass, own, pixel) : Unit<T>{}};
        },
        [&](int pixel, const TwoUnits<T>& units) {
            float z[8], residual[8];
            unpack<T>(units.first, z);
            unpack<T>(units.second, residual);
            affine.apply(z, residual, s.residual != nullptr);
            *reinterpret_cast<Unit<T>*>(static_cast<T*>(p.z) + place_in_z(s, p.pass, own, pixel)) = pack<T>(z);
        });
}

// Sums 8 channels over a block's threads, in the order of their rows; one vector of the pass' channels for each of
// `count` values.
template <int count>
SRGAN_FAST_DEVICE void sum_over_rows(float* to, const float (&values)[count][8], const Pass& p, const Share& own) {
    float* const scratch = reinterpret_cast<float*>(shared_memory());  // [rows][count][channels]
    if (own.row < own.step)
        for (int v = 0; v < count; ++v)
            for (int i = 0; i < 8; ++i) scratch[(own.row * count + v) * p.channels + own.channel + i] = values[v][i];
    sync_threads();
    for (int i = static_cast<int>(threadIdx.x); i < count * p.channels; i += kPassThreads) {
        float sum = 0.0f;
        for (int row = 0; row < own.step; ++row) sum += scratch[row * count * p.channels + i];
        to[i] = sum;
    }
}

// Merges the moments of a block's rows (Chan, Golub and LeVeque 1979).
SRGAN_FAST_DEVICE void merge_rows(float* to, const float (&mean)[8], const float (&squares)[8], const Pass& p,
                                  const Share& own) {
    float* const scratch = reinterpret_cast<float*>(shared_memory());  // [rows][2][channels]
    if (own.row < own.step)
        for (int i = 0; i < 8; ++i) {
            float* const mine = scratch + own.row * 2 * p.channels + own.channel + i;
            mine[0] = mean[i], mine[p.channels] = squares[i];
        }
    sync_threads();
    const int pixels = own.end - static_cast<int>(blockIdx.x) * p.per_block;
    for (int channel = static_cast<int>(threadIdx.x); channel < p.channels; channel += kPassThreads) {
        const auto each = [&](auto visit) {
            for (int row = 0; row < own.step && row < pixels; ++row)
                visit(static_cast<float>((pixels - row + own.step - 1) / own.step),
                      scratch[row * 2 * p.channels + channel], scratch[(row * 2 + 1) * p.channels + channel]);
        };
        float sum = 0.0f, total = 0.0f;
        each([&](float count, float row_mean, float) { sum += count * row_mean; });
        const float all = sum / static_cast<float>(pixels);
        each([&](float count, float row_mean, float inside) {
            total += inside + count * (row_mean - all) * (row_mean - all);
        });
        to[channel] = all, to[p.channels + channel] = total;
    }
}

// Bias and activation in place, or bias and moments.
template <typename T>
SRGAN_FAST_GLOBAL(kPassThreads, 3)
void result_pass_kernel(SRGAN_FAST_CONSTANT ResultPassParams p) {
    const Share own = share_of(p.pass);
    float bias[8], first[8] = {}, sum[8] = {}, squares[8] = {};
#pragma unroll
    for (int i = 0; i < 8; ++i) bias[i] = value_of(p.bias, own.channel + i, 0.0f);
    const bool changes = p.bias.data != nullptr || p.activate;
    int count = 0;
    each_pixel<T>(
        own, [&](int pixel) { return unit_at<T>(p.y, p.pass, own, pixel); },
        [&](int pixel, const Unit<T>& unit) {
            float y[8];
            unpack<T>(unit, y);
#pragma unroll
            for (int i = 0; i < 8; ++i) {
                y[i] += bias[i];
                if (p.activate && !(y[i] > 0.0f)) y[i] *= p.slope;
            }
            if (changes) put_unit<T>(p.y, p.pass, own, pixel, pack<T>(y));
            if (p.moments == nullptr) return;
        // Sums of differences from the first value, whose magnitude is that of the spread.
#pragma unroll
            for (int i = 0; i < 8; ++i) {
                if (count == 0) first[i] = y[i];
                const float difference = y[i] - first[i];
                sum[i] += difference, squares[i] += difference * difference;
            }
            ++count;
        });
    if (p.moments == nullptr) return;
    if (count > 0) {
        const float share = 1.0f / static_cast<float>(count);
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            squares[i] -= sum[i] * sum[i] * share;
            first[i] += sum[i] * share;
        }
    }
    merge_rows(p.moments + static_cast<std::int64_t>(blockIdx.x) * 2 * p.pass.channels, first, squares, p.pass, own);
}

// Computes dy from g, and the sums of each channel, which are the bias' gradient.
template <typename T>
SRGAN_FAST_GLOBAL(kPassThreads, 3)
void gradient_pass_kernel(SRGAN_FAST_CONSTANT GradientPassParams p) {
    const Gradient& g = p.gradient;
    const Share own = share_of(p.pass);
    GradientReader<T, 8> reader(g, own.channel);
    reader.prepare();
    float sum[1][8] = {};
    each_pixel<T>(
        own,
        [&](int pixel) {
            return TwoUnits<T>{unit_at<T>(g.g, p.pass, own, pixel),
                               reader.has_second() ? unit_at<T>(g.y, p.pass, own, pixel) : Unit<T>{}};
        },
        [&](int pixel, const TwoUnits<T>& units) {
            float dy[8], y[8];
            unpack<T>(units.first, dy);
            if (reader.has_second()) {
                unpack<T>(units.second, y);
                reader.apply(dy, y);
            }
            if (p.dy != nullptr) put_unit<T>(p.dy, p.pass, own, pixel, pack<T>(dy));
            if (p.sums == nullptr) return;
#pragma unroll
            for (int i = 0; i < 8; ++i) sum[0][i] += dy[i];
        });
    if (p.sums != nullptr)
        sum_over_rows<1>(p.sums + static_cast<std::int64_t>(blockIdx.x) * p.pass.channels, sum, p.pass, own);
}

template <typename T>
struct ThreeUnits {
    Unit<T> dz, x, sum_gradient;
};

// Differentiates the prologue: from dz to the gradients of x and the residual, and the sums for scale, shift and slope.
template <typename T>
SRGAN_FAST_GLOBAL(kPassThreads, 2)
void source_gradient_pass_kernel(SRGAN_FAST_CONSTANT SourceGradientPassParams p) {
    const Source& s = p.source;
    const Share own = share_of(p.pass);
    SourceAdjoint<8> adjoint(s, own.channel, 8);
    each_pixel<T>(
        own,
        [&](int pixel) {
            return ThreeUnits<T>{
                *reinterpret_cast<const Unit<T>*>(static_cast<const T*>(p.dz) + place_in_z(s, p.pass, own, pixel)),
                s.affine ? unit_at<T>(s.x, p.pass, own, pixel) : Unit<T>{},
                p.sum_gradient != nullptr ? unit_at<T>(p.sum_gradient, p.pass, own, pixel) : Unit<T>{}};
        },
        [&](int pixel, const ThreeUnits<T>& units) {
            float values[8], other[8];
            unpack<T>(units.dz, values);
            if (p.sum_gradient != nullptr) {
                unpack<T>(units.sum_gradient, other);
#pragma unroll
                for (int i = 0; i < 8; ++i) values[i] += other[i];
            }
            if (p.residual_gradient != nullptr) put_unit<T>(p.residual_gradient, p.pass, own, pixel, pack<T>(values));
            if (s.affine) {
                unpack<T>(units.x, other);
                adjoint.go_back(values, other);
            }
            put_unit<T>(p.x_gradient, p.pass, own, pixel, pack<T>(values));
        });
    if (p.finished != nullptr && blockIdx.x + threadIdx.x == 0) *p.finished = 0;
    if (p.sums != nullptr)
        sum_over_rows<3>(p.sums + static_cast<std::int64_t>(blockIdx.x) * 3 * p.pass.channels, adjoint.sums, p.pass,
                         own);
}

// The four pixels of a pixel of the smaller map, and their gradient.
template <typename T>
struct PoolUnits {
    Unit<T> x[kPhases], g;
};

SRGAN_FAST_DEVICE std::int64_t place_in_x(const PoolParams& p, const Share& own, int pixel, int phase) {
    const int width = p.width / 2;
    const int row = pixel / width;  // of all images; x has two for each
    const int column = (pixel - row * width) * 2 + phase % 2;
    return static_cast<std::int64_t>((row * 2 + phase / 2) * p.width + column) * p.pass.channels + own.channel;
}

// Calls use(pixel, the four pixels' values, the unit of g) for a thread's pixels of the smaller map.
template <typename T, typename Use>
SRGAN_FAST_DEVICE void each_window(const PoolParams& p, const Share& own, Use use) {
    for (int pixel = own.first; pixel < own.end; pixel += own.step) {
        PoolUnits<T> units{};
#pragma unroll
        for (int i = 0; i < kPhases; ++i)
            units.x[i] = *reinterpret_cast<const Unit<T>*>(static_cast<const T*>(p.x) + place_in_x(p, own, pixel, i));
        if (p.g != nullptr) units.g = unit_at<T>(p.g, p.pass, own, pixel);
        float x[kPhases][8];
#pragma unroll
        for (int i = 0; i < kPhases; ++i) unpack<T>(units.x[i], x[i]);
        use(pixel, x, units.g);
    }
}

// Largest of four values, and its index: the first of equal values, the last NaN (PyTorch's rule).
struct Largest {
    float value;
    int phase;
};
SRGAN_FAST_DEVICE Largest largest(const float (&x)[kPhases][8], int i) {
    Largest found{x[0][i], 0};
#pragma unroll
    for (int phase = 1; phase < kPhases; ++phase)
        if (x[phase][i] > found.value || x[phase][i] != x[phase][i]) found = {x[phase][i], phase};
    return found;
}

template <typename T>
SRGAN_FAST_GLOBAL(kPassThreads, 3)
void pool_kernel(SRGAN_FAST_CONSTANT PoolParams p) {
    const Share own = share_of(p.pass);
    each_window<T>(p, own, [&](int pixel, const float (&x)[kPhases][8], const Unit<T>&) {
        float most[8];
#pragma unroll
        for (int i = 0; i < 8; ++i) most[i] = largest(x, i).value;
        put_unit<T>(p.to, p.pass, own, pixel, pack<T>(most));
    });
}

template <typename T>
SRGAN_FAST_GLOBAL(kPassThreads, 3)
void pool_gradient_kernel(SRGAN_FAST_CONSTANT PoolParams p) {
    const Share own = share_of(p.pass);
    each_window<T>(p, own, [&](int pixel, const float (&x)[kPhases][8], const Unit<T>& unit) {
        float g[8];
        unpack<T>(unit, g);
        int best[8];
#pragma unroll
        for (int i = 0; i < 8; ++i) best[i] = largest(x, i).phase;
#pragma unroll
        for (int phase = 0; phase < kPhases; ++phase) {
            float values[8];
#pragma unroll
            for (int i = 0; i < 8; ++i) values[i] = best[i] == phase ? g[i] : 0.0f;
            *reinterpret_cast<Unit<T>*>(static_cast<T*>(p.to) + place_in_x(p, own, pixel, phase)) = pack<T>(values);
        }
    });
}

}  // namespace srgan_fast::cuda
