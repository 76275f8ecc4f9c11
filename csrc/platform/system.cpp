#include "platform/system.h"

#include <cstdlib>

#ifdef _WIN32
#include <malloc.h>
#include <process.h>
#else
#include <pthread.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/mman.h>
#endif
#endif

namespace srgan_fast::platform {

#ifdef _WIN32

void* allocate_aligned(std::size_t alignment, std::size_t bytes) { return _aligned_malloc(bytes, alignment); }

void free_aligned(void* memory) { _aligned_free(memory); }

// Large pages need a privilege there that users do not have, and are then locked in memory.
void prefer_huge_pages(void*, std::size_t) {}

std::int64_t process_id() { return _getpid(); }

bool follow_forks(void (*)(), void (*)(), void (*)()) { return true; }

#else

void* allocate_aligned(std::size_t alignment, std::size_t bytes) { return std::aligned_alloc(alignment, bytes); }

void free_aligned(void* memory) { std::free(memory); }

void prefer_huge_pages([[maybe_unused]] void* memory, [[maybe_unused]] std::size_t bytes) {
#ifdef __linux__
    madvise(memory, bytes, MADV_HUGEPAGE);  // failure does not matter
#endif
}

std::int64_t process_id() { return getpid(); }

bool follow_forks(void (*before)(), void (*in_parent)(), void (*in_child)()) {
    return pthread_atfork(before, in_parent, in_child) == 0;
}

#endif

}  // namespace srgan_fast::platform
