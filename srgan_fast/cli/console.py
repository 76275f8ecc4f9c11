"""Console output: results on standard output, progress and errors on standard error.

Markup and emoji codes are disabled: file names and metadata may contain brackets and colons.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table
from rich.text import Text

EXIT_INTERRUPTED = 130  # 128 + SIGINT, as in shells

output = Console(markup=False, emoji=False)
errors = Console(stderr=True, markup=False, emoji=False)


def say(text: str, label: str = "") -> None:
    """Prints one line to standard error without wrapping, after an optional label in red."""
    line = Text.assemble((f"{label}: ", "bold red"), text) if label else Text(text)
    errors.print(line, soft_wrap=True)


def as_wide_as_needed(table: Table) -> Table:
    """Widens a table so that nothing is cut off without a terminal, for which rich assumes 80 columns."""
    table.width = output.measure(table, options=output.options.update_width(1000)).maximum
    return table


class MegapixelRate(ProgressColumn):
    """Throughput of a task that counts pixels."""

    def render(self, task: Task) -> Text:
        """Megapixels per second, or nothing yet."""
        return Text(f"{task.speed / 1e6:.2f} MP/s" if task.speed else "- MP/s", style="progress.data.speed")


def pixel_progress() -> Progress:
    """Progress bar over pixels with the image's name, rate and time left."""
    return _progress(TextColumn("{task.percentage:>3.0f}%"), MegapixelRate(), TimeRemainingColumn())


def count_progress() -> Progress:
    """Progress bar over images."""
    return _progress(MofNCompleteColumn(), TimeRemainingColumn())


def download_progress() -> Progress:
    """Progress bar over bytes with size, rate and time left."""
    return _progress(DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())


def _progress(*columns: ProgressColumn) -> Progress:
    """Progress bar with a description and these columns; only on a terminal."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        *columns,
        console=errors,
        transient=True,
        disable=not errors.is_terminal,
    )


@contextmanager
def build_progress() -> Iterator[Callable[[str, int, int], None]]:
    """Progress bar over the steps of a build, with its phase; only once there is progress."""
    progress = _progress(TimeElapsedColumn())
    task = None

    def tell(phase: str, done: int, of: int) -> None:
        nonlocal task
        if task is None:
            progress.start()
            task = progress.add_task(phase, total=of)
        progress.update(task, description=phase[:40], completed=done, total=of)

    try:
        yield tell
    finally:
        progress.stop()
