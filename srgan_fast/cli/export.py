"""`srgan-fast export`."""

from pathlib import Path
from typing import Annotated

import typer

from srgan_fast.cli.console import say
from srgan_fast.cli.options import Model
from srgan_fast.errors import UsageError

app = typer.Typer(no_args_is_help=True, help="Hand a model to other programs.")


@app.callback()
def _group() -> None:
    """Keeps `export onnx` a subcommand while there is only one format."""


@app.command("onnx", no_args_is_help=True)
def onnx(
    output: Annotated[Path, typer.Option("--output", "-o", help="The .onnx file to write.")],
    model: Model = "srresnet-x4",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there already.")] = False,
) -> None:
    """Write an ONNX file with free batch and image size, checked against torch."""
    from srgan_fast.export import export_onnx  # noqa: PLC0415 (torch)

    if output.exists() and not overwrite:
        raise UsageError(f"{output}: is there already; use --overwrite")
    report = export_onnx(model, output)
    say(f"{report.path}: {report.size / 1e6:.1f} MB, opset {report.opset}, at most {report.max_error:.1e} from torch")
