// Per-thread memory reused between calls, since fresh pages cost as much as the computation.
#pragma once

#include <cstdint>
#include <memory>
#include <new>

#include "platform/system.h"

namespace srgan_fast::torch_ops {

class Workspace {
  public:
    // At least that many bytes, uninitialised, page-aligned; valid until the next call. Throws std::bad_alloc.
    void* need(std::int64_t bytes) {
        if (bytes > size_) {
            memory_.reset();
            const std::int64_t whole = (bytes + kPage - 1) / kPage * kPage;
            memory_.reset(platform::allocate_aligned(kPage, whole));
            if (!memory_) throw std::bad_alloc();
            size_ = whole;
            platform::prefer_huge_pages(memory_.get(), whole);
        }
        return memory_.get();
    }

    template <typename T>
    T* need_of(std::int64_t count) {
        return static_cast<T*>(need(count * static_cast<std::int64_t>(sizeof(T))));
    }

  private:
    static constexpr std::int64_t kPage = std::int64_t{2} << 20;
    struct Free {
        void operator()(void* p) const { platform::free_aligned(p); }
    };
    std::unique_ptr<void, Free> memory_;
    std::int64_t size_ = 0;
};

}  // namespace srgan_fast::torch_ops
