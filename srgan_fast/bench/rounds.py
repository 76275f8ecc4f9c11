"""Alternating rounds: every row once a round, so that a machine that gets slower gets slower for all."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import numpy as np

# Rests before each run: ONNX Runtime's worker threads spin for some 60 ms after their work, those of libgomp (torch,
# ncnn) for 5 ms, and would take a core from whoever comes next. What was measured stands in README.md.
PAUSE_S = 0.1
WARM_UP_RUNS = 2  # at least
ORDER = "rotated by one row each round, every other round backwards"


@dataclass(frozen=True, slots=True)
class Taken:
    """One run: what it gave, and what it took by its own account.

    Attributes:
        result: whatever it computed.
        wall_s: seconds.
        cpu_s: CPU seconds of the whole process that it ran in.
    """

    result: Any
    wall_s: float
    cpu_s: float


@dataclass(slots=True)
class Times:
    """What the rounds of one row took.

    Attributes:
        wall_s: seconds of each round.
        cpu_s: CPU seconds of the row's whole process in each round.
        failure: what ended them early.
    """

    wall_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    failure: Exception | None = None


def order_of(rows: list[str], round_: int) -> list[str]:
    """The rows in the order of a round: each begins one row further, and every other one goes backwards.

    So nobody always comes first, and nobody always comes after the same neighbour.
    """
    step = -1 if round_ % 2 else 1
    return [rows[(round_ + step * i) % len(rows)] for i in range(len(rows))]


def timed(run: Callable[[], Any]) -> Callable[[], Taken]:
    """Has the clocks of this process read around a run."""

    def run_and_tell() -> Taken:
        cpu, wall = time.process_time(), time.perf_counter()
        result = run()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        return Taken(result, wall, cpu)

    return run_and_tell


def measure_rounds(
    runs: Mapping[str, Callable[[], Taken]],
    rounds: int,
    on_last: Callable[[str, Any], None],
    on_run: Callable[[str], None] = lambda row: None,
    pause_s: float = PAUSE_S,
    duration_s: float = 0.0,
) -> dict[str, Times]:
    """Times the rows; a row that raises leaves the rounds, and the others go on.

    Args:
        runs: by row, warmed up; `timed` in this process, or in another one that says what a run took there.
        rounds: how often, at least.
        on_last: gets each row's last result, outside the timing; and that of an earlier round if that was expected to
            be the last and was over too soon.
        on_run: told before each run.
        pause_s: rest before each run.
        duration_s: seconds that all rounds together take, at least.
    """
    times = {row: Times() for row in runs}
    began = round_began = time.monotonic()
    for round_ in count():
        previous_s, round_began = time.monotonic() - round_began, time.monotonic()
        last = round_ + 1 >= rounds and round_began - began + previous_s >= duration_s
        for row in order_of(list(runs), round_):
            if times[row].failure is not None:
                continue
            on_run(row)
            time.sleep(pause_s)
            try:
                taken = runs[row]()
                if last:
                    on_last(row, taken.result)
            except Exception as error:  # every runtime has exceptions of its own
                times[row].failure = error
                continue
            times[row].wall_s.append(taken.wall_s)
            times[row].cpu_s.append(taken.cpu_s)
            del taken  # and its result, before the next row allocates
        if all(found.failure is not None for found in times.values()):
            break
        if last and time.monotonic() - began >= duration_s:
            break
    return times


def warm_up(run: Callable[[], Any], least_ms: float, done: int = 0) -> Any:
    """Runs a row until it is warm: two times at least, and for that long; gives its last result.

    Args:
        run: the row.
        least_ms: milliseconds.
        done: runs that it has behind it.
    """
    result, began = None, time.perf_counter()
    while done < WARM_UP_RUNS or (time.perf_counter() - began) * 1e3 < least_ms:
        del result  # before the next one is allocated
        result = run()
        done += 1
    return result


def percentile(values: list[float], percent: float) -> float:
    """Linear between the two nearest values."""
    return float(np.percentile(values, percent))
