#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/wgrad_mma.cuh"

namespace srgan_fast::cuda {

const char* launch_wgrad(Type type, WgradTile tile, const WgradParams& p, void* stream) {
    return with_map_type(type, [&](auto element) {
        using T = decltype(element);
        return with_shape<T>(tile, [&](auto shape) {
            using Shape = decltype(shape);
            const Grid grid{static_cast<unsigned>(p.splits),
                            static_cast<unsigned>(p.rows / Shape::kRows * (p.columns / Shape::kColumns)),
                            static_cast<unsigned>(p.taps / Shape::kTapRows)};
            return launch(conv_wgrad_kernel<T, Shape>, grid, Shape::kThreads, Shape::shared_bytes(p), p, stream);
        });
    });
}

int wgrad_stages(Type type, WgradTile tile, const WgradParams& p, const Device& device) {
    const auto stages = [&](auto shape) { return wgrad_stages(decltype(shape)::stage_bytes(p), device); };
    return type == Type::kFloat ? with_shape<float>(tile, stages) : with_shape<Half>(tile, stages);
}

}  // namespace srgan_fast::cuda
