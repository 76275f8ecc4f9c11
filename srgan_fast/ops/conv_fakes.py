"""Fake kernels of the fused convolutions: shapes, dtypes and checks of the operators without computing, for tracing.

`ops.conv` has the operators and documents their arguments.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from srgan_fast.ops.direct import without_gradient
from srgan_fast.ops.native import refuse_several_devices, why_not_on_cuda
from srgan_fast.ops.prologue import ARGUMENTS


def _empty_like_map(x: Tensor, *shape: int) -> Tensor:
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)


def _check_fake(x: Tensor, weight: Tensor, shuffle: bool, others: Iterable[object]) -> None:
    """The checks of the real kernels, so that tracing rejects the same calls."""
    refuse_several_devices("conv", x, weight, *others)
    if x.dim() != 4 or weight.dim() != 4 or x.shape[1] != weight.shape[1] * (4 if shuffle else 1):
        raise RuntimeError(
            f"srgan_fast::conv: weights {tuple(weight.shape)} do not fit a map {tuple(x.shape)}"
            + (" that is shuffled" if shuffle else "")
        )


# Operators begin with the arguments of their input, then weight, stride and packed weights; see csrc/torch/arguments.h.
def _fake_forward(*arguments: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    x, *_, residual, shuffle, _, _, _ = arguments[:ARGUMENTS]
    weight, stride, _, _, moments = arguments[ARGUMENTS : ARGUMENTS + 5]
    _check_fake(x, weight, shuffle, arguments)
    factor = 2 if shuffle else 1
    n, height, width = x.shape[0], x.shape[2] * factor, x.shape[3] * factor
    out, channels = weight.shape[:2]
    y = _empty_like_map(x, n, out, (height + stride - 1) // stride, (width + stride - 1) // stride)
    size = out if moments else 0
    sums = x.new_empty(0) if residual is None else _empty_like_map(x, n, channels, height, width)
    return y, weight.new_empty(size), weight.new_empty(size), sums


def _fake_bn_forward(*arguments: Any) -> tuple[Tensor, ...]:
    weight = arguments[ARGUMENTS]
    return *_fake_forward(*arguments[: ARGUMENTS + 4], True), weight.new_empty(weight.shape[0])


def _fake_dgrad(*arguments: Any) -> tuple[Tensor, ...]:
    source, weight = arguments[:ARGUMENTS], arguments[ARGUMENTS]
    _check_fake(source[0], weight, source[6], arguments)
    affine = any(t is not None for t in source[1:6])
    return _fake_source_gradients(source, weight, source[0].shape[1] if affine else 0)


def _fake_wgrad(*arguments: Any) -> tuple[Tensor, Tensor]:
    x, weight, bias = arguments[0], arguments[ARGUMENTS], arguments[-1]
    _check_fake(x, weight, arguments[6], arguments)
    last = weight.stride(1) == 1 and weight.shape[1] > 1
    order = torch.channels_last if last else torch.contiguous_format
    gradient = torch.empty(weight.shape, dtype=weight.dtype, device=weight.device, memory_format=order)
    return gradient, weight.new_empty(weight.shape[0] if bias else 0)


def _fake_dy(g: Tensor, *arguments: Any) -> tuple[Tensor, Tensor]:
    *_, weight, bias = arguments
    refuse_several_devices("conv_dy", g, *arguments)
    return _empty_like_map(g, *g.shape), weight.new_empty(weight.shape[0] if bias else 0)


def _fake_prologue(*source: Any) -> Tensor:
    refuse_several_devices("prologue", *source)
    x, shuffle = source[0], source[6]
    n, channels, height, width = x.shape
    return _empty_like_map(x, *((n, channels // 4, 2 * height, 2 * width) if shuffle else x.shape))


def _fake_prologue_backward(*arguments: Any) -> tuple[Tensor, ...]:
    refuse_several_devices("prologue_backward", *arguments)
    source = arguments[:ARGUMENTS]
    like = next(t for t in source[1:5] if t is not None)
    return _fake_source_gradients(source, like, source[0].shape[1])


def _fake_source_gradients(source: tuple[Any, ...], like: Tensor, size: int) -> tuple[Tensor, ...]:
    """Gradients of x, center, scale, shift, slope, residual, var and gamma; `size` is that of the vectors."""
    x, slope, residual, var, gamma = source[0], source[4], source[5], source[7], source[8]
    sizes = [size, size, size, 1 if size and slope is not None and slope.numel() == 1 else size]
    norm = [0 if var is None else size, 0 if var is None or gamma is None else size]
    of_residual = x.new_empty(0) if residual is None else _empty_like_map(x, *x.shape)
    vectors, of_norm = ([like.new_empty(length) for length in lengths] for lengths in (sizes, norm))
    return _empty_like_map(x, *x.shape), *vectors, of_residual, *of_norm


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
        without_gradient("conv_dy")
        torch.library.register_fake("srgan_fast::prologue", _fake_prologue)
        torch.library.register_fake("srgan_fast::prologue_backward", _fake_prologue_backward)
        without_gradient("prologue_backward")
