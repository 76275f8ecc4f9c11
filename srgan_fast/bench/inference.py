"""The benchmark of inference: rows are chosen, prepared, loaded, warmed up, timed in turns, checked and ranked."""

import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np

from srgan_fast.bench.accuracy import TOLERANCES, Accuracy, Reference, compare, compute_reference
from srgan_fast.bench.candidates import Candidate, Job, Loaded, find_candidate, select_candidates, why_not
from srgan_fast.bench.machine import (
    Neighbours,
    available_mib,
    describe_machine,
    warn_about_neighbours,
    warn_about_rounds,
    warn_about_start,
)
from srgan_fast.bench.options import Case, InferenceOptions, Size
from srgan_fast.bench.pictures import calibration_folder, lr_image, lr_images
from srgan_fast.bench.processes import call_worker, measure_cold_start
from srgan_fast.bench.quiet import quiet_stdout
from srgan_fast.bench.report import (
    CaseResult,
    ColdStart,
    InferenceReport,
    Latency,
    LeftOut,
    Method,
    Model,
    Row,
    Streams,
)
from srgan_fast.bench.rounds import ORDER, PAUSE_S, WARM_UP_RUNS, Times, measure_rounds, percentile, warm_up
from srgan_fast.bench.streams import SECONDS, measure_streams
from srgan_fast.data.images import Image, write_image
from srgan_fast.errors import BackendError, UsageError
from srgan_fast.export.onnx_export import weights_digest
from srgan_fast.models import GeneratorFile, read_generator
from srgan_fast.runtime.protocol import FloatImages
from srgan_fast.runtime.registry import usable_cpus

COLD_START_SIZE = Size(64, 64)
# Feature maps at full output size that the hungriest library holds at once; one more is refused before it is loaded,
# since the system ends a process that takes too much without a word.
_FEATURE_MAPS_HELD = 3
# CPUs that a row may use beyond its threads before a warning; clocks are that coarse for runs of milliseconds.
_CPUS_TOLERATED = 0.25

OnStep = Callable[[str], None]


@dataclass(slots=True)
class _Run:
    """What is collected while the benchmark goes on."""

    options: InferenceOptions
    file: GeneratorFile
    folder: Path
    calibration: Path | None
    on_step: OnStep
    left_out: list[LeftOut] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    # By batch and size, and of the last of those only: cases that differ in threads follow each other.
    references: dict[tuple[int, Size], tuple[Reference, Literal["float64", "float32"]]] = field(default_factory=dict)


