#include "kernels/cuda/infer_block.cuh"
#include "kernels/cuda/infer_mma.cuh"
#include "kernels/cuda/launch.cuh"

namespace srgan_fast::cuda {

const char* launch_infer(Type type, const InferLaunch& how, const InferParams& p, void* stream) {
    return with_type(type, [&](auto element) {
        using T = decltype(element);
        const auto start = [&](auto kernel, int threads) {
            return launch_early(kernel, how.grid, threads, how.shared_bytes, p, stream);
        };
        if (how.resident)
            return with_resident_shape(how.tile, [&](auto shape) {
                using Shape = decltype(shape);
                return start(infer_resident_kernel<T, Shape>, Shape::kThreads);
            });
        return with_infer_shape(how.tile, [&](auto shape) {
            using Shape = decltype(shape);
            return start(infer_fetching_kernel<T, Shape>, Shape::kThreads);
        });
    });
}

const char* launch_picture(Type type, Tile tile, const PictureParams& p, void* stream) {
    return with_type(type, [&](auto element) {
        return with_picture_shape(tile, [&](auto shape) {
            using Shape = decltype(shape);
            return launch_early(picture_kernel<decltype(element), Shape>, picture_grid(p.conv, tile), Shape::kThreads,
                                picture_shared_bytes(p.conv, tile), p, stream);
        });
    });
}

const char* launch_block(Type type, const BlockLaunch& how, const BlockParams& p, void* stream) {
    return with_type(type, [&](auto element) {
        return with_block_shape(how.way, [&](auto shape) {
            using Shape = decltype(shape);
            return launch_early(infer_block_kernel<decltype(element), Shape>, how.grid, Shape::kThreads,
                                how.shared_bytes, p, stream);
        });
    });
}

const char* launch_unfold(Type type, const UnfoldParams& p, void* stream) {
    constexpr int kThreads = 256;
    const std::int64_t units = static_cast<std::int64_t>(p.batch) * (p.height + 1) * p.width * (p.kChannels / 8);
    const Grid grid{static_cast<unsigned>((units + kThreads - 1) / kThreads), 1, 1};
    return with_type(type, [&](auto element) {
        return launch_early(unfold_kernel<decltype(element), kThreads>, grid, kThreads, 0, p, stream);
    });
}

const char* launch_tail(Type type, const TailParams& p, void* stream) {
    return with_type(type, [&](auto element) {
        return launch_early(tail_kernel<decltype(element)>, tail_grid(p.conv), TailShape::kThreads,
                            tail_shared_bytes(p.conv), p, stream);
    });
}

}  // namespace srgan_fast::cuda
