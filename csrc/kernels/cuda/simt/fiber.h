// Fibers: executions with stacks of their own on one host thread, which the sanitizers know about.
#pragma once

#include <cstddef>

// SRGAN_FAST_SIMT_UCONTEXT is for testing the way of other systems on this one.
#if defined(__linux__) && defined(__x86_64__) && !defined(__ILP32__) && !defined(SRGAN_FAST_SIMT_UCONTEXT)
#define SRGAN_FAST_SIMT_SWITCH
#else
#include <ucontext.h>
#endif

namespace srgan_fast::cuda::simt {

// How an execution that is not running goes on.
class Context {
  public:
    // It begins by calling `entry` on that stack.
    void prepare(std::byte* stack, std::size_t bytes, void (*entry)());
    // Stores how this one, which runs, goes on, and goes on with another.
    void switch_to(Context& to);

  private:
#if defined(SRGAN_FAST_SIMT_SWITCH)
    void* pointer_ = nullptr;  // the stack's end
#else
    ucontext_t context_ = {};
#endif
};

// An execution with a stack of its own, or the host thread's.
struct Fiber {
    Context context;
    const void* stack = nullptr;
    std::size_t stack_bytes = 0;
    void* sanitizer = nullptr;  // what the sanitizer keeps about the fiber while another one runs
};

// Lets `to` run until something resumes `from`; with `ends`, nothing will.
void resume(Fiber& from, Fiber& to, bool ends = false);

// Makes the first resume() of a fiber call `entry`, which must not return.
void prepare(Fiber& fiber, std::byte* stack, std::size_t bytes, void (*entry)());

// Memory for the stacks of fibers, each above a page that cannot be accessed. Throws std::bad_alloc.
class Stacks {
  public:
    explicit Stacks(int count);
    Stacks(const Stacks&) = delete;
    Stacks& operator=(const Stacks&) = delete;
    ~Stacks();

    static constexpr std::size_t kBytes = 256 * 1024;
    std::byte* stack(int i) const { return memory_ + i * (page_ + kBytes) + page_; }

  private:
    std::size_t page_, count_;
    std::byte* memory_;
};

}  // namespace srgan_fast::cuda::simt
