"""`srgan-fast convert`."""

from pathlib import Path
from typing import Annotated

import typer

from srgan_fast.cli.console import say
from srgan_fast.errors import UsageError


def convert(
    foreign: Annotated[Path, typer.Argument(metavar="FOREIGN", help="A .pth, .pt, .ckpt or .safetensors generator.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .safetensors file to write.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there already.")] = False,
) -> None:
    """Make another project's generator ours. Nothing in the file is executed."""
    from srgan_fast.models.foreign import convert_file  # noqa: PLC0415 (torch)

    if output.exists() and not overwrite:
        raise UsageError(f"{output}: is there already; use --overwrite")
    file = convert_file(foreign, output)
    c = file.config
    layout = file.metadata["layout"]
    say(f"{output}: {layout} generator, x{c.scale}, {c.blocks} blocks of {c.channels} channels")
