"""The inference benchmark: rows are selected, loaded in their own processes, timed in turns, checked and ranked."""

import itertools
import math
import statistics
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from srgan_fast.bench.accuracy import TOLERANCES, Accuracy, Reference, compare, compute_reference
from srgan_fast.bench.candidates import Candidate, find_candidate, select_candidates
from srgan_fast.bench.cold_start import measure_cold_start
from srgan_fast.bench.machine import (
    Neighbours,
    available_mib,
    describe_machine,
    warn_about_neighbours,
    warn_about_rounds,
    warn_about_start,
)
from srgan_fast.bench.options import InferenceOptions
from srgan_fast.bench.report import (
    Arrivals,
    CaseResult,
    ColdStart,
    InferenceReport,
    Latency,
    LeftOut,
    Method,
    Model,
    Row,
    Streams,
    rank,
)
from srgan_fast.bench.streams import SECONDS
from srgan_fast.bench.turns import ORDER, PAUSE_S, WARM_UP_RUNS, Taken, Times, finite, percentile, take_turns
from srgan_fast.bench.worker import Worker, why_not
from srgan_fast.bench.workload import ImageSize, Workload, lr_image, lr_images
from srgan_fast.data.calibration import calibration_folder
from srgan_fast.data.images import Image, write_image
from srgan_fast.errors import BackendError, UsageError
from srgan_fast.export.onnx_export import network_digest
from srgan_fast.models import ModelFile, read_model
from srgan_fast.models.checkpoint import resolve_model
from srgan_fast.network.analysis import macs_per_image_pixel, value_shapes
from srgan_fast.runtime.registry import usable_cpus

WORKER = "srgan_fast.bench.inference_row"
COLD_START_SIZE = ImageSize(64, 64)
# Poisson arrivals have this fraction of the rate that the same callers reach in closed loops.
ARRIVALS_SHARE = 0.7
# Full-size feature maps that the most memory-hungry library holds at once. A row that needs more is rejected before
# loading, since the system kills processes that run out of memory without a message.
_FEATURE_MAPS_HELD = 3
# CPUs that a row may use beyond its threads without a warning; CPU clocks are coarse for runs of milliseconds.
_CPUS_TOLERATED = 0.25

OnStep = Callable[[str], None]


@dataclass(slots=True)
class _InferenceRun:
    """State of a running benchmark; `references` caches the one of the current batch and size."""

    options: InferenceOptions
    file: ModelFile
    folder: Path
    calibration: Path | None
    on_step: OnStep
    left_out: list[LeftOut] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    references: dict[tuple[int, ImageSize], tuple[Reference, Literal["float64", "float32"]]] = field(
        default_factory=dict
    )

    def order(self, workload: Workload) -> dict[str, Any]:
        """A row's job, as sent to its process."""
        return {
            "model": str(resolve_model(self.options.model).absolute()),
            "size": list(workload.size),
            "batch": workload.batch,
            "threads": workload.threads,
            "folder": str(self.folder),
            "calibration": None if self.calibration is None else str(self.calibration.absolute()),
        }


@dataclass(slots=True)
class _Loaded:
    """A row that is loaded and warmed up in its process."""

    candidate: Candidate
    worker: Worker
    facts: dict[str, Any]
    accuracy: Accuracy
    problem: str | None

    def turn(self, result: Path, reference: Reference, last: bool) -> Taken:
        """One run; the result of the last one is checked."""
        found = self.worker.ask("run", result=str(result) if last else None)
        if last:
            self.check(result, reference)
        return Taken(**found)

    def check(self, result: Path, reference: Reference) -> None:
        """Compares another result with the reference; the worst error counts."""
        found = compare(np.load(result), reference)
        result.unlink()
        self.problem = self.problem or found.problem(TOLERANCES[self.candidate.precision])
        self.accuracy = Accuracy(
            max(self.accuracy.max_error, found.max_error), min(self.accuracy.psnr_db, found.psnr_db)
        )


