"""`srgan-fast upscale`."""

import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from srgan_fast.cli.console import build_progress, say
from srgan_fast.cli.options import (
    BackendName,
    BackendOption,
    BorderName,
    BorderOption,
    HaloOption,
    Json,
    Key,
    Model,
    PrecisionName,
    PrecisionOption,
    Threads,
    TileOption,
)
from srgan_fast.cli.upscale_progress import upscale_progress
from srgan_fast.cli.upscale_report import as_json, name_of, print_json, say_result, say_summary
from srgan_fast.errors import SrganFastError, UsageError

if TYPE_CHECKING:
    from srgan_fast.runtime.tiling import Tile
    from srgan_fast.runtime.upscaler import UpscalerOptions
    from srgan_fast.upscale import JobResult, Manifest, OutputOptions, Plan, Size

_SMALL_TILE = 32  # pixels; most of the computation is spent on the halo of smaller tiles
_HEADERS = 2000  # maximum number of images whose headers are read in advance, to show progress in pixels


class FormatName(StrEnum):
    """File formats that can be written."""

    PNG = "png"
    JPG = "jpg"
    WEBP = "webp"
    TIF = "tif"
    GIF = "gif"
    APNG = "apng"
    AVIF = "avif"


class ColourName(StrEnum):
    """Treatment of transfer curves other than sRGB's."""

    AUTO = "auto"
    KEEP = "keep"


class EngineName(StrEnum):
    """Places where images are computed."""

    LOCAL = "local"
    RAY = "ray"


class ProgressName(StrEnum):
    """Kinds of progress display."""

    AUTO = "auto"
    NONE = "none"
    BAR = "bar"
    LINES = "lines"
    JSON = "json"


