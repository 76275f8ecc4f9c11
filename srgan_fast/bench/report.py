"""The report as data: what `--json` writes. README.md explains it; these classes are its schema.

A change that readers of old reports would misread gets a new number in `SCHEMA`; new optional fields do not.
"""

import csv
import io
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from srgan_fast.bench.options import BenchPrecision

SCHEMA: Literal["srgan_fast.bench.inference/2"] = "srgan_fast.bench.inference/2"


class Part(BaseModel):
    """What all parts of a report have in common."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, ser_json_inf_nan="null")


class Model(Part):
    """The network that all rows compute."""

    # Reports of older versions tell blocks and channels of an SRGAN generator instead of an architecture.
    model_config = ConfigDict(extra="ignore")

    name: str
    sha256: str = Field(description="of settings and weights")
    scale: int
    architecture: str = Field(default="SRGAN generator", description="with its sizes, in words")
    macs_per_lr_pixel: int = Field(description="multiply-adds of direct convolutions")


class Environment(Part):
    """The machine as it was when the run began."""

    cpu: str
    cpu_flags: list[str] = Field(description="of those that decide about kernels")
    cpus: int = Field(description="that the process may run on")
    memory_mib: float | None
    system: str
    python: str
    versions: dict[str, str] = Field(description="of what is installed")
    variables: dict[str, str] = Field(description="of the environment that change how libraries compute")
    load_average: list[float] | None = Field(description="over 1, 5 and 15 minutes")


class Method(Part):
    """How it was measured."""

    rounds: int = Field(description="of each case, at least")
    duration_s: float = Field(description="of the rounds of each case, at least")
    warm_up_runs: int = Field(description="of each row before the rounds, not timed, at least")
    warm_up_ms: float = Field(description="of each row before the rounds, at least")
    pause_ms: float = Field(description="before each run")
    order: str
    calibration: str | None = Field(description="pictures that int8 was calibrated on")
    percentiles: list[float] = Field(description="that were asked for")


class Latency(Part):
    """Of one run: batch in memory to result in memory, in milliseconds, by the host's clock."""

    min_ms: float
    mean_ms: float
    median_ms: float
    p90_ms: float
    p99_ms: float = Field(description="of fewer than 100 rounds: between the two longest of them")
    max_ms: float
    percentiles_ms: dict[str, float] = Field(description="those that were asked for, by percent")
    rounds_ms: list[float] = Field(description="in the order of the rounds")


class Streams(Part):
    """Several callers of the loaded runtime at the same time, after the rounds."""

    count: int
    images_per_s: float | None = Field(default=None, description="of all callers together")
    one_images_per_s: float | None = Field(default=None, description="of a single caller in the same loop")
    median_ms: float | None = Field(default=None, description="of a run while the others run")
    runs: int = Field(default=0, description="of all callers together")
    reason: str | None = Field(default=None, description="why it was not measured, or is not right")


class Row(Part):
    """One runtime in one precision in one case."""

    name: str
    kind: Literal["backend", "peer"]
    runtime: str
    precision: BenchPrecision
    status: Literal["ok", "wrong", "failed"] = Field(description="wrong: beyond its tolerance; not ranked")
    reason: str | None = Field(default=None, description="why it is wrong or failed")
    rank: int | None = Field(default=None, description="by median, among the rows that are ok")
    device: str | None = Field(default=None, description="where it computes, in words")
    load_s: float | None = Field(default=None, description="from prepared files to ready, compiling included")
    latency: Latency | None = None
    device_ms: float | None = Field(default=None, description="median between CUDA events; null on a CPU")
    peak_device_mib: float | None = Field(default=None, description="most device memory held; null on a CPU")
    images_per_s: float | None = Field(default=None, description="batch over the median")
    output_mp_per_s: float | None = None
    gflops: float | None = Field(
        default=None, description="of direct convolutions over the median: beyond a CPU's peak for Winograd"
    )
    ratio: float | None = Field(default=None, description="median over the baseline's median: above 1 is slower")
    cpus_used: float | None = Field(default=None, description="CPU time over wall time, median")
    tolerance: str
    max_error: float | None = Field(default=None, description="over the reference's range")
    psnr_db: float | None = Field(default=None, description="over the reference's range; null if equal")
    alone_ms: float | None = Field(default=None, description="median of a process with nothing else loaded")
    peak_mib: float | None = Field(default=None, description="peak resident memory of that process after one run")
    base_mib: float | None = Field(default=None, description="the same before the runtime was loaded")
    streams: Streams | None = None


