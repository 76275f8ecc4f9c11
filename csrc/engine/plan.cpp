#include "engine/plan.h"

#include <algorithm>
#include <chrono>
#include <cstring>

namespace srgan_fast::engine {
namespace {

// Zero pixels on both sides of the image rows that the head reads.
constexpr std::int64_t kColoursPads = 4;

// Bytes of a map per strip. Larger strips read each layer's weights (590 KB at 64 channels) less often and leave fewer
// partial Winograd tiles; smaller ones stay in caches closer to the core. Measured on Zen 5 with 1 MB of L2 cache for
// each of 2 cores: 128 columns of 64 channels are fastest with 32 to 64 rows, 1024 columns with 8.
constexpr std::int64_t kStripBytes = 5 << 19;
// Width of a panel, counted in a map of 256 channels, and its rows per step: with the 4 rows that the tail reads again,
// they take 3 MB.
constexpr std::int64_t kPanelColumns = 256, kPanelChannels = 256, kPanelRows = 8;
// Panels begin at multiples of this.
constexpr std::int64_t kPanelStep = 4;

std::int64_t rounded_up(std::int64_t value, std::int64_t step) { return (value + step - 1) / step * step; }

// Pointers to rows of a map from `first` on, offset by `bytes` from the first pixel; rows outside read as zeros.
template <typename Pointer>
void fill_rows(std::vector<Pointer>& table, const FeatureMap& map, std::int64_t first, std::int64_t count,
               std::byte* zeros, std::int64_t shift = 0) {
    table.resize(count);
    if (!zeros) return;  // only counting: no rows are allocated yet
    for (std::int64_t i = 0; i < count; ++i) {
        std::byte* const row = map.row(first + i, zeros);
        table[i] = row == zeros ? zeros : row + shift;
    }
}

}  // namespace

struct Plan::Call {
    ImageIn in;
    void* out;
    ThreadPool& pool;
    const Progress& progress;
    const ReadRows& read;        // for an image that is read in rows
    const WriteRows& write;      // for a result that is written in rows
    std::int64_t out_first = 0;  // row of the last layer's grid at which `out` begins
};

Plan::Plan(const Model& model, std::int64_t height, std::int64_t width, int threads)
    : model_(model), height_(height / model.unshuffle()), width_(width / model.unshuffle()), threads_(threads) {
    const std::vector<Layer>& layers = model.layers();
    for (const Layer& layer : layers) {
        Group& group = groups_[group_of(layer)];
        ++group.layers;
        group.multiply_adds += layer.multiply_adds * static_cast<double>(height_ * width_ * layer.grid * layer.grid);
        if (layer.kind == LayerKind::kConv3x3) tile_ = std::max(tile_, layer.kernel->tile);
    }
    seconds_.resize(groups_.size());
    add_image_maps();
    std::size_t split = 0;
    while (split + 1 < layers.size() && !layers[split].upsamples) ++split;
    // Maps of the values, by index; the layer that reads the image chooses between its two maps.
    std::vector<Input> values{{features_, 0}};
    std::vector<std::int64_t> lags{0};
    const std::int64_t element = model.kernels().element;
    std::int64_t widest = cpu::kAlignment;  // bytes of a row
    for (const auto& pool : pools_) widest = std::max(widest, pool->row_bytes());
    for (std::size_t i = 0; i < split; ++i) {
        const std::int64_t pixel = element * layers[i].out_channels;
        RowPool& pool = pool_for(width_, pixel);
        values.push_back({&add_map(pool, height_, pixel, true), 0});
        widest = std::max(widest, pool.row_bytes());
        Stage stage = stage_of(i, values, {0, width_});
        stage.out = values.back().map;
        std::int64_t lag = 0;
        for (const std::int64_t value : layers[i].inputs) {
            if (value == 0)
                read_ahead_ = std::max(read_ahead_, layers[i].radius());
            else
                lag = std::max(lag, lags[value] + layers[i].radius());
        }
        for (const Residual& residual : layers[i].residuals) lag = std::max(lag, lags[residual.value]);
        lags.push_back(stage.lag = lag);
        lag_ = std::max(lag_, lag);
        read_by(stage, stage.out->rows);
        strip_.push_back(std::move(stage));
    }

    // Columns of a panel in the widest map after the split, if it had `kPanelChannels` channels.
    std::int64_t panel_width = 0;
    for (std::size_t i = split; i < layers.size(); ++i)
        panel_width = std::max(panel_width, layers[i].grid * layers[i].out_channels / layers[i].shuffle * width_);
    const std::int64_t panels = std::max<std::int64_t>(
        1, (panel_width + kPanelColumns * kPanelChannels - 1) / (kPanelColumns * kPanelChannels));
    for (std::int64_t i = 0; i < panels; ++i)
        add_panel(width_ * i / panels / kPanelStep * kPanelStep,
                  i + 1 == panels ? width_ : width_ * (i + 1) / panels / kPanelStep * kPanelStep, split, values);

    strip_rows_ = std::max(tile_, kStripBytes / widest / tile_ * tile_);
    // If the last layer is the only one after the split, it reads the rows that a strip left.
    thin_rows_ =
        split + 1 == layers.size() ? strip_rows_ : std::max(tile_, kPanelRows / layers.back().grid / tile_ * tile_);
    // Once started, the schedule repeats from strip to strip, so an image with as many rows after its last whole strip
    // needs the same memory at any greater height.
    const std::int64_t enough = lag_ + 8 * strip_rows_;
    if (height_ > enough + strip_rows_) {
        const std::int64_t lower = height_ - (height_ - enough) / strip_rows_ * strip_rows_;
        const Plan plan(model, lower * model.unshuffle(), width, threads_);
        for (std::size_t i = 0; i < pools_.size(); ++i) pools_[i]->reserve(plan.pools_[i]->rows());
        scratch_stride_ = plan.scratch_stride_;
        most_rows_ = plan.most_rows_;
    } else {
        walk(nullptr);
    }
}

std::size_t Plan::group_of(const Layer& layer) {
    std::int64_t in = 0;
    for (const std::int64_t value : layer.inputs) in += model_.values()[value].channels;
    const bool head = layer.kind == LayerKind::kHead9x9, tail = layer.kind == LayerKind::kTail9x9;
    const std::string name = std::string(head || tail ? "9x9" : "3x3") + ", " + std::to_string(head ? 3 : in) + " to " +
                             std::to_string(tail ? 3 : layer.out_channels);
    for (std::size_t i = 0; i < groups_.size(); ++i)
        if (groups_[i].name == name && groups_[i].grid == layer.grid) return i;
    groups_.push_back({name, layer.grid, 0, 0.0});
    return groups_.size() - 1;
}

RowPool& Plan::pool_for(std::int64_t width, std::int64_t pixel_bytes) {
    for (const auto& pool : pools_)
        if (pool->fits(width, pixel_bytes)) return *pool;
    const std::int64_t pixels = cpu::kLeftPad + width + model_.kernels().right_pad;
    pools_.push_back(std::make_unique<RowPool>(rounded_up(pixels * pixel_bytes, cpu::kAlignment), width, pixel_bytes,
                                               cpu::kLeftPad));
    return *pools_.back();
}

Plan::Map& Plan::add_map(RowPool& pool, std::int64_t height, std::int64_t pixel_bytes, bool whole_width) {
    maps_.push_back(std::make_unique<Map>(Map{FeatureMap(pool, height), pixel_bytes, whole_width}));
    return *maps_.back();
}

void Plan::add_image_maps() {
    bool colours = model_.skip != Skip::kNone, features = false;
    for (const Layer& layer : model_.layers())
        if (std::ranges::count(layer.inputs, 0) > 0) (layer.kind == LayerKind::kHead9x9 ? colours : features) = true;
    if (colours) {
        const std::int64_t pixel = model_.channels() * static_cast<std::int64_t>(sizeof(float));
        pools_.push_back(std::make_unique<RowPool>(rounded_up((width_ + 2 * kColoursPads) * pixel, cpu::kAlignment),
                                                   width_, pixel, kColoursPads));
        colours_ = &add_map(*pools_.back(), height_, pixel, true);
    }
    if (features) {
        const std::int64_t pixel = model_.values()[0].channels * model_.kernels().element;
        features_ = &add_map(pool_for(width_, pixel), height_, pixel, true);
    }
}

// A layer restricted to a span of columns of its grid, without its result.
Plan::Stage Plan::stage_of(std::size_t index, const std::vector<Input>& values, const Span& columns) {
    const Layer& layer = model_.layers()[index];
    Stage stage{&layer, {}, {}, nullptr, columns.end - columns.begin, columns.begin, &seconds_[group_of(layer)]};
    // `shift` of a value is the column of its grid at which its map begins.
    for (const std::int64_t value : layer.inputs) {
        const bool head = layer.kind == LayerKind::kHead9x9;
        stage.inputs.push_back({head ? colours_ : values[value].map, columns.begin - values[value].shift});
    }
    for (const Residual& residual : layer.residuals)
        stage.residuals.push_back({values[residual.value].map, columns.begin - values[residual.value].shift});
    return stage;
}

void Plan::read_by(const Stage& stage, const Extent& produces) {
    for (const Input& input : stage.inputs) input.map->readers.push_back({&produces, stage.layer->radius()});
    for (const Input& residual : stage.residuals) residual.map->readers.push_back({&produces, 0});
}

void Plan::add_panel(std::int64_t left, std::int64_t right, std::size_t split, const std::vector<Input>& outside) {
    const std::vector<Layer>& layers = model_.layers();
    const Layer& last = layers.back();
    // From the last layer backwards: the columns of its grid that each layer must compute, in whole tiles except at the
    // image's border, since tiles must read zeros beyond it.
    std::vector<Span> needed(layers.size() + 1), spans(layers.size());
    const auto need = [&](std::int64_t value, std::int64_t begin, std::int64_t end) {
        Span& span = needed[value];
        span = span.end == 0 ? Span{begin, end} : Span{std::min(span.begin, begin), std::max(span.end, end)};
    };
    for (std::size_t i = layers.size(); i-- > split;) {
        const Layer& layer = layers[i];
        const std::int64_t width = width_ * layer.grid, factor = layer.shuffle;
        const bool is_last = i + 1 == layers.size();
        const Span wanted = is_last ? Span{left * last.grid, right * last.grid} : needed[i + 1];
        if (layer.kind == LayerKind::kTail9x9) {
            spans[i] = wanted;
        } else {
            spans[i].begin = std::max<std::int64_t>(0, wanted.begin) / factor;
            const std::int64_t end = (std::min(wanted.end, width * factor) + factor - 1) / factor;
            spans[i].end = std::min(width, spans[i].begin + rounded_up(end - spans[i].begin, layer.kernel->tile));
        }
        for (const std::int64_t value : layer.inputs)
            need(value, spans[i].begin - layer.radius(), spans[i].end + layer.radius());
        for (const Residual& residual : layer.residuals) need(residual.value, spans[i].begin, spans[i].end);
    }
    panels_.push_back(std::make_unique<Panel>(Panel{left, right, {}, Extent(height_ * last.grid)}));
    Panel& panel = *panels_.back();
    std::vector<Input> values = outside;
    for (std::size_t i = split; i < layers.size(); ++i) {
        const Layer& layer = layers[i];
        Stage stage = stage_of(i, values, spans[i]);
        if (layer.kind == LayerKind::kTail9x9) {
            read_by(stage, panel.finished);
        } else {
            const bool is_last = i + 1 == layers.size();
            const std::int64_t factor = layer.shuffle;
            const std::int64_t pixel = layer.out_channels / (factor * factor) *
                                       (is_last ? static_cast<std::int64_t>(sizeof(float)) : model_.kernels().element);
            stage.out = &add_map(pool_for(factor * stage.columns, pixel), height_ * layer.grid * factor, pixel, false);
            values.push_back({stage.out, factor * spans[i].begin});
            read_by(stage, stage.out->rows);
            if (is_last) stage.out->readers.push_back({&panel.finished, 0});
        }
        panel.stages.push_back(std::move(stage));
    }
    if (model_.skip != Skip::kNone) colours_->readers.push_back({&panel.finished, 1});
}

// A row of zeros for rows outside a map: from the widest left padding to the farthest right end.
Plan::ZeroRow Plan::zero_row() const {
    ZeroRow row{0, 0};
    for (const auto& pool : pools_) {
        row.before = std::max(row.before, rounded_up(pool->offset(), cpu::kAlignment));
        row.after = std::max(row.after, rounded_up(pool->row_bytes() - pool->offset(), cpu::kAlignment));
    }
    return row;
}

std::int64_t Plan::bytes() const {
    const ZeroRow zeros = zero_row();
    std::int64_t sum = zeros.before + zeros.after + threads_ * scratch_stride_;
    for (const auto& pool : pools_) sum += pool->bytes();
    return sum;
}

void Plan::allocate() {
    memory_ = Aligned<std::byte>(bytes());
    const ZeroRow zeros = zero_row();
    std::byte* next = memory_.data();
    std::memset(next, 0, zeros.before + zeros.after);
    zeros_ = next + zeros.before;
    next += zeros.before + zeros.after;
    for (const auto& pool : pools_) {
        pool->place(next);
        pool->clear_pads();
        next += pool->bytes();
    }
    scratch_ = next;
}

void Plan::reset() {
    for (const auto& map : maps_) map->rows.reset();
    for (const auto& panel : panels_) {
        panel->given = 0;
        panel->finished.set_end(0);
    }
}

bool Plan::run(const ImageIn& in, void* out, ThreadPool& pool, const Progress& progress) {
    if (!memory_.size()) allocate();
    Call call{in, out, pool, progress, {}, {}};
    std::ranges::fill(seconds_, 0.0);
    return walk(&call);
}

std::int64_t Plan::rows_bytes(cpu::PixelType type) const {
    const std::int64_t item = type == cpu::PixelType::kUint8 ? 1 : 2;
    return most_rows_ * model_.output_shuffle() * width_ * model_.output_grid() * model_.channels() * item;
}

bool Plan::run_rows(cpu::PixelType type, ThreadPool& pool, const ReadRows& read, const WriteRows& write) {
    if (!memory_.size()) allocate();
    Aligned<std::byte> out(rows_bytes(type));
    Call call{{type, nullptr, height(), width()}, out.data(), pool, {}, read, write};
    std::ranges::fill(seconds_, 0.0);
    return walk(&call);
}

// Executes the schedule; without a call, only simulates it to find the memory that it needs.
bool Plan::walk(Call* call) {
    // Images of hardly more than one strip are computed as one, without the partial rows at strip boundaries.
    std::int64_t until = height_ <= strip_rows_ * 3 / 2 ? height_ + lag_ : strip_rows_;
    bool going = true;
    const Panel& last = *panels_.back();
    for (; going && !last.finished.complete(); until += strip_rows_) {
        const std::int64_t before = last.finished.end(), shuffle = model_.output_shuffle();
        going = read_image(call, until);
        if (!going) break;
        for (const Stage& stage : strip_) {
            // After the image's last row layers could finish at once; in strips, as before, maps need no more memory.
            // What fills less than half a strip is not left over.
            std::int64_t end = std::max<std::int64_t>(0, until - stage.lag);
            if (end + strip_rows_ / 2 >= height_) end = height_;
            execute_stage(call, stage, std::min(reachable(stage, height_), end));
        }
        for (const auto& panel : panels_) advance(call, *panel);
        const std::int64_t rows = last.finished.end() - before;
        most_rows_ = std::max(most_rows_, rows);
        if (call && call->progress) going = call->progress(last.finished.end() * shuffle);
        if (call && call->write && rows > 0) {
            going = call->write(call->out, before * shuffle, rows * shuffle);
            call->out_first = last.finished.end();
        }
    }
    reset();
    return going;
}

template <typename Arguments>
void Plan::execute(const Call* call, const cpu::Kernel<Arguments>& kernel, const Arguments& arguments,
                   double& seconds) {
    const std::int64_t tasks = kernel.tasks(arguments, threads_);
    const std::int64_t scratch = rounded_up(kernel.scratch(arguments, tasks), cpu::kAlignment);
    if (!call) {
        scratch_stride_ = std::max(scratch_stride_, scratch);
        return;
    }
    const auto began = std::chrono::steady_clock::now();
    call->pool.run(tasks, [&](std::int64_t task, int thread) {
        kernel.run(arguments, task, tasks, scratch_ + thread * scratch_stride_);
    });
    seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
}

// Reads as many rows as the first layers need for their rows below `until`; false if there are none left.
bool Plan::read_image(Call* call, std::int64_t until) {
    const std::int64_t ready = std::min(until + read_ahead_, height_);
    const std::int64_t read = (colours_ ? colours_ : features_)->rows.end(), rows = ready - read;
    if (rows <= 0) return true;
    if (call && call->read) {
        call->in.first = read * model_.unshuffle();
        call->in.data = call->read(call->in.first, rows * model_.unshuffle());
        if (!call->in.data) return false;
    }
    for (Map* const map : {colours_, features_})
        if (map) map->rows.grow(ready);
    if (colours_) fill_rows(out_rows_, colours_->rows, read, rows, zeros_);
    if (features_) fill_rows(feature_rows_, features_->rows, read, rows, zeros_);
    double seconds = 0.0;  // not attributed to a layer
    execute(call, kReadPixels,
            ReadPixels{call ? &call->in : nullptr, model_.channels(), model_.unshuffle(), &model_.input, read, rows,
                       width_, colours_ ? out_rows_.data() : nullptr, features_ ? feature_rows_.data() : nullptr,
                       model_.values()[0].channels, model_.kernels().element != sizeof(float)},
            seconds);
    return true;
}

// Number of rows of its grid that a stage can compute when `given` rows of its input maps are available.
std::int64_t Plan::reachable(const Stage& stage, std::int64_t given) const {
    std::int64_t rows = height_ * stage.layer->grid;
    const auto limit = [&](const Input& input, std::int64_t radius) {
        const FeatureMap& map = input.map->rows;
        const std::int64_t end = input.map->whole_width ? std::min(map.end(), given) : map.end();
        rows = std::min(rows, end == map.height() ? end : std::max<std::int64_t>(0, end - radius));
    };
    for (const Input& input : stage.inputs) limit(input, stage.layer->radius());
    for (const Input& residual : stage.residuals) limit(residual, 0);
    return rows;
}

void Plan::execute_stage(const Call* call, const Stage& stage, std::int64_t until) {
    FeatureMap& out = stage.out->rows;
    const std::int64_t factor = stage.layer->shuffle, first = out.end() / factor, rows = until - first;
    if (rows <= 0) return;
    out.grow(until * factor);
    fill_rows(out_rows_, out, first * factor, rows * factor, zeros_);
    if (stage.layer->kind == LayerKind::kHead9x9)
        head(call, stage, first, rows);
    else
        convolve(call, stage, first, rows);
    release_inputs(stage);
}

void Plan::head(const Call* call, const Stage& stage, std::int64_t first, std::int64_t rows) {
    const Layer& layer = *stage.layer;
    const std::int64_t radius = layer.radius();
    in_rows_.resize(std::max<std::size_t>(in_rows_.size(), 1));
    fill_rows(in_rows_[0], colours_->rows, first - radius, rows + 2 * radius + 1, zeros_);
    execute(call, model_.kernels().head,
            cpu::Conv9x9Head{rows, stage.columns, layer.out_channels, in_rows_[0].data(), out_rows_.data(),
                             layer.weights, layer.bias, layer.slope, threads_},
            *stage.seconds);
}

void Plan::convolve(const Call* call, const Stage& stage, std::int64_t first, std::int64_t rows) {
    const Layer& layer = *stage.layer;
    const std::int64_t radius = layer.radius();
    in_rows_.resize(std::max(in_rows_.size(), stage.inputs.size()));
    residual_rows_.resize(std::max(residual_rows_.size(), stage.residuals.size()));
    inputs_.clear();
    residuals_.clear();
    for (std::size_t i = 0; i < stage.inputs.size(); ++i) {
        const auto& [map, shift] = stage.inputs[i];
        fill_rows(in_rows_[i], map->rows, first - radius, rows + layer.kernel->tile + radius, zeros_,
                  shift * map->pixel_bytes);
        inputs_.push_back({in_rows_[i].data(), model_.values()[layer.inputs[i]].channels});
    }
    for (std::size_t i = 0; i < stage.residuals.size(); ++i) {
        const auto& [map, shift] = stage.residuals[i];
        fill_rows(residual_rows_[i], map->rows, first, rows, zeros_, shift * map->pixel_bytes);
        residuals_.push_back({residual_rows_[i].data(), layer.residuals[i].scale});
    }
    const bool last = &layer == &model_.layers().back();
    execute(
        call, *layer.kernel,
        cpu::Conv3x3{rows, stage.columns, layer.out_channels, inputs_.data(), static_cast<std::int64_t>(inputs_.size()),
                     out_rows_.data(), residuals_.data(), static_cast<std::int64_t>(residuals_.size()), layer.weights,
                     layer.bias, layer.slope, layer.shuffle, last, threads_},
        *stage.seconds);
}

void Plan::advance(const Call* call, Panel& panel) {
    std::int64_t ready = 0;
    for (const Stage& stage : panel.stages)
        for (const std::vector<Input>* from : {&stage.inputs, &stage.residuals})
            for (const Input& input : *from)
                if (input.map->whole_width) ready = std::max(ready, input.map->rows.end());
    while (panel.given < ready) {
        panel.given = std::min(panel.given + thin_rows_, ready);
        for (const Stage& stage : panel.stages) {
            const std::int64_t until = reachable(stage, panel.given);
            if (stage.out)
                execute_stage(call, stage, until);
            else
                tail(call, panel, until);
        }
        if (panel.stages.back().out) write(call, panel);
    }
}

cpu::PixelSink Plan::sink_of(const Call& call, const Panel& panel) const {
    const std::int64_t channels = model_.channels(), columns = width_ * model_.output_grid();
    const std::int64_t left = panel.left * model_.output_grid();
    cpu::PixelSink sink{call.in.type, call.out, columns * channels, 0, model_.tanh, {}, {}};
    const auto advanced = [&](auto* pixels, std::int64_t step) { sink.data = pixels + left * step; };
    switch (sink.type) {
        case cpu::PixelType::kUint8: advanced(static_cast<std::uint8_t*>(call.out), channels); break;
        case cpu::PixelType::kUint16: advanced(static_cast<std::uint16_t*>(call.out), channels); break;
        case cpu::PixelType::kFloat:
            advanced(static_cast<float*>(call.out), 1);
            sink.row_stride = columns;
            sink.plane_stride = columns * height_ * model_.output_grid();
            break;
    }
    std::ranges::copy(model_.output.gain, sink.gain);
    std::ranges::copy(model_.output.offset, sink.offset);
    return sink;
}

void Plan::tail(const Call* call, Panel& panel, std::int64_t until) {
    const Stage& stage = panel.stages.back();
    const Layer& layer = *stage.layer;
    const std::int64_t first = panel.finished.end(), rows = until - first, radius = layer.radius();
    if (rows <= 0) return;
    const auto& [map, shift] = stage.inputs[0];
    in_rows_.resize(std::max<std::size_t>(in_rows_.size(), 1));
    fill_rows(in_rows_[0], map->rows, first - radius, rows + model_.kernels().tail.tile + radius + 1, zeros_,
              shift * map->pixel_bytes);
    execute(call, model_.kernels().tail,
            cpu::Conv9x9Tail{first - (call ? call->out_first : 0), rows, stage.columns,
                             model_.values()[layer.inputs[0]].channels, in_rows_[0].data(), layer.weights, layer.bias,
                             call ? sink_of(*call, panel) : cpu::PixelSink{}, threads_},
            *stage.seconds);
    panel.finished.set_end(until);
    release(*map);
}

// Converts rows of the last map to pixels.
void Plan::write(const Call* call, Panel& panel) {
    const Stage& stage = panel.stages.back();
    FeatureMap& map = stage.out->rows;
    const std::int64_t first = panel.finished.end(), rows = map.end() - first, step = stage.layer->grid;
    if (rows <= 0) return;
    in_rows_.resize(std::max<std::size_t>(in_rows_.size(), 2));
    fill_rows(in_rows_[0], map, first, rows, zeros_);
    if (model_.skip != Skip::kNone && zeros_) {
        in_rows_[1].clear();
        for (std::int64_t y = first / step - 1; y <= (first + rows - 1) / step + 1; ++y)
            in_rows_[1].push_back(colours_->rows.row(std::clamp<std::int64_t>(y, 0, height_ - 1), zeros_));
    }
    execute(call, kWritePixels,
            WritePixels{in_rows_[0].data(), first, rows, (panel.right - panel.left) * step,
                        first - (call ? call->out_first : 0), stage.layer->out_channels, model_.channels(),
                        model_.output_shuffle(), model_.skip, in_rows_[1].data(), stage.first_column, width_, step,
                        call ? sink_of(*call, panel) : cpu::PixelSink{}},
            *stage.seconds);
    panel.finished.set_end(map.end());
    release(*stage.out);
    if (model_.skip != Skip::kNone) release(*colours_);
}

void Plan::release_inputs(const Stage& stage) {
    for (const Input& input : stage.inputs) release(*input.map);
    for (const Input& residual : stage.residuals) release(*residual.map);
}

void Plan::release(Map& map) {
    std::int64_t needed = map.rows.end();
    for (const Map::Reader& reader : map.readers) {
        if (reader.produces->complete()) continue;  // all of its rows are done
        const std::int64_t factor = std::max<std::int64_t>(1, reader.produces->height() / map.rows.height());
        needed = std::min(needed, reader.produces->end() / factor - reader.radius);
    }
    map.rows.shrink(std::max<std::int64_t>(0, needed));
}

std::vector<LayerTime> Plan::layer_times() const {
    std::vector<LayerTime> times;
    for (std::size_t i = 0; i < groups_.size(); ++i) {
        const Group& group = groups_[i];
        std::string name = group.layers > 1 ? std::to_string(group.layers) + " x " + group.name : group.name;
        if (group.grid > 1) name += " at x" + std::to_string(group.grid);
        times.push_back({name, seconds_[i], group.multiply_adds});
    }
    return times;
}

}  // namespace srgan_fast::engine
