"""Shared by commands that write a report: `--json`, `--csv` and `--html`, which are checked first and written last.

On the console a report is shown as the tables of its page.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Protocol, TypeVar, cast

import typer
from rich import box
from rich.table import Table
from typer.core import TyperCommand

from srgan_fast.cli.console import as_wide_as_needed, errors, output, say
from srgan_fast.files import atomic_write, check_writable

if TYPE_CHECKING:
    from srgan_fast.pages.document import Page
    from srgan_fast.pages.document import Table as ReportTable

JsonFile = Annotated[
    str | None,
    typer.Option("--json", metavar="[FILE]", help="Write the report as JSON; to standard output if no file is given."),
]
CsvFile = Annotated[Path | None, typer.Option("--csv", help="Write the rows as CSV.")]
HtmlFile = Annotated[Path | None, typer.Option("--html", help="Write the report as a self-contained HTML page.")]


class ReportCommand(TyperCommand):
    """A command whose `--json` has an optional value, by default standard output."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Adds the default value to a `--json` without one."""
        return super().parse_args(ctx, list(_completed(args)))


def _completed(args: list[str]) -> Iterator[str]:
    for arg, following in zip_longest(args, args[1:]):
        yield arg
        if arg == "--json" and (following is None or (following.startswith("-") and following != "-")):
            yield "-"


class JsonReport(Protocol):
    """A report that can be written as JSON."""

    def as_json(self) -> str:
        """JSON with a trailing newline."""


class BenchReport(JsonReport, Protocol):
    """A report with warnings."""

    @property
    def warnings(self) -> list[str]:
        """Reasons why its figures may not be worth quoting."""


_R = TypeVar("_R", bound=JsonReport)
_B = TypeVar("_B", bound=BenchReport)


def show(page: "Page") -> None:
    """Prints the tables of a report, then why rows are wrong, failed or left out."""
    from srgan_fast.pages.document import Table as ReportTable  # noqa: PLC0415 (start-up time)

    complaints: dict[tuple[str, str], Any] = {}
    for section in page.sections:
        tables = [part for part in section.parts if isinstance(part, ReportTable) and part.rows and not part.page_only]
        for index, table in enumerate(tables):
            titles = [*([page.title] if page.title else []), section.title, *([table.title] if table.title else [])]
            title = ", ".join(titles) if index == 0 else table.title or section.title
            output.print(_table(table, title), soft_wrap=True)
            for note in table.notes:
                say(note)
            complaints |= {
                (section.title, table.columns[0].cell(row)): row for row in table.rows if getattr(row, "reason", None)
            }
        if tables and section.lead:
            output.print(section.lead, soft_wrap=True)
    for (where, name), row in complaints.items():
        say(f"{name}, {where}: {row.reason}", label=_kind(row))


def _kind(row: Any) -> str:
    """Label of a row's status."""
    return getattr(row, "verdict", None) or getattr(row, "status", None) or ""


_STYLES = {
    **{"wrong": "red", "failed": "dim", "faster": "green", "right again": "green", "slower": "red"},
    **{"became wrong": "red", "became failed": "red", "gone": "red", "not right": "dim"},
}


def _table(shown: "ReportTable", title: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=0)
    columns = [column for column in shown.columns if not column.page_only]
    ranked = any(hasattr(row, "rank") for row in shown.rows)
    if ranked:
        table.add_column("", no_wrap=True)
    for column in columns:
        table.add_column(column.name, justify="left" if column.text else "right", no_wrap=True)
    for row in shown.rows:
        place = [str(row.rank or row.status.upper())] if ranked else []
        style = _STYLES.get(_kind(row)) or ("bold" if getattr(row, "kind", "") == "backend" else "")
        table.add_row(*place, *(column.cell(row) for column in columns), style=style)
    return as_wide_as_needed(table)


def make_bench_report(
    make: Callable[[Callable[[str], None]], _B],
    page_of: "Callable[[_B], Page]",
    json_file: str | None,
    csv_file: Path | None = None,
    html_file: Path | None = None,
) -> _B:
    """Makes a report with rows and a page; see `make_report`.

    Args:
        make: makes the report.
        page_of: makes its page, which is also shown on the console.
        json_file: see `make_report`.
        csv_file: CSV file of its rows.
        html_file: HTML file of its page.

    Raises:
        FileError: see `make_report`.
    """
    from srgan_fast.pages.html import render  # noqa: PLC0415 (start-up time)

    texts: dict[Path | None, Callable[[_B], str]] = {
        csv_file: lambda report: cast(Any, report).as_csv(),
        html_file: lambda report: render(page_of(report)),
    }
    report = make_report(make, lambda report: show(page_of(report)), json_file, texts)
    for warning in report.warnings:
        say(warning, label="warning")
    return report


def make_report(
    make: Callable[[Callable[[str], None]], _R],
    present: Callable[[_R], None],
    json_file: str | None,
    texts: Mapping[Path | None, Callable[[_R], str]] = MappingProxyType({}),
) -> _R:
    """Makes a report while showing progress, and writes it.

    Args:
        make: makes the report; gets a function to call with the current step.
        present: shows the report on the console, unless JSON goes to standard output.
        json_file: a path, `-` for standard output, None for no JSON.
        texts: other files to write, with the functions that make their text.

    Raises:
        FileError: a file cannot be written; raised before the report is made.
    """
    json_path = None if json_file in (None, "-") else Path(json_file)
    for wanted in filter(None, (json_path, *texts)):
        check_writable(wanted)
    with errors.status("", spinner="line") as status:
        report = make(status.update)
    for path, text in {json_path: lambda report: report.as_json(), **texts}.items():
        if path is not None:
            with atomic_write(path) as file:
                file.write(text(report).encode())
    if json_file == "-":
        print(report.as_json(), end="")  # noqa: T201 (plain text for scripts)
    else:
        present(report)
    return report
