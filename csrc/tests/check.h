// What the tests share: counting failures, random data, memory that notices writes beside it, and errors of results.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "platform/system.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace srgan_fast::tests {

// Where everything takes ten times longer, or on request, tests leave out what differs in size alone.
#if defined(SRGAN_FAST_EMULATED) || defined(SRGAN_FAST_FEW_CASES) || defined(__SANITIZE_THREAD__)
inline constexpr bool kSlow = true;
#else
inline constexpr bool kSlow = false;
#endif

inline int cases = 0, failures = 0;

// Counts a case, and prints what it was where it failed.
inline bool check(bool good, const std::string& what) {
    ++cases;
    if (good) return true;
    if (++failures <= 50) std::printf("FAILED %s\n", what.c_str());
    return false;
}

// The exit status of a test program.
inline int finish() {
    std::printf("%d cases, %d failures\n", cases, failures);
    return cases > 0 && failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

using Random = std::mt19937;

inline std::vector<float> normal_values(std::int64_t count, float scale, Random& random) {
    std::normal_distribution<float> normal(0.0f, scale);
    std::vector<float> values(count);
    for (float& v : values) v = normal(random);
    return values;
}

inline std::int64_t below(std::int64_t end, Random& random) { return static_cast<std::int64_t>(random() % end); }

// Aligned memory between two guards. It starts full of NaN (all bits set), so that what is read before it is
// written shows; a write into the guards shows in intact(), and at once under the address sanitizer.
template <typename T>
class Guarded {
  public:
    explicit Guarded(std::int64_t size) : bytes_(size * std::int64_t(sizeof(T))) {
        memory_ = static_cast<unsigned char*>(platform::allocate_aligned(
            kGuard, static_cast<std::size_t>((bytes_ + kGuard - 1) / kGuard * kGuard + 2 * kGuard)));
        if (!memory_) std::abort();
        std::memset(memory_, kPattern, kGuard);
        std::memset(memory_ + kGuard, 0xff, bytes_);
        std::memset(memory_ + kGuard + bytes_, kPattern, kGuard);
        lock_guards();
    }
    Guarded(Guarded&& other) noexcept : bytes_(other.bytes_), memory_(std::exchange(other.memory_, nullptr)) {}
    Guarded& operator=(Guarded&&) = delete;
    ~Guarded() {
        if (memory_) unlock_guards();
        platform::free_aligned(memory_);
    }

    T* data() const { return reinterpret_cast<T*>(memory_ + kGuard); }
    std::int64_t size() const { return bytes_ / std::int64_t(sizeof(T)); }
    std::span<T> span() const { return {data(), static_cast<std::size_t>(size())}; }

    bool intact() const {
        unlock_guards();
        const auto is_pattern = [](unsigned char c) { return c == kPattern; };
        const bool good = std::all_of(memory_, memory_ + kGuard, is_pattern) &&
                          std::all_of(memory_ + kGuard + bytes_, memory_ + kGuard + bytes_ + kGuard, is_pattern);
        lock_guards();
        return good;
    }

  private:
    // As a float, the pattern is -1.7e38: what is read beyond an end and used shows in results.
    static constexpr std::int64_t kGuard = 256;
    static constexpr unsigned char kPattern = 0xfe;

    void lock_guards() const {
#if defined(__SANITIZE_ADDRESS__)
        ASAN_POISON_MEMORY_REGION(memory_, kGuard);
        ASAN_POISON_MEMORY_REGION(memory_ + kGuard + bytes_, kGuard);
#endif
    }
    void unlock_guards() const {
#if defined(__SANITIZE_ADDRESS__)
        ASAN_UNPOISON_MEMORY_REGION(memory_, kGuard);
        ASAN_UNPOISON_MEMORY_REGION(memory_ + kGuard + bytes_, kGuard);
#endif
    }

    std::int64_t bytes_;
    unsigned char* memory_;
};

// The difference of a result from the reference. NaN counts as infinitely far.
class Error {
  public:
    void add(double got, double expected) {
        const double difference = std::isnan(got) ? std::numeric_limits<double>::infinity() : std::abs(got - expected);
        squares_ += difference * difference;
        expected_squares_ += expected * expected;
        largest_ = std::max(largest_, difference);
        low_ = std::min(low_, expected);
        high_ = std::max(high_, expected);
        ++count_;
    }
    double rms() const { return count_ ? std::sqrt(squares_ / count_) : 0.0; }
    double expected_rms() const { return count_ ? std::sqrt(expected_squares_ / count_) : 0.0; }
    double relative_rms() const { return squares_ == 0.0 ? 0.0 : std::sqrt(squares_ / expected_squares_); }
    double largest() const { return largest_; }
    double range() const { return count_ ? high_ - low_ : 0.0; }

  private:
    double squares_ = 0.0, expected_squares_ = 0.0, largest_ = 0.0;
    double low_ = std::numeric_limits<double>::infinity(), high_ = -std::numeric_limits<double>::infinity();
    std::int64_t count_ = 0;
};

inline std::string text(double value) {
    char buffer[32];
    std::snprintf(buffer, sizeof buffer, "%.3g", value);
    return buffer;
}

}  // namespace srgan_fast::tests
