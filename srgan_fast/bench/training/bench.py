"""The training benchmark: rows are created, checked, timed in turns, profiled and ranked.

Each row has its own process, so that it is not affected by another's heap or settings.
"""

import math
import statistics
import tempfile
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import get_args

import torch

from srgan_fast.bench.machine import (
    Neighbours,
    describe_machine,
    warn_about_neighbours,
    warn_about_rounds,
    warn_about_start,
)
from srgan_fast.bench.report import Method, Phase, StepWork, TrainingReport, TrainingRowResult, rank
from srgan_fast.bench.training.first_step import TOLERANCES, FirstStep, FirstStepDifference, compare
from srgan_fast.bench.training.phases import count_flops, flops_of
from srgan_fast.bench.training.rows import (
    GENERATOR_PRESET,
    LEARNING_RATE,
    LOSSES_PRESET,
    ROWS,
    TRUSTED,
    Losses,
    Stage,
    TrainingRow,
    Work,
    find_row,
)
from srgan_fast.bench.turns import OnStep, Taken, Times, finite, take_turns
from srgan_fast.bench.worker import Worker, why_not
from srgan_fast.errors import BackendError, UsageError
from srgan_fast.models import generator_config, read_model
from srgan_fast.models.discriminator import TRUNK_STRIDE
from srgan_fast.runtime.registry import usable_cpus
from srgan_fast.runtime.torch_backend import NO_BF16, cpu_multiplies_bf16

WARM_UP_STEPS = 4  # until the heap has reached its size
PROFILED_STEPS = 3
_PEAK_TRIES = 5  # about 60 ms each, before and after the rows, since other processes may interfere
WORKER = "srgan_fast.bench.training.training_row"


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """Options of `bench_training`.

    Batch size; side of the square high-resolution crops, a multiple of 16, since the discriminator halves it four
    times; layer of VGG19 (see `srgan_fast.models.FeatureExtractor`; its weights are random); all three networks or only
    the generator; timed steps of each row; CPU threads (None: all that this process may use); names of rows (empty:
    all); row that ratios refer to (None: `stock`, or the fastest correct row if that is not measured).

    Raises:
        UsageError: values out of range.
    """

    batch: int = 16
    hr: int = 96
    features: str = "features[:18]"
    stage: Stage = "gan"
    rounds: int = 7
    threads: int | None = None
    rows: tuple[str, ...] = ()
    baseline: str | None = None

    def __post_init__(self) -> None:
        for name in ("batch", "rounds", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name} is {value}; it must be at least 1")
        if self.hr < TRUNK_STRIDE or self.hr % TRUNK_STRIDE:
            raise UsageError(f"hr is {self.hr}; it must be a multiple of {TRUNK_STRIDE}")
        if self.stage not in get_args(Stage):
            raise UsageError(f"stage is {self.stage!r}; there are {', '.join(get_args(Stage))}")
        if self.batch == 1 and self.hr == TRUNK_STRIDE and self.stage == "gan":
            raise UsageError(f"one image of {self.hr}x{self.hr} leaves BatchNorm a single value; use a larger batch")


@dataclass(slots=True)
class _TrainingRun:
    """State of a running benchmark."""

    options: TrainingOptions
    work: Work
    flops: dict[str, int]
    on_step: OnStep
    warnings: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Ready:
    """A row that was created and warmed up in its process."""

    row: TrainingRow
    worker: Worker
    losses: Losses
    difference: FirstStepDifference
    problem: str | None

    def turn(self, last: bool) -> Taken:
        """One step; losses must remain finite."""
        found = self.worker.ask("run")
        losses = found.pop("losses")
        for what, value in losses.items() if last else ():
            if not math.isfinite(value):
                self.problem = self.problem or f"the {what} loss of the last round is {value}"
        return Taken(**found)


def bench_training(options: TrainingOptions, on_step: OnStep = lambda what: None) -> TrainingReport:
    """Measures one training step of every row, each in its own process, in turns.

    `on_step` is called with a short description of each step. Returns the figures of every requested row, including
    wrong and failed ones.

    Raises:
        UsageError: an unknown row or baseline.
        ModelError: no such layer of VGG19, or images too small for it.
        BackendError: the loop that serves as reference cannot run.
    """
    rows = [find_row(name) for name in dict.fromkeys(options.rows)] or list(ROWS.values())
    if options.baseline is not None and find_row(options.baseline) not in rows:
        raise UsageError(f"baseline {options.baseline} is not among the rows: {', '.join(row.name for row in rows)}")
    threads = options.threads or usable_cpus()
    work, gan = Work(options.stage, options.batch, options.hr, options.features, threads), options.stage == "gan"
    run = _TrainingRun(options, work, count_flops(work), on_step)
    machine = describe_machine()
    run.warnings += warn_about_start(machine, threads) + warn_about_rounds(options.rounds)
    peaks = [_fp32_peak(run)]
    finished, other_cpus = _measure(run, rows)
    peak = max(filter(None, (*peaks, _fp32_peak(run))), default=None)
    ranked, baseline = rank(
        [finished[row.name] for row in rows],
        options.baseline,
        lambda row: row.name == TRUSTED,
        {
            "ratio": lambda row: row.step_seconds,
            "peak_rss_ratio": lambda row: row.peak_rss_mb,
            "saved_activation_ratio": lambda row: row.saved_activation_mb,
        },
    )
    if options.baseline is not None and baseline is None:
        run.warnings.append(f"the baseline {options.baseline} is wrong or failed, so there are no ratios")
    return TrainingReport(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        work=StepWork(
            stage=work.stage,
            batch=work.batch,
            hr=work.hr,
            lr=work.hr // generator_config(GENERATOR_PRESET).scale,
            features=work.features if gan else None,
            generator=GENERATOR_PRESET,
            losses=LOSSES_PRESET if gan else None,
            learning_rate=LEARNING_RATE,
            gflop=sum(run.flops.values()) / 1e9,
        ),
        environment=machine.model_copy(update={"threads": threads, "fp32_peak_gflops": peak}),
        method=Method(rounds=options.rounds, warm_up_runs=WARM_UP_STEPS, profiled_steps=PROFILED_STEPS),
        baseline=baseline,
        other_cpus=other_cpus,
        rows=ranked,
        warnings=run.warnings,
    )


