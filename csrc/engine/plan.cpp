#include "engine/plan.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>

namespace srgan_fast::engine {
namespace {

constexpr std::int64_t kColours = 3;
constexpr std::int64_t kHeadRadius = 4, kTrunkRadius = 1, kTailRadius = 2;

// Bytes of a trunk's map in one strip. Larger strips read each layer's weights (590 KB at 64 channels) less often,
// smaller ones stay nearer to the processor.
constexpr std::int64_t kStripBytes = std::int64_t{2} << 20;
// The same for the widest map behind the trunk.
constexpr std::int64_t kThinBytes = std::int64_t{2} << 20;

std::int64_t rounded_up(std::int64_t value, std::int64_t step) { return (value + step - 1) / step * step; }

// Rows of so many bytes that fit into a budget, in whole Winograd tiles.
std::int64_t rows_within(std::int64_t budget, std::int64_t row_bytes) {
    return std::max(cpu::kTile, budget / row_bytes / cpu::kTile * cpu::kTile);
}

// Rows of `map` from `first` on; what is outside reads as zeros.
template <typename Pointer>
void fill_rows(std::vector<Pointer>& table, const FeatureMap& map, std::int64_t first, std::int64_t count,
               float* zeros) {
    table.resize(count);
    for (std::int64_t i = 0; i < count; ++i) table[i] = map.row(first + i, zeros);
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
    : model_(model), height_(height), width_(width), threads_(threads) {
    const std::int64_t channels = model.channels();
    // Of the image: 4 pixels of zeros on both sides, where feature maps have kLeftPad and kRightPad.
    pools_.push_back(std::make_unique<RowPool>(
        rounded_up((width + 2 * kHeadRadius) * kColours * std::int64_t(sizeof(float)), cpu::kAlignment), width,
        kColours * std::int64_t(sizeof(float)), kHeadRadius));
    image_ = &add_map(*pools_.back(), height);
    RowPool& trunk_pool = add_pool(width, channels);
    Map* x = head_ = &add_map(trunk_pool, height);
    image_->readers.push_back({&head_->rows, kHeadRadius});
    for (std::size_t i = 0; i + 2 < model.trunk.size(); i += 2) {
        Map* const inner = &add_map(trunk_pool, height);
        Map* const sum = &add_map(trunk_pool, height);
        add_stage(trunk_, {&model.trunk[i], x, inner, nullptr, width, false});
        add_stage(trunk_, {&model.trunk[i + 1], inner, sum, x, width, false});
        x = sum;
    }
    features_ = &add_map(trunk_pool, height);
    add_stage(trunk_, {&model.trunk.back(), x, features_, head_, width, false});
    x = features_;
    std::int64_t factor = 1;
    for (const Conv& conv : model.upsample) {
        const bool final = &conv == &model.upsample.back();  // the tail takes the map before its shuffle
        const std::int64_t out_factor = final ? factor : 2 * factor;
        RowPool& pool = add_pool(out_factor * width, final ? 4 * channels : channels);
        Map* const out = &add_map(pool, out_factor * height);
        add_stage(upsample_, {&conv, x, out, nullptr, factor * width, !final});
        x = out;
        factor = out_factor;
    }
    last_ = x;

    strip_rows_ = rows_within(kStripBytes, trunk_pool.row_bytes());
    thin_rows_ = std::max(cpu::kTile, rows_within(kThinBytes, pools_.back()->row_bytes()) / factor);
    if (const char* e = std::getenv("SF_STRIP")) strip_rows_ = std::atoi(e);
    if (const char* e = std::getenv("SF_THIN")) thin_rows_ = std::atoi(e);
    walk(nullptr);
}

RowPool& Plan::add_pool(std::int64_t width, std::int64_t channels) {
    const std::int64_t pixel = channels * std::int64_t(sizeof(float));
    pools_.push_back(std::make_unique<RowPool>((cpu::kLeftPad + width + cpu::kRightPad) * pixel, width, pixel,
                                               cpu::kLeftPad));
    return *pools_.back();
}

Plan::Map& Plan::add_map(RowPool& pool, std::int64_t height) {
    maps_.push_back(std::make_unique<Map>(Map{FeatureMap(pool, height), {}}));
    return *maps_.back();
}

void Plan::add_stage(std::vector<Stage>& stages, const Stage& stage) {
    stages.push_back(stage);
    // A shuffled map has twice the rows of what was computed; its length is halved where that matters.
    stage.in->readers.push_back({&stage.out->rows, kTrunkRadius});
    if (stage.residual) stage.residual->readers.push_back({&stage.out->rows, 0});
}

std::int64_t Plan::bytes() const {
    std::int64_t largest = 0, sum = 0;
    for (const auto& pool : pools_) {
        largest = std::max(largest, pool->row_bytes());
        sum += pool->bytes();
    }
    return largest + sum + threads_ * scratch_stride_;
}

void Plan::allocate() {
    memory_ = Aligned<std::byte>(bytes());
    std::byte* next = memory_.data();
    std::int64_t largest = 0, offset = 0;
    for (const auto& pool : pools_) {
        largest = std::max(largest, pool->row_bytes());
        offset = std::max(offset, pool->offset());
    }
    // Maps reach at most `offset` bytes before and `largest - offset` bytes behind pixel 0: those with the widest pixels
    // have the longest rows, and the widest pads.
    std::memset(next, 0, largest);
    zeros_ = reinterpret_cast<float*>(next + offset);
    next += largest;
    for (const auto& pool : pools_) {
        pool->place(next);
        pool->clear_pads();
        next += pool->bytes();
    }
    scratch_ = next;
}

void Plan::reset() {
    for (const auto& map : maps_) map->rows.reset();
    given_ = tail_rows_ = 0;
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
    head_seconds_ = tail_seconds_ = 0.0;
    for (std::vector<Stage>* stages : {&trunk_, &upsample_})
        for (Stage& stage : *stages) stage.seconds = 0.0;
    return walk(&call);
}

// Goes through the image; without a call, only through the motions, which finds out what memory they take.
bool Plan::walk(const Call* call) {
    const auto lag = static_cast<std::int64_t>(trunk_.size());  // rows that the trunk's end is behind the head
    // What hardly fills two strips is computed in one, without the rows that strips leave half done.
    std::int64_t until = height_ <= strip_rows_ * 3 / 2 ? height_ + lag : strip_rows_;
    bool going = true;
    for (; going && tail_rows_ < last_->rows.height(); until += strip_rows_) {
        read_and_head(call, std::min(until, height_));
        for (std::size_t i = 0; i < trunk_.size(); ++i)
            convolve(call, trunk_[i], std::clamp<std::int64_t>(until - static_cast<std::int64_t>(i) - 1, 0, height_));
        upsample(call);
        if (call && call->progress) going = call->progress(2 * tail_rows_);
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
            read_row(call->in, read + i, model_.input, image_->rows.row(read + i, zeros_));
        });
    FeatureMap& out = head_->rows;
    const std::int64_t first = out.end(), rows = until - first;
    if (rows <= 0) return;
    out.grow(until);
    fill_rows(in_rows_, image_->rows, first - kHeadRadius, rows + 2 * kHeadRadius, zeros_);
    fill_rows(out_rows_, out, first, rows, zeros_);
    const Conv& conv = model_.head;
    execute(call, model_.kernels().head,
            cpu::Conv9x9Head{rows, width_, conv.out_channels, in_rows_.data(), out_rows_.data(), static_cast<const float*>(conv.weights),
                             conv.bias, conv.slope},
            head_seconds_);
    release(*image_);
}

void Plan::convolve(const Call* call, Stage& stage, std::int64_t until) {
    const std::int64_t factor = stage.shuffle ? 2 : 1;
    FeatureMap& out = stage.out->rows;
    const std::int64_t first = out.end() / factor, rows = until - first;
    if (rows <= 0) return;
    out.grow(until * factor);
    fill_rows(in_rows_, stage.in->rows, first - kTrunkRadius, rows + cpu::kTile + kTrunkRadius, zeros_);
    fill_rows(out_rows_, out, first * factor, rows * factor, zeros_);
    if (stage.residual) fill_rows(residual_rows_, stage.residual->rows, first, rows, zeros_);
    const Conv& conv = *stage.conv;
    execute(call, model_.conv3x3(),
            cpu::Conv3x3{rows, stage.width, conv.in_channels, conv.out_channels, in_rows_.data(), out_rows_.data(),
                         stage.residual ? residual_rows_.data() : nullptr, conv.weights, conv.bias,
                         conv.slope, stage.shuffle},
            stage.seconds);
    release(*stage.in);
    if (stage.residual) release(*stage.residual);
}

void Plan::upsample(const Call* call) {
    const auto reachable = [](const FeatureMap& map, std::int64_t end, std::int64_t radius) {
        return end == map.height() ? end : std::max<std::int64_t>(0, end - radius);
    };
    while (given_ < features_->rows.end()) {
        given_ = std::min(given_ + thin_rows_, features_->rows.end());
        std::int64_t end = given_;
        for (Stage& stage : upsample_) {
            convolve(call, stage, reachable(stage.in->rows, end, kTrunkRadius));
            end = stage.out->rows.end();
        }
        tail(call, reachable(last_->rows, end, kTailRadius));
    }
}

void Plan::tail(const Call* call, std::int64_t until) {
    const std::int64_t rows = until - tail_rows_;
    if (rows <= 0) return;
    fill_rows(in_rows_, last_->rows, tail_rows_ - kTailRadius, rows + cpu::kTile + kTailRadius + 1, zeros_);
    const Conv& conv = model_.tail;
    const std::int64_t columns = upsample_.back().width;
    execute(call, model_.kernels().tail,
            cpu::Conv9x9Tail{tail_rows_, rows, columns, conv.in_channels, in_rows_.data(), static_cast<const float*>(conv.weights),
                             conv.bias, call ? call->sink : cpu::PixelSink{}},
            tail_seconds_);
    tail_rows_ = until;
    last_->rows.shrink(until == last_->rows.height() ? until : std::max<std::int64_t>(0, until - kTailRadius));
}

std::vector<LayerTime> Plan::layer_times() const {
    const auto pixels = static_cast<double>(height_ * width_), channels = static_cast<double>(model_.channels());
    std::vector<LayerTime> times{{"head 9x9", head_seconds_, pixels * 81 * kColours * channels}};
    double seconds = 0.0;
    for (const Stage& stage : trunk_) seconds += stage.seconds;
    times.push_back({"trunk, " + std::to_string(trunk_.size()) + " x 3x3", seconds,
                     pixels * 9 * channels * channels * static_cast<double>(trunk_.size())});
    double factor = 1.0;
    for (std::size_t i = 0; i < upsample_.size(); ++i, factor *= 4.0)
        times.push_back({"upsample " + std::to_string(i + 1) + " 3x3", upsample_[i].seconds,
                         factor * pixels * 36 * channels * channels});
    times.push_back({"tail 9x9", tail_seconds_, factor * pixels * 81 * kColours * channels});
    return times;
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

}  // namespace srgan_fast::engine
