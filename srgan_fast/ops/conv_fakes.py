"""Fake kernels of the fused convolutions: shapes, dtypes and checks of the operators without computing, for tracing.

`ops.conv` has the operators and documents their arguments.
"""

import torch
from torch import Tensor

from srgan_fast.ops.direct import without_gradient
from srgan_fast.ops.native import refuse_several_devices, why_not_on_cuda

Maybe = Tensor | None


def _empty_like_map(x: Tensor, *shape: int) -> Tensor:
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)


def _check_fake(x: Tensor, weight: Tensor, shuffle: bool, *others: Maybe) -> None:
    """The checks of the real kernels, so that tracing rejects the same calls."""
    refuse_several_devices("conv", x, weight, *others)
    if x.dim() != 4 or weight.dim() != 4 or x.shape[1] != weight.shape[1] * (4 if shuffle else 1):
        raise RuntimeError(
            f"srgan_fast::conv: weights {tuple(weight.shape)} do not fit a map {tuple(x.shape)}"
            + (" that is shuffled" if shuffle else "")
        )


def _fake_forward(
    x: Tensor,
    weight: Tensor,
    bias: Maybe,
    center: Maybe,
    scale: Maybe,
    shift: Maybe,
    slope: Maybe,
    residual: Maybe,
    stride: int,
    shuffle: bool,
    moments: bool,
    activation: float | None,
    packed: Maybe = None,
    packed_backward: Maybe = None,
    var: Maybe = None,
    gamma: Maybe = None,
    eps: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    vectors = (bias, center, scale, shift, slope, var, gamma)
    _check_fake(x, weight, shuffle, *vectors, residual, packed, packed_backward)
    factor = 2 if shuffle else 1
    n, height, width = x.shape[0], x.shape[2] * factor, x.shape[3] * factor
    out, channels = weight.shape[:2]
    y = _empty_like_map(x, n, out, (height + stride - 1) // stride, (width + stride - 1) // stride)
    size = out if moments else 0
    sums = x.new_empty(0) if residual is None else _empty_like_map(x, n, channels, height, width)
    return y, weight.new_empty(size), weight.new_empty(size), sums


def _fake_bn_forward(
    x: Tensor,
    weight: Tensor,
    bias: Maybe,
    center: Maybe,
    scale: Maybe,
    shift: Maybe,
    slope: Maybe,
    residual: Maybe,
    stride: int,
    shuffle: bool,
    *_others: object,
) -> tuple[Tensor, ...]:
    result = _fake_forward(x, weight, bias, center, scale, shift, slope, residual, stride, shuffle, True, None)
    return *result, weight.new_empty(weight.shape[0])


def _fake_dgrad(
    g: Tensor,
    y: Maybe,
    mean: Maybe,
    mean_gradient: Maybe,
    var_gradient: Maybe,
    sum_gradient: Maybe,
    x: Tensor,
    weight: Tensor,
    center: Maybe,
    scale: Maybe,
    shift: Maybe,
    slope: Maybe,
    residual: Maybe,
    stride: int,
    shuffle: bool,
    activation: float | None,
    packed: Maybe = None,
    var: Maybe = None,
    gamma: Maybe = None,
    eps: float = 0.0,
) -> tuple[Tensor, ...]:
    vectors_of_y = (mean, mean_gradient, var_gradient)
    _check_fake(x, weight, shuffle, g, y, *vectors_of_y, sum_gradient, center, scale, shift, slope, residual, packed)
    affine = any(t is not None for t in (center, scale, shift, slope, residual))
    residual_gradient = x.new_empty(0) if residual is None else _empty_like_map(x, *x.shape)
    vectors = _fake_vector_gradients(weight, x.shape[1] if affine else 0, slope, var, gamma)
    return _empty_like_map(x, *x.shape), residual_gradient, *vectors


def _fake_wgrad(
    g: Tensor,
    y: Maybe,
    mean: Maybe,
    mean_gradient: Maybe,
    var_gradient: Maybe,
    x: Tensor,
    weight: Tensor,
    center: Maybe,
    scale: Maybe,
    shift: Maybe,
    slope: Maybe,
    residual: Maybe,
    stride: int,
    shuffle: bool,
    activation: float | None,
    bias: bool,
) -> tuple[Tensor, Tensor]:
    vectors_of_y = (mean, mean_gradient, var_gradient)
    _check_fake(x, weight, shuffle, g, y, *vectors_of_y, center, scale, shift, slope, residual)
    last = weight.stride(1) == 1 and weight.shape[1] > 1
    order = torch.channels_last if last else torch.contiguous_format
    gradient = torch.empty(weight.shape, dtype=weight.dtype, device=weight.device, memory_format=order)
    return gradient, weight.new_empty(weight.shape[0] if bias else 0)


def _fake_dy(
    g: Tensor,
    y: Maybe,
    mean: Maybe,
    mean_gradient: Maybe,
    var_gradient: Maybe,
    weight: Tensor,
    activation: float | None,
    bias: bool,
) -> tuple[Tensor, Tensor]:
    refuse_several_devices("conv_dy", g, y, mean, mean_gradient, var_gradient, weight)
    return _empty_like_map(g, *g.shape), weight.new_empty(weight.shape[0] if bias else 0)


def _fake_prologue(
    x: Tensor,
    center: Maybe,
    scale: Maybe,
    shift: Maybe,
    slope: Maybe,
    residual: Maybe,
    shuffle: bool,
    *_norm: object,
) -> Tensor:
    refuse_several_devices("prologue", x, center, scale, shift, slope, residual)
    n, channels, height, width = x.shape
    return _empty_like_map(x, *((n, channels // 4, 2 * height, 2 * width) if shuffle else x.shape))


def _fake_prologue_backward(
    g: Tensor,
    x: Tensor,
    center: Maybe,
    scale: Maybe,
    shift: Maybe,
    slope: Maybe,
    residual: Maybe,
    shuffle: bool,
    var: Maybe = None,
    gamma: Maybe = None,
    eps: float = 0.0,
) -> tuple[Tensor, ...]:
    refuse_several_devices("prologue_backward", g, x, center, scale, shift, slope, residual, var, gamma)
    like = next(t for t in (scale, shift, slope, center) if t is not None)
    residual_gradient = x.new_empty(0) if residual is None else _empty_like_map(x, *x.shape)
    vectors = _fake_vector_gradients(like, x.shape[1], slope, var, gamma)
    return _empty_like_map(x, *x.shape), residual_gradient, *vectors


def _fake_vector_gradients(like: Tensor, size: int, slope: Maybe, var: Maybe, gamma: Maybe) -> list[Tensor]:
    """Gradients of center, scale, shift, slope, var and gamma."""
    sizes = [size, size, size, 1 if size and slope is not None and slope.numel() == 1 else size]
    sizes += [0 if var is None else size, 0 if var is None or gamma is None else size]
    return [like.new_empty(size) for size in sizes]


def _fake_pack(weight: Tensor, stride: int, backward: bool, bf16: bool = False) -> Tensor:
    out, channels, side, _ = weight.shape
    size = torch.ops.srgan_fast.conv_packed_size(out, channels, side, stride, backward, bf16)
    return weight.new_empty(size)


def register() -> None:
    """Registers the fake kernels, and that backward operators have no gradients."""
    torch.library.register_fake("srgan_fast::conv_forward", _fake_forward)
    torch.library.register_fake("srgan_fast::conv_bn_forward", _fake_bn_forward)
    torch.library.register_fake("srgan_fast::conv_dgrad", _fake_dgrad)
    torch.library.register_fake("srgan_fast::conv_wgrad", _fake_wgrad)
    torch.library.register_fake("srgan_fast::conv_pack", _fake_pack)
    without_gradient("conv_dgrad")
    without_gradient("conv_wgrad")
    if why_not_on_cuda() is None:
        torch.library.register_fake("srgan_fast::conv_dy", _fake_dy)
        torch.library.register_fake("srgan_fast::prologue", _fake_prologue)
        torch.library.register_fake("srgan_fast::prologue_backward", _fake_prologue_backward)
        without_gradient("conv_dy")
        without_gradient("prologue_backward")
