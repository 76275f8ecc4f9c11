"""Rows take turns, and one that fails does not stop the others."""

import time

import pytest

from srgan_fast.bench.rounds import Taken, measure_rounds, order_of, percentile, timed, warm_up

ROWS = ["a", "b", "c", "d"]


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

    def after(row: str, result: object) -> None:
        calls.append(f"{row} {result}")
        time.sleep(0.2)

    times = measure_rounds({"a": timed(slow)}, 3, after, calls.append, pause_s=0.1)
    assert calls == ["a", "a", "a", "a done"]
    assert len(times["a"].wall_s) == len(times["a"].cpu_s) == 3
    assert all(0.02 <= seconds < 0.09 for seconds in times["a"].wall_s)
    assert all(seconds < 0.02 for seconds in times["a"].cpu_s)


def test_a_run_that_is_done_elsewhere_says_what_it_took() -> None:
    handed: list[object] = []
    runs = {"a": lambda: Taken("done", 7.0, 12.0)}
    times = measure_rounds(runs, 2, lambda row, result: handed.append((row, result)), pause_s=0)
    assert (times["a"].wall_s, times["a"].cpu_s, handed) == ([7.0, 7.0], [12.0, 12.0], [("a", "done")])


def test_a_row_that_fails_leaves_the_rounds() -> None:
    count = 0

    def fails() -> None:
        nonlocal count
        count += 1
        if count == 2:
            raise RuntimeError("no more")

    times = measure_rounds({"a": timed(fails), "b": timed(lambda: None)}, 5, lambda *_: None, pause_s=0)
    assert count == 2
    assert str(times["a"].failure) == "no more"
    assert (len(times["a"].wall_s), len(times["b"].wall_s)) == (1, 5)


def test_a_percentile_lies_between_the_values() -> None:
    assert percentile([3.0, 1.0, 2.0], 50) == 2
    assert percentile([1.0, 2.0], 90) == pytest.approx(1.9)


def test_rounds_go_on_until_the_duration_and_the_last_result_is_handed_over() -> None:
    handed: list[int] = []
    made: list[None] = []

    def run() -> int:
        made.append(None)
        time.sleep(0.01)
        return len(made)

    times = measure_rounds({"a": timed(run)}, 2, lambda _, result: handed.append(result), pause_s=0, duration_s=0.15)
    assert sum(times["a"].wall_s) > 0.1
    assert len(times["a"].wall_s) == len(made) > 2
    assert handed[-1] == len(made), "the very last result"
    assert len(handed) <= 3, "and few others, where a round was shorter than expected"


def test_a_duration_does_not_go_on_without_rows() -> None:
    def fails() -> None:
        raise RuntimeError("no more")

    times = measure_rounds({"a": timed(fails)}, 5, lambda *_: None, pause_s=0, duration_s=60)
    assert times["a"].wall_s == []
    assert measure_rounds({}, 5, lambda *_: None, duration_s=60) == {}


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
