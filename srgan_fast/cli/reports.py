"""What commands that end in a report share: `--json`, `--csv` and `--html`, checked first and written at last."""

from collections.abc import Callable, Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any, Protocol, TypeVar

import typer
from typer.core import TyperCommand

from srgan_fast.cli.console import errors
from srgan_fast.files import atomic_write, check_writable

JsonFile = Annotated[
    str | None,
    typer.Option("--json", metavar="[FILE]", help="Write the report as JSON; without a file, to standard output."),
]
CsvFile = Annotated[Path | None, typer.Option("--csv", help="Write the rows as CSV.")]
HtmlFile = Annotated[Path | None, typer.Option("--html", help="Write the report as a page that needs nothing else.")]


class ReportCommand(TyperCommand):
    """A command whose `--json` may stand alone, for standard output."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Gives a lonely `--json` its value."""
        return super().parse_args(ctx, list(_completed(args)))


def _completed(args: list[str]) -> Iterator[str]:
    for arg, following in zip_longest(args, args[1:]):
        yield arg
        if arg == "--json" and (following is None or (following.startswith("-") and following != "-")):
            yield "-"


class Report(Protocol):
    """Knows itself as JSON."""

    def as_json(self) -> str:
        """With a line break at the end."""


_R = TypeVar("_R", bound=Report)


def make_report(
    make: Callable[[Callable[[str], None]], _R],
    present: Callable[[_R], None],
    json_file: str | None,
    csv_file: Path | None = None,
    as_csv: Callable[[_R], str] = lambda report: "",
    html_file: Path | None = None,
    as_html: Callable[[_R], str] = lambda report: "",
) -> _R:
    """Makes a report under a line that says how far it is, and delivers it.

    Args:
        make: makes it; gets a function that is told what is being done.
        present: shows it to a person, unless it goes to standard output as JSON.
        json_file: a path, `-` for standard output, None for neither.
        csv_file: where its rows go, too.
        as_csv: makes CSV of it.
        html_file: where its page goes, too.
        as_html: makes a page of it.

    Raises:
        FileError: a file that cannot be written, before anything is made.
    """
    json_path = None if json_file in (None, "-") else Path(json_file)
    for wanted in filter(None, (json_path, csv_file, html_file)):
        check_writable(wanted)
    with errors.status("", spinner="line") as status:
        report = make(status.update)
    texts = (
        (json_path, report.as_json),
        (csv_file, lambda: as_csv(report)),
        (html_file, lambda: as_html(report)),
    )
    for path, text in texts:
        if path is not None:
            with atomic_write(path) as file:
                file.write(text().encode())
    if json_file == "-":
        print(report.as_json(), end="")  # noqa: T201 (plain text for scripts)
    else:
        present(report)
    return report
