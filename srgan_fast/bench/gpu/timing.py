"""Times GPU work: repeated calls by the host's clock, CUDA graphs, and CUDA events for whole runs."""

import time
from collections.abc import Callable
from typing import Any

import torch

WARM_UP = 3
_LEAST_S = 0.02  # of a sample, so that waiting for the device is a small part of it
_MOST_CALLS = 1000


def wait() -> None:
    """Waits until the device has finished; nothing without one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def calls_per_sample(call: Callable[[], object], seconds: float = _LEAST_S) -> int:
    """Warms up a call that enqueues work, and returns how many of them take `seconds`."""
    for _ in range(WARM_UP):
        call()
    return max(1, min(_MOST_CALLS, round(seconds / max(sample(call, WARM_UP), 1e-6))))


def sample(call: Callable[[], object], calls: int) -> float:
    """Seconds per call, from an idle device until it has finished all of them."""
    wait()
    began = time.perf_counter()
    for _ in range(calls):
        call()
    wait()
    return (time.perf_counter() - began) / calls


def in_graph(call: Callable[[], object], device: torch.device) -> Callable[[], object]:
    """Captures the work in a CUDA graph; its replay excludes the host's launch time. On a CPU the call itself."""
    if device.type != "cuda":
        return call
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            call()
    torch.cuda.current_stream(device).wait_stream(stream)
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
        self._begin, self._end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
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
