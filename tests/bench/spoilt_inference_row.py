"""A row of the benchmark of inference that goes wrong in the way that an environment variable names.

Run by the benchmark in place of its own, not by pytest: `SPOIL` is as in `torch-nchw-fp32=wrong`.
"""

import os
import signal
from typing import Any

import numpy as np

from srgan_fast.bench.candidates import Candidate, Loaded, RowJob
from srgan_fast.bench.inference_row import InferenceRow
from srgan_fast.bench.turns import WARM_UP_RUNS
from srgan_fast.bench.worker import serve
from srgan_fast.runtime import BACKENDS

NAME, _, HOW = os.environ["SPOIL"].partition("=")
genuine = Candidate.load


class FakeGpu:
    def last_run_s(self) -> float:
        return 0.002

    def peak_mib(self) -> float:
        return 345.0


def load(row: Candidate, job: RowJob, lr: Any) -> Loaded:
    if row.name != NAME:
        return genuine(row, job, lr)
    if HOW == "fails in loading":
        raise RuntimeError("out of luck\nand more")
    loaded, runs = genuine(row, job, lr), []

    def run() -> Any:
        runs.append(None)
        if HOW == "killed in the rounds" and len(runs) > WARM_UP_RUNS:
            os.kill(os.getpid(), signal.SIGKILL)
        return loaded.run()

    def array(result: Any) -> Any:
        sr = loaded.array(result)
        if HOW == "wrong" or (HOW == "wrong at last" and len(runs) > WARM_UP_RUNS + 1):
            return sr * np.float32(np.nan if HOW == "wrong at last" else 1.1)
        return sr[::-1] if HOW == "mixes up a batch" else sr

    gpu: Any = FakeGpu() if HOW == "on a gpu" else None
    caller = None if HOW == "one caller" else loaded.caller
    return Loaded(run, array, "Some GPU" if gpu else loaded.device, caller, gpu)


if __name__ == "__main__":
    BACKENDS.pop("native", None)
    Candidate.load = load  # type: ignore[method-assign]
    serve(InferenceRow())