def bench_inference(options: InferenceOptions, on_step: OnStep = lambda what: None) -> InferenceReport:
    """Measures this package's backends and the peers on pictures in memory, all in this process, side by side.

    Args:
        options: what to measure.
        on_step: told in a few words what is being done, before it is done.

    Returns:
        Figures of every row, those that are wrong or failed included, and what was left out and why.

    Raises:
        UsageError: an unknown row or baseline, or nothing to measure.
        ModelError: the model cannot be read.
        ImageError: the picture or the folder of pictures cannot be read.
        BackendError: torch, which results are checked with, is not installed.
    """
    file = read_generator(options.model)
    rows = select_candidates(options.backends, options.peers, options.precisions)
    if options.baseline is not None and find_candidate(options.baseline) not in rows:
        raise UsageError(f"baseline {options.baseline} is not among the rows: {', '.join(row.name for row in rows)}")
    threads = options.threads or (usable_cpus(),)
    environment = describe_machine()
    with tempfile.TemporaryDirectory(prefix="srgan-fast-bench-") as folder:
        calibration = calibration_folder(options.calibration)
        run = _Run(options, file, Path(folder), calibration, on_step)
        run.warnings += warn_about_start(environment, max(threads))
        rows = _installed(run, rows)
        with quiet_stdout():
            shapes = itertools.product(dict.fromkeys(options.sizes), dict.fromkeys(options.batches))
            cases = [Case(batch, size, count) for size, batch in shapes for count in dict.fromkeys(threads)]
            measured = [_measure_case(run, case, rows) for case in cases]
        run.warnings += warn_about_rounds(min(case.rounds for case in measured))
        cold_start = _cold_start(run, max(threads)) if options.cold_start else None
    config = file.config
    return InferenceReport(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        model=Model(
            name=file.name,
            sha256=weights_digest(file),
            scale=config.scale,
            channels=config.channels,
            blocks=config.blocks,
            macs_per_lr_pixel=config.macs_per_lr_pixel,
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


def _installed(run: _Run, rows: list[Candidate]) -> list[Candidate]:
    """Those that can run here; the others are recorded.

    Raises:
        UsageError: none can, or not the baseline.
    """
    able = []
    for row in rows:
        if missing := row.missing():
            reason, remedy = f"{' and '.join(missing)} not installed", row.remedy
        elif row.precision == "int8" and run.calibration is None:
            reason, remedy = "int8 needs pictures to calibrate with", "--calibration FOLDER"
        else:
            able.append(row)
            continue
        run.left_out.append(LeftOut(name=row.name, reason=reason, remedy=remedy))
        if row.name == run.options.baseline:
            raise UsageError(f"baseline {row.name} cannot be measured: {reason}; {remedy}")
    if not able:
        hints = dict.fromkeys(str(left.remedy) for left in run.left_out)
        raise UsageError(f"nothing of what was asked for is installed; {' or '.join(hints)}")
    return able


@dataclass(slots=True)
class _Ready:
    """A row that was loaded and warmed up."""

    candidate: Candidate
    loaded: Loaded
    load_s: float
    accuracy: Accuracy
    problem: str | None
    device_s: list[float] = field(default_factory=list)


def _measure_case(run: _Run, case: Case, rows: list[Candidate]) -> CaseResult:
    lr, description = lr_images(case.size, case.batch, run.options.picture)
    job = Job(run.file, case.size, case.threads, run.folder, run.calibration, case.batch)
    job.shape_folder.mkdir(exist_ok=True)
    np.save(job.shape_folder / "lr.npy", lr)
    reference, reference_dtype = _reference(run, case, lr)
    finished: dict[str, Row] = {}
    ready: dict[str, _Ready] = {}
    for row in rows:
        if _too_large(run, case, row, job, beside_others=any(item.candidate.kind == "peer" for item in ready.values())):
            continue
        run.on_step(f"{case}: {row.name}, loading")
        try:
            ready[row.name] = _make_ready(run, row, job, lr, reference)
        except Exception as error:  # every runtime has exceptions of its own
            finished[row.name] = _row(row, status="failed", reason=why_not(error))
    neighbours = Neighbours()
    times = _rounds(run, case, ready, reference) if ready else {}
    other_cpus = neighbours.cpus_taken()
    run.warnings += [f"{case}: {warning}" for warning in warn_about_neighbours(other_cpus)]
    for name, item in ready.items():
        finished[name] = _timed_row(run, case, item, times[name])
    for name, item in ready.items() if run.options.streams > 1 else ():
        if finished[name].status == "ok":
            run.on_step(f"{case}: {name}, {run.options.streams} streams")
            finished[name] = finished[name].model_copy(update={"streams": _streams(run, case, item, reference)})
    alone = [row for row in rows if row.name in ready] if run.options.memory else []
    ready.clear()  # what the rows hold is free before they run alone
    for row in alone:
        run.on_step(f"{case}: {row.name}, alone")
        finished[row.name] = _with_memory(run, case, row, job, finished[row.name])
    ordered = [finished[row.name] for row in rows if row.name in finished]
    ranked, baseline = _rank(ordered, run.options.baseline)
    if run.options.baseline is not None and baseline is None:
        run.warnings.append(f"{case}: the baseline {run.options.baseline} is wrong or failed, so there are no ratios")
    return CaseResult(
        batch=case.batch,
        height=case.size.height,
        width=case.size.width,
        threads=case.threads,
        rounds=max((len(taken.wall_s) for taken in times.values()), default=0),
        input=description,
        reference=reference_dtype,
        baseline=baseline,
        other_cpus=other_cpus,
        rows=ranked,
    )


def _reference(run: _Run, case: Case, lr: FloatImages) -> tuple[Reference, Literal["float64", "float32"]]:
    shape = (case.batch, case.size)
    if shape not in run.references:
        run.on_step(f"{case}: reference")
        run.references.clear()
        run.references[shape] = compute_reference(run.file, lr, case.threads)
    return run.references[shape]


def _too_large(run: _Run, case: Case, row: Candidate, job: Job, beside_others: bool) -> bool:
    """Whether a peer's feature maps may not fit; backends of ours bound their memory or are asked for by name.

    Some peers keep theirs, others take them anew in each run: so beside others there must be room for one more peer.
    """
    free = available_mib()
    config = job.file.config
    need = _FEATURE_MAPS_HELD * config.channels * config.scale**2 * case.batch * case.size.area * 4 / 2**20
    if beside_others:
        need *= 2
    if row.kind == "backend" or free is None or need < free:
        return False
    run.left_out.append(
        LeftOut(
            name=row.name,
            case=str(case),
            reason=f"may need {need:.0f} MiB, {free:.0f} MiB are free beside the rows before it",
            remedy=f"--peer {row.name} in a run of its own",
        )
    )
    return True


def _make_ready(run: _Run, row: Candidate, job: Job, lr: FloatImages, reference: Reference) -> _Ready:
    """Prepares, loads, warms up and checks a row.

    Raises:
        Exception: whatever the runtime raises.
    """
    if row.prepares_apart:
        call_worker("prepare", row, job, run.options.model)
    else:
        row.prepare(job)
    with _same_cpus():
        began = time.perf_counter()
        loaded = row.load(job, lr)
        load_s = time.perf_counter() - began
        result = warm_up(loaded.run, run.options.warm_up_ms)
    accuracy = compare(loaded.array(result), reference)
    return _Ready(row, loaded, load_s, accuracy, accuracy.problem(TOLERANCES[row.precision]))


@contextmanager
def _same_cpus() -> Iterator[None]:
    """A library that pins its threads may leave this thread pinned, and the next library would inherit that."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _rounds(run: _Run, case: Case, ready: dict[str, _Ready], reference: Reference) -> dict[str, Times]:
    """Times the rows and checks what each computed last."""

    def check_last(name: str, result: object) -> None:
        item = ready[name]
        last = compare(item.loaded.array(result), reference)
        item.problem = item.problem or last.problem(TOLERANCES[item.candidate.precision])
        item.accuracy = Accuracy(max(item.accuracy.max_error, last.max_error), min(item.accuracy.psnr_db, last.psnr_db))

    def timed(item: _Ready) -> Callable[[], Any]:
        gpu = item.loaded.gpu
        if gpu is None:
            return item.loaded.run

        def run_and_ask() -> Any:
            result = item.loaded.run()
            item.device_s.append(gpu.last_run_s())
            return result

        return run_and_ask

    runs = {name: timed(item) for name, item in ready.items()}
    options = run.options
    return measure_rounds(
        runs,
        options.rounds,
        check_last,
        lambda name: run.on_step(f"{case}: {name}"),
        duration_s=options.duration_s,
    )


def _row(candidate: Candidate, **values: object) -> Row:
    return Row.model_validate(
        {
            "name": candidate.name,
            "kind": candidate.kind,
            "runtime": candidate.runtime,
            "precision": candidate.precision,
            "tolerance": str(TOLERANCES[candidate.precision]),
            **values,
        }
    )


def _timed_row(run: _Run, case: Case, item: _Ready, times: Times) -> Row:
    accuracy = {"max_error": item.accuracy.max_error, "psnr_db": item.accuracy.psnr_db, "load_s": item.load_s}
    finite = {key: value for key, value in accuracy.items() if np.isfinite(value)}
    if times.failure is not None:
        return _row(item.candidate, status="failed", reason=why_not(times.failure), **finite)
    wall_ms = [seconds * 1e3 for seconds in times.wall_s]
    median_s = statistics.median(times.wall_s)
    config = run.file.config
    cpus_used = statistics.median(cpu / wall for cpu, wall in zip(times.cpu_s, times.wall_s, strict=True))
    if cpus_used > case.threads + _CPUS_TOLERATED:
        run.warnings.append(
            f"{case}: {item.candidate.name} used {cpus_used:.2f} CPUs, not {case.threads}: not comparable"
        )
    return _row(
        item.candidate,
        status="wrong" if item.problem else "ok",
        device=item.loaded.device,
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
        device_ms=statistics.median(item.device_s) * 1e3 if item.device_s else None,
        peak_device_mib=None if item.loaded.gpu is None else item.loaded.gpu.peak_mib(),
        images_per_s=case.batch / median_s,
        output_mp_per_s=case.batch * case.size.area * config.scale**2 / 1e6 / median_s,
        gflops=2 * config.macs_per_lr_pixel * case.batch * case.size.area / 1e9 / median_s,
        cpus_used=cpus_used,
        **finite,
    )


def _streams(run: _Run, case: Case, item: _Ready, reference: Reference) -> Streams:
    """What several callers of the row have of it, and what one has in the same loop."""
    count, caller = run.options.streams, item.loaded.caller
    if caller is None:
        return Streams(count=count, reason="its runtime cannot be called by several threads at once")
    seconds = max(SECONDS, run.options.duration_s)
    try:
        time.sleep(PAUSE_S)
        one = measure_streams(caller, 1, seconds)
        time.sleep(PAUSE_S)
        several = measure_streams(caller, count, seconds)
        found = [compare(item.loaded.array(result), reference) for result in several.results]
    except Exception as error:  # every runtime has exceptions of its own
        return Streams(count=count, reason=why_not(error))
    problems = [accuracy.problem(TOLERANCES[item.candidate.precision]) for accuracy in found]
    problem = next(filter(None, problems), None)
    return Streams(
        count=count,
        images_per_s=len(several.runs_s) * case.batch / several.wall_s,
        one_images_per_s=len(one.runs_s) * case.batch / one.wall_s,
        median_ms=statistics.median(several.runs_s) * 1e3,
        runs=len(several.runs_s),
        reason=None if problem is None else f"wrong when called by several threads: {problem}",
    )


def _with_memory(run: _Run, case: Case, candidate: Candidate, job: Job, row: Row) -> Row:
    """The row with what a process of its own found."""
    rounds = run.options.rounds if row.latency is None else len(row.latency.rounds_ms)
    try:
        found = call_worker("measure", candidate, job, run.options.model, rounds, run.options.warm_up_ms)
    except BackendError as error:
        run.warnings.append(f"{case}: {candidate.name} could not be run alone: {error}")
        return row
    return row.model_copy(update={key: found[key] for key in ("alone_ms", "peak_mib", "base_mib")})


def _rank(rows: list[Row], baseline: str | None) -> tuple[list[Row], str | None]:
    """Right rows by their median, then wrong ones, then failed ones; and the baseline that ratios refer to."""
    right = sorted((row for row in rows if row.status == "ok"), key=_median_ms)
    if baseline is None:
        own = (row for row in right if row.kind == "backend" and row.precision == "fp32")
        reference = next(own, right[0] if right else None)
    else:
        reference = next((row for row in right if row.name == baseline), None)
    ranked = []
    for rank, row in enumerate(right, 1):
        ratio = None if reference is None else _median_ms(row) / _median_ms(reference)
        ranked.append(row.model_copy(update={"rank": rank, "ratio": ratio}))
    ranked += [row for status in ("wrong", "failed") for row in rows if row.status == status]
    return ranked, None if reference is None else reference.name


def _median_ms(row: Row) -> float:
    return float("inf") if row.latency is None else row.latency.median_ms


def _cold_start(run: _Run, threads: int) -> ColdStart:
    run.on_step("cold start")
    lr, _ = lr_image(COLD_START_SIZE, run.options.picture)
    picture = run.folder / f"{COLD_START_SIZE}.png"
    write_image(picture, Image(np.rint(lr[0].transpose(1, 2, 0) * 255).astype(np.uint8)))
    return measure_cold_start(run.options.model, picture, run.folder, threads)
