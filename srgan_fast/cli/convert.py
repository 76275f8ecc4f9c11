"""`srgan-fast convert`."""

from pathlib import Path
from typing import Annotated

import typer

from srgan_fast.cli.console import say
from srgan_fast.cli.options import Key
from srgan_fast.errors import UsageError


def convert(
    foreign: Annotated[Path, typer.Argument(metavar="FOREIGN", help="A .pth, .pt, .ckpt or .safetensors model.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .safetensors file to write.")],
    key: Key = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there already.")] = False,
) -> None:
    """Keep another project's model as a safetensors file. Nothing in the file is executed."""
    from srgan_fast.models.foreign import convert_file  # noqa: PLC0415 (start-up time)

    if output.exists() and not overwrite:
        raise UsageError(f"{output}: is there already; use --overwrite")
    file = convert_file(foreign, output, key)
    layout = f" ({file.metadata['layout']})" if "layout" in file.metadata else ""
    say(f"{output}: x{file.scale} {file.architecture}{layout}")
