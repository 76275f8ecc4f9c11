// From a double accumulator to a pixel, as MATLAB's uint8()/uint16() casts do: round half up, saturate.
#pragma once

#include <cmath>
#include <limits>
#include <type_traits>

namespace srgan_fast {

template <typename Pixel>
inline Pixel to_pixel(double value) {
    if constexpr (std::is_floating_point_v<Pixel>) {
        return static_cast<Pixel>(value);
    } else {
        constexpr double kMax = std::numeric_limits<Pixel>::max();
        const double rounded = std::floor(value + 0.5);
        return static_cast<Pixel>(rounded < 0.0 ? 0.0 : (rounded > kMax ? kMax : rounded));
    }
}

}  // namespace srgan_fast
