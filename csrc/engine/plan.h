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
        std::int64_t columns;   // that are computed, before a shuffle
        std::int64_t in_shift;  // column of `in` that belongs to column 0 of `out`
        bool shuffle;
        double* seconds;  // where its time is counted

        std::int64_t factor() const { return shuffle ? 2 : 1; }
    };
    // What comes behind the trunk, for some columns of the image: there the maps are so wide that whole rows of them
    // would not stay in cache from one layer to the next. Panels overlap by the few columns that layers look aside.
    struct Panel {
        std::int64_t left, right;  // columns of the image
        std::vector<Stage> stages;
        Map* last;                   // input of the tail, before its shuffle
        std::int64_t tail_shift;     // column of `last` that belongs to the panel's first
        std::int64_t given = 0;      // rows of the trunk's result that were taken
        std::int64_t tail_rows = 0;  // finished rows of the tail, in rows of `last`
    };
    struct Call;  // what one run is about; without memory it only counts

    struct ZeroRow {
        std::int64_t before, behind;  // bytes before pixel 0 and from there on
    };

    ZeroRow zero_row() const;
    std::int64_t pixel_bytes(std::int64_t channels) const { return channels * model_.kernels().element; }
    RowPool& pool_for(std::int64_t width, std::int64_t channels);
    Map& add_map(RowPool& pool, std::int64_t height);
    void add_stage(std::vector<Stage>& stages, const Stage& stage);
    void add_panel(std::int64_t left, std::int64_t right);
    bool walk(const Call* call);
    void read_and_head(const Call* call, std::int64_t until);
    void convolve(const Call* call, const Stage& stage, std::int64_t until);
    void upsample(const Call* call, Panel& panel);
    void tail(const Call* call, Panel& panel, std::int64_t until);
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
    Map *image_ = nullptr, *head_ = nullptr, *features_ = nullptr;
    std::vector<Stage> trunk_;
    std::vector<Panel> panels_;
    // Of the last run: head, trunk, upsampling stages, tail.
    std::vector<double> seconds_;

    // Row tables of the call that is being prepared.
    std::vector<const void*> in_rows_, residual_rows_;
    std::vector<void*> out_rows_;

    Aligned<std::byte> memory_;
    std::byte* zeros_ = nullptr;
    std::byte* scratch_ = nullptr;
    std::int64_t scratch_stride_ = 0;  // bytes for each thread
};

}  // namespace srgan_fast::engine
