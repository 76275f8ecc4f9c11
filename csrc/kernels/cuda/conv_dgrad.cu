#include "kernels/cuda/conv_mma.cuh"
#include "kernels/cuda/launch.cuh"

namespace srgan_fast::cuda {

const char* launch_dgrad(Type type, Tile tile, const ConvParams& p, void* stream) {
    const Grid grid = grid_of(tile, p.batch, p.height, p.width, p.channels, p.spread);
    return with_map_type(type, [&](auto element) {
        using T = decltype(element);
        return with_shape<T>(tile, [&](auto shape) {
            using Shape = decltype(shape);
            return launch(conv_dgrad_kernel<T, Shape>, grid, Shape::kThreads,
                          shared_bytes(Shape::size(), p.step, p.reach, two_maps<true>(p)), p, stream);
        });
    });
}

}  // namespace srgan_fast::cuda
