#include "kernels/cuda/infer_mma.cuh"
#include "kernels/cuda/launch.cuh"

namespace srgan_fast::cuda {

const char* launch_infer(Type type, Tile tile, const InferParams& p, void* stream) {
    const ConvParams& c = p.conv;
    const Grid grid = grid_of(tile, c.batch, c.height, c.width, c.channels, 1);
    return with_type(type, [&](auto element) {
        return with_infer_shape(tile, [&](auto shape) {
            using Shape = decltype(shape);
            return launch(conv_infer_kernel<decltype(element), Shape>, grid, Shape::kThreads,
                          shared_bytes(Shape::size(), c.step, c.reach, false), p, stream);
        });
    });
}

const char* launch_unfold(Type type, const UnfoldParams& p, void* stream) {
    constexpr int kThreads = 256;
    const std::int64_t units = static_cast<std::int64_t>(p.batch) * (p.height + 1) * p.width * (p.kChannels / 8);
    const Grid grid{static_cast<unsigned>((units + kThreads - 1) / kThreads), 1, 1};
    return with_type(type, [&](auto element) {
        return launch(unfold_kernel<decltype(element), kThreads>, grid, kThreads, 0, p, stream);
    });
}

const char* launch_tail(Type type, const TailParams& p, void* stream) {
    return with_type(type, [&](auto element) {
        return launch(tail_kernel<decltype(element)>, tail_grid(p.conv), TailShape::kThreads, tail_shared_bytes(p.conv),
                      p, stream);
    });
}

}  // namespace srgan_fast::cuda
