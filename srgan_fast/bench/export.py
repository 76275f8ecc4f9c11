"""Benchmark of exports: time, file size, exactness, and the speed of ONNX Runtime with the result on this CPU."""

import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from srgan_fast.bench.machine import Neighbours, describe_machine, warn_about_neighbours, warn_about_start
from srgan_fast.bench.peers.from_onnx import cpu_session
from srgan_fast.bench.report import ExportBenchReport, ExportRow
from srgan_fast.bench.turns import OnStep, take_turns, timed, warm_up
from srgan_fast.bench.worker import why_not
from srgan_fast.bench.workload import ImageSize, lr_image
from srgan_fast.data.calibration import calibration_folder
from srgan_fast.errors import UsageError
from srgan_fast.export.onnx_export import OnnxModel, make_onnx
from srgan_fast.models import DEFAULT_MODEL, ModelFile, read_model
from srgan_fast.runtime.registry import usable_cpus
from srgan_fast.runtime.tensorrt.builder import BuildOptions, EnginePrecision, build_engine
from srgan_fast.runtime.tensorrt.flavour import installed_flavours, load_library

PRECISIONS: tuple[EnginePrecision, ...] = ("fp32", "fp16", "int8")
DEFAULT_SIZE = ImageSize(128, 128)


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """Options of `bench_export`.

    `size` is that of the image that ONNX Runtime upscales `rounds` times with `threads` (None: all CPUs); `calibration`
    is a folder of images for int8 (None: this project's samples).

    Raises:
        UsageError: values out of range.
    """

    model: str | Path = DEFAULT_MODEL
    precisions: tuple[EnginePrecision, ...] = PRECISIONS
    size: ImageSize = DEFAULT_SIZE
    rounds: int = 9
    threads: int | None = None
    calibration: Path | None = None

    def __post_init__(self) -> None:
        if self.rounds < 1 or (self.threads is not None and self.threads < 1):
            raise UsageError(f"rounds is {self.rounds} and threads {self.threads}; both must be at least 1")
        for precision in self.precisions:
            if precision not in PRECISIONS:
                raise UsageError(f"precision is {precision!r}; there are {', '.join(PRECISIONS)}")


def bench_export(options: ExportOptions, on_step: OnStep = lambda what: None) -> ExportBenchReport:
    """Exports a model to every format that is available here, and times ONNX Runtime with its graphs.

    `on_step` is called with a short description of each step.

    Raises:
        ModelError: the model cannot be read.
        ImageError: the folder of images cannot be read.
    """
    file = read_model(options.model)
    if options.calibration is not None:
        calibration_folder(options.calibration)
    threads = options.threads or usable_cpus()
    environment = describe_machine()
    warnings = warn_about_start(environment, threads)
    rows: dict[str, dict[str, Any]] = {}
    graphs: dict[str, bytes] = {}
    for kind, precision in itertools.product(
        ("onnx", *(each.name for each in installed_flavours())), options.precisions
    ):
        name = f"{kind}-{precision}"
        on_step(f"{name}: exporting and {'checking' if kind == 'onnx' else 'building'}")
        try:
            if kind == "onnx":
                rows[name], made = _export(file, precision, options.calibration)
                graphs[name] = made.data
            else:
                rows[name] = _build(file, kind, precision, options.calibration)
        except Exception as error:  # libraries raise their own exceptions
            rows[name] = {"status": "failed", "reason": why_not(error)}
    neighbours = Neighbours()
    for name, rounds_ms in _times(graphs, rows, options, threads, on_step).items():
        rows[name] |= {"rounds_ms": rounds_ms, "median_ms": statistics.median(rounds_ms)}
    other_cpus = neighbours.cpus_taken()
    return ExportBenchReport(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        model=file.name,
        size=str(options.size),
        threads=threads,
        environment=environment,
        other_cpus=other_cpus,
        rows=[ExportRow(name=name, **values) for name, values in rows.items()],
        warnings=warnings + warn_about_neighbours(other_cpus),
    )


def _export(
    file: ModelFile, precision: EnginePrecision, calibration: Path | None, **how: Any
) -> tuple[dict[str, Any], OnnxModel]:
    began = time.perf_counter()
    made = make_onnx(file, precision=precision, calibration=calibration, **how)
    make_s, psnr_db = time.perf_counter() - began, made.agreement.psnr_db
    known = {"make_s": make_s, "size_mb": len(made.data) / 1e6, "psnr_db": psnr_db if np.isfinite(psnr_db) else None}
    return {"status": "ok", **known}, made


def _build(file: ModelFile, flavour: str, precision: EnginePrecision, calibration: Path | None) -> dict[str, Any]:
    library = load_library(flavour)
    row, made = _export(file, precision, calibration, beside_int8="fp16")
    began = time.perf_counter()
    built = build_engine(library, made.data, precision, BuildOptions())
    build_s = time.perf_counter() - began
    return row | {"build_s": build_s, "size_mb": len(built.data) / 1e6, "convolutions": built.convolutions()}


def _times(
    graphs: dict[str, bytes], rows: dict[str, dict[str, Any]], options: ExportOptions, threads: int, on_step: OnStep
) -> dict[str, Sequence[float]]:
    """Milliseconds of each graph in alternating rounds; a graph that fails is marked in its row."""
    lr, _ = lr_image(options.size)
    runs: dict[str, Callable[[], Any]] = {}
    for name, data in graphs.items():
        runs[name] = partial(cpu_session(data, threads).run, None, {"lr": lr})
        try:
            warm_up(runs[name], 0)
        except Exception as error:
            del runs[name]
            rows[name] |= {"status": "failed", "reason": f"ONNX Runtime: {why_not(error)}"}
    turns = {name: lambda last, run=run: timed(run)[0] for name, run in runs.items()}
    times = take_turns(turns, options.rounds, on_step)
    return {name: [seconds * 1e3 for seconds in found.wall_s] for name, found in times.items() if found.wall_s}
