#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/wgrad_mma.cuh"

namespace srgan_fast::cuda {

const char* launch_wgrad(Type type, WgradTile tile, const WgradParams& p, void* stream) {
    return with_type(type, [&](auto element) {
        return with_shape(tile, [&](auto shape) {
            using Shape = decltype(shape);
            const Grid grid{static_cast<unsigned>(p.splits),
                            static_cast<unsigned>(p.rows / Shape::kRows * (p.columns / Shape::kColumns)),
                            static_cast<unsigned>(p.taps)};
            return launch(conv_wgrad_kernel<decltype(element), Shape>, grid, Shape::kThreads,
                          Shape::shared_bytes(p.stride), p, stream);
        });
    });
}

}  // namespace srgan_fast::cuda
