"""Callers run at the same time, each with what is its own, and one that fails stops all."""

import threading
import time
from collections.abc import Callable

import pytest

from srgan_fast.bench.streams import FEWEST_RUNS, measure_arrivals, measure_streams


def test_callers_run_at_the_same_time() -> None:
    together = threading.Barrier(3, timeout=10)
    callers: list[int] = []

    def make_caller() -> Callable[[], int]:
        callers.append(threading.get_ident())

        def call() -> int:
            together.wait()  # would time out if they came one after the other
            return threading.get_ident()

        return call

    found = measure_streams(make_caller, 3, seconds=0)
    assert len(found.runs_s) == 3 * FEWEST_RUNS
    assert set(found.results) == set(callers)
    assert len(set(callers)) == 3


def test_time_is_from_the_first_start_to_the_last_end(say_unless: Callable[[bool, str], None]) -> None:
    found = measure_streams(lambda: lambda: time.sleep(0.01), 2, seconds=0.1)
    assert found.wall_s >= 0.1
    say_unless(found.wall_s < 2, "callers that sleep for 0.1 s")
    assert all(0.01 <= seconds <= found.wall_s for seconds in found.runs_s)
    assert len(found.runs_s) >= 2 * FEWEST_RUNS


@pytest.mark.parametrize("after", [0, 1, 3])
def test_a_caller_that_fails_ends_it(after: int) -> None:
    made: list[None] = []

    def make_caller() -> Callable[[], None]:
        made.append(None)
        bad, calls = len(made) == 2, []

        def call() -> None:
            calls.append(None)
            time.sleep(0.001)
            if bad and len(calls) > after:
                raise RuntimeError("out of luck")

        return call

    with pytest.raises(RuntimeError, match="out of luck"):
        measure_streams(make_caller, 2, seconds=30)


def test_arrivals_wait_for_who_is_free() -> None:
    """They come without regard to what is under way: with one thread and three times too many, the queue grows."""

    def make_caller() -> Callable[[], None]:
        return lambda: time.sleep(0.02)

    latencies = measure_arrivals(make_caller, 1, rate_per_s=150, seconds=0.2)
    assert len(latencies) == 30
    assert min(latencies) >= 0.02
    assert latencies[-1] > 0.2, "30 runs of 20 ms each, and the last one came after some 200 ms"
    assert max(measure_arrivals(make_caller, 2, rate_per_s=20, seconds=0)) >= 0.02
    assert len(measure_arrivals(make_caller, 2, rate_per_s=1000, seconds=0)) == 2 * FEWEST_RUNS
