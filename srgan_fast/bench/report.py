"""Data model of all reports: read and written by `--json`, `--csv`, `bench html` and `bench compare`.

README.md explains the fields; these classes are the schema. A change that would mislead readers of old reports gets a
new number in `schema`; new optional fields do not.
"""

import csv
import io
import json
import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from srgan_fast.bench.options import BenchPrecision
from srgan_fast.bench.turns import ORDER, PAUSE_S
from srgan_fast.bench.workload import ImageSize, Workload
from srgan_fast.errors import UsageError

Record = dict[str, Any]


class ReportPart(BaseModel):
    """Base class of all parts of a report."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, ser_json_inf_nan="null")

    def as_json(self) -> str:
        """Indented JSON; non-finite values are null."""
        return self.model_dump_json(by_alias=True, indent=2) + "\n"

    def _record(self) -> Record:
        """Fields with a single plain value, by name; for a row, a line of the CSV."""
        return {name: value for name, value in self.model_dump().items() if not isinstance(value, dict | list)}


class Environment(ReportPart):
    """The machine when the run began."""

    cpu: str
    cpu_flags: list[str] = Field(description="flags that kernel dispatch depends on")
    cpus: int = Field(description="CPUs that the process may run on")
    memory_mib: float | None
    system: str
    python: str
    versions: dict[str, str] = Field(description="of installed packages")
    variables: dict[str, str] = Field(description="environment variables that change how libraries compute")
    load_average: list[float] | None = Field(description="over 1, 5 and 15 minutes")
    threads: int | None = Field(default=None, description="CPU threads of every row, where all cases have the same")
    fp32_peak_gflops: float | None = Field(default=None, description="measured on those threads; training only")


class Method(ReportPart):
    """The measurement method."""

    rounds: int = Field(description="minimum number of rounds of each case")
    warm_up_runs: int = Field(description="minimum number of untimed runs of each row before the rounds")
    pause_ms: float = Field(default=PAUSE_S * 1e3, description="rest before each run")
    order: str = ORDER
    duration_s: float = Field(default=0, description="minimum duration of the rounds of each case")
    warm_up_ms: float = Field(default=0, description="minimum duration of the warm-up of each row")
    calibration: str | None = Field(default=None, description="images that int8 was calibrated on")
    percentiles: list[float] = Field(default=[], description="requested percentiles")
    profiled_steps: int = Field(default=0, description="training: steps after the rounds that phases come from")


class RowResult(ReportPart):
    """Common fields of a row of any benchmark."""

    name: str
    precision: BenchPrecision
    status: Literal["ok", "wrong", "failed"] = Field(description="wrong: beyond its tolerance, not ranked")
    reason: str | None = Field(default=None, description="why it is wrong or failed")
    rank: int | None = Field(default=None, description="rank by median among the rows that are ok")
    ratio: float | None = Field(default=None, description="median / the baseline's median: above 1 is slower")
    cpus_used: float | None = Field(default=None, description="CPU time / wall time, median")
    tolerance: str

    @property
    def runs_ms(self) -> list[float]:
        """Milliseconds of each timed run, in order."""
        raise NotImplementedError

    @property
    def mark(self) -> str:
        """`wrong`, `failed`, or nothing; for charts."""
        return "" if self.status == "ok" else self.status

    def median_ms(self) -> float:
        """Median of the runs; infinite without any."""
        return statistics.median(self.runs_ms) if self.runs_ms else math.inf


_R = TypeVar("_R", bound=RowResult)


def rank(
    rows: Sequence[_R],
    baseline: str | None,
    usual: Callable[[_R], bool],
    ratios: Mapping[str, Callable[[_R], float | None]],
) -> tuple[list[_R], str | None]:
    """Sorts correct rows by their median, followed by wrong and failed ones.

    Ratios refer to the correct row called `baseline`; if that is None, to the fastest `usual` one, or else the fastest.
    For each figure in `ratios` its ratio to the baseline's is stored in the field of that name. Returns the rows and
    the baseline's name.
    """
    correct = sorted((row for row in rows if row.status == "ok"), key=lambda row: row.median_ms())
    if baseline is None:
        reference = next(filter(usual, correct), next(iter(correct), None))
    else:
        reference = next((row for row in correct if row.name == baseline), None)
    ranked = []
    for place, row in enumerate(correct, 1):
        changes: Record = {"rank": place}
        for field, figure in ratios.items() if reference is not None else ():
            value, base = figure(row), figure(reference)  # type: ignore[arg-type]
            changes[field] = value / base if value is not None and base else None
        ranked.append(row.model_copy(update=changes))
    ranked += [row for status in ("wrong", "failed") for row in rows if row.status == status]
    return ranked, None if reference is None else reference.name


class Report(ReportPart):
    """Base class of all reports."""

    created: str = Field(default="", description="UTC, ISO 8601")
    environment: Environment
    warnings: list[str] = Field(description="why the figures may not be worth quoting")

    def as_csv(self) -> str:
        """A header, and a line per row of each case; unknown values are empty."""
        records = [about | row._record() for _, about, rows in self._cases() for row in rows]
        text = io.StringIO()
        columns = list(dict.fromkeys(name for record in records for name in record))
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)
        return text.getvalue()

    def results(self) -> dict[tuple[str, str], RowResult]:
        """Rows by case and name."""
        return {(case, row.name): row for case, _, rows in self._cases() for row in rows}

    def surroundings(self) -> dict[str, str]:
        """Properties that two reports should share to be comparable."""
        environment = self.environment
        known: Record = {
            "CPU": environment.cpu,
            "instruction sets": " ".join(environment.cpu_flags),
            "CPUs": environment.cpus,
            "memory": None if environment.memory_mib is None else f"{environment.memory_mib / 1024:.1f} GiB",
            "system": environment.system,
            "Python": environment.python,
            **environment.versions,
            **environment.variables,
            **self._work(),
        }
        return {name: str(value) for name, value in known.items()}

    def _cases(self) -> Iterator[tuple[str, Record, Sequence[Any]]]:
        """Name of each case, its columns of the CSV, and its rows."""
        raise NotImplementedError

    def _work(self) -> Record:
        """What the rows compute, and how they are measured."""
        raise NotImplementedError


# --- inference


class Model(ReportPart):
    """The network of all rows."""

    name: str
    sha256: str = Field(description="of settings and weights")
    scale: int
    architecture: str = Field(description="architecture and sizes, in words")
    macs_per_lr_pixel: int = Field(description="multiply-adds of direct convolutions")


class Latency(ReportPart):
    """Milliseconds of one run, from a batch in memory to its result in memory, in host time."""

    min_ms: float
    mean_ms: float
    median_ms: float
    p90_ms: float | None = Field(description="null with fewer than 64 rounds")
    p99_ms: float | None = Field(description="null with fewer than 662 rounds")
    max_ms: float
    percentiles_ms: dict[str, float | None] = Field(description="requested percentiles, by percent; null: too few")
    rounds_ms: list[float] = Field(description="in the order of the rounds")


class Arrivals(ReportPart):
    """Requests that arrive at random (Poisson process) instead of consecutively."""

    rate_per_s: float = Field(description="arrivals per second, a fixed fraction of the closed loops' rate")
    runs: int
    median_ms: float = Field(description="from arrival to result, waiting included")
    p90_ms: float | None = Field(description="null with fewer than 64 runs")
    p99_ms: float | None = Field(description="null with fewer than 662 runs")


class Streams(ReportPart):
    """Concurrent callers of one loaded runtime, after the rounds."""

    count: int
    images_per_s: float | None = Field(default=None, description="total of all callers, each in a closed loop")
    one_images_per_s: float | None = Field(default=None, description="throughput of a single caller")
    median_ms: float | None = Field(default=None, description="median time of a run under concurrency")
    runs: int = Field(default=0, description="total of all callers")
    poisson: Arrivals | None = Field(default=None, description="the same callers, serving random arrivals")
    reason: str | None = Field(default=None, description="why it was not measured, or is wrong")


class Row(RowResult):
    """One runtime in one precision in one case, in a separate process."""

    kind: Literal["backend", "peer"]
    runtime: str
    command: str | None = Field(default=None, description="the runtime's own command or call with the same settings")
    device: str | None = Field(default=None, description="compute device, in words")
    load_s: float | None = Field(default=None, description="from prepared files to ready, compilation included")
    latency: Latency | None = None
    device_ms: float | None = Field(default=None, description="median between CUDA events; null on a CPU")
    peak_device_mib: float | None = Field(default=None, description="peak device memory; null on a CPU")
    images_per_s: float | None = Field(default=None, description="batch / median")
    output_mp_per_s: float | None = None
    gflops: float | None = Field(default=None, description="direct convolutions; Winograd may exceed the peak")
    max_error: float | None = Field(default=None, description="relative to the reference's range")
    psnr_db: float | None = Field(default=None, description="relative to the reference's range; null if equal")
    peak_mib: float | None = Field(default=None, description="peak resident memory of its process after the warm-up")
    base_mib: float | None = Field(default=None, description="the same before the runtime was loaded")
    streams: Streams | None = None

    @property
    def runs_ms(self) -> list[float]:  # noqa: D102 (see `RowResult`)
        return [] if self.latency is None else self.latency.rounds_ms

    def _record(self) -> Record:
        """Adds a column for each requested percentile other than p50, p90 and p99."""
        record = {name: value for name, value in super()._record().items() if name not in ("latency", "streams")}
        if self.latency is not None:
            asked = self.latency.percentiles_ms.items()
            record |= self.latency._record()
            record |= {f"p{name}_ms": ms for name, ms in asked if name not in ("50", "90", "99")}
        if self.streams is not None:
            record |= {f"streams_{name}": value for name, value in self.streams._record().items() if name != "poisson"}
            poisson = {} if self.streams.poisson is None else self.streams.poisson._record()
            record |= {f"poisson_{name}": value for name, value in poisson.items()}
        return record


class CaseResult(ReportPart):
    """All rows for one batch size, image size and number of threads."""

    batch: int
    height: int
    width: int
    threads: int = Field(description="CPU threads of every row")
    rounds: int = Field(description="number of rounds")
    input: str
    reference: Literal["float64", "float32"]
    baseline: str | None = Field(description="row that ratios refer to; null if it is wrong or failed")
    other_cpus: float | None = Field(description="CPUs that other processes kept busy during the rounds")
    rows: list[Row]

    def __str__(self) -> str:
        return str(Workload(ImageSize(self.height, self.width), self.batch, self.threads))


class LeftOut(ReportPart):
    """A requested row that was not measured."""

    name: str
    case: str | None = Field(default=None, description="such as 128x128, batch 4, 2 threads; null: all cases")
    reason: str
    remedy: str | None


class ProcessTime(ReportPart):
    """Wall time of whole processes."""

    name: str
    command: str
    median_ms: float | None
    min_ms: float | None
    runs_ms: list[float]
    reason: str | None = Field(default=None, description="why it could not be timed")


class ColdStart(ReportPart):
    """Times from process start, including what a user waits for besides computing."""

    picture: str
    python_ms: float = Field(description="an empty Python process; part of all other figures")
    upscale: list[ProcessTime] = Field(description="`srgan-fast upscale` from start to exit, by backend")
    imports: list[ProcessTime] = Field(description="a process that only imports the runtime")


class InferenceReport(Report):
    """Results of one run of `bench inference`."""

    schema_name: Literal["srgan_fast.bench.inference/3"] = Field(default="srgan_fast.bench.inference/3", alias="schema")
    model: Model
    method: Method
    cases: list[CaseResult]
    left_out: list[LeftOut]
    cold_start: ColdStart | None = None

    def _cases(self) -> Iterator[tuple[str, Record, Sequence[Any]]]:
        for case in self.cases:
            yield str(case), {"model": self.model.name, **case._record()}, case.rows

    def _work(self) -> Record:
        method, model = self.method, self.model
        return {
            "model": f"{model.name} {model.sha256[:12]}",
            "rounds": f"{method.rounds} or {method.duration_s:g} s",
            "warm-up": f"{method.warm_up_ms:g} ms",
            "rest": f"{method.pause_ms:g} ms",
            "threads": ", ".join(dict.fromkeys(str(case.threads) for case in self.cases)),
        }


# --- training


class StepWork(ReportPart):
    """The work of every row in a step."""

    stage: Literal["gan", "pretrain"]
    batch: int
    hr: int = Field(description="side of the square high-resolution crops; random values")
    lr: int
    features: str | None = Field(description="where VGG19 is cut; null without a content loss")
    generator: str = Field(description="preset of its architecture")
    losses: str | None = Field(description="preset of the adversarial stage's losses")
    learning_rate: float
    gflop: float = Field(description="direct convolutions, two for a multiply-add, nothing computed twice")

    def __str__(self) -> str:
        features = f", VGG19 {self.features}" if self.features else ""
        return f"{self.stage} step of {self.batch} crops of {self.hr}x{self.hr}{features}"


class Phase(ReportPart):
    """A part of a step, measured by the profiler."""

    seconds: float = Field(description="total in one step")
    gflop: float | None = Field(description="work needed, the same for every row; null: no convolutions")
    gflops: float | None = Field(description="gflop / seconds")


class TrainingRowResult(RowResult):
    """A loop in one precision with one set of kernels."""

    loop: Literal["common", "lean"]
    kernels: Literal["reference", "fused"]
    tuned: bool = Field(description="channels-last, VGG frozen, no graph of real features, fused Adam")
    step_seconds: float | None = Field(default=None, description="median of the rounds")
    min_seconds: float | None = None
    max_seconds: float | None = None
    rounds_seconds: list[float] = Field(default=[], description="in the order of the rounds")
    images_per_second: float | None = Field(default=None, description="batch / median")
    gflops: float | None = Field(default=None, description="work.gflop / median")
    peak_rss_mb: float | None = Field(default=None, description="peak resident memory of its process, 10^6 bytes")
    base_rss_mb: float | None = Field(default=None, description="the same before networks were made")
    peak_rss_ratio: float | None = Field(default=None, description="ratio to the baseline's")
    saved_activation_mb: float | None = Field(default=None, description="by the generator's forward pass, 10^6 bytes")
    saved_activation_ratio: float | None = Field(default=None, description="ratio to the baseline's")
    saved_mb: dict[str, float] = Field(default={}, description="the same of one forward pass of each network")
    profiled_step_seconds: float | None = Field(default=None, description="median of a step under the profiler")
    phases: dict[str, Phase] = Field(default={}, description="medians; their sum is not quite that of a step")
    losses: dict[str, float] = Field(default={}, description="of the first step")
    loss_error: float | None = Field(default=None, description="largest relative difference from those of `stock`")
    gradient_error: dict[str, float] = Field(default={}, description="by network, of the tensor furthest from `stock`")

    @property
    def runs_ms(self) -> list[float]:  # noqa: D102 (see `RowResult`)
        return [seconds * 1e3 for seconds in self.rounds_seconds]

    def _record(self) -> Record:
        """Adds the phases in seconds."""
        return super()._record() | {name: phase.seconds for name, phase in self.phases.items()}


class TrainingReport(Report):
    """Results of one run of `bench training`."""

    schema_name: Literal["srgan_fast.bench.training/3"] = Field(default="srgan_fast.bench.training/3", alias="schema")
    work: StepWork
    method: Method
    baseline: str | None = Field(description="row that ratios refer to; null if it is wrong or failed")
    other_cpus: float | None = Field(description="CPUs that other processes kept busy during the rounds")
    rows: list[TrainingRowResult] = Field(description="in the order of their rank")

    def _cases(self) -> Iterator[tuple[str, Record, Sequence[Any]]]:
        work, threads = self.work, self.environment.threads
        about = {"stage": work.stage, "batch": work.batch, "hr": work.hr, "features": work.features}
        yield f"{work}, {threads} threads", {**about, "threads": threads, "baseline": self.baseline}, self.rows

    def _work(self) -> Record:
        method, work = self.method, self.work
        known = {"rounds": method.rounds, "rest": f"{method.pause_ms:g} ms", "threads": self.environment.threads}
        return known | {"work": f"{work.gflop:.1f} GFLOP a step"}


# --- export


class ExportRow(ReportPart):
    """A format that a model can be exported to."""

    name: str
    status: Literal["ok", "failed"]
    reason: str | None = Field(default=None, description="why it failed")
    make_s: float | None = Field(default=None, description="from weights to a checked graph")
    build_s: float | None = Field(default=None, description="from there to an engine")
    size_mb: float | None = Field(default=None, description="file size, 10^6 bytes")
    psnr_db: float | None = Field(default=None, description="PSNR of the graph against torch, worst image")
    convolutions: dict[str, int] = Field(default={}, description="convolutions of an engine's network by type")
    median_ms: float | None = Field(default=None, description="time of ONNX Runtime on this CPU; null for engines")
    rounds_ms: list[float] = Field(default=[], description="in the order of the rounds")


class ExportBenchReport(Report):
    """Results of one run of `bench export`."""

    schema_name: Literal["srgan_fast.bench.export/2"] = Field(default="srgan_fast.bench.export/2", alias="schema")
    model: str
    size: str
    threads: int
    other_cpus: float | None = Field(description="CPUs that other processes kept busy during the rounds")
    rows: list[ExportRow]

    def _cases(self) -> Iterator[tuple[str, Record, Sequence[Any]]]:
        yield self.size, {"model": self.model, "size": self.size, "threads": self.threads}, self.rows


# --- files

ComparableReport = InferenceReport | TrainingReport
_READABLE: dict[str, type[ComparableReport]] = {
    str(report.model_fields["schema_name"].default): report for report in (InferenceReport, TrainingReport)
}


def read_report(path: Path) -> ComparableReport:
    """Reads an inference or training report from a file written by `--json`.

    Raises:
        UsageError: the file cannot be read, is not such a report, or has another version.
    """
    try:
        text = path.read_text(encoding="utf-8")
        found: Any = json.loads(text)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError):  # not text, not JSON, or a path with a null byte
        raise UsageError(f"{path}: is not JSON; give a report written by --json") from None
    schema = found.get("schema") if isinstance(found, dict) else None
    if not isinstance(schema, str):
        raise UsageError(f"{path}: is JSON, but not a report; give one written by --json")
    if schema not in _READABLE:
        kind = schema.rpartition("/")[0]
        known = next((known for known in _READABLE if known.rpartition("/")[0] == kind), None)
        if known is None:
            raise UsageError(f"{path}: is {schema!r}, not a report of srgan-fast bench inference or training")
        raise UsageError(f"{path}: is of version {schema}, this program reads {known}; measure again")
    try:
        return _READABLE[schema].model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        complaint = f"{place}: {first['msg'][:1].lower()}{first['msg'][1:]}"
        raise UsageError(f"{path}: claims to be {schema}, but {complaint}") from None
