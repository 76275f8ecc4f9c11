#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/wgrad_mma.cuh"

namespace srgan_fast::cuda {

const char* launch_wgrad(Type type, WgradTile tile, const WgradParams& p, void* stream) {
    return with_type(type, [&](auto element) {
        return with_shape(tile, [&](auto shape) {
            using Shape = decltype(shape);
            const Grid grid{static_cast<unsigned>(p.splits),
                            static_cast<unsigned>(p.rows / Shape::kRows * (p.columns / Shape::kColumns)),
                            static_cast<unsigned>(p.taps / Shape::kTapRows)};
            return launch(conv_wgrad_kernel<decltype(element), Shape>, grid, Shape::kThreads, Shape::shared_bytes(p), p,
                          stream);
        });
    });
}

int wgrad_stages(WgradTile tile, const WgradParams& p, const Device& device) {
    return with_shape(tile, [&](auto shape) { return wgrad_stages(decltype(shape)::stage_bytes(p), device); });
}

}  // namespace srgan_fast::cuda