def bench_inference(options: InferenceOptions, on_step: OnStep = lambda what: None) -> InferenceReport:
    """Measures this package's backends and the peers on images in memory, each in its own process, in turns.

    `on_step` is called with a short description of each step. Returns the figures of every row, including wrong and
    failed ones, and which rows were left out and why.

    Raises:
        UsageError: an unknown row or baseline, or nothing to measure.
        ModelError: the model cannot be read.
        ImageError: the image or the folder of images cannot be read.
        BackendError: torch, which large references need, is not installed.
    """
    file = read_model(options.model)
    _check_sizes(file, options)
    rows = select_candidates(options.backends, options.peers, options.precisions)
    if options.baseline is not None and find_candidate(options.baseline) not in rows:
        raise UsageError(f"baseline {options.baseline} is not among the rows: {', '.join(row.name for row in rows)}")
    threads = options.threads or (usable_cpus(),)
    environment = describe_machine()
    with tempfile.TemporaryDirectory(prefix="srgan-fast-bench-") as folder:
        calibration = calibration_folder(options.calibration)
        run = _InferenceRun(options, file, Path(folder), calibration, on_step)
        run.warnings += warn_about_start(environment, max(threads))
        rows = _installed(run, rows)
        shapes = itertools.product(dict.fromkeys(options.sizes), dict.fromkeys(options.batches))
        cases = [Workload(size, batch, count) for size, batch in shapes for count in dict.fromkeys(threads)]
        measured = [_measure_case(run, case, rows) for case in cases]
        run.warnings += warn_about_rounds(min(case.rounds for case in measured))
        cold_start = _cold_start(run, max(threads)) if options.cold_start else None
    return InferenceReport(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        model=Model(
            name=file.name,
            sha256=network_digest(file.network),
            scale=file.scale,
            architecture=file.architecture,
            macs_per_lr_pixel=round(macs_per_image_pixel(file.network)),
        ),
        environment=environment,
        method=Method(
            rounds=options.rounds,
            duration_s=options.duration_s,
            warm_up_runs=WARM_UP_RUNS,
            warm_up_ms=options.warm_up_ms,
            pause_ms=PAUSE_S * 1e3,
            order=ORDER,
            calibration=None if calibration is None else calibration.name,
            percentiles=list(dict.fromkeys(options.percentiles)),
        ),
        cases=measured,
        left_out=run.left_out,
        cold_start=cold_start,
        warnings=run.warnings,
    )


def _check_sizes(file: ModelFile, options: InferenceOptions) -> None:
    """Rejects sizes that the network does not accept: three channels, sides that are multiples of its unshuffle."""
    multiple = file.network.unshuffle
    if file.channels != 3:
        raise UsageError(f"{file.name} takes images of {file.channels} channels; measured are those of 3")
    odd = [size for size in options.sizes if size.height % multiple or size.width % multiple]
    if odd:
        raise UsageError(f"size {odd[0]}: sides must be multiples of {multiple}, the pixel-unshuffle of {file.name}")


def _installed(run: _InferenceRun, rows: list[Candidate]) -> list[Candidate]:
    """Rows that can run here; the others are recorded. Raises if there is none, or if the baseline is missing."""
    able = []
    remedy: str | None
    for row in rows:
        if missing := row.missing():
            reason, remedy = f"{' and '.join(missing)} not installed", row.remedy
        elif unable := row.why_not_here():
            reason, remedy = unable, None
        elif row.precision == "int8" and run.calibration is None:
            reason, remedy = "int8 needs images to calibrate with", "--calibration FOLDER"
        else:
            able.append(row)
            continue
        run.left_out.append(LeftOut(name=row.name, reason=reason, remedy=remedy))
        if row.name == run.options.baseline:
            raise UsageError(f"baseline {row.name} cannot be measured: {'; '.join(filter(None, (reason, remedy)))}")
    if not able:
        hints = dict.fromkeys(left.remedy for left in run.left_out if left.remedy)
        if not hints:
            raise UsageError(f"none of the requested rows can run here: {run.left_out[0].reason}")
        raise UsageError(f"none of the requested rows is installed; {' or '.join(hints)}")
    return able


# --- one case


