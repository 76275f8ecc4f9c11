"""`srgan-fast bench export`."""

from typing import Annotated

import typer

from srgan_fast.cli.export import ExportPrecisionName
from srgan_fast.cli.options import Model, SamplesOption, Threads
from srgan_fast.cli.reports import CsvFile, JsonFile, make_bench_report
from srgan_fast.errors import UsageError


def export(
    model: Model = "srresnet-x4",
    precision: Annotated[
        list[ExportPrecisionName] | None,
        typer.Option("--precision", help="Precision to export; repeatable.", show_default="all"),
    ] = None,
    size: Annotated[str, typer.Option("--size", metavar="HxW", help="Size of the image for ONNX Runtime.")] = "128x128",
    iterations: Annotated[
        int, typer.Option("--iterations", "--rounds", min=1, help="Number of timed runs of each graph.")
    ] = 9,
    threads: Threads = None,
    calibration: SamplesOption = None,
    json_file: JsonFile = None,
    csv_file: CsvFile = None,
) -> None:
    """Benchmark all export formats: time, file size, exactness, and ONNX Runtime's speed."""
    try:
        from srgan_fast.bench.export import PRECISIONS, ExportOptions, bench_export  # noqa: PLC0415
        from srgan_fast.bench.page.others import export_page  # noqa: PLC0415
        from srgan_fast.bench.workload import parse_size  # noqa: PLC0415
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
    make_bench_report(lambda tell: bench_export(options, tell), export_page, json_file, csv_file)
