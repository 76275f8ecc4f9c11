"""What a fused convolution does to its input, and maps on which that is still to be done.

The input `z` of the convolution is computed on the fly from the raw result `raw` of an earlier one and never stored:

    z = a(scale * (raw - center) + shift)               the preceding BatchNorm and activation; or
    z = scale * (raw - center) + shift + residual       the end of a residual block; or
    z = pixel_shuffle(a(scale * (raw - center) + shift))

with `a(u) = u if u > 0 else slope * u`. A pixel shuffle expects the channels of `raw` in phase-major order: channel
`(2 * dy + dx) * C + c` becomes channel `c` of pixel `(2y + dy, 2x + dx)`.
"""

from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from srgan_fast.ops.bn import bn_scale
from srgan_fast.ops.direct import below_autograd, with_gradient
from srgan_fast.ops.native import on_cuda, why_not_on_cuda

Maybe = Tensor | None
_ops: Any = torch.ops.srgan_fast
UNIT, MOST_CHANNELS = 8, 2048  # channels that the CUDA passes support: multiples of the first up to the second


class Pending(NamedTuple):
    """A raw map and its prologue: the operations that are deferred to the convolution that reads it.

    The fields are the arguments by which operators take their input, in their order (csrc/torch/arguments.h).

    Attributes:
        raw: N, C, H, W; if `shuffled`, N, 4C, H, W, phase-major.
        center: one value, or one per channel of `raw`; None for 0. Likewise `scale` (1), `shift` (0), `slope` (1).
        scale: factor.
        shift: offset.
        slope: of the activation, for negative values.
        residual: shape of `raw`; cannot be combined with `slope` or `shuffled`.
        shuffled: whether a pixel shuffle comes last.
        var: C biased variances of the BatchNorm that `scale` comes from, `gamma / sqrt(var + eps)`; then gradients are
            computed for variance and gamma, and none for `scale`. None if `scale` has a gradient of its own.
        gamma: C factors of that BatchNorm; None for 1.
        eps: added to the variances.
    """

    raw: Tensor
    center: Maybe = None
    scale: Maybe = None
    shift: Maybe = None
    slope: Maybe = None
    residual: Maybe = None
    shuffled: bool = False
    var: Maybe = None
    gamma: Maybe = None
    eps: float = 0.0

    @property
    def vectors(self) -> tuple[Maybe, Maybe, Maybe, Maybe]:
        """Center, scale, shift and slope."""
        return self[1:5]

    @property
    def tensors(self) -> tuple[Maybe, ...]:
        """All tensors that may have a gradient."""
        return (*self[:6], *self[7:9])

    @property
    def done(self) -> bool:
        """Whether nothing is deferred."""
        return not self.shuffled and all(t is None for t in self[1:6])

    def with_gradient(self) -> "Pending":
        """The same with a `scale` that has a gradient, for plain PyTorch."""
        if self.var is None:
            return self
        return self._replace(scale=bn_scale(self.var, self.gamma, self.eps), var=None, gamma=None)

    def finish(self) -> Tensor:
        """Applies the deferred operations: N, C, H, W."""
        if self.done:
            return self.raw
        if prologue_is_fused(self):
            return fused_prologue(self)
        return prologue(self.with_gradient()).to(self.raw.dtype)


ARGUMENTS = len(Pending._fields)  # of an operator, that are its input


def prologue(source: Pending) -> Tensor:
    """Computes `z` of a fused convolution in plain PyTorch: N, C, H, W, or N, C, 2H, 2W; 16-bit maps give float32."""

    def per_channel(values: Tensor) -> Tensor:
        return values[:, None, None]

    x = source.raw
    z = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
    if source.center is not None:
        z = z - per_channel(source.center)
    if source.scale is not None:
        z = z * per_channel(source.scale)
    if source.shift is not None:
        z = z + per_channel(source.shift)
    if source.residual is not None:
        z = z + source.residual
    if source.slope is not None:
        z = F.prelu(z, source.slope)
    if source.shuffled:
        phases = z.reshape(z.shape[0], 4, -1, *z.shape[2:])
        z = F.pixel_shuffle(phases.transpose(1, 2).reshape(z.shape), 2)
    return z


