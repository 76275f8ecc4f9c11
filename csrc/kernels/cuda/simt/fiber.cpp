#include "kernels/cuda/simt/fiber.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <new>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#elif defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif

#if defined(SRGAN_FAST_SIMT_SWITCH)
// In assembly, since swapcontext() costs two system calls.
// Pushes the callee-saved registers, stores the stack pointer to *from, and continues at `to`, which an earlier call
// stored.
extern "C" void srgan_fast_simt_switch(void** from, void* to);
asm(R"(
    .pushsection .text
    .globl srgan_fast_simt_switch
    .hidden srgan_fast_simt_switch
    .type srgan_fast_simt_switch, @function
    .p2align 4
srgan_fast_simt_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size srgan_fast_simt_switch, . - srgan_fast_simt_switch
    .popsection
)");
#endif

namespace srgan_fast::cuda::simt {

#if defined(SRGAN_FAST_SIMT_SWITCH)
// Prepares the stack as srgan_fast_simt_switch() leaves it: the address to continue at, and zeros, which end
// backtraces.
void Context::prepare(std::byte* stack, std::size_t bytes, void (*entry)()) {
    void** const top = reinterpret_cast<void**>(stack + bytes);
    std::fill(top - 8, top, nullptr);
    top[-2] = reinterpret_cast<void*>(entry);
    pointer_ = top - 8;
}

void Context::switch_to(Context& to) { srgan_fast_simt_switch(&pointer_, to.pointer_); }
#else
void Context::prepare(std::byte* stack, std::size_t bytes, void (*entry)()) {
    getcontext(&context_);
    context_.uc_stack.ss_sp = stack;
    context_.uc_stack.ss_size = bytes;
    context_.uc_link = nullptr;
    makecontext(&context_, entry, 0);
}

void Context::switch_to(Context& to) { swapcontext(&context_, &to.context_); }
#endif

void resume(Fiber& from, Fiber& to, [[maybe_unused]] bool ends) {
#if defined(__SANITIZE_ADDRESS__)
    if (ends) __asan_handle_no_return();  // the stack may be reused, so it must not stay poisoned
    __sanitizer_start_switch_fiber(ends ? nullptr : &from.sanitizer, to.stack, to.stack_bytes);
#elif defined(__SANITIZE_THREAD__)
    __tsan_switch_to_fiber(to.sanitizer, 0);
#endif
    from.context.switch_to(to.context);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(from.sanitizer, nullptr, nullptr);
#endif
}

void prepare(Fiber& fiber, std::byte* stack, std::size_t bytes, void (*entry)()) {
    fiber.stack = stack;
    fiber.stack_bytes = bytes;
#if defined(__SANITIZE_THREAD__)
    fiber.sanitizer = __tsan_create_fiber(0);
#endif
    fiber.context.prepare(stack, bytes, entry);
}

Stacks::Stacks(int count) : page_(static_cast<std::size_t>(sysconf(_SC_PAGESIZE))), count_(count) {
    void* const memory = mmap(nullptr, count_ * (page_ + kBytes), PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    memory_ = static_cast<std::byte*>(memory);
    for (int i = 0; i < count; ++i)
        if (mprotect(stack(i) - page_, page_, PROT_NONE) != 0) {
            munmap(memory_, count_ * (page_ + kBytes));
            throw std::bad_alloc();
        }
}

Stacks::~Stacks() { munmap(memory_, count_ * (page_ + kBytes)); }

}  // namespace srgan_fast::cuda::simt
