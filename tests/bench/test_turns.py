"""Rows take turns, and one that fails does not stop the others."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from srgan_fast.bench.turns import Taken, Turn, fewest_runs, order_of, percentile, take_turns, timed, warm_up

ROWS = ["a", "b", "c", "d"]


def turn(run: Callable[[], Any], checks: Callable[[Any], object] = lambda _: None) -> Turn:
    """Times a run in this process, and hands the result of the last one over."""

    def once(last: bool) -> Taken:
        taken, result = timed(run)
        if last:
            checks(result)
        return taken

    return once


def test_everybody_runs_once_a_round_and_comes_first_in_turn() -> None:
    orders = [order_of(ROWS, round_) for round_ in range(8)]
    assert all(sorted(order) == ROWS for order in orders)
    assert {order[0] for order in orders} == set(ROWS)


def test_everybody_has_several_neighbours_before_it() -> None:
    orders = [order_of(ROWS, round_) for round_ in range(8)]
    before = {(order[i - 1], order[i]) for order in orders for i in range(1, 4)}
    assert all(len({first for first, second in before if second == row}) >= 2 for row in ROWS)


def test_only_the_run_itself_is_timed() -> None:
    calls: list[str] = []

    def slow() -> str:
        time.sleep(0.02)
        return "done"

    def after(result: object) -> None:
        calls.append(f"a {result}")
        time.sleep(0.2)

    times = take_turns({"a": turn(slow, after)}, 3, calls.append, pause_s=0.1)
    assert calls == ["a", "a", "a", "a done"]
    assert len(times["a"].taken) == 3
    assert all(0.02 <= run.wall_s < 0.09 and run.cpu_s < 0.02 for run in times["a"].taken)


def test_a_row_that_fails_leaves_the_rounds() -> None:
    count = 0

    def fails() -> None:
        nonlocal count
        count += 1
        if count == 2:
            raise RuntimeError("no more")

    times = take_turns({"a": turn(fails), "b": turn(lambda: None)}, 5, pause_s=0)
    assert count == 2
    assert str(times["a"].failure) == "no more"
    assert (len(times["a"].wall_s), len(times["b"].wall_s)) == (1, 5)


def test_a_percentile_lies_between_the_values() -> None:
    assert percentile([3.0, 1.0, 2.0], 50) == 2
    assert percentile([float(n) for n in range(64)], 90) == pytest.approx(56.7)


@pytest.mark.parametrize(("percent", "runs"), [(50, 1), (90, 64), (99, 662), (1, 662), (10, 64)])
def test_percentiles_come_from_enough_runs_only(percent: float, runs: int) -> None:
    """As many as MLPerf Inference demands."""
    assert fewest_runs(percent) == runs
    assert percentile([1.0] * runs, percent) == 1
    assert percentile([1.0] * (runs - 1), percent) is None


def test_rounds_go_on_until_the_duration_and_the_last_result_is_handed_over() -> None:
    handed: list[int] = []
    made: list[None] = []

    def run() -> int:
        made.append(None)
        time.sleep(0.01)
        return len(made)

    began = time.monotonic()
    times = take_turns({"a": turn(run, handed.append)}, 2, pause_s=0, duration_s=0.15)
    assert time.monotonic() - began >= 0.15
    assert len(times["a"].wall_s) == len(made) > 2
    assert handed[-1] == len(made), "the very last result"
    assert len(handed) <= 3, "and few others, where a round was shorter than expected"


def test_a_duration_does_not_go_on_without_rows() -> None:
    def fails() -> None:
        raise RuntimeError("no more")

    times = take_turns({"a": turn(fails)}, 5, pause_s=0, duration_s=60)
    assert times["a"].wall_s == []
    assert take_turns({}, 5, duration_s=60) == {}


@pytest.mark.parametrize(("least_ms", "done", "runs"), [(0, 0, 2), (0, 1, 1), (0, 2, 0), (25, 0, 2)])
def test_warming_up_takes_two_runs_and_its_time(least_ms: float, done: int, runs: int) -> None:
    made: list[None] = []

    def run() -> int:
        made.append(None)
        time.sleep(0.01)
        return len(made)

    began = time.perf_counter()
    result = warm_up(run, least_ms, done)
    assert len(made) >= runs if least_ms else len(made) == runs
    assert time.perf_counter() - began >= least_ms / 1e3
    assert result == (len(made) or None)
