"""`srgan-fast bench training`."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Table

from srgan_fast.cli.console import as_wide_as_needed, output, say
from srgan_fast.cli.options import Threads
from srgan_fast.cli.reports import CsvFile, HtmlFile, JsonFile, make_report
from srgan_fast.errors import UsageError

if TYPE_CHECKING:
    from srgan_fast.bench.training import TrainingReport
    from srgan_fast.bench.training.report import TrainingRowResult


class StageName(StrEnum):
    """Stages of training."""

    GAN = "gan"
    PRETRAIN = "pretrain"


def training(
    stage: Annotated[StageName, typer.Option("--stage", help="All three networks, or the generator alone.")] = (
        StageName.GAN
    ),
    batch: Annotated[int, typer.Option("--batch", min=1, help="Images of a step.")] = 16,
    hr: Annotated[int, typer.Option("--hr", help="Side of the high-resolution crops, a multiple of 16.")] = 96,
    features: Annotated[
        str, typer.Option("--features", metavar="CUT", help="Where VGG19 is cut: vgg54, features[:18], ...")
    ] = "features[:18]",
    row: Annotated[
        list[str] | None, typer.Option("--row", help="A row to measure; repeatable.", show_default="all")
    ] = None,
    rounds: Annotated[int, typer.Option("--iterations", "--rounds", min=1, help="Timed steps of each row.")] = 7,
    threads: Threads = None,
    baseline: Annotated[
        str | None, typer.Option("--baseline", help="Row that ratios refer to.", show_default="stock")
    ] = None,
    json_file: JsonFile = None,
    csv_file: CsvFile = None,
    html_file: HtmlFile = None,
) -> None:
    """Time a training step on random pictures: our step and kernels beside the loops that people write.

    Each row has a process of its own, and they take their steps in turns. A row whose first step gives other losses or
    gradients than the plain loop is marked and not ranked.
    """
    try:
        from srgan_fast.bench.html.training_page import training_page  # noqa: PLC0415
        from srgan_fast.bench.training import (  # noqa: PLC0415 (torch)
            TrainingOptions,
            bench_training,
            training_rows_as_csv,
        )
    except ImportError as error:
        raise UsageError(f"training needs {error.name}: pip install 'srgan_fast[train]'") from None
    options = TrainingOptions(
        batch=batch,
        hr=hr,
        features=features,
        stage=stage.value,
        rounds=rounds,
        threads=threads,
        rows=tuple(row or ()),
        baseline=baseline,
    )
    report = make_report(
        lambda tell: bench_training(options, tell),
        _present,
        json_file,
        csv_file,
        training_rows_as_csv,
        html_file,
        training_page,
    )
    for warning in report.warnings:
        say(warning, label="warning")


def _present(report: "TrainingReport") -> None:
    work, environment = report.work, report.environment
    peak = environment.fp32_peak_gflops
    about = f"{work.stage} step of {work.batch} crops of {work.hr}x{work.hr}"
    cut = f", VGG19 {work.features}" if work.features else ""
    tables = [
        _steps(report, f"{about}{cut}, {environment.threads} threads, {environment.cpu}"),
        _phases(report, "milliseconds of its parts, under the profiler", "seconds", 1e3),
        _phases(report, f"GFLOP/s; multiply-adds alone in fp32: {_number(peak, '.0f')}", "gflops", 1),
    ]
    for table in tables:
        output.print(table, soft_wrap=True)
    if report.baseline:
        output.print(f"x: over that of {report.baseline}; {report.method.rounds} rounds", soft_wrap=True)
    for row in report.rows:
        if row.reason:
            say(f"{row.name}: {row.reason}", label=row.status)


def _steps(report: "TrainingReport", title: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=0)
    table.add_column("", no_wrap=True)
    table.add_column("row", no_wrap=True)
    for column in (
        *("s/step", "x", "min", "max", "img/s", "GFLOP/s"),
        *("peak MB", "x", "G keeps MB", "x", "loss err", "grad err"),
    ):
        table.add_column(column, justify="right", no_wrap=True)
    for row in report.rows:
        table.add_row(*_cells(row), style={"ok": "", "wrong": "red", "failed": "dim"}[row.status])
    return as_wide_as_needed(table)


def _cells(row: "TrainingRowResult") -> list[str]:
    gradient = max(row.gradient_error.values(), default=None)
    return [
        str(row.rank) if row.rank else row.status.upper(),
        row.name,
        _number(row.step_seconds, ".3f"),
        _number(row.ratio, ".2f"),
        _number(row.min_seconds, ".3f"),
        _number(row.max_seconds, ".3f"),
        _number(row.images_per_second, ".2f"),
        _number(row.gflops, ".0f"),
        _number(row.peak_rss_mb, ".0f"),
        _number(row.peak_rss_ratio, ".2f"),
        _number(row.saved_activation_mb, ".1f"),
        _number(row.saved_activation_ratio, ".2f"),
        _number(row.loss_error, ".0e"),
        _number(gradient, ".0e"),
    ]


def _phases(report: "TrainingReport", title: str, figure: str, factor: float) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=0)
    table.add_column("", no_wrap=True)
    rows = [row for row in report.rows if row.phases]
    for row in rows:
        table.add_column(row.name.replace("-", "-\n"), justify="right", no_wrap=True)
    for name in dict.fromkeys(name for row in rows for name in row.phases):
        values = [getattr(row.phases[name], figure) if name in row.phases else None for row in rows]
        if any(value is not None for value in values):
            cells = [_number(None if value is None else value * factor, ".0f") for value in values]
            table.add_row(name, *cells)
    return as_wide_as_needed(table)


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
