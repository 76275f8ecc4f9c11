#include "engine/turns.h"

#include <mutex>
#include <set>
#include <stdexcept>
#include <utility>

#include "platform/system.h"

namespace srgan_fast::engine {

// All that there are, for a child to go through.
struct Registry {
    std::mutex mutex;
    std::set<Turns*> all;

    // Never destroyed: an engine that Python forgets to free is freed after everything else.
    static Registry& get() {
        static Registry& registry = *new Registry;
        return registry;
    }

    static void before() { get().mutex.lock(); }
    static void in_parent() { get().mutex.unlock(); }
    static void in_child() {
        for (Turns* const turns : get().all) turns->forked();
        get().mutex.unlock();
    }
};

namespace {

// When the library is loaded, so that no thread can be about to do it when another one forks.
const bool kFollowsForks = platform::follow_forks(Registry::before, Registry::in_parent, Registry::in_child);

}  // namespace

Turns::Turns() {
    if (!kFollowsForks) throw std::runtime_error("no handlers for forks can be registered: memory ran out");
    Registry& registry = Registry::get();
    const std::lock_guard lock(registry.mutex);
    registry.all.insert(this);
}

Turns::~Turns() {
    Registry& registry = Registry::get();
    const std::lock_guard lock(registry.mutex);
    registry.all.erase(this);
}

void Turns::take() {
    if (holder_ == std::this_thread::get_id())
        throw std::logic_error("an engine cannot be used by what its own run reports progress to");
    while (taken_.exchange(1, std::memory_order_acquire) != 0) taken_.wait(1, std::memory_order_relaxed);
    holder_ = std::this_thread::get_id();
}

void Turns::give_back() {
    holder_ = std::thread::id();
    taken_.store(0, std::memory_order_release);
    taken_.notify_one();
}

bool Turns::cut_off() { return std::exchange(cut_off_, false); }

// In the only thread that there is. If the turn is its own, as in a function that a run calls, it goes on with it.
void Turns::forked() {
    if (taken_ == 0 || holder_ == std::this_thread::get_id()) return;
    holder_ = std::thread::id();
    taken_ = 0;
    cut_off_ = true;
}

}  // namespace srgan_fast::engine