def upscale(
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUT...", help="Files, folders, glob patterns, or - for standard input.")
    ],
    output: Annotated[
        str, typer.Option("--output", "-o", help="Output folder; for one image also a file, or - for standard output.")
    ],
    model: Model = "srgan-x4",
    backend: BackendOption = BackendName.AUTO,
    precision: PrecisionOption = PrecisionName.AUTO,
    threads: Threads = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            min=1,
            help="Images processed in parallel; with Ray, worker processes. Does not affect results.",
            show_default="one per thread",
        ),
    ] = None,
    engine: Annotated[
        EngineName, typer.Option("--engine", help="Compute on this machine, or on a Ray cluster (needs --manifest).")
    ] = EngineName.LOCAL,
    tile: TileOption = None,
    halo: HaloOption = None,
    border: BorderOption = BorderName.REPEAT,
    strength: Annotated[
        float,
        typer.Option(
            "--strength", min=0, max=1, help="Weight of the model's result; the rest is bicubic interpolation."
        ),
    ] = 1.0,
    sharpness: Annotated[
        float | None,
        typer.Option(
            "--sharpness",
            min=0,
            max=1,
            help="Between srresnet-x4 (0, faithful) and srgan-x4 (1, sharp).",
            show_default="the model as it is",
        ),
    ] = None,
    key: Key = None,
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Search subfolders.")] = False,
    suffix: Annotated[
        str | None,
        typer.Option("--suffix", help="Suffix appended to output file names.", show_default="_x and the factor"),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Output file names, such as '{parent}_{stem}_x{scale}.{ext}'.")
    ] = None,
    fmt: Annotated[
        FormatName | None, typer.Option("--format", "-f", help="Output file format.", show_default="the input's")
    ] = None,
    quality: Annotated[int, typer.Option("--quality", min=1, max=100, help="JPEG, WebP and AVIF quality.")] = 95,
    compression: Annotated[
        int | None, typer.Option("--compression", min=0, max=9, help="PNG compression level.", show_default="4")
    ] = None,
    outscale: Annotated[
        float | None, typer.Option("--outscale", "-s", help="Final upscaling factor.", show_default="the model's")
    ] = None,
    size: Annotated[str | None, typer.Option("--size", help="Final size instead of a factor: WxH, or W.")] = None,
    fit: Annotated[bool, typer.Option("--fit", help="Keep the aspect ratio and fit into --size.")] = False,
    colour: Annotated[
        ColourName, typer.Option("--colour", help="Convert values to sRGB's transfer curve and back, or keep them.")
    ] = ColourName.AUTO,
    max_pixels: Annotated[
        int, typer.Option("--max-pixels", min=1, help="Maximum number of pixels of an input, all frames together.")
    ] = 500_000_000,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Overwrite existing files.")] = False,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Skip inputs whose complete output already exists.")
    ] = False,
    manifest: Annotated[
        Path | None, typer.Option("--manifest", help="JSON Lines file that records results, for --resume.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run of --manifest; several processes may share it.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done without doing it.")] = False,
    progress: Annotated[ProgressName, typer.Option("--progress", help="Kind of progress display.")] = ProgressName.AUTO,
    as_json_: Json = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show which runtime is used, and why.")] = False,
) -> None:
    """Upscale images.

    An image that cannot be read or written is reported, and the others continue; the exit code is then 1.
    """
    from srgan_fast.models import read_model  # noqa: PLC0415
    from srgan_fast.runtime import choose_backend  # noqa: PLC0415 (start-up time)
    from srgan_fast.upscale import OutputOptions, RayOptions, Upscaler, check_ray, plan_jobs  # noqa: PLC0415

    try:
        if overwrite and skip_existing:
            raise UsageError("--overwrite and --skip-existing contradict each other")
        if outscale is not None and not 0 < outscale <= 64:
            raise UsageError(f"--outscale is {outscale:g}; it must lie between 0 and 64")
        if suffix is not None and ("/" in suffix or "\\" in suffix):
            raise UsageError(f"--suffix is {suffix!r}; it goes into a file name and cannot hold a path")
        if as_json_ and output == "-":
            raise UsageError("-o - and --json both use standard output")
        if resume and manifest is None:
            raise UsageError("--resume needs --manifest FILE")
        if manifest is not None and not resume and manifest.exists() and manifest.stat().st_size:
            raise UsageError(f"{manifest}: contains results of an earlier run; continue with --resume, or use another")
        if engine == EngineName.RAY:
            check_ray(manifest)
        final_size = _size(size, fit, outscale)
        if tile is not None and 0 < tile < _SMALL_TILE:
            say(
                f"--tile {tile}: most of the time is spent on the halo of such small tiles; 128 is a good size",
                "note",
            )
        with build_progress() as on_build:
            settings: UpscalerOptions = {
                "backend": backend.value,
                "precision": precision.value,
                "tile": tile,
                "halo": halo,
                "border": border.value,
                "strength": strength,
                "sharpness": sharpness,
            }
            file = read_model(model, key)
            upscaler = Upscaler(file, threads=threads, on_build=on_build, **settings)
        if verbose:
            _, why = choose_backend(backend.value, upscaler.precision)
            say(f"{upscaler.model} on {upscaler.backend.name} ({upscaler.backend.device}, {upscaler.precision}): {why}")
        factor = f"{outscale if outscale is not None else upscaler.scale:g}"
        options = OutputOptions(
            suffix=suffix if suffix is not None else f"_x{factor}" if size is None else f"_{size}",
            name=name,
            fmt=None if fmt is None else fmt.value,
            outscale=outscale,
            size=final_size,
            existing="overwrite" if overwrite else "skip" if skip_existing else "error",
            quality=quality,
            compression=compression,
            colour=colour.value,
            max_pixels=max_pixels,
        )
        open_shards = engine == EngineName.LOCAL or dry_run
        plan = plan_jobs(inputs, output, options, recursive, open_shards)
        facts: dict[str, object] = {
            "precision": precision.value,
            "border": border.value,
            "strength": strength,
            "sharpness": sharpness,
            "key": key,
        }
        begins = manifest is not None and not (dry_run and not manifest.exists())
        record = _manifest(manifest, model, options, facts) if manifest is not None and begins else None
    except SrganFastError as error:
        if as_json_:
            print_json(as_json([], error=str(error)))
        raise
    if dry_run:
        from srgan_fast.cli.upscale_dry_run import report_dry_run  # noqa: PLC0415

        report_dry_run(plan, upscaler, options, record, as_json_)
        return

    def start(on_tile: "Callable[[Tile], None]", stop: threading.Event) -> "Iterator[JobResult]":
        from srgan_fast.upscale import run_jobs, run_on_ray, run_shared  # noqa: PLC0415

        if record is None:
            return run_jobs(plan.jobs, upscaler, options, on_tile, stop, workers)
        if engine == EngineName.LOCAL:
            return run_shared(plan.jobs, upscaler, options, record, on_tile, stop, workers)
        return run_on_ray(plan, output, file, options, record, RayOptions(workers, threads or 1, settings), stop)

    _run(plan, start, progress.value, as_json_, quiet=output == "-" and not verbose)


