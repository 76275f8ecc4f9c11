// Packs training weights into bfloat16 tiles; see WeightTiles.
#include "kernels/cpu/bf16/table.h"
#include "kernels/cpu/bf16/windows.h"

namespace srgan_fast::cpu::SRGAN_FAST_LEVEL {
namespace {

template <Geometry kGeometry>
struct Pack {
    using Arguments = ConvPack<float>;
    static constexpr int kTaps = Form<kGeometry>::kTaps;

    // Of the GEMM: depth and columns.
    static std::int64_t depth(const Arguments& a) { return a.backward ? a.out_channels : a.in_channels; }
    static std::int64_t channels(const Arguments& a) { return a.backward ? a.in_channels : a.out_channels; }

    // One block of 16 columns per task.
    static std::int64_t tasks(const Arguments& a, int) { return padded(channels(a)) / kTileColumns; }
    static std::int64_t scratch(const Arguments&, std::int64_t) { return 0; }

    // Rows k of `depth`, columns n of `columns`; zeros for the rest.
    static void pack_tile(const float* from, std::int64_t k_stride, std::int64_t n_stride, std::int64_t depth,
                          int columns, Bf16* to) {
        alignas(kAlignment) Bf16 narrow[2][kTileColumns];
        if (k_stride == 1 && depth == kTileDepth) {  // columns are contiguous
            Words rows[16];
            for (int n = 0; n < kTileColumns; ++n) {
                alignas(kAlignment) Bf16 column[kTileDepth]{};
                if (n < columns) write_line(column, read(from + n * n_stride), read(from + n * n_stride + kLanes));
                rows[n] = *reinterpret_cast<const PairWords*>(column);
            }
            transpose(rows);
            for (int i = 0; i < 16; ++i) put_pair(to + i * kTileDepth, rows[i]);
            return;
        }
        for (std::int64_t k = 0; k < kTileDepth; k += 2, to += kTileDepth) {
            for (int half = 0; half < 2; ++half) {
                alignas(kAlignment) float row[kTileColumns]{};
                if (k + half < depth) {
                    const float* const place = from + (k + half) * k_stride;
                    if (n_stride == 1 && columns == kTileColumns)
                        store(row, read(place));
                    else
                        for (int n = 0; n < columns; ++n) row[n] = place[n * n_stride];
                }
                write(narrow[half], load(row));
            }
            put_pair(to, pair_of(narrow[0], narrow[1]));
        }
    }

    static void run(const Arguments& a, std::int64_t task, std::int64_t tasks_of_call, void*) {
        const std::int64_t all = tasks(a, 1);
        for (std::int64_t group = all * task / tasks_of_call; group < all * (task + 1) / tasks_of_call; ++group)
            pack_group(a, group);
    }

    // Rows of kernels; for the data gradient from last to first, and flipped.
    static void pack_narrow(const Arguments& a, const Depth<kGeometry>& form, std::int64_t first, int columns,
                            Bf16* to) {
        const std::int64_t k_stride = a.backward ? a.strides.out : a.strides.in;
        const std::int64_t n_stride = a.backward ? a.strides.in : a.strides.out;
        for (int row = 0; row < kTaps; ++row)
            for (std::int64_t begin = 0; begin < form.row_tiles() * kTileDepth;
                 begin += kTileDepth, to += kTileElements)
                fill_tile(to, [&](int k, int column) {
                    const std::int64_t x = (begin + k) / form.channels, channel = (begin + k) % form.channels;
                    if (x >= kTaps || column >= columns) return 0.0f;
                    const std::int64_t ky = a.backward ? kTaps - 1 - row : row, kx = a.backward ? kTaps - 1 - x : x;
                    return a.weight[channel * k_stride + (first + column) * n_stride + ky * a.strides.row +
                                    kx * a.strides.column];
                });
    }

    // 16 columns.
    static void pack_group(const Arguments& a, std::int64_t group) {
        const std::int64_t first = group * kTileColumns, all = deep(depth(a));
        const int columns = static_cast<int>(smaller<std::int64_t>(kTileColumns, channels(a) - first));
        const std::int64_t k_stride = a.backward ? a.strides.out : a.strides.in;
        const std::int64_t n_stride = a.backward ? a.strides.in : a.strides.out;
        const Depth<kGeometry> form{depth(a)};
        Bf16* to = reinterpret_cast<Bf16*>(a.packed) + group * form.tiles() * form.blocks() * kTileElements;
        if (form.narrow()) return pack_narrow(a, form, first, columns, to);
        for (std::int64_t block = 0; block < all; block += kTileDepth)
            for (int tap = 0; tap < kTaps * kTaps; ++tap, to += kTileElements) {
                const float* const from = a.weight + block * k_stride + first * n_stride + tap / kTaps * a.strides.row +
                                          tap % kTaps * a.strides.column;
                pack_tile(from, k_stride, n_stride, smaller<std::int64_t>(depth(a) - block, kTileDepth), columns, to);
            }
    }
};

}  // namespace

Kernel<ConvPack<float>> conv_pack() { return kernel_of<Pack, ConvPack<float>>(); }

std::int64_t conv_packed_size(const ConvPack<float>& a) {
    const std::int64_t in = a.backward ? a.out_channels : a.in_channels;
    const std::int64_t out = a.backward ? a.in_channels : a.out_channels;
    return with_geometry(a.geometry, [&](auto g) {
        const Depth<g.value> form{in};
        return form.tiles() * form.blocks() * kTileDepth * padded(out) / 2;  // two in a float
    });
}

}  // namespace srgan_fast::cpu::SRGAN_FAST_LEVEL
