"""`srgan-fast bench compare`."""

from pathlib import Path
from typing import Annotated

import typer

from srgan_fast.cli.console import output, say
from srgan_fast.cli.reports import JsonFile, make_bench_report
from srgan_fast.errors import SrganFastError

EXIT_REGRESSION = 1
EXIT_UNUSABLE = 2


def compare(
    context: typer.Context,
    before: Annotated[Path, typer.Argument(metavar="BEFORE.json", help="Report to compare with.")],
    after: Annotated[Path, typer.Argument(metavar="AFTER.json", help="Report to compare.")],
    threshold: Annotated[
        float, typer.Option("--threshold", min=0, metavar="PERCENT", help="Changes below this count as none.")
    ] = 5,
    json_file: JsonFile = None,
) -> None:
    """Compare two reports: which rows became faster, slower, wrong or are gone.

    Exit code 0: no regression; 1: a row is slower beyond the threshold, became wrong or failed, or is gone; 2: the
    reports cannot be compared.
    """
    from srgan_fast.bench.compare import compare_reports  # noqa: PLC0415 (heavy)
    from srgan_fast.bench.page.others import comparison_page  # noqa: PLC0415
    from srgan_fast.bench.report import read_report  # noqa: PLC0415

    try:
        found = make_bench_report(
            lambda _: compare_reports(read_report(before), read_report(after), threshold), comparison_page, json_file
        )
    except SrganFastError as error:
        if context.find_root().params.get("debug"):
            raise
        say(str(error), label="error")
        raise typer.Exit(EXIT_UNUSABLE) from None
    count = found.regressions
    if json_file != "-":
        output.print(
            f"ratio: median after over median before, above 1 is slower, with its {found.confidence:.0%} interval; "
            f"same: the interval contains 1, or the change is below {found.threshold_percent:g} %",
            soft_wrap=True,
        )
        output.print("no regression" if not count else f"{count} regression{'s' if count > 1 else ''}", soft_wrap=True)
    if count:
        raise typer.Exit(EXIT_REGRESSION)
