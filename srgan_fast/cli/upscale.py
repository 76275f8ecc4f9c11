"""`srgan-fast upscale`."""

import json
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from srgan_fast.cli.console import build_progress, pixel_progress, say
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
from srgan_fast.errors import ImageError, UsageError

if TYPE_CHECKING:
    from srgan_fast.upscale import Job, JobResult


class FormatName(StrEnum):
    """File formats that can be written."""

    PNG = "png"
    JPG = "jpg"
    WEBP = "webp"


def upscale(
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUT...", help="Files, folders, glob patterns, or - for standard input.")
    ],
    output: Annotated[
        str, typer.Option("--output", "-o", help="A folder; for one picture also a file, or - for standard output.")
    ],
    model: Model = "srresnet-x4",
    backend: BackendOption = BackendName.AUTO,
    precision: PrecisionOption = PrecisionName.AUTO,
    threads: Threads = None,
    tile: TileOption = None,
    halo: HaloOption = None,
    key: Key = None,
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Also the folders in folders.")] = False,
    suffix: Annotated[
        str | None,
        typer.Option("--suffix", help="Behind the name of a result.", show_default="_x4, as the factor is"),
    ] = None,
    fmt: Annotated[
        FormatName | None, typer.Option("--format", "-f", help="File format.", show_default="as the input")
    ] = None,
    quality: Annotated[int, typer.Option("--quality", min=1, max=100, help="Of JPEG and WebP.")] = 95,
    outscale: Annotated[
        float | None, typer.Option("--outscale", "-s", help="Final factor.", show_default="the model's")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results that are there already.")] = False,
    skip_existing: Annotated[bool, typer.Option("--skip-existing", help="Leave them, and go on.")] = False,
    as_json: Json = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say which runtime is used, and why.")] = False,
) -> None:
    """Upscale pictures.

    A picture that cannot be read or written is reported and the rest go on; the exit code is then 1.
    """
    from srgan_fast.models import read_model  # noqa: PLC0415
    from srgan_fast.runtime import choose_backend  # noqa: PLC0415 (start-up time)
    from srgan_fast.upscale import OutputOptions, Upscaler, plan_jobs, run_jobs  # noqa: PLC0415

    if overwrite and skip_existing:
        raise UsageError("--overwrite and --skip-existing contradict each other")
    if outscale is not None and not 0 < outscale <= 64:
        raise UsageError(f"--outscale is {outscale:g}; it must lie between 0 and 64")
    if suffix is not None and ("/" in suffix or "\\" in suffix):
        raise UsageError(f"--suffix is {suffix!r}; it goes into a file name and cannot hold a path")
    if as_json and output == "-":
        raise UsageError("-o - and --json both want standard output")
    with build_progress() as tell:
        upscaler = Upscaler(
            read_model(model, key),
            backend=backend.value,
            precision=precision.value,
            threads=threads,
            tile=tile,
            halo=halo,
            on_build=tell,
        )
    if verbose:
        _, why = choose_backend(backend.value, upscaler.precision)
        say(f"{upscaler.model} on {upscaler.backend.name} ({upscaler.backend.device}, {upscaler.precision}): {why}")
    factor = outscale if outscale is not None else upscaler.scale
    options = OutputOptions(
        suffix=f"_x{factor:g}" if suffix is None else suffix,
        fmt=None if fmt is None else fmt.value,
        outscale=outscale,
        existing="overwrite" if overwrite else "skip" if skip_existing else "error",
        quality=quality,
    )
    jobs = plan_jobs(inputs, output, options, recursive)
    began = time.perf_counter()
    results: list[JobResult] = []
    with pixel_progress() as progress:
        bar = progress.add_task("", total=_pixels(jobs))
        for result in run_jobs(jobs, upscaler, options, lambda t: progress.advance(bar, t.area)):
            results.append(result)
            progress.update(bar, description=_name(result.job)[:40])
            if result.status == "failed":
                say(result.message, label="failed")
    _present(results, time.perf_counter() - began, as_json, quiet=output == "-" and not verbose)
    if any(result.status == "failed" for result in results):
        raise typer.Exit(1)


def _pixels(jobs: "list[Job]") -> int | None:
    """Input pixels of all pictures, for the progress bar; unreadable ones are reported when their turn comes."""
    from srgan_fast.data.images import image_size  # noqa: PLC0415

    total = 0
    for job in jobs:
        if job.source is None:
            return None
        try:
            height, width = image_size(job.source)
        except (ImageError, UnicodeError):
            continue
        total += height * width
    return total


def _name(job: "Job") -> str:
    return "standard input" if job.source is None else job.source.name


def _present(results: "list[JobResult]", seconds: float, as_json: bool, quiet: bool) -> None:
    done = [r for r in results if r.status == "done"]
    skipped = sum(r.status == "skipped" for r in results)
    failed = [r for r in results if r.status == "failed"]
    if as_json:
        summary = {
            "done": len(done),
            "skipped": skipped,
            "failed": len(failed),
            "seconds": round(seconds, 3),
            "images": [_as_json(r) for r in results],
        }
        print(json.dumps(summary, indent=2))  # noqa: T201 (plain text for scripts)
        return
    if quiet and not failed:
        return
    megapixels = sum(r.hr_size[0] * r.hr_size[1] for r in done if r.hr_size) / 1e6
    parts = [f"{len(done)} upscaled ({megapixels:.1f} MP in {seconds:.1f} s)"]
    parts += [f"{skipped} skipped"] if skipped else []
    parts += [f"{len(failed)} failed: {', '.join(_name(r.job) for r in failed)}"] if failed else []
    say("; ".join(parts))


def _as_json(result: "JobResult") -> dict[str, Any]:
    def text(path: Path | None) -> str:
        return "-" if path is None else str(path)

    return {
        "input": text(result.job.source),
        "output": text(result.job.target),
        "status": result.status,
        "message": result.message,
        "input_size": result.lr_size,
        "output_size": result.hr_size,
        "seconds": round(result.seconds, 4),
    }
