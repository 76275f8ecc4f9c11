// Memory aligned to cache lines, and to huge pages if it is large: fewer TLB misses, and neighbouring pages do not
// compete for the same cache sets.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <span>
#include <utility>

#ifdef __linux__
#include <sys/mman.h>
#endif

#include "kernels/cpu/kernels.h"

namespace srgan_fast::engine {

template <typename T>
class Aligned {
  public:
    // Not initialised. Throws std::bad_alloc.
    explicit Aligned(std::int64_t size = 0) : size_(size) {
        if (size == 0) return;
        const std::size_t step = size * sizeof(T) >= kHugePage ? kHugePage : std::size_t(cpu::kAlignment);
        const std::size_t bytes = (size * sizeof(T) + step - 1) / step * step;
        data_ = static_cast<T*>(std::aligned_alloc(step, bytes));
        if (!data_) throw std::bad_alloc();
#ifdef __linux__
        if (step == kHugePage) madvise(data_, bytes, MADV_HUGEPAGE);  // a hint; failure does not matter
#endif
    }
    Aligned(Aligned&& other) noexcept
        : size_(std::exchange(other.size_, 0)), data_(std::exchange(other.data_, nullptr)) {}
    Aligned& operator=(Aligned&& other) noexcept {
        std::swap(size_, other.size_);
        std::swap(data_, other.data_);
        return *this;
    }
    ~Aligned() { std::free(data_); }

    T* data() { return data_; }
    const T* data() const { return data_; }
    std::int64_t size() const { return size_; }

  private:
    static constexpr std::size_t kHugePage = std::size_t{2} << 20;

    std::int64_t size_;
    T* data_ = nullptr;
};

}  // namespace srgan_fast::engine
