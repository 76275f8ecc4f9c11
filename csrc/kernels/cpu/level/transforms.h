// Winograd's input and output transforms, one dimension at a time (Lavin and Gray 2016, "Fast algorithms for
// convolutional neural networks"). The points are 0, 1, -1, 2, -2 (and 1/2, -1/2 for the 8-point one) and infinity.
// The weights' transforms, which belong to the same points, are in kernels/cpu/pack.cpp.
#pragma once

#include "kernels/cpu/level/vec.h"

namespace srgan_fast::cpu::SRGAN_FAST_LEVEL {

// F(4, 3): 4 outputs of a 3-tap filter from 6 inputs.
struct Winograd43 {
    static constexpr int kPoints = 6, kOutputs = 4, kRadius = 1;

    static SRGAN_FAST_INLINE void input(const Vec d[6], Vec v[6]) {
        const Vec even = d[4] - 4.0f * d[2], odd = d[3] - 4.0f * d[1];
        const Vec even2 = d[4] - d[2], odd2 = 2.0f * (d[3] - d[1]);
        v[0] = 4.0f * d[0] - 5.0f * d[2] + d[4];
        v[1] = even + odd;
        v[2] = even - odd;
        v[3] = even2 + odd2;
        v[4] = even2 - odd2;
        v[5] = 4.0f * d[1] - 5.0f * d[3] + d[5];
    }

    static SRGAN_FAST_INLINE void output(const Vec m[6], Vec y[4]) {
        const Vec sum = m[1] + m[2], difference = m[1] - m[2];
        const Vec sum2 = m[3] + m[4], difference2 = m[3] - m[4];
        y[0] = m[0] + sum + sum2;
        y[1] = difference + 2.0f * difference2;
        y[2] = sum + 4.0f * sum2;
        y[3] = difference + 8.0f * difference2 + m[5];
    }
};

// F(4, 5): 4 outputs of a 5-tap filter from 8 inputs.
struct Winograd45 {
    static constexpr int kPoints = 8, kOutputs = 4, kRadius = 2;

    static SRGAN_FAST_INLINE void input(const Vec d[8], Vec v[8]) {
        v[0] = d[0] - d[6] + 5.25f * (d[4] - d[2]);
        v[7] = d[7] - d[1] + 5.25f * (d[3] - d[5]);
        const Vec even = d[2] + d[6] - 4.25f * d[4], odd = d[1] + d[5] - 4.25f * d[3];
        v[1] = even + odd;
        v[2] = even - odd;
        const Vec even2 = d[6] + 0.25f * d[2] - 1.25f * d[4], odd2 = 0.5f * d[1] - 2.5f * d[3] + 2.0f * d[5];
        v[3] = even2 + odd2;
        v[4] = even2 - odd2;
        const Vec even3 = d[6] + 4.0f * d[2] - 5.0f * d[4], odd3 = 2.0f * d[1] - 2.5f * d[3] + 0.5f * d[5];
        v[5] = even3 + odd3;
        v[6] = even3 - odd3;
    }

    static SRGAN_FAST_INLINE void output(const Vec m[8], Vec y[4]) {
        const Vec sum = m[1] + m[2], difference = m[1] - m[2];
        const Vec sum2 = m[3] + m[4], difference2 = m[3] - m[4];
        const Vec sum3 = m[5] + m[6], difference3 = m[5] - m[6];
        y[0] = m[0] + sum + sum2 + 32.0f * sum3;
        y[1] = difference + 2.0f * difference2 + 16.0f * difference3;
        y[2] = sum + 4.0f * sum2 + 8.0f * sum3;
        y[3] = difference + 8.0f * difference2 + 4.0f * difference3 + m[7];
    }
};

// Both dimensions: v = B^T d B. `fetch(i, j)` gives the vector of row i, column j; `put(i, j, v)` takes a point.
template <typename W, typename Fetch, typename Put>
SRGAN_FAST_INLINE void transform_input(const Fetch& fetch, const Put& put) {
    constexpr int n = W::kPoints;
    Vec half[n][n];
#pragma GCC unroll 8
    for (int j = 0; j < n; ++j) {
        Vec d[n], v[n];
#pragma GCC unroll 8
        for (int i = 0; i < n; ++i) d[i] = fetch(i, j);
        W::input(d, v);
#pragma GCC unroll 8
        for (int i = 0; i < n; ++i) half[i][j] = v[i];
    }
#pragma GCC unroll 8
    for (int i = 0; i < n; ++i) {
        Vec v[n];
        W::input(half[i], v);
#pragma GCC unroll 8
        for (int j = 0; j < n; ++j) put(i, j, v[j]);
    }
}

// Both dimensions: y = A^T m A. `fetch(i, j)` gives a point; `put(i, y)` takes a row of outputs.
template <typename W, typename Fetch, typename Put>
SRGAN_FAST_INLINE void transform_output(const Fetch& fetch, const Put& put) {
    constexpr int n = W::kPoints, m = W::kOutputs;
    Vec half[m][n];
#pragma GCC unroll 8
    for (int j = 0; j < n; ++j) {
        Vec d[n], y[m];
#pragma GCC unroll 8
        for (int i = 0; i < n; ++i) d[i] = fetch(i, j);
        W::output(d, y);
#pragma GCC unroll 8
        for (int i = 0; i < m; ++i) half[i][j] = y[i];
    }
#pragma GCC unroll 8
    for (int i = 0; i < m; ++i) {
        Vec y[m];
        W::output(half[i], y);
        put(i, y);
    }
}

}  // namespace srgan_fast::cpu::SRGAN_FAST_LEVEL
