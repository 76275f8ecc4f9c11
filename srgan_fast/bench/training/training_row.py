"""Process of one training row: created, warmed up, stepped on request, and finally profiled.

usage: python -m srgan_fast.bench.training.training_row (requests come from standard input; see
`srgan_fast.bench.worker`)
"""

from typing import Any

import torch

from srgan_fast.bench.training.first_step import do_first_step
from srgan_fast.bench.training.phases import measure_phases, saved_by_networks
from srgan_fast.bench.training.rows import Trainee, Work, find_row, make_trainee
from srgan_fast.bench.turns import timed
from srgan_fast.bench.worker import serve
from srgan_fast.memory import peak_rss_mib
from srgan_fast.training.memory import keep_freed_memory


class TrainingRowProcess:
    """The row that `make` creates and later requests use."""

    _trainee: Trainee
    _base_mb: float | None

    def make(self, row: str, work: dict[str, Any], first_step_file: str) -> None:
        """Creates the row and does its first step, which is written to a file."""
        made, candidate = Work(**work), find_row(row)
        torch.set_num_threads(made.threads)
        self._base_mb = _peak_mb()
        if candidate.loop == "lean":
            keep_freed_memory()  # for our loop only, as in the trainer
        self._trainee = make_trainee(candidate, made)
        torch.save(do_first_step(self._trainee), first_step_file)

    def warm_up(self, steps: int) -> None:
        """Does some steps."""
        for _ in range(steps):
            self._trainee.step()

    def run(self) -> dict[str, Any]:
        """Does a step; returns its losses, wall and CPU seconds."""
        taken, losses = timed(self._trainee.step)
        return {"losses": losses, "wall_s": taken.wall_s, "cpu_s": taken.cpu_s}

    def finish(self, steps: int) -> dict[str, Any]:
        """Reads the peak memory, then does what needs more: profiles some steps, counts what networks save."""
        peak_mb = _peak_mb()
        phases, profiled = measure_phases(self._trainee.step, steps)
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
    serve(TrainingRowProcess())
