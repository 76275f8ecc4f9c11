// The thread pool: every task once, with threads that spin, sleep, outnumber the processor, or belong to a fork's
// parent.
#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "engine/pool.h"
#include "tests/check.h"
#include "tests/fork.h"

namespace {

using srgan_fast::engine::ThreadPool;
using namespace srgan_fast::tests;

// Whether a call does every task once, never two at a time under one thread's number.
bool does_each_once(ThreadPool& pool, std::int64_t tasks) {
    std::vector<std::atomic<int>> done(tasks), working(pool.threads());
    std::atomic<bool> good{true};
    pool.run(tasks, [&](std::int64_t task, int thread) {
        if (task < 0 || task >= tasks || thread < 0 || thread >= pool.threads() || working[thread].exchange(1) != 0)
            good = false;
        else
            ++done[task];
        working[thread] = 0;
    });
    for (const std::atomic<int>& times : done) good = good && times == 1;
    return good;
}

std::string text(int threads, std::int64_t tasks) {
    return std::to_string(threads) + " threads, " + std::to_string(tasks) + " tasks";
}

void test_tasks(int threads) {
    ThreadPool pool(threads);
    check(pool.threads() == threads, text(threads, 0));
    for (const std::int64_t tasks : {0, 1, 2, 3, 7, 8, 9, 64, 1000})
        for (int i = 0; i < 3; ++i) check(does_each_once(pool, tasks), text(threads, tasks));
    // After a pause the threads sleep and have to be woken.
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    check(does_each_once(pool, 100), text(threads, 100) + ", after a pause");
}

// What one call writes the next one reads, from whichever thread: a race shows under the thread sanitizer, a task that
// comes too early or too late in the sums.
void test_short_calls(int threads, int calls) {
    ThreadPool pool(threads);
    constexpr std::int64_t kTasks = 5;
    std::int64_t from[kTasks] = {}, to[kTasks] = {};
    for (int call = 0; call < calls; ++call) {
        pool.run(kTasks, [&](std::int64_t task, int) { to[task] = from[(task + 1) % kTasks] + 1; });
        std::swap(from, to);
    }
    bool good = true;
    for (const std::int64_t count : from) good = good && count == calls;
    check(good, std::to_string(calls) + " short calls, " + text(threads, kTasks));
}

// Pauses about as long as the threads spin: calls meet threads that are just falling asleep.
void test_pauses(int threads, int calls) {
    ThreadPool pool(threads);
    Random random(7);
    std::atomic<int> done{0};
    for (int call = 0; call < calls; ++call) {
        std::this_thread::sleep_for(std::chrono::microseconds(below(150, random)));
        pool.run(threads, [&](std::int64_t, int) { ++done; });
    }
    check(done == calls * threads, "pauses between calls, " + text(threads, threads));
}

void test_lifetimes() {
    for (int threads = 1; threads <= 8; ++threads) {
        const ThreadPool unused(threads);
        ThreadPool used(threads);
        check(does_each_once(used, 10), text(threads, 10) + ", once");
    }
    // Pools of their own, used at the same time and within each other's tasks.
    std::vector<std::thread> callers;
    std::atomic<int> done{0};
    for (int i = 0; i < 3; ++i)
        callers.emplace_back([&] {
            ThreadPool outer(2);
            outer.run(4, [&](std::int64_t, int) {
                ThreadPool inner(3);
                inner.run(5, [&](std::int64_t, int) { ++done; });
            });
        });
    for (std::thread& caller : callers) caller.join();
    check(done == 3 * 4 * 5, "pools within pools");
}

#ifdef SRGAN_FAST_FORKS
void test_fork() {
    ThreadPool unused(3);
    ThreadPool used(3);
    does_each_once(used, 10);
    check(is_true_in_fork([&] { return does_each_once(used, 10) && does_each_once(unused, 10); }), "in a fork");
    check(is_true_in_fork([&] {
              return does_each_once(used, 10) && is_true_in_fork([&] { return does_each_once(used, 10); }) &&
                     does_each_once(used, 10);
          }),
          "in a fork of a fork");
    check(does_each_once(used, 10) && does_each_once(unused, 10), "after forks");

    // The child's new threads may take the places in memory of the parent's threads, which its other pools still know.
    auto first = std::make_unique<ThreadPool>(4), second = std::make_unique<ThreadPool>(4);
    auto third = std::make_unique<ThreadPool>(4);
    for (ThreadPool* pool : {first.get(), second.get(), third.get()}) does_each_once(*pool, 10);
    check(is_true_in_fork([&] {
              const bool good = does_each_once(*first, 10) && does_each_once(*second, 10);
              third.reset();  // never used here
              const bool still = does_each_once(*first, 10) && does_each_once(*second, 10);
              first.reset();
              second.reset();
              return good && still;
          }),
          "several pools in a fork, then destroyed");
}
#endif

}  // namespace

int main() {
    for (int threads = 1; threads <= 8; ++threads) test_tasks(threads);
    for (const int threads : {1, 2, 3, 8}) test_short_calls(threads, kSlow ? 1000 : 3000);
    for (const int threads : {2, 3, 8}) test_pauses(threads, kSlow ? 100 : 300);
    test_lifetimes();
#ifdef SRGAN_FAST_FORKS
    test_fork();
#endif
    return finish();
}
