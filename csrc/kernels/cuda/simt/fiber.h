// Fibers: executions with their own stacks on one host thread, known to the sanitizers.
#pragma once

#include <cstddef>

// SRGAN_FAST_SIMT_UCONTEXT tests the fallback for other systems on this one.
#if defined(__linux__) && defined(__x86_64__) && !defined(__ILP32__) && !defined(SRGAN_FAST_SIMT_UCONTEXT)
#define SRGAN_FAST_SIMT_SWITCH
#else
#include <ucontext.h>
#endif

namespace srgan_fast::cuda::simt {

// Saved state of a suspended execution.
class Context {
  public:
    // It starts by calling `entry` on that stack.
    void prepare(std::byte* stack, std::size_t bytes, void (*entry)());
    // Saves the current execution and continues another one.
    void switch_to(Context& to);

  private:
#if defined(SRGAN_FAST_SIMT_SWITCH)
    void* pointer_ = nullptr;  // stack pointer
#else
    ucontext_t context_ = {};
#endif
};

// An execution with its own stack, or the host thread's.
struct Fiber {
    Context context;
    const void* stack = nullptr;
    std::size_t stack_bytes = 0;
    void* sanitizer = nullptr;  // the sanitizer's state of the suspended fiber
};

// Runs `to` until something resumes `from`; with `ends`, nothing will.
void resume(Fiber& from, Fiber& to, bool ends = false);

// Makes the first resume() of a fiber call `entry`, which must not return.
void prepare(Fiber& fiber, std::byte* stack, std::size_t bytes, void (*entry)());

// Memory for fiber stacks, each with a guard page below. Throws std::bad_alloc.
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
