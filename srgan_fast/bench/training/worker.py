"""One row in a process of its own: made, warmed up, a step whenever it is its turn, and taken apart at last.

usage: python -m srgan_fast.bench.training.worker (orders come by standard input; `srgan_fast.bench.conversation`)
"""

from pathlib import Path
from typing import Any

import torch

from srgan_fast.bench.conversation import serve
from srgan_fast.bench.machine import peak_rss_mib
from srgan_fast.bench.rounds import timed
from srgan_fast.bench.training.accuracy import first_step
from srgan_fast.bench.training.phases import measure_phases
from srgan_fast.bench.training.rows import Trainee, Work, find_row, make_trainee
from srgan_fast.bench.training.saved import saved_by_networks
from srgan_fast.training.memory import keep_freed_memory


def main() -> None:
    """Carries orders out until there are no more."""
    row = _Row()
    serve({"make": row.make, "warm up": row.warm_up, "step": row.step, "take apart": row.take_apart})


class _Row:
    """What is made by the first order, and serves the others."""

    _trainee: Trainee
    _base_mb: float | None

    def make(self, order: dict[str, Any]) -> dict[str, Any]:
        """Makes the row and does its first step, which is written to the file `first_step`."""
        work, row = Work(**order["work"]), find_row(order["row"])
        torch.set_num_threads(work.threads)
        self._base_mb = _peak_mb()
        if row.loop == "lean":
            keep_freed_memory()  # our loop as the trainer runs it, others' as they are run
        self._trainee = make_trainee(row, work)
        first_step(self._trainee).write(Path(order["first_step"]))
        return {}

    def warm_up(self, order: dict[str, Any]) -> dict[str, Any]:
        """Does `steps` steps."""
        for _ in range(order["steps"]):
            self._trainee.step()
        return {}

    def step(self, order: dict[str, Any]) -> dict[str, Any]:
        """Does a step; tells its losses, its seconds and its CPU seconds."""
        taken = timed(self._trainee.step)()
        return {"losses": taken.result, "wall_s": taken.wall_s, "cpu_s": taken.cpu_s}

    def take_apart(self, order: dict[str, Any]) -> dict[str, Any]:
        """Tells the peak of memory until now, then what needs more: parts of `steps` steps, what networks save."""
        peak_mb = _peak_mb()
        phases, profiled = measure_phases(self._trainee.step, order["steps"])
        return {
            "peak_rss_mb": peak_mb,
            "base_rss_mb": self._base_mb,
            "phases": phases,
            "profiled_step_seconds": profiled,
            "saved_mb": {name: size / 1e6 for name, size in saved_by_networks(self._trainee).items()},
        }


def _peak_mb() -> float | None:
    peak = peak_rss_mib()
    return None if peak is None else peak * 2**20 / 1e6


if __name__ == "__main__":
    main()
