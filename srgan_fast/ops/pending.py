"""Maps whose BatchNorm, activation, residual or pixel shuffle is deferred to the convolution that reads them.

BatchNorm statistics are known only once the whole convolution is done. What follows it, up to the next convolution, is
therefore stored as per-channel vectors beside the raw result, and becomes the next convolution's prologue. Modules pass
each other a `Pending` (`ops.prologue`) instead of a tensor; its `finish` applies the deferred operations.
"""

from abc import ABC, abstractmethod
from typing import cast

import torch
from torch import Tensor, nn

from srgan_fast.ops.bn import bn_follow, bn_follow_reference, bn_scale, computes_on
from srgan_fast.ops.conv import ConvResult, Running, conv, conv_of_two, conv_reference, conv_with_bn
from srgan_fast.ops.native import on_cuda
from srgan_fast.ops.packing import packed_for
from srgan_fast.ops.prologue import MOST_CHANNELS, UNIT, Pending, phase_major, phase_minor
from srgan_fast.ops.switch import say_once


class SharesMoments(ABC):  # isinstance on a Protocol is slow, and it is called a hundred times per step
    """A BatchNorm whose statistics are combined across processes."""

    @abstractmethod
    def share_moments(self, mean: Tensor, var: Tensor, count: int) -> tuple[Tensor, Tensor, int]:
        """Combines this process' moments of `count` values per channel with those of all others."""


def convolve(
    source: Pending,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: int = 1,
    moments: bool = False,
    activation: float | None = None,
) -> ConvResult:
    """Convolves a pending map, padded to keep its size; see `conv.conv`.

    Kernel sizes without fused kernels use plain PyTorch, which is logged once.
    """
    return _convolve(source, weight, bias, stride, moments, activation, None)[0]


def _convolve(
    source: Pending,
    weight: Tensor,
    bias: Tensor | None,
    stride: int,
    moments: bool,
    activation: float | None,
    bn: nn.BatchNorm2d | None,
) -> tuple[ConvResult, Tensor | None]:
    """`convolve`; with a `bn` whose vectors may be computed in the same call, also its scale, if they were."""
    raw = source.raw
    vectors = raw.dtype if raw.dtype == torch.float64 else torch.float32
    if weight.dtype != vectors:
        weight, bias = weight.to(vectors), None if bias is None else bias.to(vectors)
    side = weight.shape[-1]
    sides = (3, 5, 9) if on_cuda(raw) else (3, 5)
    covered = weight.shape[-2] == side and side in sides and (stride == 1 or (stride == 2 and side == 3))

    def plain() -> ConvResult:
        return conv_reference(
            source.with_gradient(), weight, bias, stride=stride, moments=moments, activation=activation
        )

    if not covered:
        say_once(f"no fused kernel for {tuple(weight.shape[2:])} of stride {stride}; using plain PyTorch")
        return plain(), None
    if on_cuda(raw) and raw.dtype == torch.float32 and not in_units(source, weight, moments, activation):
        say_once(
            f"fused kernels take float32 on CUDA with channels in multiples of {UNIT} up to {MOST_CHANNELS}; "
            "using plain PyTorch"
        )
        return plain(), None
    differentiates = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in source.tensors)
    forward, backward = packed_for(weight, stride, differentiates, raw.dtype)
    if bn is not None:
        running = None if bn.running_mean is None or not bn.training else _running(bn)
        return conv_with_bn(
            source, weight, bias, stride=stride, gamma=bn.weight, eps=bn.eps, running=running,
            packed=forward, packed_backward=backward,
        )  # fmt: skip
    result = conv(
        source, weight, bias, stride=stride, moments=moments, activation=activation,
        packed=forward, packed_backward=backward,
    )  # fmt: skip
    return result, None


def convolve_two(
    source: Pending, batch: Tensor, weight: Tensor, bias: Tensor | None, activation: float | None
) -> tuple[Tensor, Tensor]:
    """A 3x3 convolution of a batch without gradient, whose last images `source` has with their gradient.

    Args:
        source: with a slope or nothing deferred.
        batch: raw; what is deferred is deferred for it, too.
        weight: see `conv.conv`.
        bias: see `conv.conv`.
        activation: see `conv.conv`.

    Returns:
        See `conv.conv_of_two`.
    """
    raw = source.raw
    vectors = raw.dtype if raw.dtype == torch.float64 else torch.float32
    if weight.dtype != vectors:
        weight, bias = weight.to(vectors), None if bias is None else bias.to(vectors)
    forward, backward = packed_for(weight, 1, torch.is_grad_enabled() and raw.requires_grad, raw.dtype)
    return conv_of_two(source, batch, weight, bias, activation=activation, packed=forward, packed_backward=backward)


def _running(bn: nn.BatchNorm2d) -> Running:
    statistics = cast(Tensor, bn.running_mean), cast(Tensor, bn.running_var), cast(Tensor, bn.num_batches_tracked)
    return Running(*statistics, cast(float, bn.momentum))


