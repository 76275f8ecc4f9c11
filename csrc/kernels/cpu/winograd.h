// Matrices G of Winograd's filter transforms (Lavin and Gray 2016, "Fast algorithms for convolutional neural
// networks"): each row is a point, whose value of the filter is scaled as the input transforms of level/transforms.h
// require. Compiled at every instruction set level: nothing here may be shared between objects, so all is static.
#pragma once

namespace srgan_fast::cpu {

template <int kTaps>
struct FilterRow {
    double tap[kTaps];
};

template <int kTaps>
constexpr FilterRow<kTaps> at_point(double point, double factor) {
    FilterRow<kTaps> row{};
    for (int i = 0; i < kTaps; ++i, factor *= point) row.tap[i] = factor;
    return row;
}

template <int kTaps>
constexpr FilterRow<kTaps> at_infinity() {
    FilterRow<kTaps> row{};
    row.tap[kTaps - 1] = 1.0;
    return row;
}

template <int kTaps>
static constexpr FilterRow<kTaps> kFilterOf8Points[8]{at_point<kTaps>(0.0, 1.0),       at_point<kTaps>(1.0, -2.0 / 9),
                                                      at_point<kTaps>(-1.0, -2.0 / 9), at_point<kTaps>(2.0, 1.0 / 90),
                                                      at_point<kTaps>(-2.0, 1.0 / 90), at_point<kTaps>(0.5, 1.0 / 45),
                                                      at_point<kTaps>(-0.5, 1.0 / 45), at_infinity<kTaps>()};

static constexpr FilterRow<2> kFilter32[4]{at_point<2>(0.0, -1.0), at_point<2>(1.0, 0.5), at_point<2>(-1.0, 0.5),
                                           at_infinity<2>()};
static constexpr FilterRow<3> kFilter43[6]{at_point<3>(0.0, 1.0 / 4),   at_point<3>(1.0, -1.0 / 6),
                                           at_point<3>(-1.0, -1.0 / 6), at_point<3>(2.0, 1.0 / 24),
                                           at_point<3>(-2.0, 1.0 / 24), at_infinity<3>()};
static constexpr const FilterRow<5> (&kFilter45)[8] = kFilterOf8Points<5>;
static constexpr const FilterRow<3> (&kFilter63)[8] = kFilterOf8Points<3>;

}  // namespace srgan_fast::cpu
