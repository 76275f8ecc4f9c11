"""Several callers of one loaded runtime at the same time: the images a second that a server could have of it."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

FEWEST_RUNS = 5  # of each caller, so that the end, where some have stopped and others have not, weighs little
SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class StreamTimes:
    """What the callers found together.

    Attributes:
        wall_s: from the first start to the last end.
        runs_s: seconds of every run, caller after caller.
        results: the last one of each caller.
    """

    wall_s: float
    runs_s: list[float]
    results: list[Any]


def measure_streams(make_caller: Callable[[], Callable[[], Any]], count: int, seconds: float = SECONDS) -> StreamTimes:
    """Has threads call a runtime again and again, each with a caller of its own, from a common start.

    Args:
        make_caller: makes a caller; called in its thread, once for each.
        count: of threads.
        seconds: that each goes on at least; and at least `FEWEST_RUNS` runs.

    Raises:
        Exception: whatever the first caller that failed raised; the others finish the run that they are in.
    """
    ready = threading.Barrier(count)
    runs: list[list[float]] = [[] for _ in range(count)]
    results: list[Any] = [None] * count
    starts, ends = [0.0] * count, [0.0] * count
    failures: list[Exception] = []

    def work(index: int) -> None:
        try:
            call = make_caller()
            call()  # what a thread does once is not timed
            ready.wait()
            began = starts[index] = time.perf_counter()
            while not failures and (len(runs[index]) < FEWEST_RUNS or time.perf_counter() - began < seconds):
                results[index] = None  # before the next one is allocated
                run_began = time.perf_counter()
                results[index] = call()
                ends[index] = time.perf_counter()
                runs[index].append(ends[index] - run_began)
        except threading.BrokenBarrierError:
            return
        except Exception as error:  # every runtime has exceptions of its own
            failures.append(error)
            ready.abort()

    threads = [threading.Thread(target=work, args=(index,), daemon=True) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return StreamTimes(max(ends) - min(starts), [taken for caller in runs for taken in caller], results)
