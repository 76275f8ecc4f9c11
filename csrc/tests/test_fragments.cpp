// What the emulation of a GPU's instructions computes, against statements of their own of what the GPU does: fragments
// of products and loads by the PTX ISA's tables, and conversions by the definitions of the formats.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <string>
#include <type_traits>
#include <vector>

#include "kernels/cuda/intrinsics.cuh"
#include "kernels/cuda/simt/simt.h"
#include "tests/check.h"

namespace {

using namespace srgan_fast::cuda;
using namespace srgan_fast::tests;
using simt::launch;

constexpr int kSeeds = kSlow ? 4 : 64;

// ---- Fragments: the tables of the PTX ISA, of which the lane's group is lane >> 2 and its number there lane % 4 ----

// Elements of a word.
template <typename T>
constexpr int kOfWord = std::is_same_v<T, float> ? 1 : 2;

struct Place {
    int row, column;
};

// "row = groupID for ai where 0 <= i < 2 || 4 <= i < 6, groupID + 8 otherwise;
//  col = (threadID_in_group * 2) + (i & 0x1) for ai where i < 4, that + 8 for i >= 4"
Place a_of_isa(int lane, int i) {
    const int group = lane >> 2, member = lane % 4;
    const bool upper = (0 <= i && i < 2) || (4 <= i && i < 6);
    return {upper ? group : group + 8, i < 4 ? member * 2 + (i & 1) : member * 2 + (i & 1) + 8};
}
// "row = (threadID_in_group * 2) + (i & 0x1) for bi where i < 2, that + 8 for i >= 2; col = groupID"
Place b_of_isa(int lane, int i) {
    const int group = lane >> 2, member = lane % 4;
    return {i < 2 ? member * 2 + (i & 1) : member * 2 + (i & 1) + 8, group};
}
// "row = groupID for ci where i < 2, groupID + 8 for i >= 2; col = (threadID_in_group * 2) + (i & 0x1)"
Place c_of_isa(int lane, int i) {
    const int group = lane >> 2, member = lane % 4;
    return {i < 2 ? group : group + 8, member * 2 + (i & 1)};
}

// Of TF32: "row = groupID for a0 and a2, groupID + 8 for a1 and a3; col = threadID_in_group for a0 and a1, that + 4 for
// a2 and a3".
Place a_of_isa_tf32(int lane, int i) {
    const int group = lane >> 2, member = lane % 4;
    return {i == 0 || i == 2 ? group : group + 8, i <= 1 ? member : member + 4};
}
// "row = threadID_in_group for b0, that + 4 for b1; col = groupID"
Place b_of_isa_tf32(int lane, int i) { return {i == 0 ? lane % 4 : lane % 4 + 4, lane >> 2}; }

// The words of a fragment whose elements `at` gives.
template <typename T, int words, typename At>
std::array<std::uint32_t, words> fragment_of(At at) {
    std::array<std::uint32_t, words> result;
    for (int i = 0; i < words; ++i)
        if constexpr (std::is_same_v<T, float>)
            result[i] = bits_of(at(i));
        else
            result[i] = at(2 * i).bits | static_cast<std::uint32_t>(at(2 * i + 1).bits) << 16;
    return result;
}

template <typename T>
T operand_of(float value) {
    if constexpr (std::is_same_v<T, float>)
        return round_to_tf32(value);
    else
        return narrow<T>(value);
}
template <typename T>
double number_of(T value) {
    if constexpr (std::is_same_v<T, float>)
        return value;
    else
        return widen(value);
}

// One product of a warp, d = c + a b, and the same in double. With whole numbers it is exact.
template <typename T>
void test_multiply(bool whole, std::uint64_t seed) {
    Random random(static_cast<unsigned>(seed));
    std::normal_distribution<float> normal;
    const auto value = [&] { return whole ? static_cast<float>(below(17, random)) - 8.0f : normal(random); };
    constexpr int kDepth = 8 * kOfWord<T>;
    T a[16][kDepth], b[kDepth][8];
    float c[16][8], d[16][8];
    for (auto& row : a)
        for (T& v : row) v = operand_of<T>(value());
    for (auto& row : b)
        for (T& v : row) v = operand_of<T>(value());
    for (auto& row : c)
        for (float& v : row) v = value();

    launch({}, 32, 0, {.seed = seed}, [&] {
        const int lane = static_cast<int>(threadIdx.x);
        const auto [a0, a1, a2, a3] = fragment_of<T, 4>([&](int i) {
            const Place at = kOfWord<T> == 1 ? a_of_isa_tf32(lane, i) : a_of_isa(lane, i);
            return a[at.row][at.column];
        });
        const auto [b0, b1] = fragment_of<T, 2>([&](int i) {
            const Place at = kOfWord<T> == 1 ? b_of_isa_tf32(lane, i) : b_of_isa(lane, i);
            return b[at.row][at.column];
        });
        float sums[4];
        for (int i = 0; i < 4; ++i) sums[i] = c[c_of_isa(lane, i).row][c_of_isa(lane, i).column];
        const std::uint32_t fragment[4] = {a0, a1, a2, a3};
        multiply_add<T>(sums, fragment, b0, b1);
        for (int i = 0; i < 4; ++i) d[c_of_isa(lane, i).row][c_of_isa(lane, i).column] = sums[i];
    });

    double largest = 0.0;
    for (int row = 0; row < 16; ++row)
        for (int column = 0; column < 8; ++column) {
            double expected = c[row][column];
            for (int k = 0; k < kDepth; ++k) expected += number_of(a[row][k]) * number_of(b[k][column]);
            largest = std::max(largest, std::abs(d[row][column] - expected));
        }
    check(whole ? largest == 0.0 : largest < 1e-5, "multiply_add, largest error " + text(largest));
}

// Rows anywhere in shared memory. Lane l has row l / 4, columns 2 (l % 4) and the next, transposed those of the
// transpose.
void test_load(bool transposed, std::uint64_t seed) {
    Random random(static_cast<unsigned>(seed));
    constexpr int kRows = 40;
    std::vector<std::uint16_t> memory(kRows * 8);
    for (std::uint16_t& v : memory) v = static_cast<std::uint16_t>(random());
    std::vector<int> place(kRows);
    std::iota(place.begin(), place.end(), 0);
    std::shuffle(place.begin(), place.end(), random);
    std::uint32_t got[32][4];
    launch({}, 32, kRows * 16, {.seed = seed}, [&] {
        const int lane = static_cast<int>(threadIdx.x);
        for (int i = lane; i < kRows; i += 32) std::memcpy(shared_memory() + 16 * i, memory.data() + 8 * i, 16);
        sync_warp();
        const std::byte* const row = shared_memory() + 16 * place[lane];
        if (transposed)
            load_matrices_transposed(got[lane], row);
        else
            load_matrices(got[lane], row);
    });
    bool good = true;
    for (int lane = 0; lane < 32; ++lane)
        for (int matrix = 0; matrix < 4; ++matrix)
            for (int i = 0; i < 2; ++i) {
                const int major = lane >> 2, minor = (lane & 3) * 2 + i;
                const int row = transposed ? minor : major, column = transposed ? major : minor;
                const std::uint16_t expected = memory[8 * place[8 * matrix + row] + column];
                good = good && (got[lane][matrix] >> (16 * i) & 0xffffu) == expected;
            }
    check(good, transposed ? "load_matrices_transposed" : "load_matrices");
}

void test_fragments() {
    for (int seed = 0; seed < kSeeds; ++seed) {
        for (const bool whole : {true, false}) {
            test_multiply<Bf16>(whole, seed);
            test_multiply<Half>(whole, seed);
            test_multiply<float>(whole, seed);
        }
        test_load(false, seed);
        test_load(true, seed);
    }
}

// ---- Conversions ----

struct Format {
    int exponent_bits, mantissa_bits;
    int bias() const { return (1 << (exponent_bits - 1)) - 1; }
};
template <typename T>
constexpr Format kFormat = {8, 7};
template <>
constexpr Format kFormat<Half> = {5, 10};

// The value of a pattern of bits, by the definition of the format.
double value_of(std::uint16_t bits, Format format) {
    const int exponent = bits >> format.mantissa_bits & ((1 << format.exponent_bits) - 1);
    const int mantissa = bits & ((1 << format.mantissa_bits) - 1);
    const double sign = (bits >> 15) != 0 ? -1.0 : 1.0;
    if (exponent == (1 << format.exponent_bits) - 1)
        return mantissa != 0 ? std::numeric_limits<double>::quiet_NaN()
                             : sign * std::numeric_limits<double>::infinity();
    if (exponent == 0) return sign * std::ldexp(mantissa, 1 - format.bias() - format.mantissa_bits);
    return sign * std::ldexp((1 << format.mantissa_bits) + mantissa, exponent - format.bias() - format.mantissa_bits);
}

// The nearest value of the format, of two as near the one with an even mantissa.
double rounded(float value, Format format) {
    if (!std::isfinite(value) || value == 0.0f) return value;
    const int exponent = std::max(std::ilogb(value), 1 - format.bias());
    const double unit = std::ldexp(1.0, exponent - format.mantissa_bits);
    const double result = std::nearbyint(value / unit) * unit;
    const double end = std::ldexp(1.0, format.bias() + 1);
    return std::abs(result) >= end ? std::copysign(std::numeric_limits<double>::infinity(), value) : result;
}

bool same(double a, double b) {
    return (std::isnan(a) && std::isnan(b)) || (a == b && std::signbit(a) == std::signbit(b));
}

template <typename T>
bool narrows(float value) {
    const std::uint16_t bits = narrow<T>(value).bits;
    return std::isnan(value) ? bits == 0x7fff : same(value_of(bits, kFormat<T>), rounded(value, kFormat<T>));
}

template <typename T>
void test_conversions(const std::string& format) {
    int wrong = 0, back = 0;
    for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
        const T value{static_cast<std::uint16_t>(bits)};
        wrong += !same(widen(value), value_of(value.bits, kFormat<T>));
        back += narrow<T>(widen(value)).bits != (std::isnan(widen(value)) ? 0x7fff : bits);
    }
    check(wrong == 0, "widen<" + format + ">: " + std::to_string(wrong) + " wrong");
    check(back == 0, "narrow<" + format + "> of widen: " + std::to_string(back) + " wrong");

