#include "engine/engine.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <stdexcept>
#include <string>

#include "engine/plan.h"

namespace srgan_fast::engine {

namespace {

int checked_threads(int threads) {
    if (threads < 1) throw std::invalid_argument("threads is " + std::to_string(threads) + "; it must be at least 1");
    return threads;
}

}  // namespace

Engine::Engine(const PlainGenerator& generator, Precision precision, cpu::Isa isa, int threads)
    : model_(generator, precision, isa), pool_(checked_threads(threads)) {}

Engine::~Engine() = default;

Plan& Engine::plan_for(std::int64_t height, std::int64_t width) {
    if (!plan_ || plan_->height() != height || plan_->width() != width) {
        plan_.reset();  // its memory goes before the next one's comes
        plan_ = std::make_unique<Plan>(model_, height, width, pool_.threads());
    }
    return *plan_;
}

bool Engine::run(const ImageIn& in, void* out, const Progress& progress) {
    const std::lock_guard lock(mutex_);
    try {
        return plan_for(in.height, in.width).run(in, out, pool_, progress);
    } catch (...) {
        plan_.reset();  // it stands somewhere in the middle of the image
        throw;
    }
}

std::vector<LayerTime> Engine::layer_times() {
    const std::lock_guard lock(mutex_);
    return plan_ ? plan_->layer_times() : std::vector<LayerTime>{};
}

double Engine::peak() {
    constexpr std::int64_t kRepeats = std::int64_t{1} << 22;  // some 10 ms
    const std::lock_guard lock(mutex_);
    const auto once = [this] {
        std::atomic<std::int64_t> done{0};
        const auto began = std::chrono::steady_clock::now();
        pool_.run(pool_.threads(), [&](std::int64_t, int) { done += model_.kernels().multiply_adds(kRepeats); });
        const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
        return static_cast<double>(done) / took.count();
    };
    double best = 0.0;
    for (int i = 0; i < 10; ++i) best = std::max(best, once());
    return best;
}

std::int64_t Engine::working_memory(std::int64_t height, std::int64_t width) {
    const std::lock_guard lock(mutex_);
    return plan_for(height, width).bytes();
}

}  // namespace srgan_fast::engine
