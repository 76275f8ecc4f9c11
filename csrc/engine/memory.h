// Memory aligned to cache lines, and to huge pages if it is large: fewer TLB misses, and neighbouring pages do not
// compete for the same cache sets.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <span>
#include <utility>

#include "kernels/cpu/kernels.h"
#include "platform/system.h"

namespace srgan_fast::engine {

template <typename T>
class Aligned {
  public:
    // Not initialised. Throws std::bad_alloc.
    explicit Aligned(std::int64_t size = 0) : size_(size) {
        if (size == 0) return;
        const std::size_t step = size * sizeof(T) >= kHugePage ? kHugePage : std::size_t(cpu::kAlignment);
        const std::size_t bytes = (size * sizeof(T) + step - 1) / step * step;
        data_ = static_cast<T*>(platform::allocate_aligned(step, bytes));
        if (!data_) throw std::bad_alloc();
        if (step == kHugePage) platform::prefer_huge_pages(data_, bytes);
    }
    Aligned(Aligned&& other) noexcept
        : size_(std::exchange(other.size_, 0)), data_(std::exchange(other.data_, nullptr)) {}
    Aligned& operator=(Aligned&& other) noexcept {
        std::swap(size_, other.size_);
        std::swap(data_, other.data_);
        return *this;
    }
    ~Aligned() { platform::free_aligned(data_); }

    T* data() { return data_; }
    const T* data() const { return data_; }
    std::int64_t size() const { return size_; }

  private:
    static constexpr std::size_t kHugePage = std::size_t{2} << 20;

    std::int64_t size_;
    T* data_ = nullptr;
};

}  // namespace srgan_fast::engine
