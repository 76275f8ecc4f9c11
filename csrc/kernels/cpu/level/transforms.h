// Winograd's transforms, one dimension at a time (Lavin and Gray 2016, "Fast algorithms for convolutional neural
// networks"): y = A^T ((G g) * (B^T d)) for data d, filter g, outputs y. `input` is B^T, `output` A^T. Training also
// needs `spread`, which is A, for the gradient of the outputs. The filters' matrices G are in winograd.h.
#pragma once

#include "kernels/cpu/level/vec.h"
#include "kernels/cpu/winograd.h"

namespace srgan_fast::cpu::SRGAN_FAST_LEVEL {

// F(3, 2), points 0, 1, -1 and infinity: 3 outputs of a 2-tap filter from 4 inputs; for stride 2.
struct Winograd32 {
    static constexpr int kPoints = 4, kOutputs = 3, kRadius = 0, kTaps = 2;
    static constexpr const auto& kFilter = kFilter32;

    template <typename V>
    static SRGAN_FAST_INLINE void input(const V* d, V* v) {
        v[0] = d[2] - d[0];
        v[1] = d[2] + d[1];
        v[2] = d[2] - d[1];
        v[3] = d[3] - d[1];
    }

    template <typename V>
    static SRGAN_FAST_INLINE void output(const V* m, V* y) {
        const V sum = m[1] + m[2];
        y[0] = m[0] + sum;
        y[1] = m[1] - m[2];
        y[2] = sum + m[3];
    }

    template <typename V>
    static SRGAN_FAST_INLINE void spread(const V* y, V* v) {
        const V even = y[0] + y[2];
        v[0] = y[0];
        v[1] = even + y[1];
        v[2] = even - y[1];
        v[3] = y[2];
    }
};

// F(4, 3), points 0, 1, -1, 2, -2 and infinity: 4 outputs of a 3-tap filter from 6 inputs.
struct Winograd43 {
    static constexpr int kPoints = 6, kOutputs = 4, kRadius = 1, kTaps = 3;
    static constexpr const auto& kFilter = kFilter43;

    template <typename V>
    static SRGAN_FAST_INLINE void input(const V* d, V* v) {
        const V even = d[4] - 4.0f * d[2], odd = d[3] - 4.0f * d[1];
        const V even2 = d[4] - d[2], odd2 = 2.0f * (d[3] - d[1]);
        v[0] = 4.0f * d[0] - 5.0f * d[2] + d[4];
        v[1] = even + odd;
        v[2] = even - odd;
        v[3] = even2 + odd2;
        v[4] = even2 - odd2;
        v[5] = 4.0f * d[1] - 5.0f * d[3] + d[5];
    }

    template <typename V>
    static SRGAN_FAST_INLINE void output(const V* m, V* y) {
        const V sum = m[1] + m[2], difference = m[1] - m[2];
        const V sum2 = m[3] + m[4], difference2 = m[3] - m[4];
        y[0] = m[0] + sum + sum2;
        y[1] = difference + 2.0f * difference2;
        y[2] = sum + 4.0f * sum2;
        y[3] = difference + 8.0f * difference2 + m[5];
    }
};

// F(4, 5), points 0, 1, -1, 2, -2, 1/2, -1/2 and infinity: 4 outputs of a 5-tap filter from 8 inputs.
struct Winograd45 {
    static constexpr int kPoints = 8, kOutputs = 4, kRadius = 2, kTaps = 5;
    static constexpr const auto& kFilter = kFilter45;

    template <typename V>
    static SRGAN_FAST_INLINE void input(const V* d, V* v) {
        v[0] = d[0] - d[6] + 5.25f * (d[4] - d[2]);
        v[7] = d[7] - d[1] + 5.25f * (d[3] - d[5]);
        const V even = d[2] + d[6] - 4.25f * d[4], odd = d[1] + d[5] - 4.25f * d[3];
        v[1] = even + odd;
        v[2] = even - odd;
        const V even2 = d[6] + 0.25f * d[2] - 1.25f * d[4], odd2 = 0.5f * d[1] - 2.5f * d[3] + 2.0f * d[5];
        v[3] = even2 + odd2;
        v[4] = even2 - odd2;
        const V even3 = d[6] + 4.0f * d[2] - 5.0f * d[4], odd3 = 2.0f * d[1] - 2.5f * d[3] + 0.5f * d[5];
        v[5] = even3 + odd3;
        v[6] = even3 - odd3;
    }

    template <typename V>
    static SRGAN_FAST_INLINE void output(const V* m, V* y) {
        const V sum = m[1] + m[2], difference = m[1] - m[2];
        const V sum2 = m[3] + m[4], difference2 = m[3] - m[4];
        const V sum3 = m[5] + m[6], difference3 = m[5] - m[6];
        y[0] = m[0] + sum + sum2 + 32.0f * sum3;
        y[1] = difference + 2.0f * difference2 + 16.0f * difference3;
        y[2] = sum + 4.0f * sum2 + 8.0f * sum3;
        y[3] = difference + 8.0f * difference2 + 4.0f * difference3 + m[7];
    }

