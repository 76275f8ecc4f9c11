"""Runs one self-test: compares what it measures with its bound, and reports any failure in one line."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from srgan_fast.doctor.report import SelfTest
from srgan_fast.runtime.registry import first_line

TestPart = Literal["imaging", "pictures", "backend", "op"]


@dataclass(frozen=True, slots=True)
class Measured:
    """A measured error and its bound.

    Attributes:
        error: not negative; NaN exceeds every bound.
        bound: largest acceptable error.
        measure: quantity and unit of the error.
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
        """Error divided by bound; infinite for NaN."""
        if self.error == 0:
            return 0.0
        return math.inf if self.bound == 0 or math.isnan(self.error) else self.error / self.bound


def check(part: TestPart, name: str, run: Callable[[], list[Measured]]) -> SelfTest:
    """Runs a self-test; of several errors, the one closest to or furthest beyond its bound is reported."""
    try:
        worst = max(run(), key=lambda measured: measured.nearness)
    except Exception as error:  # any failure is what the test is meant to find
        return SelfTest(part=part, name=name, state="failed", detail=first_line(error))
    detail = "" if worst.right else f"error {worst.error:.1e} of {worst.measure} exceeds {worst.bound:.1e}"
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
    """A self-test that cannot run, which is not a failure."""
    return SelfTest(part=part, name=name, state="skipped", detail=why)
