#include "engine/plan.h"

#include <algorithm>
#include <chrono>
#include <cstring>

namespace srgan_fast::engine {
namespace {

constexpr std::int64_t kColours = 3;
constexpr std::int64_t kHeadRadius = 4, kTrunkRadius = 1, kTailRadius = 2;

// Bytes of a trunk's map in one strip. Larger strips read each layer's weights (590 KB at 64 channels) less often and
// leave fewer Winograd tiles half full, smaller ones stay nearer to the processor. Measured on Zen 5, 1 MB of
// second-level cache for each of 2 cores: 128 columns do best with 32 to 64 rows, 1024 columns with 8.
constexpr std::int64_t kStripBytes = 5 << 19;
// Columns of a panel, counted in the last map before its shuffle, and rows of it that are computed at a time: with the
// 4 rows that the tail looks back at, they are 3 MB of 256 channels.
constexpr std::int64_t kPanelColumns = 256, kPanelRows = 8;

std::int64_t rounded_up(std::int64_t value, std::int64_t step) { return (value + step - 1) / step * step; }

// Rows of `map` from `first` on, each that many bytes from its first pixel; what is outside reads as zeros.
template <typename Pointer>
void fill_rows(std::vector<Pointer>& table, const FeatureMap& map, std::int64_t first, std::int64_t count,
               std::byte* zeros, std::int64_t shift = 0) {
    table.resize(count);
    if (!zeros) return;  // only counting: there are no rows yet
    for (std::int64_t i = 0; i < count; ++i) {
        std::byte* const row = map.row(first + i, zeros);
        table[i] = row == zeros ? zeros : row + shift;
    }
}

// What a layer can compute when the first `end` rows of its input are there.
std::int64_t reachable(const FeatureMap& input, std::int64_t end, std::int64_t radius) {
    return end == input.height() ? end : std::max<std::int64_t>(0, end - radius);
}

void* advanced(const cpu::PixelSink& sink, std::int64_t columns) {
    switch (sink.type) {
        case cpu::PixelType::kUint8: return static_cast<std::uint8_t*>(sink.data) + columns * kColours;
        case cpu::PixelType::kUint16: return static_cast<std::uint16_t*>(sink.data) + columns * kColours;
        default: return static_cast<float*>(sink.data) + columns;
    }
}

// One row of pixels in 0..1, mapped to the network's range, colours side by side.
void read_row(const ImageIn& in, std::int64_t y, const ColourMap& map, float* out) {
    const std::int64_t values = in.width * kColours;
    switch (in.type) {
        case cpu::PixelType::kUint8: {
            const auto* row = static_cast<const std::uint8_t*>(in.data) + y * values;
            for (std::int64_t i = 0; i < values; ++i) out[i] = static_cast<float>(row[i]) / 255.0f;
            break;
        }
        case cpu::PixelType::kUint16: {
            const auto* row = static_cast<const std::uint16_t*>(in.data) + y * values;
            for (std::int64_t i = 0; i < values; ++i) out[i] = static_cast<float>(row[i]) / 65535.0f;
            break;
        }
        case cpu::PixelType::kFloat: {
            const auto* planes = static_cast<const float*>(in.data);
            for (std::int64_t c = 0; c < kColours; ++c) {
                const float* const row = planes + (c * in.height + y) * in.width;
                for (std::int64_t x = 0; x < in.width; ++x) out[x * kColours + c] = row[x];
            }
            break;
        }
    }
    for (std::int64_t x = 0; x < in.width; ++x)
        for (std::int64_t c = 0; c < kColours; ++c)
            out[x * kColours + c] = out[x * kColours + c] * map.gain[c] + map.offset[c];
}

}  // namespace

struct Plan::Call {
    const ImageIn& in;
    cpu::PixelSink sink;
    ThreadPool& pool;
    const Progress& progress;
};

Plan::Plan(const Model& model, std::int64_t height, std::int64_t width, int threads)
    : model_(model), height_(height), width_(width), threads_(threads), seconds_(model.upsample.size() + 3) {
    const std::int64_t channels = model.channels();
    // Of the image: 4 pixels of zeros on both sides, where feature maps have what kernels want.
    constexpr std::int64_t kPixel = kColours * std::int64_t(sizeof(float));
    pools_.push_back(std::make_unique<RowPool>(rounded_up((width + 2 * kHeadRadius) * kPixel, cpu::kAlignment), width,
                                               kPixel, kHeadRadius));
    image_ = &add_map(*pools_.back(), height);
    RowPool& pool = pool_for(width, channels);
    Map* x = head_ = &add_map(pool, height);
    image_->readers.push_back({&head_->rows, kHeadRadius});
    double* const seconds = &seconds_[1];
    for (std::size_t i = 0; i + 2 < model.trunk.size(); i += 2) {
        Map* const inner = &add_map(pool, height);
        Map* const sum = &add_map(pool, height);
        add_stage(trunk_, {&model.trunk[i], x, inner, nullptr, width, 0, false, seconds});
        add_stage(trunk_, {&model.trunk[i + 1], inner, sum, x, width, 0, false, seconds});
        x = sum;
    }
    features_ = &add_map(pool, height);
    add_stage(trunk_, {&model.trunk.back(), x, features_, head_, width, 0, false, seconds});

    const std::int64_t factor = model.scale() / 2;  // from the image to the last map before its shuffle
    const std::int64_t panels = (width * factor + kPanelColumns - 1) / kPanelColumns;
    for (std::int64_t i = 0; i < panels; ++i)
        add_panel(width * i / panels / cpu::kTile * cpu::kTile,
                  i + 1 == panels ? width : width * (i + 1) / panels / cpu::kTile * cpu::kTile);

    strip_rows_ = std::max(cpu::kTile, kStripBytes / pool.row_bytes() / cpu::kTile * cpu::kTile);
    thin_rows_ = std::max(cpu::kTile, kPanelRows / factor);
    // Once filled, the schedule repeats itself from strip to strip, so a lower image with as many rows behind its last
    // whole strip takes as much memory as a high one.
    const std::int64_t enough = static_cast<std::int64_t>(trunk_.size()) + 8 * strip_rows_;
    if (height_ > enough + strip_rows_) {
        const Plan lower(model, height_ - (height_ - enough) / strip_rows_ * strip_rows_, width_, threads_);
        for (std::size_t i = 0; i < pools_.size(); ++i) pools_[i]->reserve(lower.pools_[i]->rows());
        scratch_stride_ = lower.scratch_stride_;
    } else {
        walk(nullptr);
    }
}

RowPool& Plan::pool_for(std::int64_t width, std::int64_t channels) {
    const std::int64_t pixel = pixel_bytes(channels);
    for (const auto& pool : pools_)
        if (pool->fits(width, pixel)) return *pool;
    const std::int64_t pixels = cpu::kLeftPad + width + model_.kernels().right_pad;
    pools_.push_back(
        std::make_unique<RowPool>(rounded_up(pixels * pixel, cpu::kAlignment), width, pixel, cpu::kLeftPad));
    return *pools_.back();
}

Plan::Map& Plan::add_map(RowPool& pool, std::int64_t height) {
    maps_.push_back(std::make_unique<Map>(Map{FeatureMap(pool, height), {}}));
    return *maps_.back();
}

void Plan::add_stage(std::vector<Stage>& stages, const Stage& stage) {
    stages.push_back(stage);
    stage.in->readers.push_back({&stage.out->rows, kTrunkRadius});
    if (stage.residual) stage.residual->readers.push_back({&stage.out->rows, 0});
}

void Plan::add_panel(std::int64_t left, std::int64_t right) {
    struct Span {
        std::int64_t begin, end;
    };
    const std::size_t count = model_.upsample.size();
    // From the tail backwards: which columns each stage has to compute, in whole tiles except at the image's end, since
    // what a tile sees beyond a map's end must be the zeros that stand for the outside.
    std::vector<Span> spans(count);
    for (std::size_t i = count; i-- > 0;) {
        const std::int64_t factor = std::int64_t{1} << i, width = width_ * factor;
        const bool last = i + 1 == count;
        const std::int64_t begin = last ? left * factor - kTailRadius : (spans[i + 1].begin - kTrunkRadius) / 2 - 1;
        const std::int64_t end = last ? right * factor + kTailRadius : (spans[i + 1].end + kTrunkRadius + 1) / 2;
        spans[i].begin = std::max<std::int64_t>(0, begin);
        spans[i].end = std::min(width, spans[i].begin + rounded_up(end - spans[i].begin, cpu::kTile));
    }
    Panel panel{left, right, {}, nullptr, 0};
    Map* x = features_;
    std::int64_t origin = 0;  // column of x's map at which it starts
    for (std::size_t i = 0; i < count; ++i) {
        const bool last = i + 1 == count;  // the tail takes the map before its shuffle
        const std::int64_t columns = spans[i].end - spans[i].begin, factor = last ? 1 : 2;
        RowPool& pool = pool_for(factor * columns, (last ? 4 : 1) * model_.channels());
        Map* const out = &add_map(pool, (height_ << i) * factor);
        add_stage(panel.stages,
                  {&model_.upsample[i], x, out, nullptr, columns, spans[i].begin - origin, !last, &seconds_[2 + i]});
        x = out;
        origin = factor * spans[i].begin;
    }
    panel.last = x;
    panel.tail_shift = (left << (count - 1)) - origin;
    panels_.push_back(std::move(panel));
}

// A row that reads as zeros wherever any map's row may be read: from the widest left pad to the farthest end.
Plan::ZeroRow Plan::zero_row() const {
    ZeroRow row{0, 0};
    for (const auto& pool : pools_) {
        row.before = std::max(row.before, rounded_up(pool->offset(), cpu::kAlignment));
        row.behind = std::max(row.behind, rounded_up(pool->row_bytes() - pool->offset(), cpu::kAlignment));
    }
    return row;
}

std::int64_t Plan::bytes() const {
    const ZeroRow zeros = zero_row();
    std::int64_t sum = zeros.before + zeros.behind + threads_ * scratch_stride_;
    for (const auto& pool : pools_) sum += pool->bytes();
    return sum;
}

void Plan::allocate() {
    memory_ = Aligned<std::byte>(bytes());
    const ZeroRow zeros = zero_row();
    std::byte* next = memory_.data();
    std::memset(next, 0, zeros.before + zeros.behind);
    zeros_ = next + zeros.before;
    next += zeros.before + zeros.behind;
    for (const auto& pool : pools_) {
        pool->place(next);
        pool->clear_pads();
        next += pool->bytes();
    }
    scratch_ = next;
}

void Plan::reset() {
    for (const auto& map : maps_) map->rows.reset();
    for (Panel& panel : panels_) panel.given = panel.tail_rows = 0;
}

bool Plan::run(const ImageIn& in, void* out, ThreadPool& pool, const Progress& progress) {
    if (!memory_.size()) allocate();
    const std::int64_t scale = model_.scale();
    const std::int64_t rows = height_ * scale, columns = width_ * scale;
    cpu::PixelSink sink{in.type, out, columns, 0, model_.tanh, {}, {}};
    if (in.type == cpu::PixelType::kFloat)
        sink.plane_stride = rows * columns;
    else
        sink.row_stride = columns * kColours;
    std::copy(model_.output.gain.begin(), model_.output.gain.end(), sink.gain);
    std::copy(model_.output.offset.begin(), model_.output.offset.end(), sink.offset);
    const Call call{in, sink, pool, progress};
    std::ranges::fill(seconds_, 0.0);
    return walk(&call);
}

// Goes through the image; without a call, only through the motions, which finds out what memory they take.
bool Plan::walk(const Call* call) {
    const auto lag = static_cast<std::int64_t>(trunk_.size());  // rows that the trunk's end is behind the head
    // What hardly fills two strips is computed in one, without the rows that strips leave half done.
    std::int64_t until = height_ <= strip_rows_ * 3 / 2 ? height_ + lag : strip_rows_;
    bool going = true;
    const Panel& last = panels_.back();
    for (; going && last.tail_rows < last.last->rows.height(); until += strip_rows_) {
        read_and_head(call, std::min(until, height_));
        for (std::size_t i = 0; i < trunk_.size(); ++i)
            convolve(call, trunk_[i], std::clamp<std::int64_t>(until - static_cast<std::int64_t>(i) - 1, 0, height_));
        for (Panel& panel : panels_) upsample(call, panel);
        if (call && call->progress) going = call->progress(2 * last.tail_rows);
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

void Plan::read_and_head(const Call* call, std::int64_t until) {
    const std::int64_t read = image_->rows.end(), ready = std::min(until + kHeadRadius, height_);
    image_->rows.grow(ready);
    if (call)
        call->pool.run(ready - read, [&](std::int64_t i, int) {
            read_row(call->in, read + i, model_.input, reinterpret_cast<float*>(image_->rows.row(read + i, zeros_)));
        });
    FeatureMap& out = head_->rows;
    const std::int64_t first = out.end(), rows = until - first;
    if (rows <= 0) return;
    out.grow(until);
    fill_rows(in_rows_, image_->rows, first - kHeadRadius, rows + 2 * kHeadRadius + 1, zeros_);
    fill_rows(out_rows_, out, first, rows, zeros_);
    const Conv& conv = model_.head;
    execute(call, model_.kernels().head,
            cpu::Conv9x9Head{rows, width_, conv.out_channels, in_rows_.data(), out_rows_.data(), conv.weights,
                             conv.bias, conv.slope, threads_},
            seconds_.front());
    release(*image_);
}

void Plan::convolve(const Call* call, const Stage& stage, std::int64_t until) {
    const std::int64_t factor = stage.factor();
    FeatureMap& out = stage.out->rows;
    const std::int64_t first = out.end() / factor, rows = until - first;
    if (rows <= 0) return;
    out.grow(until * factor);
    const Conv& conv = *stage.conv;
    fill_rows(in_rows_, stage.in->rows, first - kTrunkRadius, rows + cpu::kTile + kTrunkRadius, zeros_,
              stage.in_shift * pixel_bytes(conv.in_channels));
    fill_rows(out_rows_, out, first * factor, rows * factor, zeros_);
    if (stage.residual) fill_rows(residual_rows_, stage.residual->rows, first, rows, zeros_);
    execute(call, model_.kernels().conv3x3,
            cpu::Conv3x3{rows, stage.columns, conv.in_channels, conv.out_channels, in_rows_.data(), out_rows_.data(),
                         stage.residual ? residual_rows_.data() : nullptr, conv.weights, conv.bias, conv.slope,
                         stage.shuffle, threads_},
            *stage.seconds);
    release(*stage.in);
    if (stage.residual) release(*stage.residual);
}

void Plan::upsample(const Call* call, Panel& panel) {
    while (panel.given < features_->rows.end()) {
        panel.given = std::min(panel.given + thin_rows_, features_->rows.end());
        std::int64_t end = panel.given;
        for (const Stage& stage : panel.stages) {
            convolve(call, stage, reachable(stage.in->rows, end, kTrunkRadius));
            end = stage.out->rows.end();
        }
        tail(call, panel, reachable(panel.last->rows, end, kTailRadius));
    }
}

void Plan::tail(const Call* call, Panel& panel, std::int64_t until) {
    const std::int64_t rows = until - panel.tail_rows;
    if (rows <= 0) return;
    FeatureMap& map = panel.last->rows;
    const Conv& conv = model_.tail;
    fill_rows(in_rows_, map, panel.tail_rows - kTailRadius, rows + cpu::kTile + kTailRadius + 1, zeros_,
              panel.tail_shift * pixel_bytes(conv.in_channels));
    const std::int64_t factor = model_.scale() / 2;
    cpu::PixelSink sink{};
    if (call) {
        sink = call->sink;
        sink.data = advanced(sink, panel.left * model_.scale());
    }
    execute(call, model_.kernels().tail,
            cpu::Conv9x9Tail{panel.tail_rows, rows, (panel.right - panel.left) * factor, conv.in_channels,
                             in_rows_.data(), conv.weights, conv.bias, sink, threads_},
            seconds_.back());
    panel.tail_rows = until;
    map.shrink(until == map.height() ? until : std::max<std::int64_t>(0, until - kTailRadius));
}

void Plan::release(Map& map) {
    std::int64_t needed = map.rows.end();
    for (const Map::Reader& reader : map.readers) {
        const FeatureMap& out = *reader.produces;
        if (out.end() == out.height()) continue;  // it has seen everything
        const std::int64_t factor = std::max<std::int64_t>(1, out.height() / map.rows.height());
        needed = std::min(needed, out.end() / factor - reader.radius);
    }
    map.rows.shrink(std::max<std::int64_t>(0, needed));
}

std::vector<LayerTime> Plan::layer_times() const {
    const auto pixels = static_cast<double>(height_ * width_), channels = static_cast<double>(model_.channels());
    const auto depth = static_cast<double>(trunk_.size());
    std::vector<LayerTime> times{
        {"head 9x9", seconds_.front(), pixels * 81 * kColours * channels},
        {"trunk, " + std::to_string(trunk_.size()) + " x 3x3", seconds_[1], pixels * 9 * channels * channels * depth}};
    double factor = 1.0;
    for (std::size_t i = 0; i < model_.upsample.size(); ++i, factor *= 4.0)
        times.push_back({"upsample " + std::to_string(i + 1) + " 3x3", seconds_[2 + i],
                         factor * pixels * 36 * channels * channels});
    times.push_back({"tail 9x9", seconds_.back(), factor * pixels * 81 * kColours * channels});
    return times;
}

}  // namespace srgan_fast::engine
