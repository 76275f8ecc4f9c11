// The Winograd transform of each geometry, and the numbering of its tiles, phases and points.
//
// Stride 2 is computed as four convolutions of stride 1: rows and columns of the input have two phases each, one that
// two of the kernel's three taps read (`a` or `b` = 0) and one that the middle tap reads (1). All four are F(3x3, 2x2)
// on the same points, so their products are summed before the output transform; a kernel with one tap is zero at
// infinity, so those points have no products with it.
#pragma once

#include <type_traits>

#include "kernels/cpu/conv.h"
#include "kernels/cpu/level/transforms.h"

namespace srgan_fast::cpu::SRGAN_FAST_LEVEL {

template <Geometry kGeometry>
struct Form {
    using W = Winograd63;
    static constexpr int kPhases = 1, kStep = 1, kTaps = 3;
};
template <>
struct Form<Geometry::k5x5> {
    using W = Winograd45;
    static constexpr int kPhases = 1, kStep = 1, kTaps = 5;
};
template <>
struct Form<Geometry::k3x3Stride2> {
    using W = Winograd32;
    static constexpr int kPhases = 4, kStep = 2, kTaps = 3;
};

// Calls work(integral constant) with the geometry as a compile-time constant.
template <typename Work>
decltype(auto) with_geometry(Geometry geometry, const Work& work) {
    switch (geometry) {
        case Geometry::k3x3Stride2: return work(std::integral_constant<Geometry, Geometry::k3x3Stride2>());
        case Geometry::k5x5: return work(std::integral_constant<Geometry, Geometry::k5x5>());
        default: return work(std::integral_constant<Geometry, Geometry::k3x3>());
    }
}

// Selects the kernel of the arguments' geometry from a template of geometry and map type.
template <template <Geometry, typename> typename Of, typename X, typename A>
Kernel<A> kernel_of() {
    return {[](const A& a, int threads) {
                return with_geometry(a.geometry, [&](auto g) { return Of<g.value, X>::tasks(a, threads); });
            },
            [](const A& a, std::int64_t tasks) {
                return with_geometry(a.geometry, [&](auto g) { return Of<g.value, X>::scratch(a, tasks); });
            },
            [](const A& a, std::int64_t task, std::int64_t tasks, void* scratch) {
                with_geometry(a.geometry, [&](auto g) { Of<g.value, X>::run(a, task, tasks, scratch); });
            }};
}

// Matrices of the points. At point (i, j), `slots` phases have products; phase `p` is the `slot`-th of them, or -1.
template <Geometry kGeometry>
struct Points {
    using W = typename Form<kGeometry>::W;
    static constexpr int kSide = W::kPoints, kPhases = Form<kGeometry>::kPhases, kLast = kSide - 1;

    static constexpr int slots(int i, int j) { return kPhases == 1 ? 1 : (i == kLast ? 1 : 2) * (j == kLast ? 1 : 2); }
    static constexpr int slot(int i, int j, int phase) {
        if (kPhases == 1) return 0;
        const int a = phase / 2, b = phase % 2;
        if ((a == 1 && i == kLast) || (b == 1 && j == kLast)) return -1;
        return a * (j == kLast ? 1 : 2) + b;
    }
    // Slots of all points before this one.
    static constexpr int before(int i, int j) {
        int sum = 0;
        for (int p = 0; p < i * kSide + j; ++p) sum += slots(p / kSide, p % kSide);
        return sum;
    }
    static constexpr int kSlots = before(kSide, 0);
    // Points that have products with a phase.
    static constexpr int of_phase(int phase) {
        int sum = 0;
        for (int p = 0; p < kSide * kSide; ++p) sum += slot(p / kSide, p % kSide, phase) >= 0;
        return sum;
    }
};

// Taps of a phase's kernel, in one dimension: index into the three taps, or -1 for none.
constexpr int tap_of_phase(int phase, int tap, bool backward) {
    if (phase == 1) return tap == 0 ? 1 : -1;
    return (tap == 0) != backward ? 0 : 2;
}

// Tiles of all images, row after row.
struct TileGrid {
    std::int64_t across, down, total;

    TileGrid(std::int64_t batch, std::int64_t height, std::int64_t width, std::int64_t side)
        : across((width + side - 1) / side), down((height + side - 1) / side), total(batch * across * down) {}

    struct Place {
        std::int64_t image, y, x;  // in tiles
    };
    Place operator[](std::int64_t tile) const {
        const std::int64_t row = tile / across;
        return {row / down, row % down, tile % across};
    }

    // Number of tasks of at most `most` tiles; a multiple of the number of threads.
    std::int64_t tasks(std::int64_t most, int threads) const {
        const std::int64_t tasks = (total + most - 1) / most;
        return smaller(total, (tasks + threads - 1) / threads * threads);
    }
};

// Tiles per step: their transformed inputs should stay in the L2 cache, but with many weights, more tiles must share
// them while they are streamed. Measured on Zen 5 with 1 MB.
constexpr std::int64_t tiles_together(std::int64_t depth, std::int64_t channels) {
    return depth * channels <= 64 * 256 ? 16 : 32;
}

constexpr std::int64_t aligned_bytes(std::int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

template <typename S>
constexpr std::int64_t kSkewOf =
    kSkew * static_cast<std::int64_t>(sizeof(float)) / static_cast<std::int64_t>(sizeof(S));

}  // namespace srgan_fast::cpu::SRGAN_FAST_LEVEL
