"""One case of the benchmark of inference: its rows are loaded, warmed up, timed in turns, checked and ranked."""

import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from srgan_fast.bench.accuracy import TOLERANCES, Accuracy, Reference, compare, compute_reference
from srgan_fast.bench.candidates import Candidate, Job, Loaded, why_not
from srgan_fast.bench.machine import Neighbours, available_mib, warn_about_neighbours
from srgan_fast.bench.options import Case, InferenceOptions, Size
from srgan_fast.bench.pictures import lr_images
from srgan_fast.bench.processes import call_worker
from srgan_fast.bench.report import CaseResult, Latency, LeftOut, Row, Streams
from srgan_fast.bench.rounds import PAUSE_S, Taken, Times, measure_rounds, percentile, timed, warm_up
from srgan_fast.bench.streams import SECONDS, measure_streams
from srgan_fast.errors import BackendError
from srgan_fast.models import ModelFile
from srgan_fast.network.analysis import macs_per_image_pixel, value_shapes
from srgan_fast.runtime.protocol import FloatImages

# Feature maps at full output size that the hungriest library holds at once; one more is refused before it is loaded,
# since the system ends a process that takes too much without a word.
_FEATURE_MAPS_HELD = 3
# CPUs that a row may use beyond its threads before a warning; clocks are that coarse for runs of milliseconds.
_CPUS_TOLERATED = 0.25

OnStep = Callable[[str], None]


@dataclass(slots=True)
class Run:
    """What is collected while the benchmark goes on.

    Attributes:
        options: what to measure.
        file: the model.
        folder: for prepared files.
        calibration: pictures for int8.
        on_step: told what is being done.
        left_out: rows that were asked for and not measured.
        warnings: why figures may not be worth quoting.
        references: by batch and size, of the last of those only: cases that differ in threads follow each other.
    """

    options: InferenceOptions
    file: ModelFile
    folder: Path
    calibration: Path | None
    on_step: OnStep
    left_out: list[LeftOut] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    references: dict[tuple[int, Size], tuple[Reference, Literal["float64", "float32"]]] = field(default_factory=dict)


@dataclass(slots=True)
class _Ready:
    """A row that was loaded and warmed up."""

    candidate: Candidate
    loaded: Loaded
    load_s: float
    accuracy: Accuracy
    problem: str | None
    device_s: list[float] = field(default_factory=list)


def measure_case(run: Run, case: Case, rows: list[Candidate]) -> CaseResult:
    """Figures of all rows that can be had, those that are wrong or failed included.

    Args:
        run: the benchmark; what is left out, and warnings, go into it.
        case: batch, size, threads.
        rows: that are installed.
    """
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


def _reference(run: Run, case: Case, lr: FloatImages) -> tuple[Reference, Literal["float64", "float32"]]:
    shape = (case.batch, case.size)
    if shape not in run.references:
        run.on_step(f"{case}: reference")
        run.references.clear()
        run.references[shape] = compute_reference(run.file, lr, case.threads)
    return run.references[shape]


def _too_large(run: Run, case: Case, row: Candidate, job: Job, beside_others: bool) -> bool:
    """Whether a peer's feature maps may not fit; backends of ours bound their memory or are asked for by name.

    Some peers keep theirs, others take them anew in each run: so beside others there must be room for one more peer.
    """
    free = available_mib()
    network = job.file.network
    # Floats of the largest feature map for each pixel of the image.
    largest = max(shape.channels * shape.resolution**2 for shape in value_shapes(network)) / network.unshuffle**2
    need = _FEATURE_MAPS_HELD * largest * case.batch * case.size.area * 4 / 2**20
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


def _make_ready(run: Run, row: Candidate, job: Job, lr: FloatImages, reference: Reference) -> _Ready:
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


def _rounds(run: Run, case: Case, ready: dict[str, _Ready], reference: Reference) -> dict[str, Times]:
    """Times the rows and checks what each computed last."""

    def check_last(name: str, result: object) -> None:
        item = ready[name]
        last = compare(item.loaded.array(result), reference)
        item.problem = item.problem or last.problem(TOLERANCES[item.candidate.precision])
        item.accuracy = Accuracy(max(item.accuracy.max_error, last.max_error), min(item.accuracy.psnr_db, last.psnr_db))

    def run_of(item: _Ready) -> Callable[[], Taken]:
        gpu = item.loaded.gpu
        if gpu is None:
            return timed(item.loaded.run)

        def run_and_ask() -> Any:
            result = item.loaded.run()
            item.device_s.append(gpu.last_run_s())
            return result

        return timed(run_and_ask)

    runs = {name: run_of(item) for name, item in ready.items()}
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


def _timed_row(run: Run, case: Case, item: _Ready, times: Times) -> Row:
    accuracy = {"max_error": item.accuracy.max_error, "psnr_db": item.accuracy.psnr_db, "load_s": item.load_s}
    finite = {key: value for key, value in accuracy.items() if np.isfinite(value)}
    if times.failure is not None:
        return _row(item.candidate, status="failed", reason=why_not(times.failure), **finite)
    wall_ms = [seconds * 1e3 for seconds in times.wall_s]
    median_s = statistics.median(times.wall_s)
    macs = float(macs_per_image_pixel(run.file.network))
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
        output_mp_per_s=case.batch * case.size.area * run.file.scale**2 / 1e6 / median_s,
        gflops=2 * macs * case.batch * case.size.area / 1e9 / median_s,
        cpus_used=cpus_used,
        **finite,
    )


def _streams(run: Run, case: Case, item: _Ready, reference: Reference) -> Streams:
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


def _with_memory(run: Run, case: Case, candidate: Candidate, job: Job, row: Row) -> Row:
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
