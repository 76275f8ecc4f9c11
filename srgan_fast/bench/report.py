"""The report as data: what `--json` writes. README.md explains it; these classes are its schema.

A change that readers of old reports would misread gets a new number in `SCHEMA`; new optional fields do not.
"""

import csv
import io
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from srgan_fast.bench.options import BenchPrecision

SCHEMA: Literal["srgan_fast.bench.inference/1"] = "srgan_fast.bench.inference/1"


class Part(BaseModel):
    """What all parts of a report have in common."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, ser_json_inf_nan="null")


class Model(Part):
    """The generator that all rows compute."""

    name: str
    sha256: str = Field(description="of settings and weights")
    scale: int
    channels: int
    blocks: int
    macs_per_lr_pixel: int = Field(description="multiply-adds of direct convolutions")


class Environment(Part):
    """The machine as it was when the run began."""

    cpu: str
    cpu_flags: list[str] = Field(description="of those that decide about kernels")
    cpus: int = Field(description="that the process may run on")
    threads: int = Field(description="every row computes with")
    memory_mib: float | None
    system: str
    python: str
    versions: dict[str, str] = Field(description="of what is installed")
    variables: dict[str, str] = Field(description="of the environment that change how libraries compute")
    load_average: list[float] | None = Field(description="over 1, 5 and 15 minutes")


class Method(Part):
    """How it was measured."""

    rounds: int
    warm_up_runs: int = Field(description="of each row before the rounds, not timed")
    pause_ms: float = Field(description="before each run")
    order: str
    calibration: str | None = Field(description="pictures that int8 was calibrated on")


class Latency(Part):
    """Of one run: picture in memory to result in memory, in milliseconds."""

    median_ms: float
    min_ms: float
    mean_ms: float
    p90_ms: float
    max_ms: float
    rounds_ms: list[float] = Field(description="in the order of the rounds")


class Row(Part):
    """One runtime in one precision at one size."""

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


class SizeResult(Part):
    """All rows at one size."""

    height: int
    width: int
    input: str
    reference: Literal["float64", "float32"]
    baseline: str | None = Field(description="row that ratios refer to; null if it is wrong or failed")
    other_cpus: float | None = Field(description="CPUs that other processes kept busy during the rounds")
    rows: list[Row]


class LeftOut(Part):
    """A row that was asked for and not measured."""

    name: str
    size: str | None = Field(default=None, description="null: at no size")
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

    schema_name: Literal["srgan_fast.bench.inference/1"] = Field(default=SCHEMA, alias="schema")
    created: str = Field(description="UTC, ISO 8601")
    model: Model
    environment: Environment
    method: Method
    sizes: list[SizeResult]
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
    *("output_mp_per_s", "gflops", "ratio", "cpus_used", "tolerance", "max_error", "psnr_db"),
    *("alone_ms", "peak_mib", "base_mib"),
)
_LATENCIES = ("median_ms", "min_ms", "mean_ms", "p90_ms", "max_ms")


def rows_as_csv(report: InferenceReport) -> str:
    """A line for each row, with a header; what is not known is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("model", "threads", "height", "width", "reference", "baseline", *_COLUMNS, *_LATENCIES))
    for size in report.sizes:
        about = (report.model.name, report.environment.threads, size.height, size.width, size.reference, size.baseline)
        for row in size.rows:
            latencies = [None if row.latency is None else getattr(row.latency, name) for name in _LATENCIES]
            writer.writerow((*about, *(getattr(row, name) for name in _COLUMNS), *latencies))
    return text.getvalue()
