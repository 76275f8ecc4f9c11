"""`srgan-fast bench`."""

from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from srgan_fast.cli.bench_compare import compare
from srgan_fast.cli.bench_export import export
from srgan_fast.cli.bench_gpu import gpu
from srgan_fast.cli.bench_html import html
from srgan_fast.cli.bench_training import training
from srgan_fast.cli.console import say
from srgan_fast.cli.options import Model, SamplesOption
from srgan_fast.cli.reports import CsvFile, HtmlFile, JsonFile, ReportCommand, make_bench_report

if TYPE_CHECKING:
    from srgan_fast.bench import InferenceReport

app = typer.Typer(no_args_is_help=True, help="Benchmark this machine with srgan-fast and other runtimes.")
app.command("export", cls=ReportCommand)(export)
app.command("training", cls=ReportCommand)(training)
app.command("gpu", cls=ReportCommand)(gpu)
app.command("html", no_args_is_help=True)(html)
app.command("compare", cls=ReportCommand, no_args_is_help=True)(compare)


class BenchPrecisionName(StrEnum):
    """Compute precisions of rows."""

    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"
    INT8 = "int8"


@app.command("inference", cls=ReportCommand)
def inference(
    model: Model = "srresnet-x4",
    size: Annotated[
        list[str] | None,
        typer.Option("--size", metavar="HxW", help="Size of the input image; repeatable.", show_default="128x128"),
    ] = None,
    backend: Annotated[
        list[str] | None,
        typer.Option(
            "--backend", "-b", help="Backend of srgan-fast, or all or none; repeatable.", show_default="native"
        ),
    ] = None,
    peer: Annotated[
        list[str] | None,
        typer.Option("--peer", help="Row or library to compare with, or all or none; repeatable.", show_default="all"),
    ] = None,
    precision: Annotated[
        list[BenchPrecisionName] | None,
        typer.Option("--precision", help="Precision to measure; repeatable.", show_default="all"),
    ] = None,
    batch: Annotated[
        list[int] | None, typer.Option("--batch", min=1, help="Batch size; repeatable.", show_default="1")
    ] = None,
    threads: Annotated[
        list[int] | None,
        typer.Option("--threads", min=1, help="Number of CPU threads; repeatable.", show_default="all"),
    ] = None,
    iterations: Annotated[
        int, typer.Option("--iterations", "--rounds", min=1, help="Minimum number of timed runs of each row.")
    ] = 9,
    duration: Annotated[
        float, typer.Option("--duration", min=0, metavar="SECONDS", help="Minimum duration of the rounds.")
    ] = 0,
    warm_up: Annotated[
        float, typer.Option("--warm-up", min=0, metavar="MS", help="Minimum warm-up of each row.")
    ] = 200,
    percentile: Annotated[
        list[float] | None,
        typer.Option(
            "--percentile",
            metavar="P",
            help="Percentile of the times to report; repeatable.",
            show_default="50, 90, 99",
        ),
    ] = None,
    streams: Annotated[
        int, typer.Option("--streams", min=1, help="Number of threads that call each loaded runtime concurrently.")
    ] = 1,
    baseline: Annotated[
        str | None,
        typer.Option("--baseline", help="Row that ratios refer to.", show_default="our fp32, else the fastest"),
    ] = None,
    image: Annotated[
        Path | None, typer.Option("--picture", help="Image to upscale.", show_default="a sample photograph")
    ] = None,
    calibration: SamplesOption = None,
    cold_start: Annotated[
        bool, typer.Option("--cold-start", help="Also time whole processes and the import of each runtime.")
    ] = False,
    memory: Annotated[bool, typer.Option("--memory", help="Also show the peak memory of each row's process.")] = False,
    json_file: JsonFile = None,
    csv_file: CsvFile = None,
    html_file: HtmlFile = None,
) -> None:
    """Benchmark upscaling of an image in memory with our backends and other runtimes, with the error of each.

    Each row runs in its own process, and they take turns. Rows with wrong results are marked and not ranked.
    """
    from srgan_fast.bench import InferenceOptions, bench_inference, parse_size  # noqa: PLC0415
    from srgan_fast.bench.options import PERCENTILES  # noqa: PLC0415
    from srgan_fast.bench.page.inference import inference_page  # noqa: PLC0415

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
        image=image,
        calibration=calibration,
        cold_start=cold_start,
    )
    report = make_bench_report(
        lambda tell: bench_inference(options, tell),
        partial(inference_page, memory=memory),
        json_file,
        csv_file,
        html_file,
    )
    _say_what_is_left_out(report)


def _say_what_is_left_out(report: "InferenceReport") -> None:
    for left in report.left_out:
        where = "" if left.case is None else f" at {left.case}"
        say(f"{left.name}{where}: {'; '.join(filter(None, (left.reason, left.remedy)))}", label="left out")
