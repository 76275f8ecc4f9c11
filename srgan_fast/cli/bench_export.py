"""`srgan-fast bench export`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Table

from srgan_fast.cli.console import as_wide_as_needed, output, say
from srgan_fast.cli.export import ExportPrecisionName
from srgan_fast.cli.options import Model, Threads
from srgan_fast.cli.reports import CsvFile, JsonFile, make_report
from srgan_fast.errors import UsageError

if TYPE_CHECKING:
    from srgan_fast.bench.export import ExportBenchReport


def export(
    model: Model = "srresnet-x4",
    precision: Annotated[
        list[ExportPrecisionName] | None, typer.Option("--precision", help="Repeatable.", show_default="all")
    ] = None,
    size: Annotated[str, typer.Option("--size", metavar="HxW", help="Of the picture for ONNX Runtime.")] = "128x128",
    iterations: Annotated[int, typer.Option("--iterations", "--rounds", min=1, help="Timed runs of each graph.")] = 9,
    threads: Threads = None,
    calibration: Annotated[
        Path | None, typer.Option("--calibration", help="Folder of pictures for int8.", show_default="the samples")
    ] = None,
    json_file: JsonFile = None,
    csv_file: CsvFile = None,
) -> None:
    """Export to every format that can be made here: time, size, exactness, and ONNX Runtime's speed with it."""
    try:
        from srgan_fast.bench.export import PRECISIONS, ExportOptions, bench_export, export_rows_as_csv  # noqa: PLC0415
        from srgan_fast.bench.options import parse_size  # noqa: PLC0415
    except ImportError as error:
        raise UsageError(f"this benchmark needs {error.name}: pip install 'srgan_fast[bench]'") from None
    options = ExportOptions(
        model=model,
        precisions=tuple(item.value for item in precision or ()) or PRECISIONS,
        size=parse_size(size),
        rounds=iterations,
        threads=threads,
        calibration=calibration,
    )
    report = make_report(lambda tell: bench_export(options, tell), _present, json_file, csv_file, export_rows_as_csv)
    for warning in report.warnings:
        say(warning, label="warning")


def _present(report: "ExportBenchReport") -> None:
    title = (
        f"{report.model} exported on {report.environment.cpu}; ONNX Runtime at {report.size}, {report.threads} threads"
    )
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=0)
    table.add_column("row", no_wrap=True)
    for column in ("export s", "build s", "MB", "PSNR dB", "ORT ms"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("convolutions", no_wrap=True)
    for row in report.rows:
        figures = ((row.make_s, ".1f"), (row.build_s, ".1f"), (row.size_mb, ".1f"), (row.psnr_db, ".1f"))
        types = ", ".join(f"{count} {name}" for name, count in sorted(row.convolutions.items()))
        cells = [_number(value, form) for value, form in (*figures, (row.median_ms, ".1f"))]
        table.add_row(row.name, *cells, types, style="dim" if row.status == "failed" else "")
    output.print(as_wide_as_needed(table), soft_wrap=True)
    for row in report.rows:
        if row.reason:
            say(f"{row.name}: {row.reason}", label=row.status)


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
