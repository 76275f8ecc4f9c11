"""Cases of the fused convolution for the GPU self-test, and the configurations that each runs in; see `ops.cuda`."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch

from srgan_fast.ops.conv_cases import ConvCase, Size
from srgan_fast.ops.prologue import UNIT

TYPES = (torch.bfloat16, torch.float16)  # inputs that our tensor-core GEMMs take without conversion

Gemm = Literal["faster", "own", "own-tf32", "library"]
Wants = Literal["source", "weight", "both"]


@dataclass(frozen=True, slots=True)
class CheckCase(ConvCase):
    """A small call of the fused convolution.

    Attributes:
        size: N, C, O, H, W of z.
        wants: gradients to compute: of the convolution's input (`source`), of weights and bias, or of both, in which
            case a separate pass first computes what both need.
    """

    size: Size
    wants: Wants = "both"

    def ways(self) -> Iterator[tuple[torch.dtype, Gemm]]:
        """Pairs of dtype and GEMM implementation that can compute it; csrc/kernels/cuda/plan.h."""
        _, channels, out, *_ = self.size
        for dtype in TYPES:
            yield dtype, "own"
            if self.side <= 5 and channels % UNIT == out % UNIT == 0:
                yield dtype, "library"
        yield torch.float32, "library"
        yield torch.float32, "own-tf32"


_ALONE: tuple[Wants, ...] = ("source", "weight")
# Every kernel, odd sizes, channel counts that do not fill a block; tiles depend on the device.
CHECKS = (
    CheckCase((2, 64, 64, 24, 24), prologue="slope", moments=True),
    CheckCase((2, 64, 64, 13, 19), prologue="residual", moments=True),
    CheckCase((64, 64, 128, 33, 31), activation=0.0),
    CheckCase((64, 3, 64, 33, 31), activation=0.2),
    CheckCase((2, 3, 64, 9, 40), activation=0.2),
    CheckCase((3, 64, 72, 17, 15), stride=2, prologue="slope", moments=True),
    CheckCase((2, 64, 256, 7, 9), prologue="slope alone", moments=True),
    CheckCase((2, 64, 40, 18, 14), prologue="slope", shuffle=True, moments=True),
    CheckCase((1, 256, 12, 21, 18), side=5, prologue="slope alone"),
    CheckCase((1, 5, 7, 1, 1)),
    CheckCase((2, 3, 64, 14, 19), side=9),
    CheckCase((1, 64, 3, 9, 23), side=9, prologue="slope alone"),
    # Activations after a convolution, whose gradient is applied inside the gradient kernels.
    *(
        replace(case, wants=wants)
        for wants in _ALONE
        for case in (
            CheckCase((2, 3, 64, 33, 31), activation=0.2),
            CheckCase((2, 64, 64, 13, 19), activation=0.0),
            CheckCase((2, 64, 64, 24, 24), prologue="slope", moments=True),
            CheckCase((3, 64, 72, 17, 15), stride=2, prologue="slope", moments=True),
            CheckCase((2, 64, 40, 18, 14), prologue="slope", shuffle=True, moments=True),
        )
    ),
)
