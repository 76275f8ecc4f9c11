"""Compares two reports of the same benchmark: which rows became faster, slower, wrong, or are missing.

A row's ratio is that of its medians; its interval reflects the scatter of the rounds within each run. It cannot account
for differences between runs (other programs, clocks).
"""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from srgan_fast.bench.report import ComparableReport, InferenceReport, ReportPart, RowResult
from srgan_fast.errors import UsageError

CONFIDENCE = 0.95
RESAMPLES = 4000
# Medians of fewer rounds cannot be resampled sensibly: their interval is the widest that the rounds allow.
FEWEST_ROUNDS = 5
_SEED = 0

Verdict = Literal[
    "faster", "slower", "same", "became wrong", "became failed", "gone", "new", "right again", "not right"
]
REGRESSIONS: frozenset[Verdict] = frozenset({"slower", "became wrong", "became failed", "gone"})


class RowComparison(ReportPart):
    """One row in one case."""

    case: str
    name: str
    verdict: Verdict = Field(description="not right: neither before nor now; gone, new: only in one report")
    regression: bool
    reason: str | None = Field(default=None, description="why it is wrong, failed or gone")
    before_ms: float | None = Field(default=None, description="median")
    after_ms: float | None = Field(default=None, description="median")
    ratio: float | None = Field(default=None, description="after / before: above 1 is slower")
    low: float | None = Field(default=None, description="lower end of the ratio's interval")
    high: float | None = Field(default=None, description="upper end of the ratio's interval")
    rounds: tuple[int, int] | None = Field(default=None, description="numbers of rounds, before and after")


class EnvironmentDifference(ReportPart):
    """A difference between the environments."""

    what: str
    before: str
    after: str


class Comparison(ReportPart):
    """Comparison of the rows of two reports."""

    schema_name: Literal["srgan_fast.bench.compare/1"] = Field(default="srgan_fast.bench.compare/1", alias="schema")
    benchmark: Literal["inference", "training"]
    before: str = Field(description="date of the first report")
    after: str = Field(description="date of the second report")
    threshold_percent: float
    confidence: float
    resamples: int
    rows: list[RowComparison] = Field(description="in the order of the first report, then new ones")
    regressions: int = Field(
        description="number of rows that are slower beyond the threshold, became wrong or failed, or are gone"
    )
    differences: list[EnvironmentDifference]
    warnings: list[str]


_Rows = dict[tuple[str, str], RowResult]


def compare_reports(before: ComparableReport, after: ComparableReport, threshold_percent: float = 5.0) -> Comparison:
    """Compares rows with the same case and name.

    Changes below the threshold count as none.

    Raises:
        UsageError: the reports are of different benchmarks, or have no row in common.
    """
    if not 0 <= threshold_percent < float("inf"):
        raise UsageError(f"threshold is {threshold_percent:g}; it must be 0 or more percent")
    kinds = ["inference" if isinstance(report, InferenceReport) else "training" for report in (before, after)]
    if kinds[0] != kinds[1]:
        raise UsageError(f"the first report is of {kinds[0]}, the second of {kinds[1]}; compare two of one kind")
    rows_before, rows_after = before.results(), after.results()
    if not rows_before.keys() & rows_after.keys():
        found = f"{_some_of(rows_before)} in the first, {_some_of(rows_after)} in the second"
        raise UsageError(f"the reports have no row in common: {found}")
    left_out = {(left.case, left.name): left.reason for left in getattr(after, "left_out", ())}
    rows = [_compare(key, row, rows_after.get(key), left_out, threshold_percent) for key, row in rows_before.items()]
    rows += [_judged(key, "new", row.reason) for key, row in rows_after.items() if key not in rows_before]
    differences = _differences(before, after)
    return Comparison(
        benchmark="inference" if isinstance(before, InferenceReport) else "training",
        before=before.created,
        after=after.created,
        threshold_percent=threshold_percent,
        confidence=CONFIDENCE,
        resamples=RESAMPLES,
        rows=rows,
        regressions=sum(row.regression for row in rows),
        differences=differences,
        warnings=_warnings(before, after, differences),
    )


