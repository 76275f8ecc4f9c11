"""Small calls of the fused convolution, for tests, `doctor` and the GPU self-test: inputs, results and gradients.

What a case computes is compared with `conv_reference` in float64 on the same inputs.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from srgan_fast.ops.conv import ConvResult
from srgan_fast.ops.prologue import Pending

Size = tuple[int, int, int, int, int]  # N, C, O, H, W of z
# `affine` is BatchNorm; `slope` and `slopes` add an activation of one slope or one per channel, `residual` a map;
# `slope alone` is an activation without BatchNorm.
Prologue = Literal["none", "affine", "slope", "slopes", "residual", "slope alone"]
# `quarters` are whole quarters, so that activations do not change sign with precision.
Values = Literal["normal", "quarters"]
VECTORS = ("center", "scale", "shift", "slope")
Inputs = dict[str, Tensor]
Function = Callable[..., ConvResult]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvCase:
    """A kind of call of the fused convolution.

    Attributes:
        side: kernel side.
        stride: 1 or 2.
        prologue: kind of prologue.
        shuffle: whether the prologue ends with a pixel shuffle.
        moments: whether mean and variance are computed.
        activation: slope of the activation after the convolution; None for none.
        bias: whether there is one.
    """

    side: int = 3
    stride: int = 1
    prologue: Prologue = "none"
    shuffle: bool = False
    moments: bool = False
    activation: float | None = None
    bias: bool = True


def draw(case: ConvCase, size: Size, dtype: torch.dtype, *, values: Values = "normal", seed: int = 0) -> Inputs:
    """Random inputs of a call, on the CPU: `x`, `weight`, and what the case has of `bias`, vectors and `residual`.

    Args:
        case: kind of call.
        size: N, C, O, H, W of z; a shuffled `x` has half the sides, rounded up.
        dtype: of the maps; weights and vectors are float32 with 16-bit maps.
        values: distribution.
        seed: of the generator.
    """
    generator = torch.Generator().manual_seed(seed)
    n, c, o, h, w = size
    if case.shuffle:
        h, w = (h + 1) // 2, (w + 1) // 2
    channels = 4 * c if case.shuffle else c
    wide = torch.float32 if dtype.itemsize == 2 else dtype

    def random(*shape: int, kind: torch.dtype = wide) -> Tensor:
        if values == "quarters":
            return (torch.randint(-6, 7, shape, generator=generator).double() / 4).to(kind)
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(kind)

    size_of_weights = 8 if values == "quarters" else (c * case.side**2) ** 0.5
    given = {
        "x": random(n, channels, h, w, kind=dtype).contiguous(memory_format=torch.channels_last),
        "weight": random(o, c, case.side, case.side) / size_of_weights,
    }
    if case.bias:
        # No result is 0, where the activation is not differentiable.
        given["bias"] = random(o) + (1 / 256 if values == "quarters" else 0)
    if case.prologue not in ("none", "slope alone"):
        given |= {name: random(channels) for name in ("center", "scale", "shift")}
    if case.prologue.startswith("slope"):
        count = channels if case.prologue == "slopes" else 1
        given["slope"] = torch.full((count,), 0.25, dtype=wide) if values == "quarters" else 0.3 * random(count)
    if case.prologue == "residual":
        given["residual"] = random(n, c, h, w, kind=dtype)
    return given


def call(function: Function, case: ConvCase, given: Mapping[str, Tensor], **more: Any) -> ConvResult:
    """Calls `conv`, or a function of the same arguments, with such inputs."""
    center, scale, shift, slope, residual = (given.get(name) for name in (*VECTORS, "residual"))
    source = Pending(given["x"], center, scale, shift, slope, residual, case.shuffle)
    return function(
        source,
        given["weight"],
        given.get("bias"),
        stride=case.stride,
        moments=case.moments,
        activation=case.activation,
        **more,
    )


def gradients(
    result: ConvResult, inputs: Mapping[str, Tensor], *, values: Values = "normal", seed: int = 1
) -> dict[str, Tensor]:
    """Gradients of a random linear function of all results, of those inputs that require one and have one."""
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros((), dtype=torch.float64, device=result.y.device)
    for part in result:
        factors = (
            torch.randint(-4, 5, part.shape, generator=generator).double()
            if values == "quarters"
            else torch.randn(part.shape, generator=generator, dtype=torch.float64)
        )
        if part.dim() == 1:  # moments: weighted like the map that they summarise
            factors = factors * result.y.numel() ** 0.5
        total = total + (part.double() * factors.to(part.device)).sum()
    names = [name for name, value in inputs.items() if value.requires_grad]
    if not names:
        return {}
    found = torch.autograd.grad(total, [inputs[name] for name in names], allow_unused=True)
    return {name: gradient for name, gradient in zip(names, found, strict=True) if gradient is not None}


def results(result: ConvResult) -> dict[str, Tensor]:
    """The parts of a result that are there, without gradient."""
    return {name: part.detach() for name, part in result._asdict().items() if part.numel()}