class CaseResult(Part):
    """All rows with one batch of one size on one number of threads."""

    batch: int
    height: int
    width: int
    threads: int = Field(description="of the CPU; every row computes with")
    rounds: int = Field(description="that were made")
    input: str
    reference: Literal["float64", "float32"]
    baseline: str | None = Field(description="row that ratios refer to; null if it is wrong or failed")
    other_cpus: float | None = Field(description="CPUs that other processes kept busy during the rounds")
    rows: list[Row]


class LeftOut(Part):
    """A row that was asked for and not measured."""

    name: str
    case: str | None = Field(default=None, description="as in 128x128, batch 4, 2 threads; null: in no case")
    reason: str
    remedy: str | None


class ProcessTime(Part):
    """Wall time of whole processes."""

    name: str
    command: str
    median_ms: float | None
    min_ms: float | None
    runs_ms: list[float]
    reason: str | None = Field(default=None, description="why it could not be timed")


class ColdStart(Part):
    """What a user waits for before and besides computing."""

    picture: str
    python_ms: float = Field(description="an interpreter that does nothing; contained in all other figures")
    upscale: list[ProcessTime] = Field(description="`srgan-fast upscale` from start to exit, by backend")
    imports: list[ProcessTime] = Field(description="a process that only imports the runtime")


class InferenceReport(Part):
    """Everything that one run found."""

    schema_name: Literal["srgan_fast.bench.inference/2"] = Field(default=SCHEMA, alias="schema")
    created: str = Field(description="UTC, ISO 8601")
    model: Model
    environment: Environment
    method: Method
    cases: list[CaseResult]
    left_out: list[LeftOut]
    cold_start: ColdStart | None = None
    warnings: list[str]

    def as_json(self) -> str:
        """Indented JSON; numbers that JSON cannot say are null."""
        return self.model_dump_json(by_alias=True, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "InferenceReport":
        """Reads what `as_json` wrote.

        Raises:
            ValueError: not such a report, or one of another version.
        """
        return cls.model_validate_json(text)


_COLUMNS = (
    *("name", "kind", "runtime", "precision", "status", "reason", "rank", "device", "load_s"),
    *("device_ms", "peak_device_mib", "images_per_s", "output_mp_per_s"),
    *("gflops", "ratio", "cpus_used", "tolerance", "max_error", "psnr_db"),
    *("alone_ms", "peak_mib", "base_mib"),
)
_LATENCIES = ("median_ms", "min_ms", "mean_ms", "p90_ms", "p99_ms", "max_ms")
_STREAMS = ("count", "images_per_s", "one_images_per_s", "median_ms")


def rows_as_csv(report: InferenceReport) -> str:
    """A line for each row, with a header; what is not known is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    # A column for each percentile that was asked for and is in none already; `percentiles_ms` has all.
    asked = [f"{percent:g}" for percent in report.method.percentiles if percent not in (50, 90, 99)]
    about = ("model", "batch", "height", "width", "threads", "reference", "baseline")
    percentiles = [f"p{percent}_ms" for percent in asked]
    streams = [f"streams_{name}" for name in _STREAMS]
    writer.writerow((*about, *_COLUMNS, *_LATENCIES, *percentiles, *streams))
    for case in report.cases:
        where = (report.model.name, *(getattr(case, name) for name in about[1:]))
        for row in case.rows:
            latency = row.latency
            times = [None if latency is None else getattr(latency, name) for name in _LATENCIES]
            times += [None if latency is None else latency.percentiles_ms[percent] for percent in asked]
            throughput = [None if row.streams is None else getattr(row.streams, name) for name in _STREAMS]
            writer.writerow((*where, *(getattr(row, name) for name in _COLUMNS), *times, *throughput))
    return text.getvalue()
