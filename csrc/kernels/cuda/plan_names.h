// Names for the choices of plan.h: two convolutions with the same name are computed by the same kernel in the same way.
// The GPU self-test (srgan_fast/ops/coverage.py) uses them to find which kernels real sizes select, and which small
// cases select the same.
#pragma once

#include <stdexcept>
#include <string>
#include <vector>

#include "kernels/cuda/plan.h"

namespace srgan_fast::cuda {

inline std::string name_of(Tile tile) {
    constexpr const char* kNames[] = {"large",       "large shallow", "wide",          "medium",
                                      "medium wide", "small",         "small shallow", "narrow"};
    static_assert(std::size(kNames) == std::size(kTiles));
    return kNames[static_cast<int>(tile)];
}

inline std::string name_of(WgradTile tile) {
    constexpr const char* kNames[] = {"wide", "from narrow", "to narrow", "small",
                                      "tail", "wide 5",      "tail 9",    "wide 9"};
    return kNames[static_cast<int>(tile)];
}

// Sizes for training: batch, channels of z and of y, height and width of z, taps, stride, then 0 or 1 each: whether z
// has a prologue, whether it has a second map, whether dy is computed from y.
inline std::string training_name(const std::string& kernel, const std::vector<std::int64_t>& s, int bytes,
                                 Products products, const Device& device) {
    if (s.size() != 10) throw std::invalid_argument("of " + kernel + " ten sizes are needed");
    const auto of = [&](int i) { return static_cast<int>(s[i]); };
    const Convolution c{of(0), of(1), of(2), of(3), of(4), of(5), of(6)};
    const bool prologue = s[7] != 0, residual = s[8] != 0, behind = s[9] != 0;
    const Direction direction = kernel == "forward" ? Direction::kForward
                                : kernel == "dgrad" ? Direction::kDataGradient
                                                    : Direction::kWeightGradient;
    if (uses_library(products, direction, c, bytes)) return "library";
    if (direction == Direction::kForward)
        return name_of(choose_tile(forward_plan(c), prologue, residual, device, bytes));
    if (direction == Direction::kDataGradient)
        return name_of(choose_tile(dgrad_plan(c), behind, behind, device, bytes));
    const WgradTile tile = choose_wgrad_tile(c, bytes, behind, residual, device);
    return name_of(tile) + (wgrad_splits(c, tile, device) > 1 ? ", shared" : ", alone");
}

// Sizes for inference: batch, channels, channels of the result, height, width, and for `conv` and `picture` the kernel
// side, 3 by default. Blocks that iterate over tiles have other names than those with one tile.
inline std::string inference_name(const std::string& kernel, const std::vector<std::int64_t>& s, const Device& device) {
    if (s.size() != 5 && s.size() != 6) throw std::invalid_argument("of " + kernel + " five or six sizes are needed");
    const auto of = [&](int i) { return static_cast<int>(s[i]); };
    const int side = s.size() == 6 ? of(5) : 3;
    if (kernel == "block") {
        const BlockLaunch how = choose_block_launch(of(0), of(3), of(4), device);
        if (how.way < 0) return "two convolutions";
        const BlockSize& size = kBlockSizes[how.way];
        const std::int64_t tiles = s[0] * blocks_of(of(3), size.rows) * blocks_of(of(4), kBlockColumns);
        const std::int64_t at_once = how.grid.blocks() * (size.apart ? 2 : 1);
        return "way " + std::to_string(how.way) + (tiles > at_once ? ", several tiles" : ", one tile");
    }
    if (kernel == "tail") return "tail";
    const ConvParams p =
        kernel == "head" ? head_plan(of(0), of(3), of(4), of(2)) : infer_plan(of(0), of(3), of(4), of(1), of(2), side);
    if (kernel == "picture") return name_of(choose_picture_tile(p));
    const InferLaunch how = choose_infer_launch(p, device);
    if (!how.resident) return "fetching " + name_of(how.tile);
    const unsigned tiles = grid_of(how.tile, p.batch, p.height, p.width, p.channels, 1).x;
    return "resident " + name_of(how.tile) + (tiles > how.grid.x ? ", several tiles" : ", one tile");
}

// `kernel`: forward, dgrad or wgrad of training; head, conv, picture, block or tail of inference, which never uses
// cuDNN. Throws std::invalid_argument.
inline std::string plan_name(const std::string& kernel, const std::vector<std::int64_t>& sizes, int bytes,
                             Products products, const Device& device) {
    if (kernel == "forward" || kernel == "dgrad" || kernel == "wgrad")
        return training_name(kernel, sizes, bytes, products, device);
    if (kernel == "head" || kernel == "conv" || kernel == "picture" || kernel == "block" || kernel == "tail")
        return inference_name(kernel, sizes, device);
    throw std::invalid_argument("there is no kernel " + kernel);
}

}  // namespace srgan_fast::cuda
