// Feature maps as rolling windows of rows.
//
// Only rows that some layer still needs are stored. They come from pools of equally sized rows that reuse the row freed
// last, which is most likely still in the cache. Pools work with row numbers, so that a schedule can be simulated
// without memory to find out how much it needs.
#pragma once

#include <cassert>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <stdexcept>
#include <vector>

namespace srgan_fast::engine {

class RowPool {
  public:
    // Rows of `row_bytes` bytes: `pads` pixels of zeros, `width` pixels of `pixel_bytes` each, and zeros up to the end.
    RowPool(std::int64_t row_bytes, std::int64_t width, std::int64_t pixel_bytes, std::int64_t pads)
        : row_bytes_(row_bytes), width_(width), pixel_bytes_(pixel_bytes), offset_(pads * pixel_bytes) {}

    // Throws std::logic_error if a schedule needs more rows than it did in the simulation.
    std::int64_t take() {
        if (free_.empty()) {
            if (memory_) throw std::logic_error("the engine's plan needs more rows than it has memory for");
            return rows_++;
        }
        const std::int64_t row = free_.back();
        free_.pop_back();
        return row;
    }
    void give(std::int64_t row) { free_.push_back(row); }
    // Allows that many rows to be in use at a time.
    void reserve(std::int64_t rows) {
        while (rows_ < rows) free_.push_back(rows_++);
    }

    bool fits(std::int64_t width, std::int64_t pixel_bytes) const {
        return width_ == width && pixel_bytes_ == pixel_bytes;
    }
    std::int64_t row_bytes() const { return row_bytes_; }
    std::int64_t rows() const { return rows_; }  // peak number of rows in use
    std::int64_t bytes() const { return rows_ * row_bytes_; }
    std::int64_t offset() const { return offset_; }  // byte offset of pixel 0 in a row

    void place(std::byte* memory) { memory_ = memory; }
    void clear_pads() {
        for (std::int64_t row = 0; row < rows_; ++row) {
            std::byte* const start = memory_ + row * row_bytes_;
            std::memset(start, 0, offset_);
            const std::int64_t end = offset_ + width_ * pixel_bytes_;
            std::memset(start + end, 0, row_bytes_ - end);
        }
    }
    std::byte* pixels(std::int64_t row) const { return memory_ + row * row_bytes_ + offset_; }

  private:
    std::int64_t row_bytes_, width_, pixel_bytes_, offset_;
    std::int64_t rows_ = 0;
    std::vector<std::int64_t> free_;
    std::byte* memory_ = nullptr;
};

// Number of available rows, out of `height`.
class Extent {
  public:
    explicit Extent(std::int64_t height) : height_(height) {}

    std::int64_t end() const { return end_; }
    std::int64_t height() const { return height_; }
    bool complete() const { return end_ == height_; }
    void set_end(std::int64_t end) { end_ = end; }

  protected:
    std::int64_t height_, end_ = 0;
};

// Rows begin .. end of a map.
class FeatureMap : public Extent {
  public:
    FeatureMap(RowPool& pool, std::int64_t height) : Extent(height), pool_(&pool) {}

    std::int64_t begin() const { return begin_; }

    void grow(std::int64_t end) {
        for (; end_ < end; ++end_) numbers_.push_back(pool_->take());
    }
    void shrink(std::int64_t begin) {
        for (; begin_ < begin; ++begin_) {
            pool_->give(numbers_.front());
            numbers_.pop_front();
        }
    }
    void reset() {
        shrink(end_);
        begin_ = end_ = 0;
    }

    // Pixel 0 of a row; that of `zeros` if the row is outside the image, or if it is not available and only fills up a
    // block.
    std::byte* row(std::int64_t y, std::byte* zeros) const {
        if (y < 0 || y >= end_) return zeros;
        assert(y >= begin_);
        return pool_->pixels(numbers_[y - begin_]);
    }

  private:
    RowPool* pool_;
    std::int64_t begin_ = 0;
    std::deque<std::int64_t> numbers_;  // pool indices of the rows begin .. end
};

}  // namespace srgan_fast::engine
