"""One self-test: run something, compare what it measured with its bound, and turn whatever goes wrong into a line."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from srgan_fast.doctor.report import SelfTest
from srgan_fast.runtime.registry import first_line

TestPart = Literal["imaging", "pictures", "backend", "op"]


@dataclass(frozen=True, slots=True)
class Measured:
    """An error and what it may be.

    Attributes:
        error: not negative; NaN is beyond every bound.
        bound: the largest that is right.
        measure: of what the error is, and in which unit.
    """

    error: float
    bound: float
    measure: str

    @property
    def right(self) -> bool:
        """Whether the error is within its bound."""
        return self.error <= self.bound

    @property
    def nearness(self) -> float:
        """Error over bound; what is not a number is beyond all others."""
        if self.error == 0:
            return 0.0
        return math.inf if self.bound == 0 or math.isnan(self.error) else self.error / self.bound


def check(part: TestPart, name: str, run: Callable[[], list[Measured]]) -> SelfTest:
    """Runs a test; of several errors the one nearest to its bound, or farthest beyond, is told."""
    try:
        worst = max(run(), key=lambda measured: measured.nearness)
    except Exception as error:  # whatever stops it is what this test is there to find
        return SelfTest(part=part, name=name, state="failed", detail=first_line(error))
    detail = "" if worst.right else f"error {worst.error:.1e} of {worst.measure} is beyond {worst.bound:.1e}"
    return SelfTest(
        part=part,
        name=name,
        state="passed" if worst.right else "failed",
        error=worst.error,
        bound=worst.bound,
        measure=worst.measure,
        detail=detail,
    )


def skip(part: TestPart, name: str, why: str) -> SelfTest:
    """A test that cannot run, which is no failure."""
    return SelfTest(part=part, name=name, state="skipped", detail=why)
