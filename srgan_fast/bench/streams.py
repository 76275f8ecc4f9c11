"""Concurrent callers of one loaded runtime: closed loops, as in a batch job, or Poisson arrivals, as in a server."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count as numbers
from typing import Any

import numpy as np

FEWEST_RUNS = 5  # minimum per caller, so that the end, when some callers have stopped, matters little
SECONDS = 1.0

MakeCaller = Callable[[], Callable[[], Any]]
"""Creates a caller; called in the thread that uses it."""


@dataclass(slots=True)
class StreamTimes:
    """Seconds from the first start to the last end and of every run, and the last result of each caller."""

    wall_s: float
    runs_s: list[float]
    results: list[Any]

    @property
    def per_s(self) -> float:
        """Runs per second, of all callers."""
        return len(self.runs_s) / self.wall_s


def measure_streams(make_caller: MakeCaller, count: int, seconds: float = SECONDS) -> StreamTimes:
    """Runs callers in closed loops in threads, for some seconds and at least `FEWEST_RUNS` runs each.

    Raises:
        Exception: raised by the first caller that failed; the others finish their current run.
    """
    runs: list[list[float]] = [[] for _ in range(count)]
    results: list[Any] = [None] * count
    starts, ends = [0.0] * count, [0.0] * count

    def loop(index: int, call: Callable[[], Any], failed: Callable[[], bool]) -> None:
        began = starts[index] = time.perf_counter()
        while not failed() and (len(runs[index]) < FEWEST_RUNS or time.perf_counter() - began < seconds):
            results[index] = None  # before the next one is allocated
            run_began = time.perf_counter()
            results[index] = call()
            ends[index] = time.perf_counter()
            runs[index].append(ends[index] - run_began)

    _in_threads(make_caller, count, loop)
    return StreamTimes(max(ends) - min(starts), [taken for caller in runs for taken in caller], results)


def measure_arrivals(make_caller: MakeCaller, count: int, rate_per_s: float, seconds: float = SECONDS) -> list[float]:
    """Seconds from arrival to result of runs that arrive as a Poisson process with a fixed seed.

    They are served by the next free thread, for some seconds and at least `FEWEST_RUNS` runs per thread.

    Raises:
        Exception: see `measure_streams`.
    """
    runs = max(FEWEST_RUNS * count, round(seconds * rate_per_s))
    arrivals = np.cumsum(np.random.default_rng(0).exponential(1 / rate_per_s, runs))
    next_one, latencies = numbers(), [0.0] * runs
    began: list[float] = []  # set by the first thread
    lock = threading.Lock()

    def serve(index: int, call: Callable[[], Any], failed: Callable[[], bool]) -> None:
        with lock:
            began[:] = began or [time.perf_counter()]
        while not failed() and (number := next(next_one)) < runs:
            due = began[0] + float(arrivals[number])
            time.sleep(max(0.0, due - time.perf_counter()))
            call()
            latencies[number] = time.perf_counter() - due

    _in_threads(make_caller, count, serve)
    return latencies


def _in_threads(
    make_caller: MakeCaller, count: int, work: Callable[[int, Callable[[], Any], Callable[[], bool]], None]
) -> None:
    """Runs threads from a common start; each gets its index, its caller and a check for failures of the others."""
    ready = threading.Barrier(count)
    failures: list[Exception] = []

    def run(index: int) -> None:
        try:
            call = make_caller()
            call()  # excludes one-time work of the thread
            ready.wait()
            work(index, call, lambda: bool(failures))
        except threading.BrokenBarrierError:
            return
        except Exception as error:  # every runtime raises its own exceptions
            failures.append(error)
            ready.abort()

    with ThreadPoolExecutor(count) as threads:
        threads.map(run, range(count))
    if failures:
        raise failures[0]
