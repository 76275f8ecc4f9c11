"""`srgan-fast bench`."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Table

from srgan_fast.cli.bench_compare import compare
from srgan_fast.cli.bench_export import export
from srgan_fast.cli.bench_html import html
from srgan_fast.cli.bench_training import training
from srgan_fast.cli.console import as_wide_as_needed, output, say
from srgan_fast.cli.options import Model
from srgan_fast.cli.reports import CsvFile, HtmlFile, JsonFile, ReportCommand, make_report

if TYPE_CHECKING:
    from srgan_fast.bench import InferenceReport
    from srgan_fast.bench.report import CaseResult, ColdStart, Row

app = typer.Typer(no_args_is_help=True, help="Measure how fast this machine is, beside what else could be used.")
app.command("export", cls=ReportCommand)(export)
app.command("training", cls=ReportCommand)(training)
app.command("html", no_args_is_help=True)(html)
app.command("compare", cls=ReportCommand, no_args_is_help=True)(compare)


class BenchPrecisionName(StrEnum):
    """Precisions that rows may compute in."""

    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"
    INT8 = "int8"


@app.command("inference", cls=ReportCommand)
def inference(
    model: Model = "srresnet-x4",
    size: Annotated[
        list[str] | None,
        typer.Option("--size", metavar="HxW", help="Of the input picture; repeatable.", show_default="128x128"),
    ] = None,
    backend: Annotated[
        list[str] | None,
        typer.Option(
            "--backend", "-b", help="A runtime of srgan-fast, all or none; repeatable.", show_default="native"
        ),
    ] = None,
    peer: Annotated[
        list[str] | None,
        typer.Option("--peer", help="A row or library to compare with, all or none; repeatable.", show_default="all"),
    ] = None,
    precision: Annotated[
        list[BenchPrecisionName] | None,
        typer.Option("--precision", help="Rows to keep; repeatable.", show_default="all"),
    ] = None,
    batch: Annotated[
        list[int] | None, typer.Option("--batch", min=1, help="Pictures of a run; repeatable.", show_default="1")
    ] = None,
    threads: Annotated[
        list[int] | None, typer.Option("--threads", min=1, help="CPU threads; repeatable.", show_default="all")
    ] = None,
    iterations: Annotated[
        int, typer.Option("--iterations", "--rounds", min=1, help="Timed runs of each row, at least.")
    ] = 9,
    duration: Annotated[
        float, typer.Option("--duration", min=0, metavar="SECONDS", help="Go on with rounds at least that long.")
    ] = 0,
    warm_up: Annotated[
        float, typer.Option("--warm-up", min=0, metavar="MS", help="Run each row that long first, at least twice.")
    ] = 200,
    percentile: Annotated[
        list[float] | None,
        typer.Option("--percentile", metavar="P", help="Of the runs' times; repeatable.", show_default="50, 90, 99"),
    ] = None,
    streams: Annotated[
        int, typer.Option("--streams", min=1, help="Also have that many threads call each loaded runtime at once.")
    ] = 1,
    baseline: Annotated[
        str | None,
        typer.Option("--baseline", help="Row that ratios refer to.", show_default="our fp32, else the fastest"),
    ] = None,
    picture: Annotated[
        Path | None, typer.Option("--picture", help="What is upscaled.", show_default="a sample photograph")
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option("--calibration", help="Folder of pictures for int8.", show_default="the samples")
    ] = None,
    cold_start: Annotated[
        bool, typer.Option("--cold-start", help="Also time whole processes and the import of each runtime.")
    ] = False,
    memory: Annotated[
        bool, typer.Option("--memory", help="Also run each row in its own process: peak memory and time alone.")
    ] = False,
    json_file: JsonFile = None,
    csv_file: CsvFile = None,
    html_file: HtmlFile = None,
) -> None:
    """Time upscaling of a picture in memory, by our runtimes and by others, with the error of each.

    All rows run in this process in alternating rounds. A row whose result is wrong is marked and not ranked.
    """
    from srgan_fast.bench import InferenceOptions, bench_inference, parse_size, rows_as_csv  # noqa: PLC0415
    from srgan_fast.bench.html.inference_page import inference_page  # noqa: PLC0415
    from srgan_fast.bench.options import PERCENTILES  # noqa: PLC0415

    options = InferenceOptions(
        model=model,
        sizes=tuple(parse_size(text) for text in size or ["128x128"]),
        backends=tuple(backend or ()),
        peers=tuple(peer or ()),
        precisions=tuple(item.value for item in precision or ()),
        batches=tuple(batch or [1]),
        threads=tuple(threads or ()),
        rounds=iterations,
        duration_s=duration,
        warm_up_ms=warm_up,
        percentiles=tuple(percentile or PERCENTILES),
        streams=streams,
        baseline=baseline,
        picture=picture,
        calibration=calibration,
        cold_start=cold_start,
        memory=memory,
    )
    report = make_report(
        lambda tell: bench_inference(options, tell),
        _present,
        json_file,
        csv_file,
        rows_as_csv,
        html_file,
        inference_page,
    )
    for warning in report.warnings:
        say(warning, label="warning")


def _present(report: "InferenceReport") -> None:
    about = f"{report.model.name} x{report.model.scale} on {report.environment.cpu}"
    for case in report.cases:
        batch = f", batch {case.batch}" if case.batch > 1 else ""
        title = f"{about}, {case.threads} threads, {case.height}x{case.width}{batch}"
        output.print(_table(case, report.method.percentiles, title), soft_wrap=True)
        output.print(f"input: {case.input}", soft_wrap=True)
        ratio = f"ratio: median over that of {case.baseline}; " if case.baseline else ""
        output.print(f"{ratio}errors over the range of PyTorch {case.reference}; {case.rounds} rounds", soft_wrap=True)
        for row in case.rows:
            if row.reason:
                say(f"{row.name}: {row.reason}", label=row.status)
        if any(row.streams is not None for row in case.rows):
            output.print(_streams_table(case), soft_wrap=True)
        if any(row.alone_ms is not None for row in case.rows):
            output.print(_memory_table(case), soft_wrap=True)
    for left in report.left_out:
        where = "" if left.case is None else f" at {left.case}"
        say(f"{left.name}{where}: {'; '.join(filter(None, (left.reason, left.remedy)))}", label="left out")
    if report.cold_start is not None:
        output.print(_cold_table(report.cold_start))


def _table(case: "CaseResult", percentiles: list[float], title: str) -> Table:
    on_gpu = any(row.device_ms is not None or row.peak_device_mib is not None for row in case.rows)
    columns = ["min", "mean", *(f"p{percent:g}" for percent in percentiles), "max ms"]
    columns += ["GPU ms", "GPU MiB"] if on_gpu else []
    table = _new_table("", "row", title=title)
    for column in (*columns, "img/s", "MP/s", "ratio", "max err", "PSNR", "CPUs"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in case.rows:
        style = {"ok": "bold" if row.kind == "backend" else "", "wrong": "red", "failed": "dim"}[row.status]
        table.add_row(*_cells(row, percentiles, on_gpu), style=style)
    return as_wide_as_needed(table)


def _new_table(*columns: str, title: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=0)
    for column in columns:
        table.add_column(column, no_wrap=True)
    return table


def _cells(row: "Row", percentiles: list[float], on_gpu: bool) -> list[str]:
    latency = row.latency
    times: list[float | None] = [None] * (len(percentiles) + 3)
    if latency is not None:
        asked = [latency.percentiles_ms[f"{percent:g}"] for percent in percentiles]
        times = [latency.min_ms, latency.mean_ms, *asked, latency.max_ms]
    return [
        str(row.rank) if row.rank else row.status.upper(),
        row.name,
        *(_milliseconds(time) for time in times),
        *([_milliseconds(row.device_ms), _number(row.peak_device_mib, ".0f")] if on_gpu else []),
        _number(row.images_per_s, ".2f"),
        _number(row.output_mp_per_s, ".2f"),
        _number(row.ratio, ".2f"),
        _number(row.max_error, ".1e"),
        _number(row.psnr_db, ".1f"),
        _number(row.cpus_used, ".2f"),
    ]


def _streams_table(case: "CaseResult") -> Table:
    counts = {row.streams.count for row in case.rows if row.streams}
    table = _new_table("row", title=f"{max(counts)} threads call one loaded runtime at the same time")
    for column in ("img/s", "img/s of one", "gain", "median ms"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in case.rows:
        found = row.streams
        if found is None:
            continue
        if found.reason:
            say(f"{row.name}: {found.reason}", label="streams")
        one, all_ = found.one_images_per_s, found.images_per_s
        gain = all_ / one if one and all_ else None
        table.add_row(
            row.name,
            _number(all_, ".2f"),
            _number(one, ".2f"),
            _number(gain, ".2f"),
            _milliseconds(found.median_ms),
            style="red" if found.reason else "",
        )
    return as_wide_as_needed(table)


def _memory_table(case: "CaseResult") -> Table:
    table = _new_table("row", title=f"in a process of its own, {case.height}x{case.width}")
    for column in ("alone ms", "beside others / alone", "peak MiB", "before loading"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in case.rows:
        if row.alone_ms is None or row.latency is None:
            continue
        beside = f"{row.latency.median_ms / row.alone_ms:.2f}"
        memory = (_number(row.peak_mib, ".0f"), _number(row.base_mib, ".0f"))
        table.add_row(row.name, _milliseconds(row.alone_ms), beside, *memory)
    return as_wide_as_needed(table)


def _milliseconds(value: float | None) -> str:
    return _number(value, ".1f" if value is None or value < 1000 else ".0f")


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _cold_table(cold: "ColdStart") -> Table:
    title = f"cold start, whole processes; python alone {cold.python_ms:.0f} ms"
    table = Table("", title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=0)
    table.add_column("median ms", justify="right")
    table.add_column("min", justify="right")
    for what, times in (("upscale a small picture with", cold.upscale), ("import", cold.imports)):
        for time in times:
            cells = [time.reason, ""] if time.reason else [_number(time.median_ms, ".0f"), _number(time.min_ms, ".0f")]
            table.add_row(f"{what} {time.name}", *cells)
    return table
