// Threads that share the tasks of one call after the other.
//
// Between two calls in quick succession, as from layer to layer, the threads spin; after that they sleep. A pool serves
// one caller at a time. After a fork, the child's first call starts threads of its own.
#pragma once

#include <cstdint>
#include <memory>

namespace srgan_fast::engine {

class ThreadPool {
  public:
    // `threads` counts the caller, which works too.
    explicit ThreadPool(int threads);
    ~ThreadPool();
    ThreadPool(const ThreadPool&) = delete;
    ThreadPool& operator=(const ThreadPool&) = delete;

    int threads() const { return threads_; }

    // Calls work(task, thread) for every task in 0 .. tasks, each once, and returns when all are done. `work` must not
    // throw. Throws std::system_error where threads cannot be started, before any work.
    template <typename Work>
    void run(std::int64_t tasks, const Work& work) {
        run_erased(tasks, &work, [](const void* context, std::int64_t task, int thread) {
            (*static_cast<const Work*>(context))(task, thread);
        });
    }

  private:
    using Call = void (*)(const void*, std::int64_t, int);
    struct State;  // what the threads share; a fork's child leaves its parent's behind

    void run_erased(std::int64_t tasks, const void* context, Call call);
    void leave_behind();
    void start();
    void stop();

    int threads_;
    std::int64_t owner_ = 0;  // the process that started the threads
    std::shared_ptr<State> state_;
};

}  // namespace srgan_fast::engine
