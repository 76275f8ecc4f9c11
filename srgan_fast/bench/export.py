"""What an export costs and gives: seconds, bytes, exactness, and the speed of ONNX Runtime with it on this CPU."""

import csv
import io
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from srgan_fast.bench.candidates import why_not
from srgan_fast.bench.machine import Neighbours, describe_machine, warn_about_neighbours, warn_about_start
from srgan_fast.bench.options import Size
from srgan_fast.bench.pictures import lr_image
from srgan_fast.bench.report import Environment, Part
from srgan_fast.bench.rounds import measure_rounds, timed, warm_up
from srgan_fast.data.calibration import calibration_folder
from srgan_fast.errors import UsageError
from srgan_fast.export.onnx_export import OnnxModel, make_onnx
from srgan_fast.models import DEFAULT_MODEL, ModelFile, read_model
from srgan_fast.runtime.registry import usable_cpus
from srgan_fast.runtime.tensorrt.builder import BuildOptions, EnginePrecision, build_engine
from srgan_fast.runtime.tensorrt.flavour import Flavour, installed_flavours, load_library

SCHEMA: Literal["srgan_fast.bench.export/1"] = "srgan_fast.bench.export/1"
PRECISIONS: tuple[EnginePrecision, ...] = ("fp32", "fp16", "int8")

DEFAULT_SIZE = Size(128, 128)

