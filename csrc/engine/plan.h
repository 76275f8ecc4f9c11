// The order in which an image of one size is computed, and the memory for it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "engine/engine.h"
#include "engine/model.h"
#include "engine/pool.h"
#include "engine/rows.h"

namespace srgan_fast::engine {

class Plan {
   public:
    Plan(const Model& model, std::int64_t height, std::int64_t width, int threads);
    Plan(const Plan&) = delete;
    Plan& operator=(const Plan&) = delete;

    std::int64_t height() const { return height_; }
    std::int64_t width() const { return width_; }
    std::int64_t bytes() const;

    // See Engine::run. The first run takes the memory.
    bool run(const ImageIn& in, void* out, ThreadPool& pool, const Progress& progress);

    // See Engine::layer_times.
    std::vector<LayerTime> layer_times() const;

   private:
    // A map and the layers that read it: what they have produced tells which of its rows are still needed.
    struct Map {
        struct Reader {
            const FeatureMap* produces;
            std::int64_t radius;
        };
        FeatureMap rows;
        std::vector<Reader> readers;
    };
    // A 3x3 convolution between two maps; `residual` is added to its output.
    struct Stage {
        const Conv* conv;
        Map *in, *out, *residual;
        std::int64_t width;  // of the input
        bool shuffle;
        double seconds = 0.0;  // spent in the last run
    };
    struct Call;  // what one run is about; without memory it only counts

    RowPool& add_pool(std::int64_t width, std::int64_t channels);
    Map& add_map(RowPool& pool, std::int64_t height);
    void add_stage(std::vector<Stage>& stages, const Stage& stage);
    bool walk(const Call* call);
    void read_and_head(const Call* call, std::int64_t until);
    void convolve(const Call* call, Stage& stage, std::int64_t until);
    void upsample(const Call* call);
    void tail(const Call* call, std::int64_t until);
    void release(Map& map);
    void reset();
    void allocate();
    template <typename Arguments>
    void execute(const Call* call, const cpu::Kernel<Arguments>& kernel, const Arguments& arguments, double& seconds);

    const Model& model_;
    std::int64_t height_, width_;
    int threads_;
    std::int64_t strip_rows_ = 0, thin_rows_ = 0;
    std::vector<std::unique_ptr<RowPool>> pools_;
    std::vector<std::unique_ptr<Map>> maps_;
    Map *image_ = nullptr, *head_ = nullptr, *features_ = nullptr, *last_ = nullptr;
    std::vector<Stage> trunk_, upsample_;
    std::int64_t given_ = 0;      // rows of the trunk's result that were given to the first upsampling stage
    double head_seconds_ = 0.0, tail_seconds_ = 0.0;
    std::int64_t tail_rows_ = 0;  // finished rows of the tail, at half the final resolution

    // Row tables of the call that is being prepared.
    std::vector<const float*> in_rows_, residual_rows_;
    std::vector<float*> out_rows_;

    Aligned<std::byte> memory_;
    float* zeros_ = nullptr;
    std::byte* scratch_ = nullptr;
    std::int64_t scratch_stride_ = 0;  // bytes for each thread
};

}  // namespace srgan_fast::engine
