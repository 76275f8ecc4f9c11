// Conversion of image pixels to the network's maps, and of the last map to pixels; the 9x9 tail writes pixels itself.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/network.h"
#include "kernels/cpu/kernels.h"

namespace srgan_fast::engine {

// Dense pixels: integers [height][width][channels], float [channels][height][width] in 0..1.
struct ImageIn {
    cpu::PixelType type;
    const void* data;  // of integers from row `first` on
    std::int64_t height, width;
    std::int64_t first = 0;
};

// Rows first .. first + rows of the network's input.
struct ReadPixels {
    const ImageIn* image;
    std::int64_t channels, unshuffle;
    const ColourMap* map;
    std::int64_t first, rows, width;  // of the network's input
    void* const* colours;             // rows of `channels` floats per pixel, or null
    void* const* features;            // rows of `pixel` values per pixel, or null
    std::int64_t pixel;
    bool bfloat16;  // features are bfloat16: the rounded value, and in the channels after it the remainder
};
extern const cpu::Kernel<ReadPixels> kReadPixels;

// Converts rows of the last map, floats, to rows of pixels: channel (dy * shuffle + dx) * channels + c is channel c of
// pixel (shuffle * y + dy, shuffle * x + dx).
struct WritePixels {
    const void* const* in;
    std::int64_t first, rows, width;  // of the map
    std::int64_t sink_row;            // of the sink, before the shuffle, that row `first` becomes
    std::int64_t pixel, channels, shuffle;
    Skip skip;
    const void* const* colours;  // of rows first / step - 1 on, step being how many of the map's rows an image's row
                                 // becomes; with the first and the last row repeated outside the image
    std::int64_t colours_first;  // column of the image at which the map begins, times `step`
    std::int64_t colours_width;  // of the image
    std::int64_t step;
    cpu::PixelSink sink;
};
extern const cpu::Kernel<WritePixels> kWritePixels;

}  // namespace srgan_fast::engine
