#include "engine/engine.h"

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
    return plan_for(in.height, in.width).run(in, out, pool_, progress);
}

std::vector<LayerTime> Engine::layer_times() {
    const std::lock_guard lock(mutex_);
    return plan_ ? plan_->layer_times() : std::vector<LayerTime>{};
}

std::int64_t Engine::working_memory(std::int64_t height, std::int64_t width) {
    const std::lock_guard lock(mutex_);
    return plan_for(height, width).bytes();
}

}  // namespace srgan_fast::engine
