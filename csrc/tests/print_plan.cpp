// Prints what plan.h makes of convolutions on a device, a JSON object a line; for tools/gpu_roofline.py, which predicts
// from it what the kernels read, write and multiply.
//
//     print_plan MULTIPROCESSORS SHARED_BYTES < convolutions
//
// A convolution is a line. Of training: forward|dgrad|wgrad, batch, in, out, height, width, taps, stride, and three of
// 0 and 1: whether z comes through a prologue, whether z comes from two maps, whether dy comes from two. Of inference:
// head|conv|block|tail, batch, in, out, height, width; a block that is no kernel has the plan of its convolutions.
#include <cstdlib>
#include <iostream>
#include <string>

#include "kernels/cuda/infer_block.cuh"
#include "kernels/cuda/infer_mma.cuh"
#include "kernels/cuda/wgrad_mma.cuh"

namespace {

using namespace srgan_fast::cuda;

struct Request {
    std::string direction;
    Convolution convolution;
    bool transforms, two_sources, two_gradients;
    // Whether torch's library multiplies.
    bool by_library() const {
        const Direction d = direction == "forward" ? Direction::kForward
                            : direction == "dgrad" ? Direction::kDataGradient
                                                   : Direction::kWeightGradient;
        return trains() && uses_library(Products::kFaster, d, convolution);
    }
    bool trains() const { return direction == "forward" || direction == "dgrad" || direction == "wgrad"; }
};

std::istream& operator>>(std::istream& in, Request& r) {
    Convolution& c = r.convolution;
    in >> r.direction >> c.batch >> c.in >> c.out >> c.height >> c.width;
    if (in && r.trains()) in >> c.taps >> c.stride >> r.transforms >> r.two_sources >> r.two_gradients;
    return in;
}

// How a convolution of conv_mma.cuh or infer_mma.cuh is launched.
struct Launch {
    TileSize size;
    Grid grid;
    unsigned tiles;      // of pixels; blocks whose weights are resident go through several
    int shared, halo;    // bytes of a block; columns of a tile that are other tiles' results
    bool keeps = false;  // whether weights are resident
};

template <typename Shape>
void print_launch(const Launch& how, const ConvParams& plan, Shape) {
    const Reach& reach = plan.reach;
    std::cout << "{\"rows\": " << how.size.rows << ", \"columns\": " << how.size.columns
              << ", \"channels\": " << how.size.channels << ", \"depth\": " << how.size.depth
              << ", \"threads\": " << Shape::kThreads << ", \"resident\": " << Shape::kBlocks
              << ", \"shared\": " << how.shared << ", \"window\": " << window_bytes(how.size, plan.step, reach)
              << ", \"grid\": [" << how.grid.x << ", " << how.grid.y << ", " << how.grid.z
              << "], \"tiles\": " << how.tiles << ", \"halo\": " << how.halo
              << ", \"keeps\": " << (how.keeps ? "true" : "false") << ", \"step\": " << plan.step
              << ", \"spread\": " << plan.spread << ", \"reach\": [" << reach.top << ", " << reach.left << ", "
              << reach.rows << ", " << reach.columns << "], \"taps\": [";
    for (int phase = 0; phase < plan.spread * plan.spread; ++phase)
        std::cout << (phase == 0 ? "" : ", ") << plan.taps[phase].count;
    std::cout << "], \"weight_rows\": " << plan.weight_rows << ", \"weight_columns\": " << plan.weight_columns << "}\n";
}

void print_convolution(const Request& r, const Device& device) {
    const bool backward = r.direction == "dgrad";
    ConvParams plan = backward ? dgrad_plan(r.convolution) : forward_plan(r.convolution);
    const bool two_maps = backward ? r.two_gradients : r.two_sources;
    const Tile tile = choose_tile(plan, backward ? r.two_gradients : r.transforms, two_maps, device);
    const TileSize size = size_of(tile);
    const Grid grid = grid_of(tile, plan.batch, plan.height, plan.width, plan.channels, plan.spread);
    set_weights(plan, size, nullptr);
    const Launch how{size, grid, grid.x, shared_bytes(size, plan.step, plan.reach, two_maps), 0};
    with_shape<Half>(tile, [&](auto shape) { print_launch(how, plan, shape); });
}

void print_inference(const Request& r, const Device& device) {
    const Convolution& c = r.convolution;
    const ConvParams plan = r.direction == "head" ? head_plan(c.batch, c.height, c.width, c.out)
                                                  : infer_plan(c.batch, c.height, c.width, c.in, c.out);
    const InferLaunch how = choose_infer_launch(plan, device);
    const Grid all = grid_of(how.tile, plan.batch, plan.height, plan.width, plan.channels, 1);
    const Launch launch{size_of(how.tile), how.grid, all.x, how.shared_bytes, 0, how.resident};
    const auto print = [&](auto shape) { print_launch(launch, plan, shape); };
    if (how.resident)
        with_resident_shape(how.tile, print);
    else
        with_infer_shape(how.tile, print);
}

// False where a residual block is two convolutions.
bool print_block(const Request& r, const Device& device) {
    const Convolution& c = r.convolution;
    const BlockLaunch how = choose_block_launch(c.batch, c.height, c.width, device);
    if (how.way < 0) return false;
    const BlockSize& size = kBlockSizes[how.way];
    const int tiles = c.batch * blocks_of(c.height, size.rows) * blocks_of(c.width, kBlockColumns);
    with_block_shape(how.way, [&](auto shape) {
        using Shape = decltype(shape);
        std::cout << "{\"rows\": " << size.rows << ", \"columns\": " << kBlockColumns
                  << ", \"channels\": " << kBlockChannels << ", \"threads\": " << kBlockThreads
                  << ", \"resident\": 1, \"shared\": " << how.shared_bytes
                  << ", \"window\": " << Shape::kGroups * block_window_bytes(size) << ", \"grid\": [" << how.grid.x
                  << ", 1, 1], \"tiles\": " << tiles
                  << ", \"keeps\": true, \"inner\": " << 16 * Shape::kWarpsM * Shape::kInnerM
                  << ", \"step\": 1, \"spread\": 1, \"reach\": [-2, -2, 5, 5], "
                  << "\"taps\": [" << kBlockTaps << ", " << kBlockTaps << "], \"weight_rows\": " << kBlockChannels
                  << ", \"weight_columns\": " << kBlockChannels << "}\n";
    });
    return true;
}

void print_tail(const Request& r) {
    const Convolution& c = r.convolution;
    const ConvParams plan = tail_plan(c.batch, c.height, c.width, c.in);
    const Grid grid = tail_grid(plan);
    print_launch({kTailSize, grid, grid.x, tail_shared_bytes(plan), kTailSize.columns - kTailColumns}, plan,
                 TailShape{});
}

void print_weight_gradient(const Request& r, const Device& device) {
    constexpr int kRegisters = 65536, kOfThread = 256;  // of a multiprocessor; of a thread at most
    const Convolution& c = r.convolution;
    const WgradTile tile = choose_wgrad_tile(c, kHalfBytes, r.two_gradients, r.two_sources, device);
    const WgradSize size = size_of(tile);
    const int bytes = wgrad_stage_bytes(tile, kHalfBytes, c.taps, c.stride, r.two_gradients, r.two_sources);
    WgradParams p{};
    p.stride = c.stride, p.stages = wgrad_stages(bytes, device);
    p.gradient.moments = r.two_gradients;
    const float second = 0.0f;
    p.source.residual = r.two_sources ? &second : nullptr;
    const int splits = wgrad_splits(c, tile, device);
    const int rows = blocks_of(c.out, size.rows), columns = blocks_of(c.in, size.columns);
    with_shape<Half>(tile, [&](auto shape) {
        using Shape = decltype(shape);
        std::cout << "{\"rows\": " << size.rows << ", \"columns\": " << size.columns
                  << ", \"tap_rows\": " << size.tap_rows << ", \"side\": " << kWgradSide
                  << ", \"threads\": " << Shape::kThreads
                  << ", \"resident\": " << kRegisters / (kOfThread * Shape::kThreads)
                  << ", \"shared\": " << Shape::shared_bytes(p) << ", \"grid\": [" << splits << ", " << rows * columns
                  << ", " << c.taps / size.tap_rows << "], \"splits\": " << splits << ", \"stages\": " << p.stages
                  << ", \"weight_rows\": " << rows * size.rows << ", \"weight_columns\": " << columns * size.columns
                  << "}\n";
    });
}

// Where torch's library multiplies: the blocks of a pass over z and of one over y.
void print_library(const Request& r) {
    const Convolution& c = r.convolution;
    const std::int64_t pixels = std::int64_t{c.batch} * c.height * c.width;
    const std::int64_t out_pixels = std::int64_t{c.batch} * c.out_height() * c.out_width();
    std::cout << "{\"library\": true, \"z_blocks\": " << pass_over(pixels, c.in).blocks()
              << ", \"y_blocks\": " << pass_over(out_pixels, c.out).blocks() << "}\n";
}

}  // namespace

int main(int count, char** arguments) {
    if (count != 3) {
        std::cerr << "usage: print_plan MULTIPROCESSORS SHARED_BYTES < convolutions\n";
        return 2;
    }
    const Device device{std::atoi(arguments[1]), std::atoi(arguments[2])};
    for (Request r; std::cin >> r;) {
        if (r.by_library())
            print_library(r);
        else if (r.direction == "wgrad")
            print_weight_gradient(r, device);
        else if (r.trains())
            print_convolution(r, device);
        else if (r.direction == "tail")
            print_tail(r);
        else if (r.direction != "block" || !print_block(r, device))
            print_inference(r, device);
    }
    return std::cin.eof() ? 0 : 1;
}
