"""Process of one inference row: prepared or loaded, then run on request, also by several threads.

usage: python -m srgan_fast.bench.inference_row (requests come from standard input; see `srgan_fast.bench.worker`)
"""

from pathlib import Path
from typing import Any

import numpy as np

from srgan_fast.bench.candidates import Loaded, RowJob, find_candidate
from srgan_fast.bench.streams import measure_arrivals, measure_streams
from srgan_fast.bench.turns import timed, warm_up
from srgan_fast.bench.worker import serve
from srgan_fast.bench.workload import ImageSize, Workload
from srgan_fast.memory import peak_rss_mib
from srgan_fast.models import read_model


class InferenceRow:
    """The row that `load` creates and later requests use; results are written to .npy files, to be checked."""

    _loaded: Loaded

    def prepare(self, row: str, job: dict[str, Any]) -> None:
        """Writes the runtime's files."""
        find_candidate(row).prepare(_job(job))

    def load(self, row: str, job: dict[str, Any], lr: str, warm_up_ms: float, result: str) -> dict[str, Any]:
        """Loads and warms up; returns the time to load, the device, and the memory before and after the first run."""
        candidate, made, image = find_candidate(row), _job(job), np.load(lr)
        base = peak_rss_mib()
        taken, self._loaded = timed(lambda: candidate.load(made, image))
        first, _ = timed(self._loaded.run)
        peak = peak_rss_mib()
        self._save(warm_up(self._loaded.run, warm_up_ms, done=1), result)
        # A just-in-time compiler does its work in the first run.
        load_s = taken.wall_s + (first.wall_s if "compile" in row or "zentorch" in row else 0.0)
        return {"load_s": load_s, "device": self._loaded.device, "base_mib": base, "peak_mib": peak}

    def run(self, result: str | None) -> dict[str, Any]:
        """Runs once; returns the times, and writes the result if requested."""
        taken, sr = timed(self._loaded.run)
        if result is not None:
            self._save(sr, result)
        found = {"wall_s": taken.wall_s, "cpu_s": taken.cpu_s}
        gpu = self._loaded.gpu
        return found if gpu is None else found | {"device_s": gpu.last_run_s(), "peak_device_mib": gpu.peak_mib()}

    def streams(self, count: int, seconds: float, share: float, results: list[str]) -> dict[str, Any]:
        """Several callers in closed loops, one in the same loop, and several with Poisson arrivals.

        Arrivals have `share` of the closed loops' rate. The last result of each caller is written.
        """
        caller = self._loaded.caller
        if caller is None:
            return {"reason": "the runtime does not support concurrent calls"}
        one, several = (measure_streams(caller, n, seconds) for n in (1, count))
        for sr, path in zip(several.results, results, strict=True):
            self._save(sr, path)
        closed = {"one_per_s": one.per_s, "per_s": several.per_s, "runs_s": several.runs_s}
        rate = share * several.per_s
        return closed | {"rate_per_s": rate, "latencies_s": measure_arrivals(caller, count, rate, seconds)}

    def _save(self, sr: Any, path: str) -> None:
        np.save(path, self._loaded.array(sr))


def _job(order: dict[str, Any]) -> RowJob:
    workload = Workload(ImageSize(*order["size"]), order["batch"], order["threads"])
    calibration = None if order["calibration"] is None else Path(order["calibration"])
    return RowJob(read_model(order["model"]), workload, Path(order["folder"]), calibration)


if __name__ == "__main__":
    serve(InferenceRow())
