"""Times of work on a GPU, by its own clock."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass

import torch

WARM_UP = 3


@dataclass(frozen=True, slots=True)
class Time:
    """Seconds of one call: the median of some samples, the least and the most."""

    median: float
    least: float
    most: float


def time_calls(call: Callable[[], object], samples: int = 9, seconds: float = 0.02) -> Time:
    """Times a call between two events, as often in a row as fill some milliseconds; the queue never runs empty.

    Args:
        call: queues work on the current stream.
        samples: how many times are taken.
        seconds: how long one sample takes, about.
    """
    for _ in range(WARM_UP):
        call()
    repeats = max(1, min(1000, round(seconds / max(_sample(call, 3), 1e-6))))
    times = sorted(_sample(call, repeats) for _ in range(samples))
    return Time(statistics.median(times), times[0], times[-1])


def _sample(call: Callable[[], object], repeats: int) -> float:
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    torch.cuda.synchronize()
    begin.record()
    for _ in range(repeats):
        call()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) * 1e-3 / repeats


def in_graph(call: Callable[[], object]) -> Callable[[], None]:
    """The same work as a CUDA graph's replay, without the time that the host takes to queue it."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay
