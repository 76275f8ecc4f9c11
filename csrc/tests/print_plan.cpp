// Prints what plan.h makes of convolutions on a device, a JSON object a line; for tools/gpu_roofline.py, which predicts
// from it what the kernels read, write and multiply.
//
//     print_plan MULTIPROCESSORS SHARED_BYTES < convolutions
//
// A convolution is a line of: forward|dgrad|wgrad, batch, in, out, height, width, taps, stride, and three of 0 and 1:
// whether z comes through a prologue, whether z comes from two maps, whether dy comes from two.
#include <cstdlib>
#include <iostream>
#include <string>

#include "kernels/cuda/conv_mma.cuh"
#include "kernels/cuda/wgrad_mma.cuh"

namespace {

using namespace srgan_fast::cuda;

struct Request {
    std::string direction;
    Convolution convolution;
    bool transforms, two_sources, two_gradients;
};

void print_convolution(const Request& r, const Device& device) {
    const bool backward = r.direction == "dgrad";
    const ConvParams plan = backward ? dgrad_plan(r.convolution) : forward_plan(r.convolution);
    const bool two_maps = backward ? r.two_gradients : r.two_sources;
    const Tile tile = choose_tile(plan, backward ? r.two_gradients : r.transforms, two_maps, device);
    const TileSize size = size_of(tile);
    const Grid grid = grid_of(tile, plan.batch, plan.height, plan.width, plan.channels, plan.spread);
    ConvParams packed = plan;
    set_weights(packed, tile, nullptr);
    with_shape(tile, [&](auto shape) {
        using Shape = decltype(shape);
        std::cout << "{\"rows\": " << size.rows << ", \"columns\": " << size.columns
                  << ", \"channels\": " << size.channels << ", \"depth\": " << size.depth
                  << ", \"threads\": " << Shape::kThreads << ", \"resident\": " << Shape::kBlocks
                  << ", \"shared\": " << shared_bytes(size, plan.step, plan.span, two_maps) << ", \"grid\": [" << grid.x
                  << ", " << grid.y << ", " << grid.z << "], \"step\": " << plan.step << ", \"spread\": " << plan.spread
                  << ", \"origin\": " << plan.origin << ", \"span\": " << plan.span << ", \"taps\": [";
    });
    for (int phase = 0; phase < plan.spread * plan.spread; ++phase)
        std::cout << (phase == 0 ? "" : ", ") << plan.taps[phase].count;
    std::cout << "], \"weight_rows\": " << packed.weight_rows << ", \"weight_columns\": " << packed.weight_columns
              << "}\n";
}

void print_weight_gradient(const Request& r, const Device& device) {
    constexpr int kRegisters = 65536, kOfThread = 256;  // of a multiprocessor; of a thread at most
    const Convolution& c = r.convolution;
    const WgradTile tile = choose_wgrad_tile(c, r.two_gradients, r.two_sources, device);
    const WgradSize size = size_of(tile);
    const int bytes = wgrad_stage_bytes(tile, c.taps, c.stride, r.two_gradients, r.two_sources);
    WgradParams p{};
    p.stride = c.stride, p.stages = wgrad_stages(bytes, device);
    p.gradient.moments = r.two_gradients;
    const float second = 0.0f;
    p.source.residual = r.two_sources ? &second : nullptr;
    const int splits = wgrad_splits(c, tile, device);
    const int rows = blocks_of(c.out, size.rows), columns = blocks_of(c.in, size.columns);
    with_shape(tile, [&](auto shape) {
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

}  // namespace

int main(int count, char** arguments) {
    if (count != 3) {
        std::cerr << "usage: print_plan MULTIPROCESSORS SHARED_BYTES < convolutions\n";
        return 2;
    }
    const Device device{std::atoi(arguments[1]), std::atoi(arguments[2])};
    Request r;
    Convolution& c = r.convolution;
    while (std::cin >> r.direction >> c.batch >> c.in >> c.out >> c.height >> c.width >> c.taps >> c.stride >>
           r.transforms >> r.two_sources >> r.two_gradients) {
        if (r.direction == "wgrad")
            print_weight_gradient(r, device);
        else
            print_convolution(r, device);
    }
    return std::cin.eof() ? 0 : 1;
}
