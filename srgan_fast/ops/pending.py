"""Maps whose BatchNorm, activation, residual or pixel shuffle are still to be done, by the convolution that reads them.

A BatchNorm's statistics are known only when its convolution is done; so what follows it up to the next convolution
waits, as vectors of channels, beside the raw result, and becomes that convolution's prologue. Modules hand each other a
`Pending` instead of a tensor; `finish` does the waiting work in plain torch, for whoever wants a tensor.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn

from srgan_fast.ops.bn import bn_follow, bn_follow_reference, bn_scale, computes_on
from srgan_fast.ops.conv import (
    MOST_CHANNELS,
    UNIT,
    ConvResult,
    conv,
    conv_reference,
    phase_major,
    phase_minor,
    prologue,
)
from srgan_fast.ops.packing import packed_for
from srgan_fast.ops.switch import say_once


@dataclass(frozen=True, slots=True)
class Pending:
    """A raw map and what is to be done with it; see `conv.prologue` for the meaning and the shapes.

    Attributes:
        raw: N, C, H, W; where `shuffled`, N, 4C, H, W, phase by phase.
        center: what is subtracted.
        scale: factor.
        shift: what is added.
        slope: of the activation.
        residual: added behind the affine map.
        shuffled: whether a pixel shuffle comes last.
    """

    raw: Tensor
    center: Tensor | None = None
    scale: Tensor | None = None
    shift: Tensor | None = None
    slope: Tensor | None = None
    residual: Tensor | None = None
    shuffled: bool = False

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""
        return not self.shuffled and all(
            t is None for t in (self.center, self.scale, self.shift, self.slope, self.residual)
        )

    def finish(self) -> Tensor:
        """The map itself, N, C, H, W."""
        if self.done:
            return self.raw
        z = prologue(self.raw, self.center, self.scale, self.shift, self.slope, self.residual, self.shuffled)
        return z.to(self.raw.dtype)


class SharesMoments(ABC):  # not a Protocol, which would be asked for its methods a hundred times in a step
    """A BatchNorm whose statistics are those of several processes together."""

    @abstractmethod
    def share_moments(self, mean: Tensor, var: Tensor, count: int) -> tuple[Tensor, Tensor, int]:
        """From this process' moments of `count` values a channel to those of all."""


def convolve(
    source: Pending,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: int = 1,
    moments: bool = False,
    activation: float | None = None,
) -> ConvResult:
    """A convolution of a pending map, padded to keep its size; see `conv.conv`.

    Sizes of kernels that are not fused go through plain torch, which is said once.
    """
    raw = source.raw
    vectors = raw.dtype if raw.dtype == torch.float64 else torch.float32
    if weight.dtype != vectors:
        weight, bias = weight.to(vectors), None if bias is None else bias.to(vectors)
    side = weight.shape[-1]
    sides = (3, 5, 9) if raw.device.type == "cuda" else (3, 5)
    covered = weight.shape[-2] == side and side in sides and (stride == 1 or (stride == 2 and side == 3))
    arguments = (
        raw, weight, bias, source.center, source.scale, source.shift, source.slope, source.residual,
        stride, source.shuffled, moments, activation,
    )  # fmt: skip
    if not covered:
        say_once(f"no fused kernel for {tuple(weight.shape[2:])} of stride {stride}; plain PyTorch computes instead")
        return conv_reference(*arguments)
    if raw.is_cuda and raw.dtype == torch.float32 and not in_units(source, weight, moments, activation):
        say_once(
            f"fused kernels take float32 on CUDA with channels in multiples of {UNIT} up to {MOST_CHANNELS}; "
            "plain PyTorch computes instead"
        )
        return conv_reference(*arguments)
    inputs = (raw, source.center, source.scale, source.shift, source.slope, source.residual)
    differentiates = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in inputs)
    return conv(*arguments, *packed_for(weight, stride, differentiates, raw.dtype))


def in_units(source: Pending, weight: Tensor, moments: bool, activation: float | None) -> bool:
    """Whether passes over a convolution's maps, where there are any, find whole units of channels."""
    before = source.done or (weight.shape[1] % UNIT == 0 and source.raw.shape[1] <= MOST_CHANNELS)
    behind = (not moments and activation is None) or (weight.shape[0] % UNIT == 0 and weight.shape[0] <= MOST_CHANNELS)
    return before and behind


def normalise(result: ConvResult, bn: nn.BatchNorm2d, *, permuted: bool = False) -> Pending:
    """The pending BatchNorm of a convolution's result, whose moments were taken if `batch_statistics(bn)`.

    Running statistics follow torch's rules: momentum, unbiased variance, eps as given.

    Args:
        result: of the convolution.
        bn: affine or not, tracking or not.
        permuted: the channels of the result are phase by phase, those of `bn` in PyTorch's order.

    Raises:
        ValueError: as torch does, one value a channel in training.
    """

    def ordered(values: Tensor) -> Tensor:
        return phase_major(values) if permuted else values

    wide = result.y.dtype if result.y.dtype == torch.float64 else torch.float32
    if batch_statistics(bn):
        mean, var = result.mean, result.var
        count = result.y.shape[0] * result.y.shape[2] * result.y.shape[3]
        if isinstance(bn, SharesMoments):
            mean, var, count = bn.share_moments(mean, var, count)
        if count == 1:
            raise ValueError(
                f"Expected more than 1 value per channel when training, got input size {tuple(result.y.shape)}"
            )
        if bn.training:
            own_mean, own_var = (phase_minor(mean), phase_minor(var)) if permuted else (mean, var)
            follow_moments(bn, own_mean.detach(), own_var.detach(), count)
    else:
        mean, var = (ordered(cast(Tensor, t)).to(wide) for t in (bn.running_mean, bn.running_var))
    weight, shift = (ordered(t).to(wide) for t in (bn.weight, bn.bias)) if bn.affine else (None, None)
    return Pending(result.y, mean, bn_scale(var.contiguous(), weight, bn.eps), shift)


def batch_statistics(bn: nn.BatchNorm2d) -> bool:
    """Whether a BatchNorm uses the moments of the batch, not its running ones."""
    return bn.training or bn.running_mean is None


def follow_moments(bn: nn.BatchNorm2d, mean: Tensor, var: Tensor, count: int) -> None:
    """Moves a BatchNorm's running statistics as torch does: momentum, or all batches alike; unbiased variance.

    Args:
        bn: in training; one that tracks nothing is left alone.
        mean: of each channel over the batch.
        var: biased variance of each.
        count: of values a channel, 2 or more.
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
    """A convolution and the BatchNorm and activation behind it, which wait.

    Args:
        source: input.
        conv: 3x3, padding 1, stride 1 or 2.
        bn: None for none.
        slope: of the activation behind it; None for none.

    Returns:
        The pending map, and the convolution's result, for the side output.
    """
    moments = bn is not None and batch_statistics(bn)
    result = convolve(source, conv.weight, conv.bias, stride=conv.stride[0], moments=moments)
    pending = Pending(result.y) if bn is None else normalise(result, bn)
    return replace(pending, slope=slope), result
