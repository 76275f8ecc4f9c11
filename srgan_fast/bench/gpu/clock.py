"""A GPU's clock and memory beside a row whose work goes through torch's streams."""

from collections.abc import Callable
from typing import Any

import torch


class TorchClock:
    """Puts events around each run on torch's current stream, and asks the driver for memory.

    Made before the row is loaded, since all that the device holds from then on counts as the row's: an engine's memory
    is not torch's. Copies between host and device lie between the events.
    """

    def __init__(self) -> None:
        self._begin, self._end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        self._free_before, _ = torch.cuda.mem_get_info()
        self._least_free = self._free_before

    def around(self, run: Callable[[], Any]) -> Callable[[], Any]:
        """The same run, timed; it ends when the device has finished."""

        def timed() -> Any:
            self._begin.record()
            result = run()
            self._end.record()
            self._end.synchronize()
            self._least_free = min(self._least_free, torch.cuda.mem_get_info()[0])
            return result

        return timed

    def last_run_s(self) -> float:
        """Seconds between the events of the last run."""
        return float(self._begin.elapsed_time(self._end)) * 1e-3

    def peak_mib(self) -> float:
        """The most device memory, seen after a run, beyond what was taken before the row was loaded."""
        return (self._free_before - self._least_free) / 2**20
