// Turns of several threads at something that one of them may use at a time.
//
// A fork copies no thread but the one that calls it. Where another thread had its turn, a child would wait for it for
// ever, before something that stands half-changed. So in a child that turn is over, and the next thread learns of it.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>

namespace srgan_fast::engine {

class Turns {
  public:
    Turns();
    ~Turns();
    Turns(const Turns&) = delete;
    Turns& operator=(const Turns&) = delete;

    // Waits until no other thread has its turn. Throws std::logic_error where this very thread has it.
    void take();
    void give_back();

    // Whether the last turn was another thread's in the process that forked this one, and forgets it. To be asked by
    // whoever has the turn, or by nobody else's leave: the destructor of what it guards.
    bool cut_off();

  private:
    friend struct Registry;

    void forked();

    std::atomic<std::uint32_t> taken_{0};
    std::atomic<std::thread::id> holder_{};
    bool cut_off_ = false;
};

}  // namespace srgan_fast::engine
