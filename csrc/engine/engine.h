// A network, run depth first.
//
// A strip of the image's rows goes through all layers of the image's size before the next is read; each layer keeps the
// few rows that its readers will look back at. Nothing is computed twice, as with overlapping tiles, the working set
// stays in cache, and memory grows with the width of the image alone. After that, where pixels multiply, strips are
// thinner still and cut into panels of columns, which overlap by a few.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "engine/model.h"
#include "engine/pixels.h"
#include "engine/pool.h"

namespace srgan_fast::engine {

// What the layers of one shape took in a run.
struct LayerTime {
    std::string layer;
    double seconds;
    double multiply_adds;  // of the direct convolution
};

// Called after every strip with the number of finished output rows; returning false ends the run.
using Progress = std::function<bool(std::int64_t rows)>;

// Gives rows first .. first + rows of an image, dense; each is asked for once, from top to bottom. Null ends the run.
using ReadRows = std::function<const void*(std::int64_t first, std::int64_t rows)>;

// Takes rows of the result, from top to bottom, dense; they are overwritten after the call. False ends the run.
using WriteRows = std::function<bool(const void* pixels, std::int64_t first, std::int64_t rows)>;

class Plan;

class Engine {
  public:
    // Throws std::invalid_argument where `threads` is not positive, and whatever Model's constructor throws.
    Engine(const Network& network, Precision precision, cpu::Isa isa, int threads);
    // Another engine with threads of its own, for the same network: the packed weights are shared, and live as long as
    // one of the engines does. Throws std::invalid_argument where `threads` is not positive.
    Engine(const Engine& other, int threads);
    ~Engine();

    // Upscales one image into `out`, which holds scale * height rows of the same type and layout. Several threads may
    // call; they take turns. Returns false where progress ended the run.
    // Throws std::bad_alloc where there is not enough memory, std::system_error where threads cannot be started, and
    // what progress throws, std::logic_error where progress itself uses the engine; the engine can be used on.
    bool run(const ImageIn& in, void* out, const Progress& progress = {});

    // The same for an image of which only some rows are there at a time. Neither function may use the engine.
    // Throws as `run` does, std::invalid_argument for floats, and what the functions throw.
    bool run_rows(cpu::PixelType type, std::int64_t height, std::int64_t width, const ReadRows& read,
                  const WriteRows& write);

    // Bytes of working memory that an image of that size takes.
    std::int64_t working_memory(std::int64_t height, std::int64_t width);

    // Bytes that `run_rows` takes besides, for the rows of the result that a strip finishes.
    std::int64_t rows_memory(cpu::PixelType type, std::int64_t height, std::int64_t width);

    // Of the last finished run, in the order of use; empty before the first.
    std::vector<LayerTime> layer_times();

    // fp32 multiply-adds a second that the engine's threads reach together when they do nothing else for a while.
    double peak();

    const Model& model() const { return *model_; }
    int threads() const { return pool_.threads(); }

  private:
    class Turn;  // of one thread

    Plan& plan_for(std::int64_t height, std::int64_t width);
    template <typename Run>
    bool planned(std::int64_t height, std::int64_t width, const Run& run);

    ThreadPool pool_;
    std::shared_ptr<const Model> model_;
    std::mutex mutex_;
    std::atomic<std::thread::id> holder_{};
    std::vector<LayerTime> layer_times_;
    std::unique_ptr<Plan> plan_;  // of the last image's size, with its memory: pictures often come in series
};

}  // namespace srgan_fast::engine