def _measure_case(run: _InferenceRun, case: Workload, rows: list[Candidate]) -> CaseResult:
    """Figures of all rows that can be measured, including wrong and failed ones."""
    lr, description = lr_images(case.size, case.batch, run.options.image)
    np.save(run.folder / "lr.npy", lr)
    shape = (case.batch, case.size)
    if shape not in run.references:
        run.on_step(f"{case}: reference")
        run.references.clear()
        run.references[shape] = compute_reference(run.file, lr, case.threads)
    reference, reference_dtype = run.references[shape]
    finished: dict[str, Row] = {}
    loaded: dict[str, _Loaded] = {}
    with ExitStack() as workers:
        for row in rows:
            if _too_large(run, case, row, any(item.candidate.kind == "peer" for item in loaded.values())):
                continue
            run.on_step(f"{case}: {row.name}, loading")
            try:
                loaded[row.name] = _load(run, case, row, reference, workers)
            except BackendError as error:
                finished[row.name] = _row(row, case, status="failed", reason=str(error))
        neighbours = Neighbours(item.worker.pid for item in loaded.values())
        turns = {name: partial(item.turn, run.folder / f"{name}.npy", reference) for name, item in loaded.items()}
        times = take_turns(
            turns, run.options.rounds, lambda name: run.on_step(f"{case}: {name}"), duration_s=run.options.duration_s
        )
        other_cpus = neighbours.cpus_taken()
        run.warnings += [f"{case}: {warning}" for warning in warn_about_neighbours(other_cpus)]
        for name, item in loaded.items():
            finished[name] = _timed_row(run, case, item, times[name], reference)
    ranked, baseline = rank(
        [finished[row.name] for row in rows if row.name in finished],
        partial(_baseline, run.options.baseline),
        {"ratio": Row.median_ms},
    )
    if run.options.baseline is not None and baseline is None:
        run.warnings.append(f"{case}: the baseline {run.options.baseline} is wrong or failed, so there are no ratios")
    return CaseResult(
        batch=case.batch,
        height=case.size.height,
        width=case.size.width,
        threads=case.threads,
        rounds=max((len(found.taken) for found in times.values()), default=0),
        input=description,
        reference=reference_dtype,
        baseline=baseline,
        other_cpus=other_cpus,
        rows=ranked,
    )


def _too_large(run: _InferenceRun, case: Workload, row: Candidate, beside_others: bool) -> bool:
    """Whether a peer's feature maps may not fit in memory; our backends bound theirs, or are requested by name.

    Some peers keep their memory, others allocate it in each run, so there must be room for one more peer.
    """
    free = available_mib()
    network = run.file.network
    # Floats of the largest feature map per image pixel.
    largest = max(shape.channels * shape.resolution**2 for shape in value_shapes(network)) / network.unshuffle**2
    need = _FEATURE_MAPS_HELD * largest * case.pixels * 4 / 2**20
    if beside_others:
        need *= 2
    if row.kind == "backend" or free is None or need < free:
        return False
    run.left_out.append(
        LeftOut(
            name=row.name,
            case=str(case),
            reason=f"may need {need:.0f} MiB, {free:.0f} MiB are free beside the rows already loaded",
            remedy=f"--peer {row.name} in a separate run",
        )
    )
    return True


def _load(run: _InferenceRun, case: Workload, row: Candidate, reference: Reference, workers: ExitStack) -> _Loaded:
    """Prepares, loads, warms up and checks a row; a BackendError gives the failure, or how its process ended."""
    order = {"row": row.name, "job": run.order(case)}
    if row.prepares:
        with Worker(WORKER, f"{row.name}-files", run.folder, python=row.python) as preparing:
            preparing.ask("prepare", **order)
    worker = workers.enter_context(Worker(WORKER, row.name, run.folder, python=row.python))
    result = run.folder / f"{row.name}.npy"
    details = {"lr": str(run.folder / "lr.npy"), "warm_up_ms": run.options.warm_up_ms, "result": str(result)}
    facts = worker.ask("load", **order, **details)
    loaded = _Loaded(row, worker, facts, Accuracy(0.0, math.inf), None)
    loaded.check(result, reference)
    return loaded


def _row(candidate: Candidate, case: Workload, **values: object) -> Row:
    return Row.model_validate(
        {
            "name": candidate.name,
            "kind": candidate.kind,
            "runtime": candidate.runtime,
            "precision": candidate.precision,
            "tolerance": str(TOLERANCES[candidate.precision]),
            "command": candidate.command.format(threads=case.threads),
            **values,
        }
    )