def fused_prologue(source: Pending) -> Tensor:
    """`prologue` in one kernel, and its gradients in two; on CUDA only.

    Args:
        source: channels in multiples of 8 up to 2048; at least one of the vectors must be there.

    Returns:
        As `prologue`, in the dtype of the map.

    Raises:
        RuntimeError: unsupported shapes, dtypes, devices or combinations.
    """
    return cast(Tensor, _prologue(*source))


def prologue_is_fused(source: Pending) -> bool:
    """Whether `fused_prologue` can compute a prologue."""
    x = source.raw
    present = [t for t in source.vectors if t is not None]
    channels = x.shape[1] // (4 if source.shuffled else 1)
    return (
        on_cuda(x)
        and not torch.compiler.is_compiling()
        and why_not_on_cuda() is None
        and x.dtype in (torch.bfloat16, torch.float16, torch.float32)
        and bool(present)
        and all(t.dtype == torch.float32 for t in present)
        and not (source.residual is not None and (source.shuffled or source.slope is not None))
        and channels % UNIT == 0
        and x.shape[1] <= MOST_CHANNELS
        and x.numel() > 0
    )


def phase_major(values: Tensor, phases: int = 4) -> Tensor:
    """Reorders the first axis from PyTorch's pixel-shuffle order, `phases * c + phase`, to ours, `phase * C + c`."""
    return values.view(-1, phases, *values.shape[1:]).transpose(0, 1).reshape(values.shape)


def phase_minor(values: Tensor, phases: int = 4) -> Tensor:
    """Inverse of `phase_major`."""
    return values.view(phases, -1, *values.shape[1:]).transpose(0, 1).reshape(values.shape)


def source_gradients(source: Pending, found: tuple[Tensor, ...]) -> list[Maybe]:
    """Gradients of a source's fields from those of its tensors, which kernels give for all of them."""
    x, center, scale, shift, slope, residual, var, gamma = found
    return [
        x,
        _reduced(center, source.center),
        None if source.var is not None else _reduced(scale, source.scale),
        _reduced(shift, source.shift),
        _reduced(slope, source.slope),
        None if source.residual is None else residual,
        None,
        None if source.var is None else var,
        None if source.gamma is None else gamma,
        None,
    ]


def _reduced(gradient: Tensor, like: Maybe) -> Maybe:
    """Gradient of a vector that may have been broadcast from one value to all channels."""
    if like is None:
        return None
    if gradient.shape == like.shape:
        return gradient
    return gradient.sum().reshape(like.shape) if like.numel() == 1 != gradient.numel() else gradient.view(like.shape)


def save_source(ctx: Any, source: Pending, *others: Maybe) -> None:
    """Saves a source, and other tensors, for the backward pass."""
    ctx.save_for_backward(*source.tensors, *others)
    ctx.shuffled, ctx.eps = source.shuffled, source.eps


def saved_source(ctx: Any) -> tuple[Pending, tuple[Maybe, ...]]:
    """What `save_source` has saved."""
    x, center, scale, shift, slope, residual, var, gamma, *others = ctx.saved_tensors
    return Pending(x, center, scale, shift, slope, residual, ctx.shuffled, var, gamma, ctx.eps), tuple(others)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    save_source(ctx, Pending(*inputs))


def _backward(ctx: Any, g: Tensor) -> tuple[Maybe, ...]:
    source, _ = saved_source(ctx)
    return tuple(source_gradients(source, below_autograd(_ops.prologue_backward, *source, g)))


_prologue = with_gradient("prologue", _backward, _save, on_cuda_only=True)
