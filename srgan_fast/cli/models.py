"""`srgan-fast models`: lists shipped models, describes model files, lists and downloads models of the catalogue."""

import json
from dataclasses import asdict
from functools import partial
from typing import Annotated, Any

import typer
from rich.progress import Progress, TaskID
from rich.table import Table
from typer.core import TyperGroup

from srgan_fast.cli.console import EXIT_INTERRUPTED, as_wide_as_needed, download_progress, output, say
from srgan_fast.cli.options import Json
from srgan_fast.errors import UsageError


class _ShowsByDefault(TyperGroup):
    """`srgan-fast models FILE` is short for `srgan-fast models show FILE`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Inserts `show` unless the first argument is a subcommand or a request for help."""
        if not args or args[0] not in (*self.commands, *ctx.help_option_names):
            args = ["show", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_ShowsByDefault,
    help="Show shipped models, model files, or (--available) models that can be downloaded; download models by name.",
)


@app.command("show")
def show(
    names: Annotated[list[str] | None, typer.Argument(metavar="[MODEL]...", help="Model names or files.")] = None,
    available: Annotated[
        bool, typer.Option("--available", help="List well-known free models that can be downloaded by name.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show shipped models, model files, or models that can be downloaded. 'show' may be omitted."""
    if available:
        if names:
            raise UsageError("--available lists all models that can be downloaded and takes no names")
        _show_available(as_json)
    else:
        _show_files(names, as_json)


def _show_files(names: list[str] | None, as_json: bool) -> None:
    from srgan_fast.models import read_model, shipped_models  # noqa: PLC0415 (start-up time)
    from srgan_fast.network.analysis import parameter_count, receptive_radius  # noqa: PLC0415

    rows: list[dict[str, Any]] = []
    for name in names or shipped_models():
        file = read_model(name)
        rows.append(
            {
                "model": file.name,
                "architecture": file.architecture,
                "scale": file.scale,
                "parameters": parameter_count(file.network),
                "receptive_radius": receptive_radius(file.network),
                **({"key": file.key} if file.key else {}),
                **{
                    k: v for k, v in sorted(file.metadata.items()) if k not in ("format", "conventions", "architecture")
                },
            }
        )
    if as_json:
        print(json.dumps(rows, indent=2))  # noqa: T201 (plain text for scripts)
        return
    if not names:
        _show_overview(rows)
        return
    for row in rows:
        table = Table(show_header=False, title=row.pop("model"), title_justify="left")
        for key, value in row.items():
            table.add_row(key.replace("_", " "), f"{value:,}" if isinstance(value, int) else value)
        output.print(table)


def _show_overview(rows: list[dict[str, Any]]) -> None:
    """One line per shipped model."""
    table = Table("name", "for", "architecture", "scale", "PSNR-Y", "ST-LPIPS", "licence")
    for row in rows:
        texts = {key: row.get(key, "") for key in ("purpose", "architecture", "psnr_y", "st_lpips", "licence")}
        purpose, architecture, *figures = texts.values()
        table.add_row(row["model"], purpose, architecture, f"x{row['scale']}", *figures)
    output.print(table if output.is_terminal else as_wide_as_needed(table), crop=False)
    output.print("All that is recorded of one: srgan-fast models NAME. More models: srgan-fast models --available.")


def _show_available(as_json: bool) -> None:
    from srgan_fast.models.catalogue import catalogue, is_downloaded  # noqa: PLC0415 (start-up time)

    entries = [(entry, is_downloaded(entry)) for entry in catalogue().values()]
    if as_json:
        rows = [{**asdict(entry), "downloaded": there} for entry, there in entries]
        print(json.dumps(rows, indent=2))  # noqa: T201 (plain text for scripts)
        return
    table = Table("name", "for", "architecture", "scale", "licence", "size", "downloaded", "verified")
    for entry, there in entries:
        table.add_row(
            entry.name,
            entry.purpose,
            entry.architecture,
            f"x{entry.scale}",
            entry.licence,
            _megabytes(entry.size),
            "yes" if there else "no",
            "yes" if entry.verified else "no",
        )
    output.print(table if output.is_terminal else as_wide_as_needed(table), crop=False)
    output.print("Download one: srgan-fast models get NAME. Use it: --model NAME.")
    if not all(entry.verified for entry, _ in entries):
        output.print(
            "Not verified: this project has not downloaded the file itself. Its SHA-256, which is checked, is from "
            "other sources (srgan-fast models --available --json lists them)."
        )


@app.command("get", no_args_is_help=True)
def get(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Model names as listed by --available.")],
    force: Annotated[bool, typer.Option("--force", help="Download again even if the file exists.")] = False,
) -> None:
    """Download well-known free models. SHA-256 is verified; interrupted downloads are resumed."""
    from srgan_fast.models import download  # noqa: PLC0415 (start-up time)
    from srgan_fast.models.catalogue import get_entry  # noqa: PLC0415

    for entry in [get_entry(name) for name in names]:  # check all names before the first download
        say(f"{entry.name}: {_megabytes(entry.size)}, by {entry.author}, licence {entry.licence} ({entry.homepage})")
        with download_progress() as bars:
            show_progress = partial(_update, bars, bars.add_task(entry.name, total=entry.size))
            try:
                path = download.fetch(entry, force=force, on_progress=show_progress, on_note=partial(_note, entry.name))
            except KeyboardInterrupt:
                say(f"interrupted; run srgan-fast models get {entry.name} to resume the download")
                raise typer.Exit(EXIT_INTERRUPTED) from None
        print(path, flush=True)  # noqa: T201 (plain text for scripts)


def _note(name: str, text: str) -> None:
    say(f"{name}: {text}")


def _update(bars: Progress, bar: TaskID, done: int, of: int) -> None:
    bars.update(bar, completed=done, total=of)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
