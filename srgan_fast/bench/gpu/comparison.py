"""Ours beside PyTorch's ways of computing the same, each in its own process, two at a time, in turns.

Two processes at a time, since a small card has no room for more networks and graphs; in turns, so that a GPU that slows
down slows both. So ours is measured once beside each of the others, and a ratio is of samples taken side by side.
"""

import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from srgan_fast.bench.turns import Taken, take_turns
from srgan_fast.bench.worker import Worker
from srgan_fast.errors import BackendError

WORKER = "srgan_fast.bench.gpu.row"
WAYS = {
    "ours": "our kernels; training steps and small images are replayed from a CUDA graph",
    "ours, own GEMMs": "the same without cuDNN's GEMMs, whatever the size",
    "ours, unrecorded": "the same, launched one by one",
    "eager": "PyTorch, channels-last, launched one by one",
    "recorded": "PyTorch, channels-last, replayed from a CUDA graph",
    "compiled": "PyTorch under torch.compile, replayed from a CUDA graph",
    "common loop": "PyTorch in the training loop that people write, launched one by one",
}
ROUNDS = 7
SAME = 1.03  # ratios up to it are no difference, so that equal measurements give equal choices
Kind = Literal["network", "step", "layer"]


class OutOfTimeError(BackendError):
    """The time limit of the report was reached before a case could be measured."""


@dataclass(slots=True)
class TimeLimit:
    """Time limit of a whole report; rows that it does not allow are left out."""

    limit_s: float
    began: float = field(default_factory=time.monotonic)

    def left_s(self) -> float:
        """Seconds left.

        Raises:
            OutOfTimeError: none.
        """
        left = self.began + self.limit_s - time.monotonic()
        if left <= 0:
            raise OutOfTimeError(f"the time limit of {self.limit_s:g} s was reached")
        return left


@dataclass(slots=True)
class GpuTime:
    """A way of computing a case: seconds per call, and its time divided by ours.

    `status`: `ok`, `failed` or `left out`; `against_ours`: `faster` if ours is faster by more than 3 %, `slower` or
    `same`; ratios are the median, smallest and largest of samples taken side by side.
    """

    kind: Kind
    what: str
    way: str
    status: str = "ok"
    reason: str | None = None
    median_s: float | None = None
    least_s: float | None = None
    most_s: float | None = None
    ratio: float | None = None
    least_ratio: float | None = None
    most_ratio: float | None = None
    against_ours: str | None = None
    load_s: float | None = None
    peak_mb: float | None = None


class GpuProcess(AbstractContextManager["GpuProcess"]):
    """A process of `row.GpuRow`, started when it is first needed and again after it died; a context manager."""

    def __init__(self, folder: Path, device: str, way: str, limit: TimeLimit) -> None:
        self.way = way
        self._folder, self._device, self._limit = folder, device, limit
        self._worker: Worker | None = None
        self._prepared: tuple[str, ...] | None = None
        self._refused: BackendError | None = None  # why it cannot start: it is not tried again for every case

    def ask(self, do: str, **details: Any) -> dict[str, Any]:
        """Sends a request.

        Raises:
            OutOfTimeError: the time limit was reached before or meanwhile.
            BackendError: it failed, with the reason.
        """
        left = self._limit.left_s()
        if self._refused is not None:
            raise self._refused
        try:
            if self._worker is None:
                self._worker = self._started(left)
            self._worker.allow(self._limit.left_s())
            found = self._worker.ask(do, **details)
        except BackendError:
            self.end()
            self._limit.left_s()  # says so if that was the reason
            raise
        if "failed" in found:
            self._prepared = None
            raise BackendError(found["failed"])
        return found

    def _started(self, left_s: float) -> Worker:
        worker = Worker(WORKER, self.way.replace(", ", "-"), self._folder, left_s)
        try:
            worker.ask("start", device=self._device, way=self.way)
        except BackendError as error:
            worker.end()
            self._refused = error
            raise
        return worker

    def prepare(self, kind: Kind, what: str, batch: int, hr: int) -> dict[str, Any]:
        """Makes a case's call, unless it is the current one; see `ask`."""
        case = (kind, what, str(batch), str(hr))
        if self._prepared == case:
            return {}
        self._prepared = None
        found = self.ask("prepare", kind=kind, what=what, batch=batch, hr=hr)
        self._prepared = case
        return found

    def turn(self, last: bool) -> Taken:
        """Times the call once; see `take_turns`."""
        return Taken(self.ask("run")["wall_s"], 0.0)

    def end(self) -> None:
        """Ends the process; does nothing if there is none."""
        if self._worker is not None:
            self._worker.end()
        self._worker, self._prepared = None, None

    def __exit__(self, *error: object) -> None:
        self.end()


@dataclass(slots=True)
class GpuComparison:
    """All rows of a report, by case and way."""

    start: Callable[[str], GpuProcess]
    batch: int
    hr: int
    rows: dict[tuple[Kind, str, str], GpuTime] = field(default_factory=dict)
    samples: dict[tuple[Kind, str, str], list[float]] = field(default_factory=dict)

    def compare(self, kind: Kind, cases: list[str], ways: list[str]) -> None:
        """Measures cases in the given ways, each way in turns with ours."""
        with self.start("ours") as ours:
            for way in ways:
                with self.start(way) as other:
                    for what in cases:
                        self._pair(kind, what, ours, other)

    def _pair(self, kind: Kind, what: str, ours: GpuProcess, other: GpuProcess) -> None:
        turns = {process.way: process.turn for process in (ours, other) if self._is_ready(kind, what, process)}
        times = take_turns(turns, ROUNDS, pause_s=0) if turns else {}
        for way, found in times.items():
            row = self.rows[kind, what, way]
            if found.failure is not None:
                _fail(row, found.failure)
                continue
            samples = self.samples.setdefault((kind, what, way), [])
            samples += found.wall_s
            row.median_s, row.least_s, row.most_s = statistics.median(samples), min(samples), max(samples)
        if len(times) == 2 and all(found.failure is None for found in times.values()):
            mine, theirs = times[ours.way].wall_s, times[other.way].wall_s
            ratios = [b / a for a, b in zip(mine, theirs, strict=True)]
            row = self.rows[kind, what, other.way]
            row.ratio, row.least_ratio, row.most_ratio = statistics.median(ratios), min(ratios), max(ratios)
            row.against_ours = "faster" if row.ratio > SAME else "slower" if row.ratio < 1 / SAME else "same"

    def _is_ready(self, kind: Kind, what: str, process: GpuProcess) -> bool:
        row = self.rows.setdefault((kind, what, process.way), GpuTime(kind, what, process.way))
        try:
            found = process.prepare(kind, what, self.batch, self.hr)
        except BackendError as error:
            _fail(row, error)
            return False
        if found:
            row.load_s, row.peak_mb = found["load_s"], found["peak_mb"]
        return True


def _fail(row: GpuTime, error: Exception) -> None:
    """Notes why there are no figures; those from beside another way remain."""
    if row.median_s is None:
        row.status, row.reason = "left out" if isinstance(error, OutOfTimeError) else "failed", str(error)
