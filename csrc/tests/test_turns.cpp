// Turns: one thread at a time, none twice, and none that waits in a fork's child for a thread of its parent.
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <thread>
#include <vector>

#include "engine/turns.h"
#include "tests/check.h"
#include "tests/fork.h"

namespace {

using srgan_fast::engine::Turns;
using namespace srgan_fast::tests;

void test_exclusion() {
    Turns turns;
    std::int64_t count = 0;  // not atomic: the thread sanitizer sees two at once
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i)
        threads.emplace_back([&] {
            for (int j = 0; j < 2000; ++j) {
                turns.take();
                ++count;
                turns.give_back();
            }
        });
    for (std::thread& thread : threads) thread.join();
    check(count == 8000, "four threads taking turns");
    check(!turns.cut_off(), "no turn was cut off");
    turns.take();
    bool refused = false;
    try {
        turns.take();
    } catch (const std::logic_error&) {
        refused = true;
    }
    turns.give_back();
    check(refused, "a turn within a turn");
}

#ifdef SRGAN_FAST_FORKS
// Calls `work` while another thread has its turn.
template <typename Work>
void beside_a_holder(Turns& turns, const Work& work) {
    std::atomic<int> stage{0};
    std::thread holder([&] {
        turns.take();
        stage = 1;
        stage.notify_all();
        stage.wait(1);
        turns.give_back();
    });
    stage.wait(0);
    work();
    stage = 2;
    stage.notify_all();
    holder.join();
}

void test_fork() {
    Turns turns;
    auto unused = std::make_unique<Turns>();
    const auto takes = [&](bool cut_off) {
        turns.take();
        const bool as_expected = turns.cut_off() == cut_off && !turns.cut_off();
        turns.give_back();
        return as_expected;
    };
    check(is_true_in_fork([&] { return takes(false); }), "a fork while nobody has a turn");
    beside_a_holder(turns, [&] {
        check(is_true_in_fork([&] { return takes(true) && takes(false); }), "a fork beside a turn");
        check(is_true_in_fork([&] { return is_true_in_fork([&] { return takes(true); }) && takes(true); }),
              "a fork of a fork beside a turn");
        check(is_true_in_fork([&] {
                  unused.reset();
                  Turns fresh;
                  return takes(true);
              }),
              "turns that come and go in a fork");
    });
    check(takes(false), "after forks");
    turns.take();
    check(is_true_in_fork([&] {  // its own turn goes on, and others wait for it
              std::atomic<bool> taken{false};
              std::thread other([&] {
                  turns.take();
                  taken = true;
                  turns.give_back();
              });
              std::this_thread::sleep_for(std::chrono::milliseconds(20));
              const bool waited = !taken;
              turns.give_back();
              other.join();
              return waited && taken && takes(false);
          }),
          "a fork within a turn");
    turns.give_back();
}
#endif

}  // namespace

int main() {
    test_exclusion();
#ifdef SRGAN_FAST_FORKS
    test_fork();
#endif
    return finish();
}
