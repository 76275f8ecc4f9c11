"""How far results of kernels lie from what is right."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class CheckError:
    """How far a result lies from the reference.

    Attributes:
        what: operator, case and tensor.
        value: relative error, of 2-norms; infinite where there are values that are not finite.
        tolerance: what rounding may cost.
    """

    what: str
    value: float
    tolerance: float

    @property
    def excess(self) -> float:
        """The error over what is tolerated."""
        return self.value / self.tolerance


def largest_error(got: Tensor, expected: Tensor) -> float:
    """Largest difference of an element over the largest element; infinite if it is no number."""
    error = float((got.double() - expected.double()).abs().max() / expected.double().abs().max().clamp_min(1e-6))
    return error if math.isfinite(error) else math.inf


def relative_error(got: Tensor, expected: Tensor) -> float:
    """2-norm of the difference over that of what is right; infinite if it is no number."""
    error = float((got.double() - expected.double()).norm() / expected.double().norm().clamp_min(1e-6))
    return error if math.isfinite(error) else math.inf


def repeated(what: str, first: Tensor, again: Tensor) -> CheckError:
    """Whether a result has the same bits a second time: else its error is infinite."""
    return CheckError(f"another run of {what}", 0.0 if torch.equal(first, again) else math.inf, 1.0)


def leave_garbage(like: Iterable[Tensor], dtype: torch.dtype) -> None:
    """Frees memory full of not-a-numbers, of the sizes of results to come.

    Torch's allocator gives it out again, so that an element that no kernel writes is seen.

    Args:
        like: tensors of those sizes, on their device.
        dtype: of maps; vectors are of float32.
    """
    garbage = [
        torch.full(tensor.shape, math.nan, dtype=kind, device=tensor.device)
        for tensor in like
        if tensor.is_cuda
        for kind in {dtype, torch.float32}
    ]
    garbage.clear()
