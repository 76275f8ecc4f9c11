"""`srgan-fast convert`."""

from pathlib import Path
from typing import Annotated

import typer

from srgan_fast.cli.console import say
from srgan_fast.cli.options import Key
from srgan_fast.errors import UsageError


def convert(
    foreign: Annotated[Path, typer.Argument(metavar="FOREIGN", help="Model file: .pth, .pt, .ckpt or .safetensors.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .safetensors file to write.")],
    key: Key = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Overwrite an existing file.")] = False,
) -> None:
    """Convert a third-party model to a safetensors file. No code in the file is executed."""
    from srgan_fast.models.foreign import convert_file  # noqa: PLC0415 (start-up time)

    if output.exists() and not overwrite:
        raise UsageError(f"{output}: already exists; use --overwrite")
    file = convert_file(foreign, output, key)
    layout = f" ({file.metadata['layout']})" if "layout" in file.metadata else ""
    say(f"{output}: x{file.scale} {file.architecture}{layout}")