OnStep = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What `bench_export` measures.

    Attributes:
        model: a shipped model's name or a generator file.
        precisions: of graphs and engines.
        size: of the picture that ONNX Runtime upscales.
        rounds: timed runs of each graph.
        threads: of ONNX Runtime; all CPUs that this process may use if None.
        calibration: folder of pictures for int8; this project's samples if None.

    Raises:
        UsageError: values out of range.
    """

    model: str | Path = DEFAULT_MODEL
    precisions: tuple[EnginePrecision, ...] = PRECISIONS
    size: Size = DEFAULT_SIZE
    rounds: int = 9
    threads: int | None = None
    calibration: Path | None = None

    def __post_init__(self) -> None:
        if self.rounds < 1 or (self.threads is not None and self.threads < 1):
            raise UsageError(f"rounds is {self.rounds} and threads {self.threads}; both must be at least 1")
        for precision in self.precisions:
            if precision not in PRECISIONS:
                raise UsageError(f"precision is {precision!r}; there are {', '.join(PRECISIONS)}")


class ExportRow(Part):
    """One file that a model can be exported to."""

    name: str
    status: Literal["ok", "failed"]
    reason: str | None = Field(default=None, description="why it failed")
    make_s: float | None = Field(default=None, description="from weights to a checked graph")
    build_s: float | None = Field(default=None, description="from there to an engine")
    size_mb: float | None = Field(default=None, description="of the file, 10^6 bytes")
    psnr_db: float | None = Field(default=None, description="of the graph against torch, worst photograph")
    convolutions: dict[str, int] = Field(default_factory=dict, description="of an engine's network, by type")
    median_ms: float | None = Field(default=None, description="of ONNX Runtime on this CPU; null for engines")
    rounds_ms: list[float] = Field(default_factory=list, description="in the order of the rounds")


class ExportBenchReport(Part):
    """Everything that one run found."""

    schema_name: Literal["srgan_fast.bench.export/1"] = Field(default=SCHEMA, alias="schema")
    model: str
    size: str
    threads: int
    environment: Environment
    other_cpus: float | None = Field(description="CPUs that other processes kept busy during the rounds")
    rows: list[ExportRow]
    warnings: list[str]

    def as_json(self) -> str:
        """Indented JSON; numbers that JSON cannot say are null."""
        return self.model_dump_json(by_alias=True, indent=2) + "\n"


def bench_export(options: ExportOptions, on_step: OnStep = lambda what: None) -> ExportBenchReport:
    """Exports a model to every format that can be made here, and times ONNX Runtime with its graphs.

    Args:
        options: what to measure.
        on_step: told in a few words what is being done, before it is done.

    Raises:
        ModelError: the model cannot be read.
        ImageError: the folder of pictures cannot be read.
    """
    file = read_model(options.model)
    if options.calibration is not None:
        calibration_folder(options.calibration)
    threads = options.threads or usable_cpus()
    environment = describe_machine()
    warnings = warn_about_start(environment, threads)
    rows: dict[str, dict[str, Any]] = {}
    graphs: dict[str, bytes] = {}
    for precision in options.precisions:
        on_step(f"onnx-{precision}: exporting and checking")
        rows[f"onnx-{precision}"], made = _graph(file, precision, options.calibration)
        if made is not None:
            graphs[f"onnx-{precision}"] = made.data
    for flavour in installed_flavours():
        for precision in options.precisions:
            on_step(f"{flavour.name}-{precision}: exporting and building")
            rows[f"{flavour.name}-{precision}"] = _engine(file, flavour, precision, options.calibration)
    neighbours = Neighbours()
    for name, rounds_ms in _times(graphs, rows, options, threads, on_step).items():
        rows[name] |= {"rounds_ms": rounds_ms, "median_ms": statistics.median(rounds_ms)}
    other_cpus = neighbours.cpus_taken()
    return ExportBenchReport(
        model=file.name,
        size=str(options.size),
        threads=threads,
        environment=environment,
        other_cpus=other_cpus,
        rows=[ExportRow(name=name, **values) for name, values in rows.items()],
        warnings=warnings + warn_about_neighbours(other_cpus),
    )


def _graph(
    file: ModelFile, precision: EnginePrecision, calibration: Path | None
) -> tuple[dict[str, Any], OnnxModel | None]:
    began = time.perf_counter()
    try:
        made = make_onnx(file, precision=precision, calibration=calibration)
    except Exception as error:  # libraries have exceptions of their own
        return {"status": "failed", "reason": why_not(error)}, None
    make_s = time.perf_counter() - began
    return {"status": "ok", "make_s": make_s, "size_mb": len(made.data) / 1e6, "psnr_db": _psnr(made)}, made


def _engine(file: ModelFile, flavour: Flavour, precision: EnginePrecision, calibration: Path | None) -> dict[str, Any]:
    try:
        library = load_library(flavour.name)
        began = time.perf_counter()
        made = make_onnx(file, precision=precision, calibration=calibration, beside_int8="fp16")
        make_s, began = time.perf_counter() - began, time.perf_counter()
        built = build_engine(library, made.data, precision, BuildOptions())
    except Exception as error:
        return {"status": "failed", "reason": why_not(error)}
    return {
        "status": "ok",
        "make_s": make_s,
        "build_s": time.perf_counter() - began,
        "size_mb": len(built.data) / 1e6,
        "psnr_db": _psnr(made),
        "convolutions": built.convolutions(),
    }


def _psnr(made: OnnxModel) -> float | None:
    return made.agreement.psnr_db if np.isfinite(made.agreement.psnr_db) else None


def _times(
    graphs: dict[str, bytes], rows: dict[str, dict[str, Any]], options: ExportOptions, threads: int, on_step: OnStep
) -> dict[str, Sequence[float]]:
    """Milliseconds of each graph in alternating rounds; a graph that does not run is marked in its row."""
    if not graphs:
        return {}
    import onnxruntime  # noqa: PLC0415 (extra)

    lr, _ = lr_image(options.size)
    runs: dict[str, Callable[[], Any]] = {}
    for name, data in graphs.items():
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads, settings.log_severity_level = threads, 3
        session = onnxruntime.InferenceSession(data, settings, providers=["CPUExecutionProvider"])
        runs[name] = partial(session.run, None, {"lr": lr})
        try:
            warm_up(runs[name], 0)
        except Exception as error:
            del runs[name]
            rows[name] |= {"status": "failed", "reason": f"ONNX Runtime: {why_not(error)}"}
    times = measure_rounds(
        {name: timed(run) for name, run in runs.items()}, options.rounds, lambda name, result: None, on_step
    )
    return {name: [seconds * 1e3 for seconds in found.wall_s] for name, found in times.items() if found.wall_s}


_COLUMNS = ("name", "status", "reason", "make_s", "build_s", "size_mb", "psnr_db", "median_ms")


def export_rows_as_csv(report: ExportBenchReport) -> str:
    """A line for each row, with a header; what is not known is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("model", "size", "threads", *_COLUMNS))
    for row in report.rows:
        writer.writerow((report.model, report.size, report.threads, *(getattr(row, name) for name in _COLUMNS)))
    return text.getvalue()
