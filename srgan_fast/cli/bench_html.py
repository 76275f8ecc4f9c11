"""`srgan-fast bench html`."""

from pathlib import Path
from typing import Annotated

import typer

from srgan_fast.cli.console import output
from srgan_fast.errors import UsageError
from srgan_fast.files import atomic_write, check_writable


def html(
    report: Annotated[Path, typer.Argument(metavar="REPORT.json", help="Report written by --json.")],
    out: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="HTML file to write.")],
) -> None:
    """Convert a report to a self-contained HTML page."""
    from srgan_fast.bench.page.inference import inference_page  # noqa: PLC0415 (heavy)
    from srgan_fast.bench.page.training import training_page  # noqa: PLC0415
    from srgan_fast.bench.report import InferenceReport, read_report  # noqa: PLC0415
    from srgan_fast.pages.html import render  # noqa: PLC0415

    if out.exists() and report.exists() and out.samefile(report):
        raise UsageError(f"{out}: is the report itself; choose another file for the page")
    check_writable(out)
    found = read_report(report)
    page = inference_page(found) if isinstance(found, InferenceReport) else training_page(found)
    with atomic_write(out) as file:
        file.write(render(page).encode())
    output.print(f"{out}", soft_wrap=True)
