"""How far results of kernels lie from what is right."""

import math
from dataclasses import dataclass

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
