"""BatchNorm's per-channel vector arithmetic: from batch moments to a scale and running statistics.

    scale = weight / sqrt(var + eps)
    running_mean += share * (mean - running_mean)
    running_var += share * (var * count / (count - 1) - running_var)

where `share` is the momentum or, as in PyTorch, one over the number of batches so far. Each is one operator, forward
and backward; in plain PyTorch it would be a dozen, whose launches cost more than their arithmetic. Vectors hold C
values of float32, on CPUs also float64.
"""

from typing import Any, cast

import torch
from torch import Tensor

from srgan_fast.ops.direct import below_autograd, with_gradient, without_gradient
from srgan_fast.ops.native import available, refuse_several_devices, why_not_on_cuda


def bn_scale(var: Tensor, weight: Tensor | None, eps: float) -> Tensor:
    """`weight / sqrt(var + eps)`, with gradients of both.

    Args:
        var: C biased variances.
        weight: C factors; None for 1.
        eps: BatchNorm's epsilon.

    Returns:
        C factors.

    Raises:
        RuntimeError: shapes, dtypes or devices do not match.
    """
    return cast(Tensor, _bn_scale(var, weight, eps))


def bn_scale_reference(var: Tensor, weight: Tensor | None, eps: float) -> Tensor:
    """`bn_scale` in plain PyTorch."""
    scale = torch.rsqrt(var + eps)
    return scale if weight is None else scale * weight


def bn_follow(
    mean: Tensor,
    var: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    batches: Tensor,
    momentum: float | None,
    count: int,
) -> None:
    """Updates running statistics in place.

    Args:
        mean: C, batch mean.
        var: C, biased batch variance.
        running_mean: C, updated.
        running_var: C, updated.
        batches: number of batches so far, one int64; incremented.
        momentum: None for a cumulative average.
        count: values per channel, 2 or more.

    Raises:
        RuntimeError: shapes, dtypes or devices do not match, or the count is below 2.
    """
    torch.ops.srgan_fast.bn_follow(mean, var, running_mean, running_var, batches, momentum, count)
    if not torch.compiler.is_compiling():  # increments the version counter, as PyTorch's in-place operators do
        torch.autograd.graph.increment_version((running_mean, running_var, batches))


def computes_on(values: Tensor) -> bool:
    """Whether these operators support a tensor's device and dtype."""
    if values.device.type == "cuda":
        return why_not_on_cuda() is None and values.dtype == torch.float32
    return available() and values.device.type == "cpu" and values.dtype in (torch.float32, torch.float64)


def bn_follow_reference(
    mean: Tensor,
    var: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    batches: Tensor,
    momentum: float | None,
    count: int,
) -> None:
    """`bn_follow` in plain PyTorch; running statistics may have another dtype."""
    batches.add_(1)
    share = 1.0 / batches.to(running_mean) if momentum is None else momentum
    running_mean.lerp_(mean.to(running_mean.dtype), share)
    running_var.lerp_((var * (count / (count - 1))).to(running_var.dtype), share)


def _fake_scale(var: Tensor, weight: Tensor | None, eps: float) -> Tensor:
    refuse_several_devices("bn_scale", var, weight)
    return torch.empty_like(var)


def _fake_backward(gradient: Tensor, var: Tensor, weight: Tensor | None, eps: float) -> tuple[Tensor, Tensor]:
    refuse_several_devices("bn_scale_backward", gradient, var, weight)
    return torch.empty_like(var), var.new_empty(0 if weight is None else var.shape[0])


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    var, weight, eps = inputs
    ctx.save_for_backward(var, weight)
    ctx.eps = eps


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, None]:
    var, weight = ctx.saved_tensors
    d_var, d_weight = below_autograd(
        torch.ops.srgan_fast.bn_scale_backward, gradient.contiguous(), var, weight, ctx.eps
    )
    return d_var, None if weight is None else d_weight, None


def _register() -> None:
    torch.library.register_fake("srgan_fast::bn_scale", _fake_scale)
    torch.library.register_fake("srgan_fast::bn_scale_backward", _fake_backward)
    torch.library.register_fake("srgan_fast::bn_follow", lambda *arguments: None)
    without_gradient("bn_scale_backward")


_bn_scale = with_gradient("bn_scale", _backward, _save)
if available():
    _register()
