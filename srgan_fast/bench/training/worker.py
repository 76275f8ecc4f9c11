"""One row in a process of its own: its peak memory, and its time with nothing else loaded.

usage: python -m srgan_fast.bench.training.worker ORDER.json ANSWER.json
"""

import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch

from srgan_fast.bench.candidates import why_not
from srgan_fast.bench.machine import peak_rss_mib
from srgan_fast.bench.rounds import PAUSE_S
from srgan_fast.bench.training.rows import Work, find_row, make_trainee
from srgan_fast.training.memory import keep_freed_memory


def main() -> None:
    """Carries an order out and writes the answer, which is an error's text if it fails."""
    order, answer = (Path(argument) for argument in sys.argv[1:])
    try:
        found: dict[str, Any] = _carry_out(json.loads(order.read_text(encoding="utf-8")))
    except Exception as error:  # kernels have exceptions of their own
        found = {"error": why_not(error)}
    answer.write_text(json.dumps(found), encoding="utf-8")


def _carry_out(order: dict[str, Any]) -> dict[str, float | None]:
    work = Work(**order["work"])
    torch.set_num_threads(work.threads)
    base = _peak_mb()
    row = find_row(order["row"])
    if row.loop == "lean":
        keep_freed_memory()  # our loop as the trainer runs it, others' as they are run
    trainee = make_trainee(row, work)
    taken = []
    for _ in range(order["steps"]):
        time.sleep(PAUSE_S)  # as in the rounds, so that the two differ by the neighbours only
        began = time.perf_counter()
        trainee.step()
        taken.append(time.perf_counter() - began)
    return {"alone_seconds": statistics.median(taken[1:]), "peak_rss_mb": _peak_mb(), "base_rss_mb": base}


def _peak_mb() -> float | None:
    peak = peak_rss_mib()
    return None if peak is None else peak * 2**20 / 1e6


if __name__ == "__main__":
    main()
