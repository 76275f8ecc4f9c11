"""Whole processes: workers that keep a row to itself, and what starting a program costs."""

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Literal

from srgan_fast.bench.candidates import Candidate, Job
from srgan_fast.bench.report import ColdStart, ProcessTime
from srgan_fast.errors import BackendError
from srgan_fast.models.checkpoint import resolve_model
from srgan_fast.runtime import BACKENDS
from srgan_fast.runtime.registry import missing_modules

COLD_RUNS = 5
TIMEOUT_S = 3600  # a process that hangs must not hold up the rest for ever
_IMPORTS = ("srgan_fast.runtime.upscaler", "torch", "onnxruntime", "openvino", "MNN", "ncnn")


def call_worker(
    do: Literal["prepare", "measure"],
    candidate: Candidate,
    job: Job,
    model: str | Path,
    rounds: int = 1,
    warm_up_ms: float = 0.0,
) -> dict[str, Any]:
    """Lets another process prepare or measure a row; see `worker`.

    Raises:
        BackendError: it failed, with its reason.
    """
    order = {
        "do": do,
        "row": candidate.name,
        "model": str(resolve_model(model).absolute()),
        "size": job.size,
        "batch": job.batch,
        "threads": job.threads,
        "rounds": rounds,
        "warm_up_ms": warm_up_ms,
        "folder": str(job.folder),
        "calibration": None if job.calibration is None else str(job.calibration.absolute()),
    }
    return call_process("srgan_fast.bench.worker", candidate.name, order, job.folder)


def call_process(module: str, row: str, order: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Has a module that is a worker's program carry an order out, in a folder that both files are put in.

    Raises:
        BackendError: it failed, with its reason.
    """
    question, answer = folder / "order.json", folder / "answer.json"
    answer.unlink(missing_ok=True)
    question.write_text(json.dumps(order), encoding="utf-8")
    command = [sys.executable, "-m", module, str(question), str(answer)]
    try:
        # In the workspace, since converters drop files where they stand.
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False, cwd=folder, env=environment()
        )
    except subprocess.TimeoutExpired:
        raise BackendError(f"{row} took more than {TIMEOUT_S} s in a process of its own") from None
    if not answer.exists():
        raise BackendError(f"the process of {row} {how_it_ended(done.returncode, done.stderr)}")
    found: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
    if "error" in found:
        raise BackendError(found["error"])
    return found


def environment() -> dict[str, str]:
    """Of a process of ours: as this one's, with this very package importable whatever the folder."""
    root = str(Path(__file__).parents[2])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def how_it_ended(code: int, printed: str) -> str:
    """The end of a process in words, with the last line that it printed.

    Args:
        code: as `subprocess` tells it: the negative number of a signal.
        printed: what it complained of.
    """
    last = (printed.strip() or "it says nothing").splitlines()[-1]
    return f"{_cause(code)}: {last}"


def _cause(code: int) -> str:
    if code >= 0:
        return f"ended with code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:  # a real-time signal has no name
        return f"was ended by signal {-code}"


def measure_cold_start(model: str | Path, picture: Path, folder: Path, threads: int) -> ColdStart:
    """Times `srgan-fast upscale` of a small picture by each installed backend, and the import of each runtime.

    Every process runs once before it is timed, so that files come from the page cache as they do on the second use.
    """
    path = str(resolve_model(model).absolute())
    python = _time_process("python", [sys.executable, "-c", "pass"], folder)
    upscale = []
    for name, entry in BACKENDS.items():
        if missing_modules(entry) or "fp32" not in entry.precisions:
            continue
        arguments = ["upscale", str(picture), "-o", str(folder / "cold.png"), "--overwrite"]
        options = ["--model", path, "--backend", name, "--threads", str(threads)]
        upscale.append(_time_process(name, [sys.executable, "-m", "srgan_fast", *arguments, *options], folder))
    imports = [
        _time_process(module, [sys.executable, "-c", f"import {module}"], folder)
        for module in _IMPORTS
        if not _lacks(module)
    ]
    return ColdStart(picture=picture.name, python_ms=python.median_ms or 0.0, upscale=upscale, imports=imports)


def _lacks(module: str) -> bool:
    from importlib.util import find_spec  # noqa: PLC0415

    return find_spec(module.split(".", maxsplit=1)[0]) is None


def _time_process(name: str, command: list[str], folder: Path) -> ProcessTime:
    taken: list[float] = []
    reason = None
    for _ in range(1 + COLD_RUNS):
        began = time.perf_counter()
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False, cwd=folder, env=environment()
            )
        except subprocess.TimeoutExpired:
            reason = f"took more than {TIMEOUT_S} s"
            break
        taken.append((time.perf_counter() - began) * 1e3)
        if done.returncode:
            reason = how_it_ended(done.returncode, done.stderr)
            break
    runs = [] if reason else taken[1:]
    return ProcessTime(
        name=name,
        command=" ".join(["python", *command[1:]]),
        median_ms=statistics.median(runs) if runs else None,
        min_ms=min(runs) if runs else None,
        runs_ms=runs,
        reason=reason,
    )
