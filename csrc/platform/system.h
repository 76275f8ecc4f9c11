// What is asked of the operating system beyond the C++ library: aligned memory, huge pages, processes and forks.
//
// The only place that differs between Linux, macOS and Windows; everything else is C++20 and compilers' vectors.
#pragma once

#include <cstddef>
#include <cstdint>

namespace srgan_fast::platform {

// Memory at a multiple of `alignment`, a power of two that divides `bytes`; not initialised. Null where there is none.
// To be freed by `free_aligned`: on Windows the C library's free() does not know it.
void* allocate_aligned(std::size_t alignment, std::size_t bytes);
void free_aligned(void* memory);

// Asks for huge pages under memory that is aligned to them; a hint, which only Linux takes.
void prefer_huge_pages(void* memory, std::size_t bytes);

// The number of this process: another one in the child of a fork.
std::int64_t process_id();

// Has three functions called around every fork of this process from now on: before it, and after it in the parent and
// in the child. False where memory ran out. On Windows, which has no forks, nothing is ever called.
bool follow_forks(void (*before)(), void (*in_parent)(), void (*in_child)());

}  // namespace srgan_fast::platform