def _some_of(rows: _Rows) -> str:
    named = [f"{name} at {case}" for case, name in rows]
    return " and ".join([*named[:1], *([f"{len(named) - 1} more"] if len(named) > 1 else [])]) or "none"


def _compare(
    key: tuple[str, str],
    before: RowResult,
    after: RowResult | None,
    left_out: dict[tuple[str | None, str], str],
    threshold_percent: float,
) -> RowComparison:
    was_right = before.status == "ok"
    if after is None:
        reason = left_out.get(key) or left_out.get((None, key[1])) or "not in the second report"
        return _judged(key, "gone" if was_right else "not right", reason)
    if after.status != "ok":
        became: Verdict = "became wrong" if after.status == "wrong" else "became failed"
        return _judged(key, became if was_right else "not right", after.reason)
    if not was_right:
        return _judged(key, "right again")
    if not _usable(before.runs_ms) or not _usable(after.runs_ms):
        return _judged(key, "not right", "its rounds are not recorded")
    ratio, low, high = ratio_of_medians(before.runs_ms, after.runs_ms)
    changed = abs(ratio - 1) * 100 >= threshold_percent and not low <= 1 <= high
    verdict: Verdict = "same" if not changed else "slower" if ratio > 1 else "faster"
    return _judged(
        key,
        verdict,
        before_ms=float(np.median(before.runs_ms)),
        after_ms=float(np.median(after.runs_ms)),
        ratio=ratio,
        low=low,
        high=high,
        rounds=(len(before.runs_ms), len(after.runs_ms)),
    )


def _usable(rounds_ms: list[float]) -> bool:
    return bool(rounds_ms) and all(0 < value < float("inf") for value in rounds_ms)


def _judged(key: tuple[str, str], verdict: Verdict, reason: str | None = None, **figures: Any) -> RowComparison:
    known = {"case": key[0], "name": key[1], "verdict": verdict, "regression": verdict in REGRESSIONS, "reason": reason}
    return RowComparison.model_validate(known | figures)


def ratio_of_medians(before: list[float], after: list[float]) -> tuple[float, float, float]:
    """The ratio after / before, and the ends of its interval.

    With at least `FEWEST_ROUNDS` on both sides the interval is a percentile bootstrap (Efron, 1979) of `CONFIDENCE`
    from a fixed seed. With fewer it spans the ratios of all pairs of rounds. All values are above 0.
    """
    ratio = float(np.median(after) / np.median(before))
    if min(len(before), len(after)) < FEWEST_ROUNDS:
        return ratio, min(after) / max(before), max(after) / min(before)
    generator = np.random.default_rng(_SEED)
    ratios = _resampled_medians(after, generator) / _resampled_medians(before, generator)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(ratios, [tail, 1 - tail])
    return ratio, float(low), float(high)


def _resampled_medians(values: list[float], generator: np.random.Generator) -> NDArray[np.float64]:
    at_once = max(1, 2**21 // len(values))  # bounds memory
    counts = [min(at_once, RESAMPLES - done) for done in range(0, RESAMPLES, at_once)]
    return np.concatenate([np.median(generator.choice(values, (count, len(values))), axis=1) for count in counts])


def _differences(before: ComparableReport, after: ComparableReport) -> list[EnvironmentDifference]:
    pairs = before.surroundings(), after.surroundings()
    names = dict.fromkeys(name for known in pairs for name in known)
    values = ((name, *(known.get(name, "not there") for known in pairs)) for name in names)
    return [EnvironmentDifference(what=name, before=a, after=b) for name, a, b in values if a != b]


def _warnings(before: ComparableReport, after: ComparableReport, differences: list[EnvironmentDifference]) -> list[str]:
    differ = {difference.what for difference in differences}
    warnings = []
    if differ & {"CPU", "CPUs", "instruction sets"}:
        warnings.append("the CPUs differ: the ratios tell machines apart, not versions of a program")
    if "model" in differ:
        warnings.append("the models differ: the rows do not do the same work")
    for which, report in (("first", before), ("second", after)):
        warnings += [f"the {which} report warns: {warning}" for warning in report.warnings]
    return warnings
