// The CUDA kernels of inference, run on the host like those of test_cuda.cpp: every tile, both types, odd sizes,
// against plain loops in double. Data are so coarse that sums are exact; what is left is rounding to the map's type.
#include <array>
#include <string>
#include <vector>

#include "kernels/cuda/infer_block.cuh"
#include "kernels/cuda/infer_mma.cuh"
#include "tests/device.h"
#include "tests/training_case.h"

namespace {

using namespace srgan_fast;
using namespace srgan_fast::tests;
using cuda::Tile;
using reference::Filters;
using reference::Map;

// A convolution's weights as srgan_fast/ops/infer.py packs them: `value(tap, out, in)`, zeros beyond.
template <typename T, typename Value>
Guarded<T> packed(const cuda::ConvParams& p, int in, Value value) {
    const int taps = p.taps[0].count;
    Guarded<T> memory(static_cast<std::int64_t>(taps) * p.weight_rows * p.weight_columns);
    for (int tap = 0; tap < taps; ++tap)
        for (int row = 0; row < p.weight_rows; ++row)
            for (int column = 0; column < p.weight_columns; ++column) {
                const bool there = row < p.channels && column < in;
                memory.data()[(static_cast<std::int64_t>(tap) * p.weight_rows + row) * p.weight_columns + column] =
                    cuda::narrow<T>(there ? static_cast<float>(value(tap, row, column)) : 0.0f);
            }
    return memory;
}

// How a convolution is launched: with which tile, and whether a few blocks go through all of them.
struct Way {
    Tile tile;
    bool resident;
};
constexpr Way kWays[] = {{Tile::kLarge, false}, {Tile::kWide, false}, {Tile::kMedium, false},
                         {Tile::kSmall, false}, {Tile::kLarge, true}, {Tile::kMedium, true}};

std::string text(const Way& way) {
    return std::string(way.resident ? "resident" : "fetching") + ", tile " + std::to_string(static_cast<int>(way.tile));
}

// Whether a convolution can be launched so: resident weights are of one chunk of channels, and of few taps.
bool may(const Way& way, const cuda::InferParams& p) {
    return !way.resident || (p.conv.input_channels == 64 && p.conv.taps[0].count <= 9);
}

template <typename T>
void launch_infer(const Way& way, const cuda::InferParams& p, Random& random) {
    const cuda::InferLaunch how = cuda::infer_launch(p.conv, way.tile, way.resident, kDevice);
    if (way.resident)
        cuda::with_resident_shape(way.tile, [&](auto shape) {
            using Shape = decltype(shape);
            launch(how.grid, Shape::kThreads, how.shared_bytes, cuda::infer_resident_kernel<T, Shape>, p, random);
        });
    else
        cuda::with_infer_shape(way.tile, [&](auto shape) {
            using Shape = decltype(shape);
            launch(how.grid, Shape::kThreads, how.shared_bytes, cuda::infer_fetching_kernel<T, Shape>, p, random);
        });
}

Filters random_filters(std::int64_t side, std::int64_t in, std::int64_t out, Random& random) {
    Filters filters(side, 1, in, out);
    filters.values = stepped(static_cast<std::int64_t>(filters.values.size()), -1.0, 1.0, 4.0, random);
    return filters;
}

double activated(double value, double slope) { return value > 0.0 ? value : slope * value; }

enum class After { kNothing, kSlope, kResidual, kShuffle, kShuffleBy3 };

// Channel phase * C + c of a pixel becomes channel c of pixel (factor y + phase / factor, factor x + phase % factor).
Map shuffled(const Map& x, int factor) {
    Map z(x.batch, x.height * factor, x.width * factor, x.channels / (factor * factor));
    for (std::int64_t n = 0; n < z.batch; ++n)
        for (std::int64_t row = 0; row < z.height; ++row)
            for (std::int64_t column = 0; column < z.width; ++column)
                for (std::int64_t c = 0; c < z.channels; ++c)
                    z.at(n, row, column)[c] = x.at(
                        n, row / factor, column / factor)[(row % factor * factor + column % factor) * z.channels + c];
    return z;
}

template <typename T>
void check_conv(int batch, int height, int width, int in, int out, After after, const Way& way, Random& random) {
    const std::string name = "conv " + std::to_string(batch) + "x" + std::to_string(height) + "x" +
                             std::to_string(width) + ", " + std::to_string(in) + " -> " + std::to_string(out) +
                             ", after " + std::to_string(static_cast<int>(after)) + ", " + text(way);
    const int shuffle = after == After::kShuffle ? 2 : after == After::kShuffleBy3 ? 3 : 1;
    const bool slopes = after == After::kSlope || shuffle > 1;
    const Map x = random_map(batch, height, width, in, 2.0, random);
    const Filters filters = random_filters(3, in, out, random);
    const std::vector<double> bias = stepped(out, -1.0, 1.0, 2.0, random), slope = stepped(out, 0.0, 1.0, 4.0, random);
    const Map residual = random_map(batch, height, width, after == After::kResidual ? out : 0, 2.0, random);
    Map expected = reference::convolution(x, filters, bias);
    if (slopes)
        for (std::int64_t i = 0; i < static_cast<std::int64_t>(expected.values.size()); ++i)
            expected.values[i] = activated(expected.values[i], slope[i % out]);
    for (std::size_t i = 0; i < residual.values.size(); ++i) expected.values[i] += residual.values[i];
    expected = shuffled(expected, shuffle);
    const Guarded<T> x_memory = device_map<T>(x.values), residual_memory = device_map<T>(residual.values);
    const Guarded<float> biases = device_vector(bias), slope_memory = device_vector(slope);
    Guarded<T> y(static_cast<std::int64_t>(expected.values.size()));
    cuda::InferParams p{};
    p.conv = cuda::infer_plan(batch, height, width, in, out);
    const Guarded<T> weights =
        packed<T>(p.conv, in, [&](int tap, int o, int i) { return filters.at(o, i, tap / 3, tap % 3); });
    p.conv.source.x = x_memory.data(), p.conv.weights = weights.data(), p.conv.bias = {biases.data(), 1};
    p.conv.y = y.data();
    if (slopes) p.slope = {slope_memory.data(), 1};
    if (after == After::kResidual) p.residuals[0] = {residual_memory.data(), out, 1.0f};
    p.shuffle = shuffle, p.pitch = out / (shuffle * shuffle);
    if (!may(way, p)) return;
    try {
        launch_infer<T>(way, p, random);
    } catch (const cuda::simt::Error& error) {
        check(false, name + ": " + error.what());
        return;
    }
    check(y.intact(), name + ": wrote beside the result");
    // The sum is rounded before the residual is added, and after.
    double largest = 1.0;
    for (const double v : expected.values) largest = std::max(largest, std::abs(v));
    check_values(values_of(y), expected.values, kRounding<T> * (after == After::kResidual ? largest : 0x1p-10),
                 kRounding<T>, name);
}

// Channels of a map as they lie in a wider one: `pitch` elements a pixel, from channel `first` on.
template <typename T>
Guarded<T> wider(const Map& map, int pitch, int first, Random& random) {
    const std::int64_t pixels = map.pixels();
    const std::vector<double> others = stepped(pixels * pitch, -2.0, 2.0, 2.0, random);
    Guarded<T> memory = device_map<T>(others);
    for (std::int64_t pixel = 0; pixel < pixels; ++pixel)
        for (std::int64_t c = 0; c < map.channels; ++c)
            memory.data()[pixel * pitch + first + c] =
                cuda::narrow<T>(static_cast<float>(map.values[pixel * map.channels + c]));
    return memory;
}

// A convolution of a dense block: its input, its residuals and its result are channels of wider maps, whose other
// channels stay as they are. Filters of any side; two residuals, each with a factor.
template <typename T>
void check_slices(int batch, int height, int width, int in, int out, int side, const Way& way, Random& random) {
    const std::string name = "slices " + std::to_string(batch) + "x" + std::to_string(height) + "x" +
                             std::to_string(width) + ", " + std::to_string(side) + "x" + std::to_string(side) + ", " +
                             std::to_string(in) + " -> " + std::to_string(out) + ", " + text(way);
    const Map x = random_map(batch, height, width, in, 2.0, random);
    const Filters filters = random_filters(side, in, out, random);
    const std::vector<double> bias = stepped(out, -1.0, 1.0, 2.0, random), slope = stepped(out, 0.0, 1.0, 4.0, random);
    const std::array<Map, 2> residuals{random_map(batch, height, width, out, 2.0, random),
                                       random_map(batch, height, width, out, 2.0, random)};
    const std::array<double, 2> scales{0.5, -2.0};
    Map expected = reference::convolution(x, filters, bias);
    double largest = 1.0;
    for (std::int64_t i = 0; i < static_cast<std::int64_t>(expected.values.size()); ++i) {
        const double value = activated(expected.values[i], slope[i % out]);
        largest = std::max(largest, std::abs(value));
        expected.values[i] = value + scales[0] * residuals[0].values[i] + scales[1] * residuals[1].values[i];
    }
    const int pitch = in + 24, first = 16, result_pitch = out + 16, result_first = 8;
    const Guarded<T> x_memory = wider<T>(x, pitch, first, random);
    const std::array<int, 2> pitches{out, out + 8};
    const std::array<Guarded<T>, 2> residual_memory{wider<T>(residuals[0], pitches[0], 0, random),
                                                    wider<T>(residuals[1], pitches[1], 8, random)};
    const Guarded<float> biases = device_vector(bias), slope_memory = device_vector(slope);
    const std::vector<double> before(static_cast<std::size_t>(batch) * height * width * result_pitch, 0.25);
    Guarded<T> y = device_map<T>(before);
    cuda::InferParams p{};
    p.conv = cuda::infer_plan(batch, height, width, in, out, side);
    const Guarded<T> weights =
        packed<T>(p.conv, in, [&](int tap, int o, int i) { return filters.at(o, i, tap / side, tap % side); });
    p.conv.source.x = x_memory.data() + first, p.conv.source.pitch = pitch;
    p.conv.weights = weights.data(), p.conv.bias = {biases.data(), 1}, p.slope = {slope_memory.data(), 1};
    p.conv.y = y.data() + result_first, p.pitch = result_pitch, p.shuffle = 1;
    for (int i = 0; i < 2; ++i)
        p.residuals[i] = {residual_memory[i].data() + i * 8, pitches[i], static_cast<float>(scales[i])};
    if (!may(way, p)) return;
    try {
        launch_infer<T>(way, p, random);
    } catch (const cuda::simt::Error& error) {
        check(false, name + ": " + error.what());
        return;
    }
    std::vector<double> wanted = before;
    for (std::int64_t i = 0; i < static_cast<std::int64_t>(expected.values.size()); ++i)
        wanted[i / out * result_pitch + result_first + i % out] = expected.values[i];
    check(y.intact(), name + ": wrote beside the result");
    check_values(values_of(y), wanted, kRounding<T> * largest, kRounding<T>, name);
}

// A convolution to images: planes of floats, shuffled in PyTorch's order.
template <typename T>
void check_picture(int batch, int height, int width, int in, int colours, int shuffle, int side, Random& random) {
    const int out = colours * shuffle * shuffle;
    const std::string name = "picture " + std::to_string(batch) + "x" + std::to_string(height) + "x" +
                             std::to_string(width) + ", " + std::to_string(side) + "x" + std::to_string(side) + ", " +
                             std::to_string(in) + " -> " + std::to_string(colours) + ", shuffled by " +
                             std::to_string(shuffle);
    const Map x = random_map(batch, height, width, in, 2.0, random);
    const Filters filters = random_filters(side, in, out, random);
    const std::vector<double> bias = stepped(out, -1.0, 1.0, 2.0, random), slope = stepped(out, 0.0, 1.0, 4.0, random);
    const Map map = reference::convolution(x, filters, bias);
    std::vector<double> expected(map.values.size());
    const std::int64_t wide = static_cast<std::int64_t>(width) * shuffle,
                       high = static_cast<std::int64_t>(height) * shuffle;
    for (int n = 0; n < batch; ++n)
        for (int c = 0; c < colours; ++c)
            for (int row = 0; row < high; ++row)
                for (int column = 0; column < wide; ++column) {
                    const int channel = (c * shuffle + row % shuffle) * shuffle + column % shuffle;
                    expected[((static_cast<std::int64_t>(n) * colours + c) * high + row) * wide + column] =
                        activated(map.at(n, row / shuffle, column / shuffle)[channel], slope[channel]);
                }
    const int pitch = in + 8;
    const Guarded<T> memory = wider<T>(x, pitch, 8, random);
    const Guarded<float> biases = device_vector(bias), slope_memory = device_vector(slope);
    Guarded<float> planes(static_cast<std::int64_t>(expected.size()));
    cuda::PictureParams p{};
    p.conv = cuda::infer_plan(batch, height, width, in, out, side);
    const Guarded<T> weights =
        packed<T>(p.conv, in, [&](int tap, int o, int i) { return filters.at(o, i, tap / side, tap % side); });
    p.conv.source.x = memory.data() + 8, p.conv.source.pitch = pitch;
    p.conv.weights = weights.data(), p.conv.bias = {biases.data(), 1}, p.slope = {slope_memory.data(), 1};
    p.shuffle = shuffle, p.planes = planes.data();
    const Tile tile = cuda::choose_picture_tile(p.conv);
    try {
        cuda::with_picture_shape(tile, [&](auto shape) {
            using Shape = decltype(shape);
            launch(cuda::picture_grid(p.conv, tile), Shape::kThreads, cuda::picture_shared_bytes(p.conv, tile),
                   cuda::picture_kernel<T, Shape>, p, random);
        });
    } catch (const cuda::simt::Error& error) {
        check(false, name + ": " + error.what());
        return;
    }
    check(planes.intact(), name + ": wrote beside the result");
    check_values(values_of(planes), expected, 0x1p-16, 0x1p-20, name);
}

// A residual block, with products of warps or of warpgroups. Sums are exact, so that results are those of two kernels,
// rounded three times, bit by bit.
template <typename T, bool warpgroups>
void check_block(int batch, int height, int width, int way, int multiprocessors, Random& random) {
    constexpr int kChannels = cuda::kBlockChannels;
    const std::string name = std::string("block of ") + kTypeName<T> + ", " + std::to_string(batch) + "x" +
                             std::to_string(height) + "x" + std::to_string(width) + ", way " + std::to_string(way) +
                             (warpgroups ? " of warpgroups" : "") + " on " + std::to_string(multiprocessors);
    const auto round = [](double v) {
        return static_cast<double>(cuda::widen(cuda::narrow<T>(static_cast<float>(v))));
    };
    const Map x = random_map(batch, height, width, kChannels, 2.0, random);
    const std::array<Filters, 2> filters{random_filters(3, kChannels, kChannels, random),
                                         random_filters(3, kChannels, kChannels, random)};
    const std::vector<double> slope = stepped(kChannels, 0.0, 1.0, 4.0, random);
    const std::array<std::vector<double>, 2> bias{stepped(kChannels, -1.0, 1.0, 2.0, random),
                                                  stepped(kChannels, -1.0, 1.0, 2.0, random)};
    Map inner = reference::convolution(x, filters[0], bias[0]);
    for (std::size_t i = 0; i < inner.values.size(); ++i)
        inner.values[i] = round(activated(inner.values[i], slope[i % kChannels]));
    Map expected = reference::convolution(inner, filters[1], bias[1]);
    for (std::size_t i = 0; i < expected.values.size(); ++i)
        expected.values[i] = round(round(expected.values[i]) + x.values[i]);
    const Guarded<T> memory = device_map<T>(x.values);
    const Guarded<float> slopes = device_vector(slope);
    const std::array<Guarded<float>, 2> biases{device_vector(bias[0]), device_vector(bias[1])};
    const cuda::ConvParams plan = cuda::infer_plan(batch, height, width, kChannels, kChannels);
    const auto pack = [&](const Filters& f) {
        return packed<T>(plan, kChannels, [&](int tap, int o, int i) { return f.at(o, i, tap / 3, tap % 3); });
    };
    const std::array<Guarded<T>, 2> weights{pack(filters[0]), pack(filters[1])};
    Guarded<T> y(static_cast<std::int64_t>(expected.values.size()));
    cuda::BlockParams p{};
    p.batch = batch, p.height = height, p.width = width;
    p.x = memory.data(), p.y = y.data(), p.slope = {slopes.data(), 1};
    for (int i = 0; i < 2; ++i) p.weights[i] = weights[i].data(), p.bias[i] = {biases[i].data(), 1};
    const cuda::BlockLaunch how =
        cuda::block_launch(way, batch, height, width, {multiprocessors, kDevice.shared_bytes});
    try {
        cuda::with_block_shape(way, [&](auto shape) {
            using Shape = decltype(shape);
            launch(how.grid, Shape::kThreads, how.shared_bytes, cuda::infer_block_kernel<T, Shape, warpgroups>, p,
                   random);
        });
    } catch (const cuda::simt::Error& error) {
        check(false, name + ": " + error.what());
        return;
    }
    check(y.intact(), name + ": wrote beside the result");
    check_values(values_of(y), expected.values, 0.0, 0.0, name);
}

// Head: images, an affine map of colours, 9x9, bias, PReLU.
template <typename T>
void check_head(int batch, int height, int width, int out, const Way& way, Random& random) {
    using U = cuda::UnfoldParams;
    const std::string name = "head " + std::to_string(batch) + "x" + std::to_string(height) + "x" +
                             std::to_string(width) + " -> " + std::to_string(out) + ", " + text(way);
    constexpr int kColours = cuda::kColours, kSide = U::kSide;
    const std::array<double, kColours> gain{2.0, 1.0, 0.5}, offset{-1.0, 0.5, 0.25};
    Map picture = random_map(batch, height, width, kColours, 2.0, random);
    const Filters filters = random_filters(kSide, kColours, out, random);
    const std::vector<double> bias = stepped(out, -1.0, 1.0, 2.0, random), slope = stepped(out, 0.0, 1.0, 4.0, random);
    std::vector<double> planes(picture.values.size());
    for (int n = 0; n < batch; ++n)
        for (int c = 0; c < kColours; ++c)
            for (int y = 0; y < height; ++y)
                for (int x = 0; x < width; ++x) {
                    double& value = picture.at(n, y, x)[c];
                    planes[((static_cast<std::int64_t>(n) * kColours + c) * height + y) * width + x] = value;
                    value = gain[c] * value + offset[c];
                }
    Map expected = reference::convolution(picture, filters, bias);
    for (std::int64_t i = 0; i < static_cast<std::int64_t>(expected.values.size()); ++i)
        expected.values[i] = activated(expected.values[i], slope[i % out]);
    const Guarded<float> plane_memory = device_vector(planes), biases = device_vector(bias);
    const Guarded<float> slopes = device_vector(slope);
    Guarded<T> unfolded(static_cast<std::int64_t>(batch) * (height + 1) * width * U::kChannels);
    U u{};
    u.planes = plane_memory.data(), u.batch = batch, u.height = height, u.width = width;
    for (int c = 0; c < kColours; ++c)
        u.gain[c] = static_cast<float>(gain[c]), u.offset[c] = static_cast<float>(offset[c]);
    u.to = unfolded.data();
    cuda::InferParams p{};
    p.conv = cuda::head_plan(batch, height, width, out);
    // Channel 27 r + 3 x + c of the unfolded rows 2 t and 2 t + 1.
    const Guarded<T> weights = packed<T>(p.conv, U::kChannels, [&](int tap, int o, int channel) {
        const int row = tap * U::kRows + channel / (kSide * kColours);
        const bool there = channel < U::kRows * kSide * kColours && row < kSide;
        return there ? filters.at(o, channel % kColours, row, channel / kColours % kSide) : 0.0;
    });
    Guarded<T> y(static_cast<std::int64_t>(expected.values.size()));
    p.conv.source.x = unfolded.data(), p.conv.weights = weights.data(), p.conv.bias = {biases.data(), 1};
    p.conv.y = y.data(), p.slope = {slopes.data(), 1}, p.shuffle = 1, p.pitch = out;
    try {
        launch({3, 1, 1}, 256, 0, cuda::unfold_kernel<T, 256>, u, random);
        launch_infer<T>(way, p, random);
    } catch (const cuda::simt::Error& error) {
        check(false, name + ": " + error.what());
        return;
    }
    check(unfolded.intact() && y.intact(), name + ": wrote beside the result");
    check_values(values_of(y), expected.values, kRounding<T> * 0x1p-10, kRounding<T>, name);
}

// Tail: 5x5 from four pixels' channels to four pixels' colours, and these in their places.
template <typename T>
void check_tail(int batch, int height, int width, int in, Random& random) {
    using P = cuda::TailParams;
    const std::string name = "tail " + std::to_string(batch) + "x" + std::to_string(height) + "x" +
                             std::to_string(width) + ", " + std::to_string(in) + " channels";
    constexpr int kColours = cuda::kColours;
    const Map x = random_map(batch, height, width, in, 2.0, random);
    const Filters filters = random_filters(P::kSide, in, P::kPhaseColours, random);
    const std::vector<double> bias = stepped(kColours, -1.0, 1.0, 2.0, random);
    std::vector<double> biases(P::kPhaseColours);
    for (int i = 0; i < P::kPhaseColours; ++i) biases[i] = bias[i / cuda::kPhases];
    const Map map = reference::convolution(x, filters, biases);
    std::vector<double> expected(map.values.size());
    for (int n = 0; n < batch; ++n)
        for (int c = 0; c < kColours; ++c)
            for (int y = 0; y < 2 * height; ++y)
                for (int column = 0; column < 2 * width; ++column)
                    expected[((static_cast<std::int64_t>(n) * kColours + c) * 2 * height + y) * 2 * width + column] =
                        map.at(n, y / 2, column / 2)[c * 4 + y % 2 * 2 + column % 2];
    const Guarded<T> memory = device_map<T>(x.values);
    const Guarded<float> bias_memory = device_vector(bias);
    Guarded<float> planes(static_cast<std::int64_t>(expected.size()));
    P p{};
    p.conv = cuda::tail_plan(batch, height, width, in);
    const Guarded<T> weights = packed<T>(p.conv, in, [&](int row, int product, int i) {
        return filters.at(product % P::kPhaseColours, i, row, product / P::kPhaseColours);
    });
    p.conv.source.x = memory.data(), p.conv.weights = weights.data(), p.conv.bias = {bias_memory.data(), 1};
    p.planes = planes.data();
    try {
        launch(cuda::tail_grid(p.conv), cuda::TailShape::kThreads, cuda::tail_shared_bytes(p.conv),
               cuda::tail_kernel<T>, p, random);
    } catch (const cuda::simt::Error& error) {
        check(false, name + ": " + error.what());
        return;
    }
    check(planes.intact(), name + ": wrote beside the result");
    check_values(values_of(planes), expected, 0x1p-16, 0x1p-20, name);
}

template <typename T>
void check_all(bool few, Random& random) {
    struct Size {
        int batch, height, width, in, out;
    };
    const std::vector<Size> sizes = few ? std::vector<Size>{{1, 5, 34, 24, 32}}
                                        : std::vector<Size>{{2, 9, 7, 64, 64}, {1, 1, 1, 8, 32}, {1, 17, 34, 40, 160}};
    for (const Size& s : sizes)
        for (const Way& way : kWays)
            for (const After after : {After::kNothing, After::kSlope, After::kResidual, After::kShuffle})
                check_conv<T>(s.batch, s.height, s.width, s.in, s.out, after, way, random);
    for (const Way& way : kWays) {
        check_conv<T>(1, 5, 19, 24, 72, After::kShuffleBy3, way, random);
        check_slices<T>(1, 9, 18, 40, 32, 3, way, random);
        if (few) continue;
        check_slices<T>(2, 1, 3, 8, 8, 1, way, random);
        check_slices<T>(1, 10, 17, 160, 72, 3, way, random);
        for (const int side : {1, 5, 9}) check_slices<T>(1, 6, 7, 16, 24, side, way, random);
    }
    check_picture<T>(1, 5, 9, 16, 3, 1, 3, random);
    check_picture<T>(2, 9, 17, 24, 3, 4, 3, random);
    if (!few) {
        for (const int shuffle : {1, 2, 4})
            for (const int colours : {1, 3, 4}) check_picture<T>(1, 9, 18, 72, colours, shuffle, 3, random);
        for (const int side : {1, 5, 9}) check_picture<T>(1, 3, 4, 8, 3, 2, side, random);
    }
    for (const Size& s : sizes) {
        for (const Way& way : kWays) check_head<T>(s.batch, s.height, s.width, s.out, way, random);
        check_tail<T>(s.batch, s.height, s.width, s.in * 2, random);
    }
    if (!few) check_tail<T>(1, 9, 57, 256, random);
    struct BlockCase {
        int batch, height, width, multiprocessors;
    };
    // A tile's part; tiles and their parts, more and fewer than are computed at once.
    const std::vector<BlockCase> blocks = few ? std::vector<BlockCase>{{1, 3, 5, 1}, {2, 13, 18, 1}}
                                              : std::vector<BlockCase>{{1, 1, 1, 1},   {1, 3, 5, 3},   {1, 8, 16, 1},
                                                                       {1, 24, 32, 2}, {1, 17, 33, 4}, {3, 13, 18, 1}};
    for (const BlockCase& b : blocks)
        for (int way = 0; way < cuda::kBlockWays; ++way) {
            check_block<T, false>(b.batch, b.height, b.width, way, b.multiprocessors, random);
            if (cuda::kBlockSizes[way].apart)
                check_block<T, true>(b.batch, b.height, b.width, way, b.multiprocessors, random);
        }
}

// What is chosen for a device must fit into its shared memory.
void check_choices() {
    for (const int bytes : {kLittleShared, 163 * 1024, 227 * 1024})
        for (const int out : {8, 64, 256})
            for (const int side : {1, 24, 256}) {
                const cuda::Device device{132, bytes};
                for (const cuda::ConvParams& p :
                     {cuda::infer_plan(1, side, side, 64, out), cuda::head_plan(1, side, side, out)}) {
                    check(cuda::choose_infer_launch(p, device).shared_bytes <= bytes, "a tile fits");
                }
                check(cuda::tail_shared_bytes(cuda::tail_plan(1, side, side, 256)) <= bytes, "a tail's tile fits");
                const cuda::BlockLaunch block = cuda::choose_block_launch(1, side, side, device);
                check(block.shared_bytes <= bytes && (block.way >= 0) == (bytes == 227 * 1024), "a block fits");
            }
}

}  // namespace

int main(int argc, char** argv) {
    const bool few = argc > 1 && std::string(argv[1]) == "few";
    Random random(11);
    check_all<cuda::Half>(few, random);
    check_all<cuda::Bf16>(true, random);
    check_choices();
    return finish();
}
