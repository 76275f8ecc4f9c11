// Transforms the weights of training's convolutions, which change with every step; see kernels/cpu/conv.h.
#include "kernels/cpu/level/geometry.h"
#include "kernels/cpu/level/table.h"
#include "kernels/cpu/pack.h"

namespace srgan_fast::cpu::SRGAN_FAST_LEVEL {
namespace {

constexpr std::int64_t kDepthBlock = 16;                  // values of k that a task takes
constexpr std::int64_t kCached = std::int64_t{32} << 20;  // bytes that a last-level cache may hold

template <typename S>
std::int64_t packed_size(const ConvPack<S>& a) {
    const std::int64_t products =
        with_geometry(a.geometry, [](auto g) { return std::int64_t{Points<g.value>::kSlots}; });
    return products * padded(a.in_channels) * padded(a.out_channels);
}

template <Geometry kGeometry, typename S>
struct Pack {
    using V = Simd<S>;
    using W = typename Form<kGeometry>::W;
    using P = Points<kGeometry>;
    using Arguments = ConvPack<S>;
    static constexpr int kSide = P::kSide, kTaps = Form<kGeometry>::kTaps, kFilterTaps = W::kTaps;

    // Of the product: values of k, output channels.
    static std::int64_t depth(const Arguments& a) { return padded(a.backward ? a.out_channels : a.in_channels); }
    static std::int64_t channels(const Arguments& a) { return padded(a.backward ? a.in_channels : a.out_channels); }

    // Blocks of k in groups of output channels.
    static std::int64_t tasks(const Arguments& a, int) {
        return (channels(a) + kChannelGroup - 1) / kChannelGroup * (depth(a) / kDepthBlock);
    }

    static std::int64_t scratch(const Arguments&, std::int64_t) { return 0; }

    static void run(const Arguments& a, std::int64_t task, std::int64_t tasks_of_call, void*) {
        const std::int64_t all = tasks(a, 1);
        for (std::int64_t block = all * task / tasks_of_call; block < all * (task + 1) / tasks_of_call; ++block)
            pack_block(a, block);
        flush_stream();
    }

    static void pack_block(const Arguments& a, std::int64_t block) {
        const std::int64_t blocks = depth(a) / kDepthBlock, group = block / blocks, first = group * kChannelGroup;
        const std::int64_t width = smaller(kChannelGroup, channels(a) - first);
        for (int phase = 0; phase < P::kPhases; ++phase)
            for (std::int64_t k = block % blocks * kDepthBlock; k < (block % blocks + 1) * kDepthBlock; ++k)
                for (std::int64_t c = 0; c < width; c += kLanesOf<S>) pack(a, phase, first, width, k, c);
    }

    // Where the matrices of a point begin: forward, the phases of a point stand together in its depth; backward, each
    // phase has matrices of its own.
    static S* matrix(const Arguments& a, int i, int j, int phase, std::int64_t first, std::int64_t width) {
        const std::int64_t all = channels(a);
        if (!a.backward) return a.packed + (P::kSlots * first + P::before(i, j) * width) * depth(a);
        std::int64_t points = 0, behind = 0;  // of earlier phases; of earlier points of this phase
        std::int64_t own = 0;
        for (int q = 0; q < P::kPhases; ++q)
            for (int p = 0; p < kSide * kSide; ++p) {
                if (P::slot(p / kSide, p % kSide, q) < 0) continue;
                points += q < phase;
                own += q == phase;
                behind += q == phase && p < i * kSide + j;
            }
        return a.packed + (points * all + own * first + behind * width) * depth(a);
    }

    static void pack(const Arguments& a, int phase, std::int64_t first, std::int64_t width, std::int64_t k,
                     std::int64_t c) {
        alignas(kAlignment) S taps[kFilterTaps * kFilterTaps][kLanesOf<S>]{};
        const std::int64_t depths = a.backward ? a.out_channels : a.in_channels;
        const std::int64_t all = a.backward ? a.in_channels : a.out_channels;
        const std::int64_t lanes = k < depths ? smaller<std::int64_t>(kLanesOf<S>, all - first - c) : 0;
        const std::int64_t k_stride = a.backward ? a.strides.out : a.strides.in;
        const std::int64_t n_stride = a.backward ? a.strides.in : a.strides.out;
        const S* const filters = a.weight + k * k_stride + (first + c) * n_stride;
        for (int row = 0; row < kFilterTaps; ++row)
            for (int column = 0; column < kFilterTaps; ++column) {
                int y = row, x = column;
                if constexpr (P::kPhases == 4) {
                    y = tap_of_phase(phase / 2, row, a.backward), x = tap_of_phase(phase % 2, column, a.backward);
                    if (y < 0 || x < 0) continue;
                } else if (a.backward) {
                    y = kTaps - 1 - row, x = kTaps - 1 - column;
                }
                const S* const tap = filters + y * a.strides.row + x * a.strides.column;
                S* const target = taps[row * kFilterTaps + column];
                for (std::int64_t lane = 0; lane < lanes; ++lane) target[lane] = tap[lane * n_stride];
            }
        V half[kSide][kFilterTaps];
        for (int i = 0; i < kSide; ++i)
            for (int column = 0; column < kFilterTaps; ++column) {
                V sum{};
#pragma GCC unroll 8
                for (int row = 0; row < kFilterTaps; ++row)
                    sum += load(taps[row * kFilterTaps + column]) * static_cast<S>(W::kFilter[i].tap[row]);
                half[i][column] = sum;
            }
        // Small weights are read from the cache at once.
        const bool large = packed_size(a) * static_cast<std::int64_t>(sizeof(S)) > kCached;
        const std::int64_t panel = c / kPanelOf<S> * kPanelOf<S>, across = smaller(kPanelOf<S>, width - panel);
        for (int i = 0; i < kSide; ++i)
            for (int j = 0; j < kSide; ++j) {
                const int slot = P::slot(i, j, phase);
                if (slot < 0) continue;
                V sum{};
#pragma GCC unroll 8
                for (int column = 0; column < kFilterTaps; ++column)
                    sum += half[i][column] * static_cast<S>(W::kFilter[j].tap[column]);
                const std::int64_t row = a.backward ? k : slot * depth(a) + k;
                const std::int64_t deep = a.backward ? depth(a) : P::slots(i, j) * depth(a);
                S* const target = matrix(a, i, j, phase, first, width) + panel * deep + row * across + c - panel;
                if (large)
                    stream(target, sum);
                else
                    store(target, sum);
            }
    }
};

template <typename S>
Kernel<ConvPack<S>> kernel() {
    return kernel_of<Pack, S, ConvPack<S>>();
}

}  // namespace

Kernel<ConvPack<float>> conv_pack(float) { return kernel<float>(); }
Kernel<ConvPack<double>> conv_pack(double) { return kernel<double>(); }
std::int64_t conv_packed_size(const ConvPack<float>& a) { return packed_size(a); }
std::int64_t conv_packed_size(const ConvPack<double>& a) { return packed_size(a); }

}  // namespace srgan_fast::cpu::SRGAN_FAST_LEVEL
