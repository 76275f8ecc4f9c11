"""Rows take turns: each runs once per round, so that changes of the machine's speed affect all."""

import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

# Rest before each run: ONNX Runtime's worker threads spin for about 60 ms after their work, those of libgomp (PyTorch,
# ncnn) for 5 ms, and would take a core from the next row. README.md has measurements.
PAUSE_S = 0.1
WARM_UP_RUNS = 2  # minimum
ORDER = "rotated by one row each round, every other round backwards"


@dataclass(frozen=True, slots=True)
class Taken:
    """Seconds of one run: wall time, CPU time of the process, and GPU time between events; and GPU memory."""

    wall_s: float
    cpu_s: float
    device_s: float | None = None
    peak_device_mib: float | None = None


@dataclass(slots=True)
class Times:
    """Runs of one row, and the error that ended them early."""

    taken: list[Taken] = field(default_factory=list)
    failure: Exception | None = None

    @property
    def wall_s(self) -> list[float]:
        """Seconds of each run."""
        return [run.wall_s for run in self.taken]

    def cpus_used(self) -> float:
        """CPU time / wall time, median."""
        return statistics.median(run.cpu_s / run.wall_s for run in self.taken)


OnStep = Callable[[str], None]
"""Called with a short description of each step of a benchmark."""

Turn = Callable[[bool], Taken]
"""Runs a row once; True: check the result, though more rounds may follow if this one ends too soon."""


def order_of(rows: list[str], round_: int) -> list[str]:
    """Order of the rows in a round: each round starts one row further, and every other one runs backwards.

    So no row is always first, and none always has the same predecessor.
    """
    step = -1 if round_ % 2 else 1
    return [rows[(round_ + step * i) % len(rows)] for i in range(len(rows))]


def timed(run: Callable[[], Any]) -> tuple[Taken, Any]:
    """Runs and times a function in this process; returns the times and its result."""
    cpu, wall = time.process_time(), time.perf_counter()
    result = run()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return Taken(wall, cpu), result


def take_turns(
    turns: Mapping[str, Turn],
    rounds: int,
    on_run: Callable[[str], None] = lambda row: None,
    pause_s: float = PAUSE_S,
    duration_s: float = 0.0,
) -> dict[str, Times]:
    """Times the rows; a row that raises is removed, and the others continue.

    `turns` are warmed up; `rounds` is the minimum number of rounds, `duration_s` their minimum duration; `on_run` is
    called with the row's name before each run, after a rest.
    """
    times = {row: Times() for row in turns}
    began = round_began = time.monotonic()
    round_, done = 0, False
    while not done:
        previous_s, round_began = time.monotonic() - round_began, time.monotonic()
        last = round_ + 1 >= rounds and round_began - began + previous_s >= duration_s
        for row in order_of([row for row in turns if times[row].failure is None], round_):
            on_run(row)
            time.sleep(pause_s)
            try:
                times[row].taken.append(turns[row](last))
            except Exception as error:  # every runtime raises its own exceptions
                times[row].failure = error
        all_failed = all(found.failure is not None for found in times.values())
        round_, done = round_ + 1, all_failed or (last and time.monotonic() - began >= duration_s)
    return times


def warm_up(run: Callable[[], Any], least_ms: float, done: int = 0) -> Any:
    """Runs a row, including `done` previous runs, at least twice and for that long; returns its last result."""
    result, began = None, time.perf_counter()
    while done < WARM_UP_RUNS or (time.perf_counter() - began) * 1e3 < least_ms:
        del result  # before the next one is allocated
        result = run()
        done += 1
    return result


def fewest_runs(percent: float) -> int:
    """Number of runs that a percentile needs: 64 for p90, 662 for p99; the median needs one.

    The rule of MLPerf Inference for early stopping: enough runs that, with 99 % confidence, at least two are beyond the
    true percentile.
    """
    tail = min(percent, 100 - percent) / 100
    if tail == 0.5:
        return 1
    runs = 2
    while (1 - tail) ** runs + runs * tail * (1 - tail) ** (runs - 1) > 0.01:
        runs += max(1, runs // 1000)
    return runs


def percentile(values: list[float], percent: float) -> float | None:
    """Linear interpolation between the two nearest values; None with fewer than `fewest_runs` values."""
    return float(np.percentile(values, percent)) if len(values) >= fewest_runs(percent) else None


def finite(values: Mapping[str, float | None]) -> dict[str, float]:
    """The values that can be represented in JSON."""
    return {name: value for name, value in values.items() if value is not None and math.isfinite(value)}
