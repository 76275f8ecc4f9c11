"""Times GPU work with CUDA events."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

WARM_UP = 3


@dataclass(frozen=True, slots=True)
class Time:
    """Seconds per call: median, minimum and maximum of the samples."""

    median: float
    least: float
    most: float


def time_of(samples: list[float]) -> Time:
    """Median, minimum and maximum."""
    return Time(statistics.median(samples), min(samples), max(samples))


def time_calls(call: Callable[[], object], samples: int = 9, seconds: float = 0.02) -> Time:
    """Times a call that enqueues work between two events, repeated so that each sample takes `seconds`."""
    for _ in range(WARM_UP):
        call()
    repeats = max(1, min(1000, round(seconds / max(_sample(call, 3), 1e-6))))
    return time_of([_sample(call, repeats) for _ in range(samples)])


def _sample(call: Callable[[], object], repeats: int) -> float:
    begin, end = _events()
    torch.cuda.synchronize()
    begin.record()
    for _ in range(repeats):
        call()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) * 1e-3 / repeats


def _events() -> tuple[Any, Any]:
    return torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


def in_graph(call: Callable[[], object]) -> Callable[[], None]:
    """Captures the work in a CUDA graph; its replay excludes the host's launch time."""
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


class TorchClock:
    """GPU time and memory of a row whose work uses PyTorch's current stream.

    Create it before the row is loaded: all memory that the device allocates from then on counts as the row's, since an
    engine's memory is not allocated by PyTorch. Copies between host and device are part of the time.
    """

    def __init__(self) -> None:
        self._begin, self._end = _events()
        self._free_before, _ = torch.cuda.mem_get_info()
        self._least_free = self._free_before

    def around(self, run: Callable[[], Any]) -> Callable[[], Any]:
        """Wraps a run so that it is timed and waits for the device."""

        def timed() -> Any:
            self._begin.record()
            result = run()
            self._end.record()
            self._end.synchronize()
            self._least_free = min(self._least_free, torch.cuda.mem_get_info()[0])
            return result

        return timed

    def last_run_s(self) -> float:
        """GPU seconds of the last run."""
        return float(self._begin.elapsed_time(self._end)) * 1e-3

    def peak_mib(self) -> float:
        """Peak device memory after a run beyond that before the row was loaded."""
        return (self._free_before - self._least_free) / 2**20
