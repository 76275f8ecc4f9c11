"""The report as data: what `--json` writes. README.md in the folder above explains it; these classes are its schema.

A change that readers of old reports would misread gets a new number in `SCHEMA`; new optional fields do not.
"""

import csv
import io
from typing import Literal

from pydantic import Field

from srgan_fast.bench.report import Environment, Part
from srgan_fast.bench.training.options import Stage
from srgan_fast.bench.training.phases import PHASES, REST

SCHEMA: Literal["srgan_fast.bench.training/2"] = "srgan_fast.bench.training/2"


class TrainingEnvironment(Environment):
    """The machine as it was when the run began."""

    threads: int = Field(description="every row computes with")
    fp32_peak_gflops: float | None = Field(
        description="of multiply-adds alone on that many threads, measured; null if our engine cannot be loaded"
    )


class StepWork(Part):
    """What every row does in a step."""

    stage: Stage
    batch: int
    hr: int = Field(description="side of the square high-resolution crops; random values")
    lr: int
    features: str | None = Field(description="where VGG19 is cut; null without a content loss")
    generator: str = Field(description="preset of its architecture")
    losses: str | None = Field(description="preset of the adversarial stage's losses")
    learning_rate: float
    gflop: float = Field(description="of direct convolutions, two for a multiply-add, where nothing is computed twice")


class TrainingMethod(Part):
    """How it was measured."""

    rounds: int
    warm_up_steps: int = Field(description="of each row before the rounds, not timed")
    pause_ms: float = Field(description="before each timed step")
    order: str
    profiled_steps: int = Field(description="of each row after the rounds, which phases come from")


class Phase(Part):
    """A part of a step, under the profiler."""

    seconds: float = Field(description="all of it in one step together")
    gflop: float | None = Field(description="needed by it, the same for every row; null: no convolutions")
    gflops: float | None = Field(description="gflop over seconds")


class TrainingRowResult(Part):
    """One loop in one precision with one set of kernels."""

    name: str
    loop: Literal["common", "lean"]
    precision: Literal["fp32", "bf16"]
    kernels: Literal["reference", "fused"]
    tuned: bool = Field(description="channels-last, VGG frozen, no graph of real features, fused Adam")
    status: Literal["ok", "wrong", "failed"] = Field(description="wrong: beyond its tolerance; not ranked")
    reason: str | None = Field(default=None, description="why it is wrong or failed")
    rank: int | None = Field(default=None, description="by median, among the rows that are ok")
    step_seconds: float | None = Field(default=None, description="median of the rounds")
    min_seconds: float | None = None
    max_seconds: float | None = None
    rounds_seconds: list[float] = Field(default=[], description="in the order of the rounds")
    images_per_second: float | None = Field(default=None, description="batch over the median")
    gflops: float | None = Field(default=None, description="work.gflop over the median")
    ratio: float | None = Field(default=None, description="median over the baseline's median: above 1 is slower")
    cpus_used: float | None = Field(default=None, description="CPU time over wall time, median")
    peak_rss_mb: float | None = Field(
        default=None,
        description="peak resident memory of its process in all steps, 10^6 bytes, the interpreter and torch included",
    )
    base_rss_mb: float | None = Field(default=None, description="the same before networks were made")
    peak_rss_ratio: float | None = Field(default=None, description="over the baseline's")
    saved_activation_mb: float | None = Field(
        default=None, description="what the generator's forward pass keeps for its backward pass, 10^6 bytes"
    )
    saved_activation_ratio: float | None = Field(default=None, description="over the baseline's")
    saved_mb: dict[str, float] = Field(default={}, description="the same of one forward pass of each network")
    profiled_step_seconds: float | None = Field(default=None, description="of a step under the profiler, median")
    phases: dict[str, Phase] = Field(default={}, description="medians; their sum is not quite that of a step")
    losses: dict[str, float] = Field(default={}, description="of the first step")
    loss_error: float | None = Field(default=None, description="largest relative difference from those of `stock`")
    gradient_error: dict[str, float] = Field(
        default={}, description="by network, of the tensor whose first gradient is furthest from that of `stock`"
    )
    tolerance: str


class TrainingReport(Part):
    """Everything that one run found."""

    schema_name: Literal["srgan_fast.bench.training/2"] = Field(default=SCHEMA, alias="schema")
    created: str = Field(description="UTC, ISO 8601")
    work: StepWork
    environment: TrainingEnvironment
    method: TrainingMethod
    baseline: str | None = Field(description="row that ratios refer to; null if it is wrong or failed")
    other_cpus: float | None = Field(description="CPUs that other processes kept busy during the rounds")
    rows: list[TrainingRowResult] = Field(description="in the order of their rank")
    warnings: list[str]

    def as_json(self) -> str:
        """Indented JSON; numbers that JSON cannot say are null."""
        return self.model_dump_json(by_alias=True, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "TrainingReport":
        """Reads what `as_json` wrote.

        Raises:
            ValueError: not such a report, or one of another version.
        """
        return cls.model_validate_json(text)


_COLUMNS = (
    *("name", "loop", "precision", "kernels", "tuned", "status", "reason", "rank"),
    *("step_seconds", "min_seconds", "max_seconds", "images_per_second", "gflops", "ratio", "cpus_used"),
    *("peak_rss_mb", "base_rss_mb", "peak_rss_ratio", "saved_activation_mb", "saved_activation_ratio"),
    *("profiled_step_seconds", "loss_error", "tolerance"),
)


def training_rows_as_csv(report: TrainingReport) -> str:
    """A line for each row, with a header; phases in seconds; what is not known is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    work = report.work
    phases = (*PHASES, REST)
    writer.writerow(("stage", "batch", "hr", "features", "threads", "baseline", *_COLUMNS, *phases))
    about = (work.stage, work.batch, work.hr, work.features, report.environment.threads, report.baseline)
    for row in report.rows:
        seconds = [row.phases[name].seconds if name in row.phases else None for name in phases]
        writer.writerow((*about, *(getattr(row, name) for name in _COLUMNS), *seconds))
    return text.getvalue()
