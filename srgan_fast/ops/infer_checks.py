"""Small cases of the CUDA kernels of inference against their references in float64; part of a GPU's examination."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from srgan_fast.ops import infer
from srgan_fast.ops.accuracy import CheckError, largest_error, relative_error

# Of 2-norms: operands are exact in 16 bits, so that what is left is rounding the result, which the tail's is not.
_OF_ONE = 3.0  # an element's error over the largest element may be as many times that of all
TOLERANCE = {torch.bfloat16: 5e-3, torch.float16: 7e-4, torch.float32: 1e-5}


@dataclass(frozen=True, slots=True)
class InferCase:
    """A small call.

    Attributes:
        layer: `head`, `conv`, `block` or `tail`.
        size: N, C, O, H, W.
        behind: of a `conv`, any of `slope`, `residual`, `shuffle`.
    """

    layer: str
    size: tuple[int, int, int, int, int]
    behind: tuple[str, ...] = ()


# Each kernel, odd sizes, channels that fill no block; which tiles they take depends on the device.
CASES = (
    InferCase("head", (2, 3, 64, 13, 19)),
    InferCase("head", (1, 3, 24, 1, 1)),
    InferCase("conv", (2, 64, 64, 13, 19), ("slope",)),
    InferCase("conv", (16, 64, 64, 66, 70), ("residual",)),
    InferCase("conv", (2, 64, 256, 9, 17), ("slope", "shuffle")),
    InferCase("conv", (1, 40, 96, 5, 33), ("slope",)),
    InferCase("conv", (8, 136, 72, 40, 31), ("residual",)),
    InferCase("conv", (1, 96, 96, 7, 6), ("slope", "shuffle")),
    InferCase("block", (1, 64, 64, 13, 19)),
    InferCase("block", (3, 64, 64, 130, 70)),
    InferCase("tail", (1, 256, 3, 21, 40)),
    InferCase("tail", (2, 32, 3, 3, 61)),
)


def check(case: InferCase, device: torch.device, dtype: torch.dtype) -> list[CheckError]:
    """Runs a case on a CUDA device, and in float64 in plain torch; the error of its result."""
    got, expected = compute(case, device, dtype)
    tolerance = TOLERANCE[torch.float32 if case.layer == "tail" else dtype]
    largest = largest_error(got, expected)
    return [
        CheckError(f"{case}", relative_error(got, expected), tolerance),
        CheckError(f"one element of {case}", largest, _OF_ONE * tolerance),
    ]


def compute(case: InferCase, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """What the kernels make of a case, and what is right, in float64."""
    generator = torch.Generator().manual_seed(0)
    n, c, o, h, w = case.size

    def quarters(*shape: int) -> Tensor:
        return (torch.randint(-6, 7, shape, generator=generator).float() / 4).to(device)

    with torch.inference_mode():
        arguments, call, reference = _problem(case.layer, quarters, n, c, o, h, w)
        given, weight, *vectors = arguments
        extras: dict[str, Any] = {}
        if case.layer == "conv":
            extras = {"slope": quarters(o) if "slope" in case.behind else None, "shuffle": "shuffle" in case.behind}
            if "residual" in case.behind:
                extras["residual"] = quarters(n, o, h, w)
        sent = {name: value.to(dtype) if name == "residual" else value for name, value in extras.items()}
        pack = {"head": infer.pack_head, "tail": infer.pack_tail}.get(case.layer, infer.pack_conv)
        packed = [pack(v, dtype) if v.dim() == 4 else v for v in (weight, *vectors)]
        got = call(given if case.layer == "head" else given.to(dtype), *packed, **sent)
        wide = {name: value.double() if isinstance(value, Tensor) else value for name, value in extras.items()}
        return got, reference(given.double(), weight.double(), *(v.double() for v in vectors), **wide)


def _problem(
    layer: str, quarters: Callable[..., Tensor], n: int, c: int, o: int, h: int, w: int
) -> tuple[list[Tensor], Callable[..., Tensor], Callable[..., Tensor]]:
    """A layer's input, weights and vectors, how it is called, and its reference."""
    if layer == "conv":
        tensors = [quarters(n, c, h, w), quarters(o, c, 3, 3) / 8, quarters(o)]
        return tensors, infer.conv, infer.conv_reference
    if layer == "block":
        first, second = ([quarters(o, c, 3, 3) / 8, quarters(o)] for _ in range(2))
        return [quarters(n, c, h, w), *first, quarters(o), *second], infer.block, infer.block_reference
    if layer == "tail":
        return [quarters(n, c, h, w), quarters(o, c // 4, 9, 9) / 8, quarters(o)], infer.tail, infer.tail_reference
    colours = ((2.0, 1.0, 0.5), (-1.0, 0.0, 0.25))

    def head(x: Tensor, weight: Tensor, bias: Tensor, slope: Tensor) -> Tensor:
        return infer.head(x, *colours, weight, bias, slope)

    def head_reference(x: Tensor, weight: Tensor, bias: Tensor, slope: Tensor) -> Tensor:
        return infer.head_reference(x, *colours, weight, bias, slope)

    return [quarters(n, c, h, w), quarters(o, c, 9, 9) / 8, quarters(o), quarters(o)], head, head_reference
