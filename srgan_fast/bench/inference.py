"""The inference benchmark: rows are selected, loaded in their own processes, timed in turns, checked and ranked."""

import itertools
import math
import statistics
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from srgan_fast import memory
from srgan_fast.bench.accuracy import TOLERANCES, Accuracy, Reference, compare, compute_reference
from srgan_fast.bench.candidates import Candidate, find_candidate, select_candidates
from srgan_fast.bench.cold_start import measure_cold_start
from srgan_fast.bench.machine import (
    Neighbours,
    describe_machine,
    warn_about_neighbours,
    warn_about_rounds,
    warn_about_start,
)
from srgan_fast.bench.options import InferenceOptions
from srgan_fast.bench.report import (
    Arrivals,
    CaseResult,
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
from srgan_fast.bench.turns import WARM_UP_RUNS, OnStep, Taken, Times, finite, percentile, take_turns
from srgan_fast.bench.worker import Worker, why_not
from srgan_fast.bench.workload import Workload, lr_images
from srgan_fast.data.calibration import calibration_folder
from srgan_fast.errors import BackendError, UsageError
from srgan_fast.export.onnx_export import network_digest
from srgan_fast.models import ModelFile, read_model
from srgan_fast.models.checkpoint import resolve_model
from srgan_fast.network.analysis import macs_per_image_pixel, value_shapes
from srgan_fast.runtime.registry import usable_cpus

WORKER = "srgan_fast.bench.inference_row"
# Poisson arrivals have this fraction of the rate that the same callers reach in closed loops.
ARRIVALS_SHARE = 0.7
# Full-size feature maps that the most memory-hungry library holds at once. A row that needs more is rejected before
# loading, since the system kills processes that run out of memory without a message.
_FEATURE_MAPS_HELD = 3
# CPUs that a row may use beyond its threads without a warning; CPU clocks are coarse for runs of milliseconds.
_CPUS_TOLERATED = 0.25


@dataclass(slots=True)
class _InferenceRun:
    """State of a running benchmark."""

    options: InferenceOptions
    file: ModelFile
    folder: Path
    calibration: Path | None
    on_step: OnStep
    left_out: list[LeftOut] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Loaded:
    """A row that is loaded and warmed up in its process, which writes results to a file."""

    candidate: Candidate
    worker: Worker
    facts: dict[str, Any]
    result: Path
    reference: Reference
    accuracy: Accuracy = field(default_factory=lambda: Accuracy(0.0, math.inf))
    problem: str | None = None

    def turn(self, last: bool) -> Taken:
        """One run; the result of the last one is checked."""
        found = self.worker.ask("run", result=str(self.result) if last else None)
        if last:
            self.check()
        return Taken(**found)

    def check(self) -> None:
        """Compares another result with the reference; the worst error counts."""
        found, problem = self.compare(self.result)
        self.problem = self.problem or problem
        self.accuracy = Accuracy(
            max(self.accuracy.max_error, found.max_error), min(self.accuracy.psnr_db, found.psnr_db)
        )

    def compare(self, result: Path) -> tuple[Accuracy, str | None]:
        """Error of a result, which is deleted, and what is wrong with it."""
        found = compare(np.load(result), self.reference)
        result.unlink()
        return found, found.problem(TOLERANCES[self.candidate.precision])


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
    environment, cold_start = describe_machine(), None
    with tempfile.TemporaryDirectory(prefix="srgan-fast-bench-") as folder:
        calibration = calibration_folder(options.calibration)
        run = _InferenceRun(options, file, Path(folder), calibration, on_step)
        run.warnings += warn_about_start(environment, max(threads))
        rows = _installed(run, rows)
        shapes = itertools.product(dict.fromkeys(options.sizes), dict.fromkeys(options.batches))
        cases = ([Workload(size, batch, count) for count in dict.fromkeys(threads)] for size, batch in shapes)
        measured = [case for alike in cases for case in _measure_alike(run, alike, rows)]
        run.warnings += warn_about_rounds(min(case.rounds for case in measured))
        if options.cold_start:
            on_step("cold start")
            cold_start = measure_cold_start(options.model, options.image, run.folder, max(threads))
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


def _measure_alike(run: _InferenceRun, cases: list[Workload], rows: list[Candidate]) -> list[CaseResult]:
    """Figures of cases of one size and batch, which share the input and the reference."""
    lr, description = lr_images(cases[0].size, cases[0].batch, run.options.image)
    np.save(run.folder / "lr.npy", lr)
    run.on_step(f"{cases[0]}: reference")
    reference, dtype = compute_reference(run.file, lr, cases[0].threads)
    about = {"input": description, "reference": dtype}
    return [_measure_case(run, case, rows, reference, about) for case in cases]


def _measure_case(
    run: _InferenceRun, case: Workload, rows: list[Candidate], reference: Reference, about: dict[str, Any]
) -> CaseResult:
    """Figures of all rows that can be measured, including wrong and failed ones."""
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
        turns = {name: item.turn for name, item in loaded.items()}
        times = take_turns(
            turns, run.options.rounds, lambda name: run.on_step(f"{case}: {name}"), duration_s=run.options.duration_s
        )
        other_cpus = neighbours.cpus_taken()
        run.warnings += [f"{case}: {warning}" for warning in warn_about_neighbours(other_cpus)]
        for name, item in loaded.items():
            finished[name] = _timed_row(run, case, item, times[name])
    ranked, baseline = rank(
        [finished[row.name] for row in rows if row.name in finished],
        run.options.baseline,
        lambda row: row.kind == "backend" and row.precision == "fp32",
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
        **about,
        baseline=baseline,
        other_cpus=other_cpus,
        rows=ranked,
    )


def _too_large(run: _InferenceRun, case: Workload, row: Candidate, beside_others: bool) -> bool:
    """Whether a peer's feature maps may not fit in memory; our backends bound theirs, or are requested by name.

    Some peers keep their memory, others allocate it in each run, so there must be room for one more peer.
    """
    available, network = memory.available(), run.file.network
    # Floats of the largest feature map per image pixel.
    largest = max(shape.channels * shape.resolution**2 for shape in value_shapes(network)) / network.unshuffle**2
    need = _FEATURE_MAPS_HELD * largest * case.pixels * 4 * (2 if beside_others else 1)
    if row.kind == "backend" or available is None or need < available:
        return False
    free = f"{available / 2**20:.0f} MiB are free beside the rows already loaded"
    reason, remedy = f"may need {need / 2**20:.0f} MiB, {free}", f"--peer {row.name} in a separate run"
    run.left_out.append(LeftOut(name=row.name, case=str(case), reason=reason, remedy=remedy))
    return True


def _load(run: _InferenceRun, case: Workload, row: Candidate, reference: Reference, workers: ExitStack) -> _Loaded:
    """Prepares, loads, warms up and checks a row; a BackendError gives the failure, or how its process ended."""
    job = {
        "model": str(resolve_model(run.options.model).absolute()),
        "size": list(case.size),
        "batch": case.batch,
        "threads": case.threads,
        "folder": str(run.folder),
        "calibration": None if run.calibration is None else str(run.calibration.absolute()),
    }
    order = {"row": row.name, "job": job}
    if row.prepares:
        with Worker(WORKER, f"{row.name}-files", run.folder, python=row.python) as preparing:
            preparing.ask("prepare", **order)
    worker = workers.enter_context(Worker(WORKER, row.name, run.folder, python=row.python))
    result = run.folder / f"{row.name}.npy"
    details = {"lr": str(run.folder / "lr.npy"), "warm_up_ms": run.options.warm_up_ms, "result": str(result)}
    facts = worker.ask("load", **order, **details)
    loaded = _Loaded(row, worker, facts, result, reference)
    loaded.check()
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


def _timed_row(run: _InferenceRun, case: Workload, item: _Loaded, times: Times) -> Row:
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
        streams = _streams(run, case, item)
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


def _streams(run: _InferenceRun, case: Workload, item: _Loaded) -> Streams:
    """Throughput and latency of several concurrent callers, and of a single one."""
    count = run.options.streams
    results = [run.folder / f"{item.candidate.name}-{index}.npy" for index in range(count)]
    details = {"seconds": max(SECONDS, run.options.duration_s), "share": ARRIVALS_SHARE}
    try:
        found = item.worker.ask("streams", count=count, results=[str(path) for path in results], **details)
        if "reason" in found:
            return Streams(count=count, reason=found["reason"])
        problems = [item.compare(path)[1] for path in results]
    except BackendError as error:
        return Streams(count=count, reason=str(error))
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
