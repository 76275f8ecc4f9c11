#include "engine/engine.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <stdexcept>
#include <string>

#include "engine/plan.h"

namespace srgan_fast::engine {

namespace {

constexpr int kMaxThreads = 1024;

int checked_threads(int threads) {
    if (threads < 1 || threads > kMaxThreads)
        throw std::invalid_argument("threads is " + std::to_string(threads) + "; it must lie between 1 and " +
                                    std::to_string(kMaxThreads));
    return threads;
}

}  // namespace

// Waits for the engine to be free, unless it is this very thread that keeps it busy.
class Engine::Turn {
  public:
    explicit Turn(Engine& engine) : engine_(engine) {
        if (engine.holder_ == std::this_thread::get_id())
            throw std::logic_error("an engine cannot be used by what its own run reports progress to");
        engine.mutex_.lock();
        engine.holder_ = std::this_thread::get_id();
    }
    ~Turn() {
        engine_.holder_ = std::thread::id();
        engine_.mutex_.unlock();
    }
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

  private:
    Engine& engine_;
};

Engine::Engine(const Network& network, Precision precision, cpu::Isa isa, int threads)
    : pool_(checked_threads(threads)), model_(std::make_shared<const Model>(network, precision, isa, pool_)) {}

Engine::Engine(const Engine& other, int threads) : pool_(checked_threads(threads)), model_(other.model_) {}

Engine::~Engine() = default;

Plan& Engine::plan_for(std::int64_t height, std::int64_t width) {
    const std::int64_t step = model_->unshuffle();
    if (height % step != 0 || width % step != 0)
        throw std::invalid_argument("the sides of an image must be multiples of " + std::to_string(step) + ", got " +
                                    std::to_string(height) + " x " + std::to_string(width));
    if (!plan_ || plan_->height() != height || plan_->width() != width) {
        plan_.reset();  // its memory goes before the next one's comes
        plan_ = std::make_unique<Plan>(*model_, height, width, pool_.threads());
    }
    return *plan_;
}

template <typename Run>
bool Engine::planned(std::int64_t height, std::int64_t width, const Run& run) {
    const Turn turn(*this);
    try {
        Plan& plan = plan_for(height, width);
        const bool finished = run(plan);
        if (finished) layer_times_ = plan.layer_times();
        return finished;
    } catch (...) {
        plan_.reset();  // it stands somewhere in the middle of the image
        throw;
    }
}

bool Engine::run(const ImageIn& in, void* out, const Progress& progress) {
    return planned(in.height, in.width, [&](Plan& plan) { return plan.run(in, out, pool_, progress); });
}

bool Engine::run_rows(cpu::PixelType type, std::int64_t height, std::int64_t width, const ReadRows& read,
                      const WriteRows& write) {
    if (type == cpu::PixelType::kFloat) throw std::invalid_argument("rows must be integers");
    return planned(height, width, [&](Plan& plan) { return plan.run_rows(type, pool_, read, write); });
}

std::vector<LayerTime> Engine::layer_times() {
    const Turn turn(*this);
    return layer_times_;
}

double Engine::peak() {
    constexpr std::int64_t kRepeats = std::int64_t{1} << 22;  // some 10 ms
    const Turn turn(*this);
    const auto once = [this] {
        std::atomic<std::int64_t> done{0};
        const auto began = std::chrono::steady_clock::now();
        pool_.run(pool_.threads(), [&](std::int64_t, int) { done += model_->level().multiply_adds(kRepeats); });
        const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
        return static_cast<double>(done) / took.count();
    };
    double best = 0.0;
    for (int i = 0; i < 10; ++i) best = std::max(best, once());
    return best;
}

std::int64_t Engine::rows_memory(cpu::PixelType type, std::int64_t height, std::int64_t width) {
    const Turn turn(*this);
    return plan_for(height, width).rows_bytes(type);
}

std::int64_t Engine::working_memory(std::int64_t height, std::int64_t width) {
    const Turn turn(*this);
    return plan_for(height, width).bytes();
}

}  // namespace srgan_fast::engine
