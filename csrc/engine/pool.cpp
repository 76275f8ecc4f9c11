#include "engine/pool.h"

#include <atomic>
#include <new>
#include <thread>
#include <vector>

#include "platform/processor.h"
#include "platform/system.h"

namespace srgan_fast::engine {

namespace {

// About 50 microseconds: longer than the pause between two layers, shorter than anybody notices.
constexpr int kSpins = 4000;

// Waits until the value is another one than `old`, and returns it.
std::uint32_t await_change(const std::atomic<std::uint32_t>& value, std::uint32_t old) {
    for (int i = 0; i < kSpins; ++i) {
        const std::uint32_t now = value.load(std::memory_order_acquire);
        if (now != old) return now;
        platform::pause();
    }
    value.wait(old, std::memory_order_acquire);
    return value.load(std::memory_order_acquire);
}

}  // namespace

struct ThreadPool::State {
    // The current call; written before `call_number` is, read after.
    std::int64_t tasks = 0;
    const void* context = nullptr;
    Call call = nullptr;
    bool stop = false;
    // Each thread has a share of the tasks, and takes from the others' when its own is done.
    struct alignas(64) Share {
        std::atomic<std::int64_t> next{0};
    };
    std::vector<Share> shares;
    alignas(64) std::atomic<std::uint32_t> call_number{0};
    alignas(64) std::atomic<std::uint32_t> busy{0};  // threads that have not finished the current call

    // Their owners, too: in a fork's child, where these threads do not exist, the state outlives the pool, and nobody
    // touches the handles. New threads may have taken their places in memory, and would be the ones detached or joined.
    std::vector<std::thread> workers;

    explicit State(int threads) : shares(threads) {}

    std::int64_t share_begin(std::int64_t share) const {
        return tasks * share / static_cast<std::int64_t>(shares.size());
    }

    void work(int thread) {
        const auto count = static_cast<int>(shares.size());
        for (int i = 0; i < count; ++i) {
            const int share = (thread + i) % count;
            const std::int64_t end = share_begin(share + 1);
            for (;;) {
                const std::int64_t task = shares[share].next.fetch_add(1, std::memory_order_relaxed);
                if (task >= end) break;
                call(context, task, thread);
            }
        }
    }

    void serve(int thread) {
        for (std::uint32_t seen = 0;;) {
            seen = await_change(call_number, seen);
            if (stop) return;
            work(thread);
            if (busy.fetch_sub(1, std::memory_order_acq_rel) == 1) busy.notify_one();
        }
    }
};

ThreadPool::ThreadPool(int threads) : threads_(threads) {}

ThreadPool::~ThreadPool() {
    leave_behind();
    if (state_) stop();
}

// In a fork's child: another thread may have been about to start these, so that even the pointer can be half-written.
void ThreadPool::leave_behind() {
    if (owner_ != platform::process_id()) new (&state_) std::shared_ptr<State>();
}

void ThreadPool::start() {
    owner_ = platform::process_id();
    state_ = std::make_shared<State>(threads_);
    try {
        for (int i = 1; i < threads_; ++i) state_->workers.emplace_back([state = state_, i] { state->serve(i); });
    } catch (...) {  // no more threads to be had: a later call tries again
        stop();
        throw;
    }
}

void ThreadPool::stop() {
    state_->stop = true;
    state_->call_number.fetch_add(1, std::memory_order_release);
    state_->call_number.notify_all();
    for (std::thread& worker : state_->workers) worker.join();
    state_.reset();
}

void ThreadPool::run_erased(std::int64_t tasks, const void* context, Call call) {
    if (threads_ == 1 || tasks <= 1) {
        for (std::int64_t task = 0; task < tasks; ++task) call(context, task, 0);
        return;
    }
    leave_behind();
    if (!state_) start();
    State& state = *state_;
    state.tasks = tasks;
    state.context = context;
    state.call = call;
    for (std::size_t i = 0; i < state.shares.size(); ++i)
        state.shares[i].next.store(state.share_begin(static_cast<std::int64_t>(i)), std::memory_order_relaxed);
    state.busy.store(static_cast<std::uint32_t>(threads_ - 1), std::memory_order_relaxed);
    state.call_number.fetch_add(1, std::memory_order_release);
    state.call_number.notify_all();
    state.work(0);
    for (std::uint32_t busy = state.busy.load(std::memory_order_acquire); busy != 0;)
        busy = await_change(state.busy, busy);
}

}  // namespace srgan_fast::engine
