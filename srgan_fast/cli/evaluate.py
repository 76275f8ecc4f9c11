"""`srgan-fast evaluate`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from srgan_fast import json_text
from srgan_fast.cli.console import build_progress, count_progress, output
from srgan_fast.cli.options import (
    BackendName,
    BackendOption,
    HaloOption,
    Json,
    Key,
    Model,
    PrecisionName,
    PrecisionOption,
    Threads,
    TileOption,
)

if TYPE_CHECKING:
    from srgan_fast.evaluation import ImageScores


def evaluate(
    hr: Annotated[Path, typer.Option("--hr", help="Folder of original images.")],
    lr: Annotated[
        Path | None,
        typer.Option("--lr", help="Folder of the low-resolution versions.", show_default="bicubic downscaling"),
    ] = None,
    model: Model = "srresnet-x4",
    backend: BackendOption = BackendName.AUTO,
    precision: PrecisionOption = PrecisionName.AUTO,
    threads: Threads = None,
    tile: TileOption = None,
    halo: HaloOption = None,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Evaluate a model on test images: PSNR and SSIM, compared with bicubic interpolation.

    With the extra "metrics" (stlpips_pytorch) also ST-LPIPS, for which lower is better.
    """
    from srgan_fast.evaluation import evaluate as run  # noqa: PLC0415 (start-up time)
    from srgan_fast.models import read_model  # noqa: PLC0415
    from srgan_fast.upscale import Upscaler  # noqa: PLC0415

    with build_progress() as tell:
        upscaler = Upscaler(
            read_model(model, key),
            border="zero",  # published figures use the network's zero padding
            backend=backend.value,
            precision=precision.value,
            threads=threads,
            tile=tile,
            halo=halo,
            on_build=tell,
        )
    with count_progress() as progress:
        bar = progress.add_task(hr.name, total=None)
        evaluation = run(upscaler, hr, lr, lambda done, total: progress.update(bar, completed=done, total=total))
    if as_json:
        print(json_text.as_json(evaluation.as_json()))  # noqa: T201 (plain text for scripts)
        return
    computed = f"{upscaler.backend.name} in {upscaler.precision}"
    table = Table("image", title=f"{upscaler.model} on {hr}, x{upscaler.scale}, {computed}")
    columns = ["PSNR-Y", "PSNR-RGB", "SSIM-Y", "bicubic PSNR-Y", "bicubic SSIM-Y"]
    perceptual = any(image.st_lpips is not None for image in evaluation.images)
    for column in (*columns, *(["ST-LPIPS", "bicubic ST-LPIPS"] if perceptual else [])):
        table.add_column(column, justify="right")
    for image in evaluation.images:
        table.add_row(*_cells(image, perceptual))
    table.add_section()
    table.add_row(*_cells(evaluation.mean(), perceptual))
    output.print(table)


def _cells(scores: "ImageScores", perceptual: bool) -> list[str]:
    more = [scores.st_lpips, scores.bicubic_st_lpips] if perceptual else []
    return [
        scores.name,
        f"{scores.psnr_y:.2f}",
        f"{scores.psnr_rgb:.2f}",
        f"{scores.ssim_y:.4f}",
        f"{scores.bicubic_psnr_y:.2f}",
        f"{scores.bicubic_ssim_y:.4f}",
        *("-" if value is None else f"{value:.3f}" for value in more),
    ]