def _timed_row(run: _InferenceRun, case: Workload, item: _Loaded, times: Times, reference: Reference) -> Row:
    facts = {**item.facts, **finite({"max_error": item.accuracy.max_error, "psnr_db": item.accuracy.psnr_db})}
    if times.failure is not None:
        return _row(item.candidate, case, status="failed", reason=why_not(times.failure), **facts)
    wall_ms = [seconds * 1e3 for seconds in times.wall_s]
    median_s = statistics.median(times.wall_s)
    device_s = [taken.device_s for taken in times.taken if taken.device_s is not None]
    peaks = [taken.peak_device_mib for taken in times.taken if taken.peak_device_mib is not None]
    cpus_used = times.cpus_used()
    if cpus_used > case.threads + _CPUS_TOLERATED:
        run.warnings.append(
            f"{case}: {item.candidate.name} used {cpus_used:.2f} CPUs, not {case.threads}: not comparable"
        )
    streams = None
    if run.options.streams > 1 and item.problem is None:
        run.on_step(f"{case}: {item.candidate.name}, {run.options.streams} streams")
        streams = _streams(run, case, item, reference)
    return _row(
        item.candidate,
        case,
        status="wrong" if item.problem else "ok",
        reason=item.problem,
        latency=Latency(
            min_ms=min(wall_ms),
            mean_ms=statistics.fmean(wall_ms),
            median_ms=median_s * 1e3,
            p90_ms=percentile(wall_ms, 90),
            p99_ms=percentile(wall_ms, 99),
            max_ms=max(wall_ms),
            percentiles_ms={f"{p:g}": percentile(wall_ms, p) for p in run.options.percentiles},
            rounds_ms=wall_ms,
        ),
        device_ms=statistics.median(device_s) * 1e3 if device_s else None,
        peak_device_mib=max(peaks, default=None),
        images_per_s=case.batch / median_s,
        output_mp_per_s=case.pixels * run.file.scale**2 / 1e6 / median_s,
        gflops=2 * float(macs_per_image_pixel(run.file.network)) * case.pixels / 1e9 / median_s,
        cpus_used=cpus_used,
        streams=streams,
        **facts,
    )


def _streams(run: _InferenceRun, case: Workload, item: _Loaded, reference: Reference) -> Streams:
    """Throughput and latency of several concurrent callers, and of a single one."""
    count = run.options.streams
    results = [run.folder / f"{item.candidate.name}-{index}.npy" for index in range(count)]
    details = {"seconds": max(SECONDS, run.options.duration_s), "share": ARRIVALS_SHARE}
    try:
        found = item.worker.ask("streams", count=count, results=[str(path) for path in results], **details)
        if "reason" in found:
            return Streams(count=count, reason=found["reason"])
        accuracies = [compare(np.load(path), reference) for path in results]
    except BackendError as error:
        return Streams(count=count, reason=str(error))
    problems = [accuracy.problem(TOLERANCES[item.candidate.precision]) for accuracy in accuracies]
    problem = next(filter(None, problems), None)
    waits_ms = [seconds * 1e3 for seconds in found["latencies_s"]]
    return Streams(
        count=count,
        images_per_s=found["per_s"] * case.batch,
        one_images_per_s=found["one_per_s"] * case.batch,
        median_ms=statistics.median(found["runs_s"]) * 1e3,
        runs=len(found["runs_s"]),
        poisson=Arrivals(
            rate_per_s=found["rate_per_s"],
            runs=len(waits_ms),
            median_ms=statistics.median(waits_ms),
            p90_ms=percentile(waits_ms, 90),
            p99_ms=percentile(waits_ms, 99),
        ),
        reason=None if problem is None else f"wrong when called by several threads: {problem}",
    )


def _baseline(name: str | None, correct: list[Row]) -> Row | None:
    """The row of that name, or our fastest fp32 row, or the fastest row."""
    if name is not None:
        return next((row for row in correct if row.name == name), None)
    own = (row for row in correct if row.kind == "backend" and row.precision == "fp32")
    return next(own, correct[0] if correct else None)


def _cold_start(run: _InferenceRun, threads: int) -> ColdStart:
    run.on_step("cold start")
    lr, _ = lr_image(COLD_START_SIZE, run.options.image)
    image = run.folder / f"{COLD_START_SIZE}.png"
    write_image(image, Image(np.rint(lr[0].transpose(1, 2, 0) * 255).astype(np.uint8)))
    return measure_cold_start(run.options.model, image, run.folder, threads)
