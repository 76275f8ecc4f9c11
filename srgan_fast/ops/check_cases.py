"""Calls of the fused convolution on which a GPU is examined, and in which ways; see `ops.cuda`."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch

from srgan_fast.ops.conv import UNIT

TYPES = (torch.bfloat16, torch.float16)  # that our own products take as they are

Products = Literal["faster", "own", "own-tf32", "library"]
Wants = Literal["source", "weight", "both"]


@dataclass(frozen=True, slots=True)
class CheckCase:
    """A small call of the fused convolution.

    Attributes:
        size: N, C, O, H, W of z.
        side: of the filters.
        stride: of the convolution.
        prologue: any of `scale`, `slope`, `residual`.
        shuffle: whether the prologue ends with a pixel shuffle.
        moments: whether mean and variance are asked for.
        activation: slope of an activation behind.
        wants: whose gradients are asked for: of what comes into the convolution, of its weights and bias, or of both,
            for which a pass of its own makes what both begin with.
    """

    size: tuple[int, int, int, int, int]
    side: int = 3
    stride: int = 1
    prologue: tuple[str, ...] = ()
    shuffle: bool = False
    moments: bool = False
    activation: float | None = None
    wants: Wants = "both"

    def ways(self) -> Iterator[tuple[torch.dtype, Products]]:
        """In which types, and by whose products, it can be computed; csrc/kernels/cuda/plan.h."""
        _, channels, out, *_ = self.size
        for dtype in TYPES:
            yield dtype, "own"
            if self.side <= 5 and channels % UNIT == out % UNIT == 0:
                yield dtype, "library"
        yield torch.float32, "library"
        yield torch.float32, "own-tf32"


_ALONE: tuple[Wants, ...] = ("source", "weight")
# Each kernel, odd sizes, channels that fill no block; which tiles they take depends on the device.
CHECKS = (
    CheckCase((2, 64, 64, 24, 24), prologue=("scale", "slope"), moments=True),
    CheckCase((2, 64, 64, 13, 19), prologue=("scale", "residual"), moments=True),
    CheckCase((64, 64, 128, 33, 31), activation=0.0),
    CheckCase((64, 3, 64, 33, 31), activation=0.2),
    CheckCase((2, 3, 64, 9, 40), activation=0.2),
    CheckCase((3, 64, 72, 17, 15), stride=2, prologue=("scale", "slope"), moments=True),
    CheckCase((2, 64, 256, 7, 9), prologue=("slope",), moments=True),
    CheckCase((2, 64, 40, 18, 14), prologue=("scale", "slope"), shuffle=True, moments=True),
    CheckCase((1, 256, 12, 21, 18), side=5, prologue=("slope",)),
    CheckCase((1, 5, 7, 1, 1)),
    CheckCase((2, 3, 64, 14, 19), side=9),
    CheckCase((1, 64, 3, 9, 23), side=9, prologue=("slope",)),
    # What stands behind a convolution, in the gradients' own kernels.
    *(
        replace(case, wants=wants)
        for wants in _ALONE
        for case in (
            CheckCase((2, 3, 64, 33, 31), activation=0.2),
            CheckCase((2, 64, 64, 13, 19), activation=0.0),
            CheckCase((2, 64, 64, 24, 24), prologue=("scale", "slope"), moments=True),
            CheckCase((3, 64, 72, 17, 15), stride=2, prologue=("scale", "slope"), moments=True),
            CheckCase((2, 64, 40, 18, 14), prologue=("scale", "slope"), shuffle=True, moments=True),
        )
    ),
)
