"""`srgan-fast models`."""

import json
from typing import Annotated, Any

import typer
from rich.table import Table

from srgan_fast.cli.console import output
from srgan_fast.cli.options import Json


def models(
    names: Annotated[list[str] | None, typer.Argument(metavar="[MODEL]...", help="Names or files.")] = None,
    as_json: Json = False,
) -> None:
    """Show the shipped models, or what a model file is."""
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
    for row in rows:
        table = Table(show_header=False, title=row.pop("model"), title_justify="left")
        for key, value in row.items():
            table.add_row(key.replace("_", " "), f"{value:,}" if isinstance(value, int) else value)
        output.print(table)
