"""What other processes do for a benchmark: prepare a peer's files, or run one row with nothing else loaded.

usage: python -m srgan_fast.bench.worker ORDER.json ANSWER.json (standard output is the libraries')
"""

import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from srgan_fast.bench.candidates import Job, find_candidate, why_not
from srgan_fast.bench.machine import peak_rss_mib
from srgan_fast.bench.options import Size
from srgan_fast.bench.rounds import PAUSE_S, warm_up
from srgan_fast.models import read_model


def main() -> None:
    """Carries an order out and writes the answer, which is an error's text if it fails."""
    order, answer = (Path(argument) for argument in sys.argv[1:])
    try:
        found = _carry_out(json.loads(order.read_text(encoding="utf-8")))
    except Exception as error:  # every runtime has exceptions of its own
        found = {"error": why_not(error)}
    answer.write_text(json.dumps(found), encoding="utf-8")


def _carry_out(order: dict[str, Any]) -> dict[str, Any]:
    candidate = find_candidate(order["row"])
    calibration = order["calibration"]
    job = Job(
        file=read_model(order["model"]),
        size=Size(*order["size"]),
        threads=order["threads"],
        folder=Path(order["folder"]),
        calibration=None if calibration is None else Path(calibration),
        batch=order["batch"],
    )
    if order["do"] == "prepare":
        candidate.prepare(job)
        return {}
    lr = np.load(job.shape_folder / "lr.npy")
    base = peak_rss_mib()
    loaded = candidate.load(job, lr)
    loaded.run()
    peak = peak_rss_mib()
    warm_up(loaded.run, order["warm_up_ms"], done=1)
    taken = []
    for _ in range(order["rounds"]):
        time.sleep(PAUSE_S)  # as in the rounds, so that the two differ by the neighbours only
        began = time.perf_counter()
        loaded.run()
        taken.append((time.perf_counter() - began) * 1e3)
    return {"base_mib": base, "peak_mib": peak, "alone_ms": statistics.median(taken)}


if __name__ == "__main__":
    main()