def _manifest(path: Path, model: str, options: "OutputOptions", settings: Mapping[str, object]) -> "Manifest":
    from srgan_fast.models.checkpoint import resolve_model  # noqa: PLC0415
    from srgan_fast.upscale import Manifest, run_digest  # noqa: PLC0415

    facts = {**asdict(options), **settings}
    for name in ("existing", "max_pixels", "suffix", "name"):  # these do not affect pixels
        del facts[name]
    return Manifest(path, run_digest(resolve_model(model), facts))


def _size(text: str | None, fit: bool, outscale: float | None) -> "Size | None":
    """Parses `--size`.

    Raises:
        UsageError: not a size, or combined with a factor.
    """
    from srgan_fast.upscale import Size  # noqa: PLC0415

    if text is None:
        if fit:
            raise UsageError("--fit needs --size WxH")
        return None
    if outscale is not None:
        raise UsageError("--size and --outscale contradict each other")
    match = re.fullmatch(r"(\d{1,6})(?:x(\d{1,6}))?", text)
    if match is None or int(match[1]) == 0 or (match[2] is not None and int(match[2]) == 0):
        raise UsageError(f"--size is {text!r}; it must be WxH or W in pixels, such as 3840x2160")
    if fit and match[2] is None:
        raise UsageError("--fit needs --size WxH")
    return Size(int(match[1]), None if match[2] is None else int(match[2]), fit)


def _run(
    plan: "Plan",
    start: "Callable[[Callable[[Tile], None], threading.Event], Iterator[JobResult]]",
    progress: str,
    json_requested: bool,
    quiet: bool,
) -> None:
    began = time.perf_counter()
    results: list[JobResult] = list(plan.refused)
    for result in results:
        say_result(result)
    pixels = None if progress == "none" else _pixels(plan)
    with _stop_on_signals() as stopped, upscale_progress(progress, len(plan.jobs), pixels) as shown_progress:

        def on_tile(tile: "Tile") -> None:
            shown_progress.advance(tile.area)

        try:
            for result in start(on_tile, stopped.event):
                results.append(result)
                shown_progress.image(name_of(result.job))
                say_result(result)
        except SrganFastError as error:
            if json_requested:
                print_json(as_json(results, plan, time.perf_counter() - began, error=str(error)))
            raise
    seconds = time.perf_counter() - began
    if json_requested:
        print_json(as_json(results, plan, seconds, interrupted=stopped.event.is_set()))
    else:
        say_summary(results, plan, seconds, quiet)
    if stopped.event.is_set():
        say("interrupted; no partial files are left")
        raise typer.Exit(128 + stopped.signal)
    if any(result.status == "failed" for result in results):
        raise typer.Exit(1)


class _Stopped:
    """Whether the run is to end, and the signal that requested it."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.signal = int(signal.SIGINT)


@contextmanager
def _stop_on_signals() -> Iterator[_Stopped]:
    """Ends the run in order on SIGINT or SIGTERM, and at once on a second one."""
    stopped = _Stopped()
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return

    def handle(number: int, _: FrameType | None) -> None:
        if stopped.event.is_set():
            raise KeyboardInterrupt
        stopped.signal = number
        stopped.event.set()

    before: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as shells ignore it for background processes
            before[number] = signal.signal(number, handle)
    try:
        yield stopped
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)


def _pixels(plan: "Plan") -> int | None:
    """Input pixels of all images; None if unknown. Unreadable images are counted as empty, and reported later."""
    from srgan_fast.data.images import image_header  # noqa: PLC0415

    if len(plan.jobs) > _HEADERS:
        return None
    total = 0
    for job in plan.jobs:
        if not isinstance(job.source, Path):
            return None
        try:
            total += image_header(job.source).pixels
        except SrganFastError:
            continue
    return total
