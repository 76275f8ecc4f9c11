// Execution schedule for an image of one size, and its memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "engine/model.h"
#include "engine/pixels.h"
#include "engine/pool.h"
#include "engine/rows.h"

namespace srgan_fast::engine {

class Plan {
  public:
    // For an image whose sides are multiples of the model's unshuffle.
    Plan(const Model& model, std::int64_t height, std::int64_t width, int threads);
    Plan(const Plan&) = delete;
    Plan& operator=(const Plan&) = delete;

    std::int64_t height() const { return height_ * model_.unshuffle(); }
    std::int64_t width() const { return width_ * model_.unshuffle(); }
    std::int64_t bytes() const;

    // See Engine::run. The first run allocates the memory.
    bool run(const ImageIn& in, void* out, ThreadPool& pool, const Progress& progress);

    // See Engine::run_rows.
    bool run_rows(cpu::PixelType type, ThreadPool& pool, const ReadRows& read, const WriteRows& write);
    std::int64_t rows_bytes(cpu::PixelType type) const;

    // See Engine::layer_times.
    std::vector<LayerTime> layer_times() const;

  private:
    // A map and its readers, whose progress determines which rows are still needed.
    struct Map {
        struct Reader {
            const Extent* produces;
            std::int64_t radius;  // rows that it reads above and below
        };
        FeatureMap rows;
        std::int64_t pixel_bytes;
        bool whole_width;  // spans the whole image, not a panel
        std::vector<Reader> readers{};
    };
    struct Input {
        Map* map;
        std::int64_t shift;  // column of the map for column 0 of the layer's grid
    };
    // A layer restricted to some columns.
    struct Stage {
        const Layer* layer;
        std::vector<Input> inputs, residuals;
        Map* out;              // null for the tail, which writes pixels
        std::int64_t columns;  // computed columns of its grid
        std::int64_t first_column;
        double* seconds;       // accumulates its time
        std::int64_t lag = 0;  // rows that it is behind the first layer
    };
    // Executes the layers after the first enlargement for some columns of the image: there maps are so wide that whole
    // rows would not stay in cache from one layer to the next. Panels overlap by the columns that convolutions read
    // beyond their own.
    struct Panel {
        std::int64_t left, right;  // columns of the network's input
        std::vector<Stage> stages;
        Extent finished;         // rows of the last layer's grid whose pixels are written
        std::int64_t given = 0;  // rows consumed from the maps before
    };
    struct Span {
        std::int64_t begin = 0, end = 0;
    };
    struct Call;  // arguments of a run; without them the plan only counts memory

    struct ZeroRow {
        std::int64_t before, after;  // bytes before and after pixel 0
    };

    ZeroRow zero_row() const;
    RowPool& pool_for(std::int64_t width, std::int64_t pixel_bytes);
    Map& add_map(RowPool& pool, std::int64_t height, std::int64_t pixel_bytes, bool whole_width);
    void add_image_maps();
    Stage stage_of(std::size_t index, const std::vector<Input>& values, const Span& columns);
    void read_by(const Stage& stage, const Extent& produces);
    void add_panel(std::int64_t left, std::int64_t right, std::size_t split, const std::vector<Input>& values);
    std::size_t group_of(const Layer& layer);
    bool walk(Call* call);
    bool read_image(Call* call, std::int64_t until);
    std::int64_t reachable(const Stage& stage, std::int64_t given) const;
    void execute_stage(const Call* call, const Stage& stage, std::int64_t until);
    void head(const Call* call, const Stage& stage, std::int64_t first, std::int64_t rows);
    void convolve(const Call* call, const Stage& stage, std::int64_t first, std::int64_t rows);
    void advance(const Call* call, Panel& panel);
    void tail(const Call* call, Panel& panel, std::int64_t until);
    void write(const Call* call, Panel& panel);
    void release(Map& map);
    void release_inputs(const Stage& stage);
    void reset();
    void allocate();
    cpu::PixelSink sink_of(const Call& call, const Panel& panel) const;
    template <typename Arguments>
    void execute(const Call* call, const cpu::Kernel<Arguments>& kernel, const Arguments& arguments, double& seconds);

    const Model& model_;
    std::int64_t height_, width_;  // of the network's input
    int threads_;
    std::int64_t tile_ = 1;  // largest tile of any layer
    std::int64_t strip_rows_ = 0, thin_rows_ = 0;
    std::int64_t read_ahead_ = 0;  // rows that the image's readers read ahead
    std::int64_t most_rows_ = 0;   // most rows of the last layer's grid that a strip finishes
    std::int64_t lag_ = 0;         // delay in rows of the last layer of the image's size relative to the first
    std::vector<std::unique_ptr<RowPool>> pools_;
    std::vector<std::unique_ptr<Map>> maps_;
    Map *colours_ = nullptr, *features_ = nullptr;  // the image, for the head and skips, and for 3x3 layers
    std::vector<Stage> strip_;
    std::vector<std::unique_ptr<Panel>> panels_;
    // Layers of the same shape, whose times are summed.
    struct Group {
        std::string name;
        std::int64_t grid, layers;
        double multiply_adds;  // total for the image
    };
    std::vector<Group> groups_;
    std::vector<double> seconds_;  // time of each group in the last run

    // Row pointers of the kernel call being prepared.
    std::vector<std::vector<const void*>> in_rows_, residual_rows_;
    std::vector<cpu::InputMap> inputs_;
    std::vector<cpu::ResidualMap> residuals_;
    std::vector<void*> out_rows_, feature_rows_;

    Aligned<std::byte> memory_;
    std::byte* zeros_ = nullptr;
    std::byte* scratch_ = nullptr;
    std::int64_t scratch_stride_ = 0;  // bytes per thread
};

}  // namespace srgan_fast::engine
