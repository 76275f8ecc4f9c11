#include "engine/pixels.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

namespace srgan_fast::engine {
namespace {

std::int64_t line_bytes(std::int64_t floats) {
    const std::int64_t bytes = floats * static_cast<std::int64_t>(sizeof(float));
    return (bytes + cpu::kAlignment - 1) / cpu::kAlignment * cpu::kAlignment;
}

// Converts a row of pixels to the network's range; interleaved channels.
void read_line(const ReadPixels& a, std::int64_t y, float* out) {
    const ImageIn& in = *a.image;
    const std::int64_t values = in.width * a.channels;
    const auto integers = [&](const auto* pixels, float white) {
        for (std::int64_t i = 0; i < values; ++i)
            out[i] = static_cast<float>(pixels[(y - in.first) * values + i]) / white;
    };
    switch (in.type) {
        case cpu::PixelType::kUint8: integers(static_cast<const std::uint8_t*>(in.data), 255.0f); break;
        case cpu::PixelType::kUint16: integers(static_cast<const std::uint16_t*>(in.data), 65535.0f); break;
        case cpu::PixelType::kFloat:
            for (std::int64_t c = 0; c < a.channels; ++c) {
                const float* const row = static_cast<const float*>(in.data) + (c * in.height + y) * in.width;
                for (std::int64_t x = 0; x < in.width; ++x) out[x * a.channels + c] = row[x];
            }
            break;
    }
    for (std::int64_t x = 0; x < in.width; ++x)
        for (std::int64_t c = 0; c < a.channels; ++c)
            out[x * a.channels + c] = out[x * a.channels + c] * a.map->gain[c] + a.map->offset[c];
}

// Rounds to nearest even. NaNs are preserved.
std::uint16_t rounded(float value) {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    if (value != value) return static_cast<std::uint16_t>(bits >> 16 | 0x40);
    return static_cast<std::uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
float widened(std::uint16_t bits) { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16); }

void read_row(const ReadPixels& a, std::int64_t y, float* line) {
    const std::int64_t u = a.unshuffle, channels = a.channels, values = channels * u * u;
    if (a.features) std::memset(a.features[y], 0, a.width * a.pixel * (a.bfloat16 ? 2 : 4));
    for (std::int64_t dy = 0; dy < u; ++dy) {
        float* const out = a.colours ? static_cast<float*>(a.colours[y]) : line;
        read_line(a, (a.first + y) * u + dy, out);
        if (!a.features) continue;
        for (std::int64_t x = 0; x < a.width; ++x)
            for (std::int64_t dx = 0; dx < u; ++dx)
                for (std::int64_t c = 0; c < channels; ++c) {
                    const float value = out[(x * u + dx) * channels + c];
                    const std::int64_t place = x * a.pixel + (c * u + dy) * u + dx;
                    if (a.bfloat16) {
                        auto* const row = static_cast<std::uint16_t*>(a.features[y]);
                        row[place] = rounded(value);
                        row[place + values] = rounded(value - widened(row[place]));
                    } else {
                        static_cast<float*>(a.features[y])[place] = value;
                    }
                }
    }
}

// Adds a row of the enlarged image. Bilinear: half-pixel centres, repeated borders.
void add_skip(const WritePixels& a, std::int64_t y, std::int64_t dy, float* line) {
    const std::int64_t scale = a.step * a.shuffle, columns = a.width * a.shuffle, begin = a.colours_first * a.shuffle;
    const std::int64_t row = (a.first + y) * a.shuffle + dy;  // of the output
    const auto colours = [&](std::int64_t image_row) {
        return static_cast<const float*>(a.colours[image_row - (a.first / a.step - 1)]);
    };
    if (a.skip == Skip::kNearest) {
        const float* const from = colours(row / scale);
        for (std::int64_t x = 0; x < columns; ++x)
            for (std::int64_t c = 0; c < a.channels; ++c)
                line[x * a.channels + c] += from[std::min((begin + x) / scale, a.colours_width - 1) * a.channels + c];
        return;
    }
    struct Neighbours {
        std::int64_t first;
        float weight;  // of the second
    };
    const auto between = [&](std::int64_t place) {
        const std::int64_t doubled = 2 * place + 1 - scale;  // 2 * scale times the position in the image
        const std::int64_t first = doubled >= 0 ? doubled / (2 * scale) : -1;
        return Neighbours{first, static_cast<float>(doubled - first * 2 * scale) / static_cast<float>(2 * scale)};
    };
    const Neighbours rows = between(row);
    const float *const above = colours(rows.first), *const below = colours(rows.first + 1);
    for (std::int64_t x = 0; x < columns; ++x) {
        const Neighbours sides = between(begin + x);
        const std::int64_t left = std::clamp<std::int64_t>(sides.first, 0, a.colours_width - 1) * a.channels;
        const std::int64_t right = std::clamp<std::int64_t>(sides.first + 1, 0, a.colours_width - 1) * a.channels;
        for (std::int64_t c = 0; c < a.channels; ++c) {
            const float top = above[left + c] + sides.weight * (above[right + c] - above[left + c]);
            const float bottom = below[left + c] + sides.weight * (below[right + c] - below[left + c]);
            line[x * a.channels + c] += top + rows.weight * (bottom - top);
        }
    }
}

template <typename Pixel>
void write_integers(const float* values, std::int64_t count, float white, Pixel* out) {
    for (std::int64_t i = 0; i < count; ++i) {
        const float low = values[i] > 0.0f ? values[i] : 0.0f;  // NaN becomes 0
        // Rounds a value in 0 .. 2^22 to nearest even: adding 1.5 * 2^23 removes the fraction bits.
        const float whole = (low < 1.0f ? low : 1.0f) * white + 12582912.0f;
        out[i] = static_cast<Pixel>(std::bit_cast<std::int32_t>(whole) - 0x4b400000);
    }
}

void write_row(const WritePixels& a, std::int64_t y, float* line) {
    const std::int64_t run = a.shuffle * a.channels, values = a.width * run;
    const cpu::PixelSink& sink = a.sink;
    for (std::int64_t dy = 0; dy < a.shuffle; ++dy) {
        const float* const from = static_cast<const float*>(a.in[y]) + dy * run;
        for (std::int64_t x = 0; x < a.width; ++x) std::memcpy(line + x * run, from + x * a.pixel, run * sizeof(float));
        if (a.skip != Skip::kNone) add_skip(a, y, dy, line);
        if (sink.tanh)
            for (std::int64_t i = 0; i < values; ++i) line[i] = std::tanh(line[i]);
        for (std::int64_t x = 0; x < values; x += a.channels)
            for (std::int64_t c = 0; c < a.channels; ++c) line[x + c] = line[x + c] * sink.gain[c] + sink.offset[c];
        const std::int64_t row = ((a.sink_row + y) * a.shuffle + dy) * sink.row_stride;
        switch (sink.type) {
            case cpu::PixelType::kUint8:
                write_integers(line, values, 255.0f, static_cast<std::uint8_t*>(sink.data) + row);
                break;
            case cpu::PixelType::kUint16:
                write_integers(line, values, 65535.0f, static_cast<std::uint16_t*>(sink.data) + row);
                break;
            case cpu::PixelType::kFloat:
                for (std::int64_t c = 0; c < a.channels; ++c) {
                    float* const out = static_cast<float*>(sink.data) + c * sink.plane_stride + row;
                    for (std::int64_t x = 0; x < a.width * a.shuffle; ++x) out[x] = line[x * a.channels + c];
                }
                break;
        }
    }
}

template <typename Arguments, void (*kRow)(const Arguments&, std::int64_t, float*)>
void rows_of_task(const Arguments& a, std::int64_t task, std::int64_t tasks, void* scratch) {
    for (std::int64_t y = a.rows * task / tasks; y < a.rows * (task + 1) / tasks; ++y)
        kRow(a, y, static_cast<float*>(scratch));
}

}  // namespace

const cpu::Kernel<ReadPixels> kReadPixels{
    [](const ReadPixels& a, int) { return a.rows; },
    [](const ReadPixels& a, std::int64_t) { return line_bytes(a.width * a.unshuffle * a.channels); },
    rows_of_task<ReadPixels, read_row>};

const cpu::Kernel<WritePixels> kWritePixels{
    [](const WritePixels& a, int) { return a.rows; },
    [](const WritePixels& a, std::int64_t) { return line_bytes(a.width * a.shuffle * a.channels); },
    rows_of_task<WritePixels, write_row>};

}  // namespace srgan_fast::engine
