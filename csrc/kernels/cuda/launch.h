// Launches the CUDA kernels; plain C++ for callers. Each function enqueues work on a stream and returns null or CUDA's
// error message. The caller owns all memory.
#pragma once

#include "kernels/cuda/params.h"
#include "kernels/cuda/plan.h"

namespace srgan_fast::cuda {

// Element type of maps. Multiplications of floats are rounded to TF32.
enum class Type { kBf16, kHalf, kFloat };

const char* launch_forward(Type type, Tile tile, const ConvParams& p, void* stream);
const char* launch_dgrad(Type type, Tile tile, const ConvParams& p, void* stream);
const char* launch_wgrad(Type type, WgradTile tile, const WgradParams& p, void* stream);
const char* launch_pack(Type type, const PackParams& p, void* stream);
const char* launch_merge_moments(const MomentsParams& p, void* stream);
const char* launch_sum(const SumParams& p, void* stream);
const char* launch_sum_weights(const WgradSumParams& p, void* stream);

const char* launch_source_pass(Type type, const SourcePassParams& p, void* stream);
const char* launch_result_pass(Type type, const ResultPassParams& p, void* stream);
const char* launch_gradient_pass(Type type, const GradientPassParams& p, void* stream);
const char* launch_source_gradient_pass(Type type, const SourceGradientPassParams& p, void* stream);
const char* launch_pool(Type type, const PoolParams& p, void* stream);
const char* launch_pool_gradient(Type type, const PoolParams& p, void* stream);

const char* launch_infer(Type type, const InferLaunch& how, const InferParams& p, void* stream);
const char* launch_picture(Type type, Tile tile, const PictureParams& p, void* stream);
const char* launch_block(Type type, const BlockLaunch& how, const BlockParams& p, void* stream);
const char* launch_unfold(Type type, const UnfoldParams& p, void* stream);
const char* launch_tail(Type type, const TailParams& p, void* stream);

const char* launch_bn_scale(const BnScaleParams& p, void* stream);
const char* launch_bn_scale_backward(const BnScaleBackwardParams& p, void* stream);
const char* launch_bn_follow(const BnFollowParams& p, void* stream);

const char* launch_pad(Type type, const PadParams& p, void* stream);

// The current device; throws std::runtime_error if it cannot be queried.
Device current_device();
constexpr int bytes_of(Type type) { return type == Type::kFloat ? kFloatBytes : kHalfBytes; }
// For WgradParams::stages.
int wgrad_stages(Type type, WgradTile tile, const WgradParams& p, const Device& device);

}  // namespace srgan_fast::cuda
