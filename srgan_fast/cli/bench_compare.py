"""`srgan-fast bench compare`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Table

from srgan_fast.cli.console import as_wide_as_needed, output, say
from srgan_fast.cli.reports import JsonFile, make_report
from srgan_fast.errors import SrganFastError

if TYPE_CHECKING:
    from srgan_fast.bench.compare import Comparison, RowComparison

EXIT_REGRESSION = 1
EXIT_UNUSABLE = 2

_STYLES = {
    "faster": "green",
    "right again": "green",
    "slower": "red",
    "became wrong": "red",
    "became failed": "red",
    "gone": "red",
    "not right": "dim",
}


def compare(
    context: typer.Context,
    before: Annotated[Path, typer.Argument(metavar="BEFORE.json", help="What is compared with.")],
    after: Annotated[Path, typer.Argument(metavar="AFTER.json", help="What is judged.")],
    threshold: Annotated[
        float, typer.Option("--threshold", min=0, metavar="PERCENT", help="Smaller changes are none.")
    ] = 5,
    json_file: JsonFile = None,
) -> None:
    """Tell which rows became faster or slower from one report to another, and which are wrong or gone now.

    Exit code 0: no regression; 1: a row is slower beyond the threshold, became wrong or failed, or is gone; 2: the
    reports cannot be compared.
    """
    from srgan_fast.bench.compare import compare_reports  # noqa: PLC0415 (heavy)
    from srgan_fast.bench.kept import read_report  # noqa: PLC0415

    try:
        found = make_report(
            lambda _: compare_reports(read_report(before), read_report(after), threshold), _present, json_file
        )
    except SrganFastError as error:
        if context.find_root().params.get("debug"):
            raise
        say(str(error), label="error")
        raise typer.Exit(EXIT_UNUSABLE) from None
    for warning in found.warnings:
        say(warning, label="warning")
    if found.regressions:
        raise typer.Exit(EXIT_REGRESSION)


def _present(found: "Comparison") -> None:
    if found.differences:
        output.print(_differences(found), soft_wrap=True)
    for case in dict.fromkeys(row.case for row in found.rows):
        output.print(_table(case, [row for row in found.rows if row.case == case]), soft_wrap=True)
    output.print(
        f"ratio: median after over median before, above 1 is slower, with its {found.confidence:.0%} interval; "
        f"same: the interval holds 1, or less than {found.threshold_percent:g} % of change",
        soft_wrap=True,
    )
    for row in found.rows:
        if row.reason:
            say(f"{row.name}, {row.case}: {row.reason}", label=row.verdict)
    count = found.regressions
    output.print("no regression" if not count else f"{count} regression{'s' if count > 1 else ''}", soft_wrap=True)


def _differences(found: "Comparison") -> Table:
    table = Table(title="not alike", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for column in ("", "before", "after"):
        table.add_column(column, no_wrap=True)
    for difference in found.differences:
        table.add_row(difference.what, difference.before, difference.after)
    return as_wide_as_needed(table)


def _table(case: str, rows: "list[RowComparison]") -> Table:
    table = Table(title=case, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("row", no_wrap=True)
    for column in ("before ms", "after ms", "ratio", "interval"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for row in rows:
        interval = "-" if row.low is None or row.high is None else f"{row.low:.3f} .. {row.high:.3f}"
        cells = (_number(row.before_ms, ".2f"), _number(row.after_ms, ".2f"), _number(row.ratio, ".3f"), interval)
        table.add_row(row.name, *cells, row.verdict, style=_STYLES.get(row.verdict, ""))
    return as_wide_as_needed(table)


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
