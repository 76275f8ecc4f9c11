// Transforms training weights, which change in every step; see kernels/cpu/conv.h.
#include "kernels/cpu/level/geometry.h"
#include "kernels/cpu/level/maps.h"
#include "kernels/cpu/level/table.h"
#include "kernels/cpu/pack.h"

namespace srgan_fast::cpu::SRGAN_FAST_LEVEL {
namespace {

constexpr std::int64_t kDepthBlock = 16;                  // values of k per task
constexpr std::int64_t kCached = std::int64_t{32} << 20;  // bytes that fit in a last-level cache

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

    // Of the GEMM: depth, and output channels.
    static std::int64_t depth(const Arguments& a) { return padded(a.backward ? a.out_channels : a.in_channels); }
    static std::int64_t channels(const Arguments& a) { return padded(a.backward ? a.in_channels : a.out_channels); }

    // One task per block of k and group of output channels.
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

    // Taps of a kernel, and its points, for a vector of output channels.
    using Taps = S[kTaps * kTaps][kLanesOf<S>];
    using Vectors = V[kSide * kSide];
    static constexpr std::int64_t kVectors = kChannelGroup / kLanesOf<S>;

    static void pack_block(const Arguments& a, std::int64_t block) {
        const std::int64_t blocks = depth(a) / kDepthBlock, group = block / blocks, first = group * kChannelGroup;
        const std::int64_t width = smaller(kChannelGroup, channels(a) - first), k = block % blocks * kDepthBlock;
        alignas(kAlignment) Taps taps[kVectors][kDepthBlock]{};
        for (std::int64_t v = 0; v < width / kLanesOf<S>; ++v) fetch(a, k, first + v * kLanesOf<S>, taps[v]);
        for (int phase = 0; phase < P::kPhases; ++phase)
            for (std::int64_t i = 0; i < kDepthBlock; ++i) {
                Vectors points[kVectors];
                for (std::int64_t v = 0; v < width / kLanesOf<S>; ++v)
                    transform(a.backward, phase, taps[v][i], points[v]);
                put(a, phase, first, width, k + i, points);
            }
    }

    // Weights of different output channels are far apart, so all of one are read before those of the next.
    static void fetch(const Arguments& a, std::int64_t k, std::int64_t c, Taps (&taps)[kDepthBlock]) {
        const std::int64_t depths = smaller(kDepthBlock, (a.backward ? a.out_channels : a.in_channels) - k);
        const std::int64_t lanes =
            smaller<std::int64_t>(kLanesOf<S>, (a.backward ? a.in_channels : a.out_channels) - c);
        const std::int64_t k_stride = a.backward ? a.strides.out : a.strides.in;
        const std::int64_t n_stride = a.backward ? a.strides.in : a.strides.out;
        const S* const filters = a.weight + k * k_stride + c * n_stride;
        const auto tap = [&](int t) { return t / kTaps * a.strides.row + t % kTaps * a.strides.column; };
        if (n_stride == 1 && lanes == kLanesOf<S>) {
            for (std::int64_t i = 0; i < depths; ++i)
                for (int t = 0; t < kTaps * kTaps; ++t) store(taps[i][t], read(filters + i * k_stride + tap(t)));
            return;
        }
        for (std::int64_t lane = 0; lane < lanes; ++lane)
            for (std::int64_t i = 0; i < depths; ++i)
                for (int t = 0; t < kTaps * kTaps; ++t)
                    taps[i][t][lane] = filters[lane * n_stride + i * k_stride + tap(t)];
    }

    static SRGAN_FAST_INLINE void transform(bool backward, int phase, const Taps& taps, Vectors& points) {
        V filter[kFilterTaps][kFilterTaps]{};
        for (int row = 0; row < kFilterTaps; ++row)
            for (int column = 0; column < kFilterTaps; ++column) {
                int y = row, x = column;
                if constexpr (P::kPhases == 4) {
                    y = tap_of_phase(phase / 2, row, backward), x = tap_of_phase(phase % 2, column, backward);
                    if (y < 0 || x < 0) continue;
                } else if (backward) {
                    y = kTaps - 1 - row, x = kTaps - 1 - column;
                }
                filter[row][column] = load(taps[y * kTaps + x]);
            }
        V half[kSide][kFilterTaps];
        for (int i = 0; i < kSide; ++i)
            for (int column = 0; column < kFilterTaps; ++column) {
                V sum{};
#pragma GCC unroll 8
                for (int row = 0; row < kFilterTaps; ++row)
                    sum += filter[row][column] * static_cast<S>(W::kFilter[i].tap[row]);
                half[i][column] = sum;
            }
        for (int i = 0; i < kSide; ++i)
            for (int j = 0; j < kSide; ++j) {
                V sum{};
#pragma GCC unroll 8
                for (int column = 0; column < kFilterTaps; ++column)
                    sum += half[i][column] * static_cast<S>(W::kFilter[j].tap[column]);
                points[i * kSide + j] = sum;
            }
    }

    // Layout of the packed matrices: where those of a phase begin, and how many precede each point. Backward each phase
    // has its own matrices; forward the phases of a point are concatenated in its depth.
    struct Places {
        std::int64_t earlier, own, before[kSide * kSide];
    };
    static constexpr Places places(bool backward, int phase) {
        Places found{0, backward ? 0 : P::kSlots, {}};
        for (int p = 0; p < kSide * kSide; ++p) {
            const int i = p / kSide, j = p % kSide;
            found.before[p] = backward ? found.own : P::before(i, j);
            for (int q = 0; backward && q <= phase; ++q)
                if (P::slot(i, j, q) >= 0) ++(q == phase ? found.own : found.earlier);
        }
        return found;
    }
    static constexpr Places kPlaces[2][4]{{places(false, 0), places(false, 1), places(false, 2), places(false, 3)},
                                          {places(true, 0), places(true, 1), places(true, 2), places(true, 3)}};

    // Writes whole rows of value k, bypassing the caches, which are far too small for them.
    static void put(const Arguments& a, int phase, std::int64_t first, std::int64_t width, std::int64_t k,
                    const Vectors (&points)[kVectors]) {
        // Small weights will be read from the cache soon.
        const bool large = packed_size(a) * static_cast<std::int64_t>(sizeof(S)) > kCached;
        const Places& places = kPlaces[a.backward][phase];
        for (int p = 0; p < kSide * kSide; ++p) {
            const int slot = P::slot(p / kSide, p % kSide, phase);
            if (slot < 0) continue;
            const std::int64_t row = a.backward ? k : slot * depth(a) + k;
            const std::int64_t deep = a.backward ? depth(a) : P::slots(p / kSide, p % kSide) * depth(a);
            S* const target =
                a.packed + (places.earlier * channels(a) + places.own * first + places.before[p] * width) * depth(a);
            for (std::int64_t c = 0; c < width; c += kLanesOf<S>) {
                const std::int64_t panel = c / kPanelOf<S> * kPanelOf<S>, across = smaller(kPanelOf<S>, width - panel);
                S* const place = target + panel * deep + row * across + c - panel;
                large ? stream(place, points[c / kLanesOf<S>][p]) : store(place, points[c / kLanesOf<S>][p]);
            }
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