def _computes_vectors(bn: nn.BatchNorm2d, y: torch.dtype) -> bool:
    """Whether a convolution to maps of that dtype can compute the vectors of the BatchNorm after it."""
    wide = y if y == torch.float64 else torch.float32
    follows = bn.training and bn.track_running_stats and bn.running_mean is not None
    vectors = (bn.weight, bn.running_mean if follows else None, bn.running_var if follows else None)
    return (
        batch_statistics(bn)
        and not isinstance(bn, SharesMoments)
        and not torch.compiler.is_compiling()
        and (not follows or bn.momentum is not None)
        and all(t is None or (t.dtype == wide and t.is_contiguous()) for t in vectors)
        and bn.track_running_stats == (bn.running_mean is not None)
    )


def in_units(source: Pending, weight: Tensor, moments: bool, activation: float | None) -> bool:
    """Whether the CUDA passes around a convolution support its channel counts."""
    before = source.done or (weight.shape[1] % UNIT == 0 and source.raw.shape[1] <= MOST_CHANNELS)
    behind = (not moments and activation is None) or (weight.shape[0] % UNIT == 0 and weight.shape[0] <= MOST_CHANNELS)
    return before and behind


def normalise(
    result: ConvResult, bn: nn.BatchNorm2d, *, permuted: bool = False, scale: Tensor | None = None
) -> Pending:
    """Defers the BatchNorm of a convolution's result, whose moments are present if `batch_statistics(bn)`.

    Running statistics follow PyTorch's rules: momentum, unbiased variance, eps.

    Args:
        result: of the convolution.
        bn: affine or not, tracking or not.
        permuted: the result's channels are phase-major, those of `bn` in PyTorch's order.
        scale: if the convolution computed it, and with it the running statistics.

    Raises:
        ValueError: one value per channel in training, as in PyTorch.
    """

    def ordered(values: Tensor) -> Tensor:
        return phase_major(values) if permuted else values

    wide = result.y.dtype if result.y.dtype == torch.float64 else torch.float32
    if batch_statistics(bn):
        mean, var = result.mean, result.var
        if scale is not None:
            return Pending(result.y, mean, scale, bn.bias, var=var, gamma=bn.weight, eps=bn.eps)
        count = result.y.shape[0] * result.y.shape[2] * result.y.shape[3]
        if isinstance(bn, SharesMoments):
            mean, var, count = bn.share_moments(mean, var, count)
        _refuse_one_value(count, tuple(result.y.shape))
        if bn.training:
            own_mean, own_var = (phase_minor(mean), phase_minor(var)) if permuted else (mean, var)
            follow_moments(bn, own_mean.detach(), own_var.detach(), count)
    else:
        mean, var = (ordered(cast(Tensor, t)).to(wide) for t in (bn.running_mean, bn.running_var))
    weight, shift = (ordered(t).to(wide) for t in (bn.weight, bn.bias)) if bn.affine else (None, None)
    return Pending(result.y, mean, bn_scale(var.contiguous(), weight, bn.eps), shift)


def _refuse_one_value(count: int, shape: tuple[int, ...]) -> None:
    if count == 1:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {shape}")


def batch_statistics(bn: nn.BatchNorm2d) -> bool:
    """Whether a BatchNorm uses batch statistics rather than running ones."""
    return bn.training or bn.running_mean is None


def follow_moments(bn: nn.BatchNorm2d, mean: Tensor, var: Tensor, count: int) -> None:
    """Updates a BatchNorm's running statistics as PyTorch does: momentum or cumulative average; unbiased variance.

    Args:
        bn: in training mode; unchanged if it tracks no statistics.
        mean: batch mean per channel.
        var: biased batch variance per channel.
        count: values per channel, 2 or more.
    """
    if not bn.track_running_stats or bn.running_mean is None:
        return
    running = bn.running_mean, cast(Tensor, bn.running_var), cast(Tensor, bn.num_batches_tracked)
    same = bn.running_mean.dtype == mean.dtype
    follow = bn_follow if same and computes_on(mean) else bn_follow_reference
    with torch.no_grad():
        follow(mean.contiguous(), var.contiguous(), *running, bn.momentum, count)


def conv_bn(
    source: Pending,
    conv: nn.Conv2d,
    bn: nn.BatchNorm2d | None,
    slope: Tensor | None = None,
) -> tuple[Pending, ConvResult]:
    """A convolution and the BatchNorm and activation after it, which are deferred.

    Args:
        source: input.
        conv: 3x3, padding 1, stride 1 or 2.
        bn: None for none.
        slope: of the activation after it; None for none.

    Returns:
        The pending map, and the convolution's result, for its `sum` output.
    """
    moments = bn is not None and batch_statistics(bn)
    together = bn if bn is not None and _computes_vectors(bn, source.raw.dtype) else None
    if together is not None:
        factor, stride = 2 if source.shuffled else 1, conv.stride[0]
        n, sides = source.raw.shape[0], [-(-side * factor // stride) for side in source.raw.shape[2:]]
        _refuse_one_value(n * sides[0] * sides[1], (n, conv.out_channels, *sides))
    result, scale = _convolve(source, conv.weight, conv.bias, conv.stride[0], moments, None, together)
    pending = Pending(result.y) if bn is None else normalise(result, bn, scale=scale)
    return pending._replace(slope=slope), result
