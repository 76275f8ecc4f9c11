"""Cold start: whole processes from start to exit, including what a user waits for besides computing."""

import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from srgan_fast.bench.report import ColdStart, ProcessTime
from srgan_fast.bench.worker import TIMEOUT_S, environment, how_it_ended
from srgan_fast.bench.workload import ImageSize, lr_image
from srgan_fast.models.checkpoint import resolve_model
from srgan_fast.runtime import BACKENDS
from srgan_fast.runtime.installed import is_installed
from srgan_fast.runtime.registry import missing_modules

RUNS = 5
SIZE = ImageSize(64, 64)
IMPORTS = ("srgan_fast.runtime.upscaler", "torch", "onnxruntime", "openvino", "MNN", "ncnn", "cv2")


def measure_cold_start(model: str | Path, image: Path | None, folder: Path, threads: int) -> ColdStart:
    """Times `srgan-fast upscale` of a small image by each installed backend, and the import of each runtime.

    The image is made of `image` (see `lr_image`) in `folder`. Every process runs once before it is timed, so that its
    files are in the page cache.
    """
    from srgan_fast.data.images import Image, write_image  # noqa: PLC0415 (loads libvips, which `time_process` does not need)

    path = str(resolve_model(model).absolute())
    lr, _ = lr_image(SIZE, image)
    small = folder / f"{SIZE}.png"
    write_image(small, Image(np.rint(lr[0].transpose(1, 2, 0) * 255).astype(np.uint8)))
    python = time_process("python", ["-c", "pass"], folder)
    upscale = []
    for name, entry in BACKENDS.items():
        if missing_modules(entry) or "fp32" not in entry.precisions:
            continue
        arguments = ["upscale", str(small), "-o", str(folder / "cold.png"), "--overwrite"]
        options = ["--model", path, "--backend", name, "--threads", str(threads)]
        upscale.append(time_process(name, ["-m", "srgan_fast", *arguments, *options], folder))
    imports = [
        time_process(module, ["-c", f"import {module}"], folder)
        for module in IMPORTS
        if is_installed(module.split(".", maxsplit=1)[0])
    ]
    return ColdStart(picture=small.name, python_ms=python.median_ms or 0.0, upscale=upscale, imports=imports)


def time_process(name: str, arguments: list[str], folder: Path, runs: int = 0) -> ProcessTime:
    """Times a process of this interpreter `runs` times (0: `RUNS`), after one untimed run."""
    taken: list[float] = []
    reason = None
    how: dict[str, Any] = {"capture_output": True, "text": True, "cwd": folder, "env": environment()}
    how["stdin"] = subprocess.DEVNULL  # a worker's is its connection
    while reason is None and len(taken) <= (runs or RUNS):
        began = time.perf_counter()
        try:
            done = subprocess.run([sys.executable, *arguments], timeout=TIMEOUT_S, check=False, **how)
            reason = how_it_ended(done.returncode, done.stderr) if done.returncode else None
        except subprocess.TimeoutExpired:
            reason = f"took more than {TIMEOUT_S} s"
        taken.append((time.perf_counter() - began) * 1e3)
    timed = [] if reason else taken[1:]
    return ProcessTime(
        name=name,
        command=" ".join(["python", *arguments]),
        median_ms=statistics.median(timed) if timed else None,
        min_ms=min(timed) if timed else None,
        runs_ms=timed,
        reason=reason,
    )