    // Halfway between two neighbours, where there is such a float, next to that, and anywhere.
    wrong = 0;
    for (std::uint32_t bits = 0; bits < 0xffff; ++bits) {
        const double low = value_of(static_cast<std::uint16_t>(bits), kFormat<T>);
        const double high = value_of(static_cast<std::uint16_t>(bits + 1), kFormat<T>);
        if (!std::isfinite(low)) continue;
        const double step = std::abs(low - value_of(static_cast<std::uint16_t>(bits ^ 1), kFormat<T>));
        const double middle = std::isfinite(high) ? (low + high) / 2 : low + std::copysign(step / 2, low);
        const float near = static_cast<float>(middle);
        for (const float v : {near, std::nextafter(near, 0.0f), std::nextafter(near, 2 * near)})
            wrong += !narrows<T>(v);
    }
    Random random(3);
    for (int i = 0; i < (kSlow ? 100'000 : 3'000'000); ++i)
        wrong += !narrows<T>(std::bit_cast<float>(static_cast<std::uint32_t>(random())));
    for (const float v : {0.0f, -0.0f, 65504.0f, 65519.996f, 65520.0f, -65520.0f, 65536.0f, 0x1p-24f, 0x1p-25f,
                          0x1.000002p-25f, 0x1.ffcp-15f, 0x1.ffep-15f, 0x1p-126f, 0x1p-149f, 3.4028235e38f,
                          std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
                          std::numeric_limits<float>::quiet_NaN(), std::bit_cast<float>(0xff800001u)})
        wrong += !narrows<T>(v);
    check(wrong == 0, "narrow<" + format + ">: " + std::to_string(wrong) + " wrong");

    const std::uint32_t word = narrow_pair<T>(1.5f, -3.0f);
    check((word & 0xffffu) == narrow<T>(1.5f).bits && word >> 16 == narrow<T>(-3.0f).bits,
          "narrow_pair<" + format + ">");
    check(widen_pair<T>(word).low == 1.5f && widen_pair<T>(word).high == -3.0f, "widen_pair<" + format + ">");
}

// Of TF32, a float's exponents and 10 bits: to the nearest, of two as near the one farther from zero. On bits that
// TF32 has not, a product fails.
void test_tf32() {
    const auto nearest = [](float value) -> double {
        if (!std::isfinite(value) || value == 0.0f) return value;
        const double unit = std::ldexp(1.0, std::max(std::ilogb(value), -126) - 10);
        const double result = std::round(value / unit) * unit;
        return std::abs(result) >= 0x1p128 ? std::copysign(std::numeric_limits<double>::infinity(), value) : result;
    };
    const auto rounds = [&](float value) {
        const float result = round_to_tf32(value);
        return (bits_of(result) & 0x1fffu) == 0 && same(result, nearest(value));
    };
    int wrong = 0;
    Random random(5);
    for (int i = 0; i < (kSlow ? 100'000 : 3'000'000); ++i) {
        const std::uint32_t bits = static_cast<std::uint32_t>(random());
        wrong += !rounds(std::bit_cast<float>(bits));
        wrong += !rounds(std::bit_cast<float>((bits & ~0x1fffu) | 0x1000u));  // halfway
    }
    for (const float v : {0.0f, -0.0f, 1.0f, 0x1.002p0f, 0x1.ffep0f, 0x1.fffffep127f, 0x1.ffcp127f, 0x1p-149f,
                          0x1p-136f, 0x1p-137f, std::numeric_limits<float>::infinity(),
                          -std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()})
        wrong += !rounds(v);
    check(wrong == 0, "round_to_tf32: " + std::to_string(wrong) + " wrong");
    for (int place = 0; place < 6; ++place) {
        std::string error;
        try {
            launch({}, 32, 0, {}, [&] {
                std::uint32_t words[6] = {};
                if (threadIdx.x == 7) words[place] = bits_of(0x1.001p0f);
                float sums[4] = {};
                multiply_add<float>(sums, {words[0], words[1], words[2], words[3]}, words[4], words[5]);
            });
        } catch (const simt::Error& found) {
            error = found.what();
        }
        check(error.find("not rounded to TF32") != std::string::npos, "an operand that is not rounded, " + error);
    }
}

}  // namespace

int main() {
    test_fragments();
    test_conversions<Bf16>("Bf16");
    test_conversions<Half>("Half");
    test_tf32();
    return finish();
}
