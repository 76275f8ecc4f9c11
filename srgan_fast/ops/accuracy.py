"""Errors of kernel results against a reference."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class CheckError:
    """Error of a result against the reference.

    Attributes:
        what: operator, case and tensor.
        value: relative error of 2-norms; infinite if the result has values that are not finite.
        tolerance: largest error that rounding explains.
    """

    what: str
    value: float
    tolerance: float

    @property
    def excess(self) -> float:
        """Error divided by tolerance."""
        return self.value / self.tolerance


def largest_error(got: Tensor, expected: Tensor) -> float:
    """Largest absolute difference over the largest element; infinite if it is not a number."""
    error = float((got.double() - expected.double()).abs().max() / expected.double().abs().max().clamp_min(1e-6))
    return error if math.isfinite(error) else math.inf


def relative_error(got: Tensor, expected: Tensor) -> float:
    """2-norm of the difference over that of the reference; infinite if it is not a number."""
    error = float((got.double() - expected.double()).norm() / expected.double().norm().clamp_min(1e-6))
    return error if math.isfinite(error) else math.inf


def repeated(what: str, first: Tensor, again: Tensor) -> CheckError:
    """Checks that a second run gives the same bits; otherwise the error is infinite."""
    return CheckError(f"another run of {what}", 0.0 if torch.equal(first, again) else math.inf, 1.0)


def leave_garbage(like: Iterable[Tensor], dtype: torch.dtype) -> None:
    """Frees memory filled with NaN, of the sizes of the results that follow.

    PyTorch's allocator reuses it, so elements that a kernel fails to write show up as NaN.

    Args:
        like: tensors of those sizes, on the same device.
        dtype: of feature maps; vectors are float32.
    """
    garbage = [
        torch.full(tensor.shape, math.nan, dtype=kind, device=tensor.device)
        for tensor in like
        if tensor.is_cuda
        for kind in {dtype, torch.float32}
    ]
    garbage.clear()