def _fp32_peak(run: _TrainingRun) -> float | None:
    """GFLOP/s of FMA instructions alone, the best of a few tries, measured by our inference engine."""
    run.on_step("peak of the processor")
    try:
        from srgan_fast.runtime.native_backend import NativeBackend  # noqa: PLC0415 (the native module may be missing)

        backend = NativeBackend(read_model(), "fp32", run.work.threads)
    except (ImportError, ValueError) as error:
        warning = f"the processor's peak is unknown: {why_not(error)}"
        run.warnings += [] if warning in run.warnings else [warning]
        return None
    return max(backend.peak() for _ in range(_PEAK_TRIES)) * 2e-9


def _measure(run: _TrainingRun, rows: list[TrainingRow]) -> tuple[dict[str, TrainingRowResult], float | None]:
    """Figures of all rows by name, and how many CPUs other processes used."""
    finished: dict[str, TrainingRowResult] = {}
    ready: dict[str, _Ready] = {}
    with tempfile.TemporaryDirectory(prefix="srgan-fast-bench-") as folder, ExitStack() as workers:
        begin = partial(_begin, run, Path(folder), workers)
        run.on_step(f"{TRUSTED}, as the reference")
        try:
            trusted_worker, trusted = begin(ROWS[TRUSTED])
        except BackendError as error:
            raise BackendError(f"{TRUSTED}, the reference of all rows, cannot run: {error}") from None
        if ROWS[TRUSTED] not in rows:
            trusted_worker.end()
        for row in rows:
            # Our kernels need no bf16 instructions: they convert bf16 maps to float32.
            if row.precision == "bf16" and row.kernels == "reference" and not cpu_multiplies_bf16():
                finished[row.name] = _result(row, status="failed", reason=NO_BF16)
                continue
            run.on_step(f"{row.name}, warming up")
            try:
                worker, first = (trusted_worker, trusted) if row.name == TRUSTED else begin(row)
                difference = compare(first, trusted, TOLERANCES[row.precision])
                worker.ask("warm_up", steps=WARM_UP_STEPS - 1)
                ready[row.name] = _Ready(row, worker, first["losses"], difference, difference.problem)
            except BackendError as error:
                finished[row.name] = _result(row, status="failed", reason=str(error))
        neighbours = Neighbours(item.worker.pid for item in ready.values())
        times = take_turns({name: item.turn for name, item in ready.items()}, run.options.rounds, run.on_step)
        other_cpus = neighbours.cpus_taken()
        run.warnings += warn_about_neighbours(other_cpus)
        for name, item in ready.items():
            run.on_step(f"{name}, profiling")
            finished[name] = _timed_row(run, item, times[name])
            item.worker.end()
    return finished, other_cpus


def _begin(run: _TrainingRun, folder: Path, workers: ExitStack, row: TrainingRow) -> tuple[Worker, FirstStep]:
    """Starts a row's process, creates the row and does its first step."""
    worker = workers.enter_context(Worker(WORKER, row.name, folder))
    file = folder / f"{row.name}.pt"
    worker.ask("make", row=row.name, work=asdict(run.work), first_step_file=str(file))
    first: FirstStep = torch.load(file, weights_only=True)
    file.unlink()
    return worker, first


def _result(row: TrainingRow, **values: object) -> TrainingRowResult:
    known = {name: getattr(row, name) for name in ("name", "loop", "precision", "kernels", "tuned")}
    return TrainingRowResult.model_validate({**known, "tolerance": str(TOLERANCES[row.precision]), **values})


def _timed_row(run: _TrainingRun, item: _Ready, times: Times) -> TrainingRowResult:
    checks = {
        "losses": finite(item.losses),
        "gradient_error": finite(item.difference.gradient),
        **finite({"loss_error": item.difference.loss}),
    }
    if times.failure is not None:
        return _result(item.row, status="failed", reason=why_not(times.failure), **checks)
    try:
        found = item.worker.ask("finish", steps=PROFILED_STEPS)
    except BackendError as error:
        return _result(item.row, status="failed", reason=f"after the rounds: {error}", **checks)
    median = statistics.median(times.wall_s)
    phases = found.pop("phases")
    return _result(
        item.row,
        status="wrong" if item.problem else "ok",
        reason=item.problem,
        step_seconds=median,
        min_seconds=min(times.wall_s),
        max_seconds=max(times.wall_s),
        rounds_seconds=times.wall_s,
        images_per_second=run.work.batch / median,
        gflops=sum(run.flops.values()) / 1e9 / median,
        cpus_used=times.cpus_used(),
        saved_activation_mb=found["saved_mb"]["generator"],
        phases={name: _phase(seconds, flops_of(name, run.flops)) for name, seconds in phases.items()},
        **found,
        **checks,
    )


def _phase(seconds: float, flops: int | None) -> Phase:
    gflop = None if flops is None else flops / 1e9
    return Phase(seconds=seconds, gflop=gflop, gflops=gflop / seconds if gflop and seconds > 0 else None)