    template <typename V>
    static SRGAN_FAST_INLINE void spread(const V* y, V* v) {
        const V even = y[0] + y[2], odd = y[1] + y[3];
        const V even2 = y[0] + 4.0f * y[2], odd2 = 2.0f * y[1] + 8.0f * y[3];
        const V even3 = 32.0f * y[0] + 8.0f * y[2], odd3 = 16.0f * y[1] + 4.0f * y[3];
        v[0] = y[0];
        v[1] = even + odd;
        v[2] = even - odd;
        v[3] = even2 + odd2;
        v[4] = even2 - odd2;
        v[5] = even3 + odd3;
        v[6] = even3 - odd3;
        v[7] = y[3];
    }
};

// F(6, 3), of the same points as F(4, 5): 6 outputs of a 3-tap filter from 8 inputs.
struct Winograd63 {
    static constexpr int kPoints = 8, kOutputs = 6, kRadius = 1, kTaps = 3;
    static constexpr const auto& kFilter = kFilter63;

    template <typename V>
    static SRGAN_FAST_INLINE void input(const V* d, V* v) {
        Winograd45::input(d, v);
    }

    template <typename V>
    static SRGAN_FAST_INLINE void output(const V* m, V* y) {
        const V sum = m[1] + m[2], difference = m[1] - m[2];
        const V sum2 = m[3] + m[4], difference2 = m[3] - m[4];
        const V sum3 = m[5] + m[6], difference3 = m[5] - m[6];
        y[0] = m[0] + sum + sum2 + 32.0f * sum3;
        y[1] = difference + 2.0f * difference2 + 16.0f * difference3;
        y[2] = sum + 4.0f * sum2 + 8.0f * sum3;
        y[3] = difference + 8.0f * difference2 + 4.0f * difference3;
        y[4] = sum + 16.0f * sum2 + 2.0f * sum3;
        y[5] = difference + 32.0f * difference2 + difference3 + m[7];
    }

    template <typename V>
    static SRGAN_FAST_INLINE void spread(const V* y, V* v) {
        const V even = y[0] + y[2] + y[4], odd = y[1] + y[3] + y[5];
        const V even2 = y[0] + 4.0f * y[2] + 16.0f * y[4], odd2 = 2.0f * y[1] + 8.0f * y[3] + 32.0f * y[5];
        const V even3 = 32.0f * y[0] + 8.0f * y[2] + 2.0f * y[4], odd3 = 16.0f * y[1] + 4.0f * y[3] + y[5];
        v[0] = y[0];
        v[1] = even + odd;
        v[2] = even - odd;
        v[3] = even2 + odd2;
        v[4] = even2 - odd2;
        v[5] = even3 + odd3;
        v[6] = even3 - odd3;
        v[7] = y[5];
    }
};

// Transforms kFrom to kTo values in both dimensions. `fetch(i, j)` returns row i, column j; `put(i, row)` receives a
// row.
template <int kFrom, int kTo, typename V, typename Step, typename Fetch, typename Put>
SRGAN_FAST_INLINE void both_dimensions(const Step& step, const Fetch& fetch, const Put& put) {
    V half[kTo][kFrom];
#pragma GCC unroll 8
    for (int j = 0; j < kFrom; ++j) {
        V d[kFrom], v[kTo];
#pragma GCC unroll 8
        for (int i = 0; i < kFrom; ++i) d[i] = fetch(i, j);
        step(d, v);
#pragma GCC unroll 8
        for (int i = 0; i < kTo; ++i) half[i][j] = v[i];
    }
#pragma GCC unroll 8
    for (int i = 0; i < kTo; ++i) {
        V v[kTo];
        step(half[i], v);
        put(i, v);
    }
}

// v = B^T d B. `put(i, j, v)` receives a point.
template <typename W, typename V = Vec, typename Fetch, typename Put>
SRGAN_FAST_INLINE void transform_input(const Fetch& fetch, const Put& put) {
    both_dimensions<W::kPoints, W::kPoints, V>([](const V* d, V* v) SRGAN_FAST_INLINE_LAMBDA { W::input(d, v); }, fetch,
                                               [&](int i, const V* row) SRGAN_FAST_INLINE_LAMBDA {
#pragma GCC unroll 8
                                                   for (int j = 0; j < W::kPoints; ++j) put(i, j, row[j]);
                                               });
}

// y = A^T m A. `fetch(i, j)` returns a point; `put(i, row)` receives a row of outputs.
template <typename W, typename V = Vec, typename Fetch, typename Put>
SRGAN_FAST_INLINE void transform_output(const Fetch& fetch, const Put& put) {
    both_dimensions<W::kPoints, W::kOutputs, V>([](const V* m, V* y) SRGAN_FAST_INLINE_LAMBDA { W::output(m, y); },
                                                fetch, put);
}

}  // namespace srgan_fast::cpu::SRGAN_FAST_LEVEL
