// imaging::resize against the reference over sizes, channels, strides and regions; every result must be equal.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "imaging/resize.h"
#include "kernels/resize_bicubic.h"

namespace {

using srgan_fast::Edges;
using srgan_fast::imaging::ImageView;
using srgan_fast::imaging::Region;

int failures = 0;

template <typename Pixel>
std::vector<Pixel> random_pixels(std::size_t count, std::mt19937& rng) {
    std::vector<Pixel> pixels(count);
    for (auto& p : pixels) p = static_cast<Pixel>(rng() % 65536 / (sizeof(Pixel) == 1 ? 256 : 1));
    return pixels;
}

template <typename Pixel>
void compare(std::int64_t rows, std::int64_t columns, std::int64_t channels, const Region& region,
             std::int64_t out_rows, std::int64_t out_columns, std::int64_t padding, Edges edges, std::mt19937& rng) {
    const auto dense = random_pixels<Pixel>(rows * columns * channels, rng);
    const std::int64_t stride = columns * channels + padding;
    std::vector<Pixel> strided(rows * stride, Pixel(77));  // the padding must never be read
    for (std::int64_t r = 0; r < rows; ++r)
        std::copy_n(dense.data() + r * columns * channels, columns * channels, strided.data() + r * stride);

    std::vector<Pixel> expected(out_rows * out_columns * channels), got(expected.size(), Pixel(123));
    const double v_scale = double(out_rows) / double(region.height),
                 h_scale = double(out_columns) / double(region.width);
    srgan_fast::reference::resize_bicubic<Pixel>(dense.data(), channels, {rows, out_rows, region.top, v_scale, edges},
                                                 {columns, out_columns, region.left, h_scale, edges}, expected.data());
    srgan_fast::imaging::resize<Pixel>({strided.data(), rows, columns, channels, stride}, region, out_rows, out_columns,
                                       edges, got.data());
    if (got != expected) {
        ++failures;
        std::printf("differs: %lldx%lldx%lld region %lld,%lld %lldx%lld -> %lldx%lld, %zu bytes a sample\n",
                    (long long)rows, (long long)columns, (long long)channels, (long long)region.top,
                    (long long)region.left, (long long)region.height, (long long)region.width, (long long)out_rows,
                    (long long)out_columns, sizeof(Pixel));
    }
}

}  // namespace

int main() {
    std::mt19937 rng(20261124);
    int cases = 0;
    for (std::int64_t rows : {1, 2, 7, 16, 33})
        for (std::int64_t columns : {1, 3, 8, 29})
            for (std::int64_t channels : {1, 2, 3, 4}) {
                const std::int64_t height = 1 + rng() % rows, width = 1 + rng() % columns;
                const Region whole{0, 0, rows, columns};
                const Region part{static_cast<std::int64_t>(rng() % (rows - height + 1)),
                                  static_cast<std::int64_t>(rng() % (columns - width + 1)), height, width};
                for (const Region& region : {whole, part}) {
                    // The axis with the smaller scale goes first; the reference does rows first, so keep v <= h.
                    const std::int64_t out_rows = std::max<std::int64_t>(1, region.height / 4);
                    const std::int64_t out_columns =
                        std::max<std::int64_t>((out_rows * region.width + region.height - 1) / region.height, 1);
                    compare<std::uint8_t>(rows, columns, channels, region, out_rows, out_columns, 5, Edges::kMirror,
                                          rng);
                    compare<std::uint16_t>(rows, columns, channels, region, out_rows, out_columns, 0, Edges::kReplicate,
                                           rng);
                    compare<float>(rows, columns, channels, region, region.height * 3, region.width * 3, 2,
                                   Edges::kMirror, rng);
                    cases += 3;
                }
            }
    std::printf("%d cases, %d failures\n", cases, failures);
    return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
