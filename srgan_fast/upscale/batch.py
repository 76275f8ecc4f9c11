"""Many pictures: which file becomes which, and a short pipeline that reads, upscales and writes at the same time."""

import glob
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from srgan_fast.data.images import (
    FORMAT_OF_SUFFIX,
    Format,
    Image,
    encode_image,
    find_images,
    read_image,
    readable_suffixes,
    write_image,
)
from srgan_fast.errors import BackendError, ImageError, UsageError
from srgan_fast.runtime.tiling import Tile
from srgan_fast.runtime.upscaler import Upscaler

STANDARD_STREAM = "-"
# Of pictures that are neither read nor written here: whoever names a result so does not mean a folder.
_OTHER_SUFFIXES = frozenset({".bmp", ".exr", ".hdr", ".heic", ".heif", ".jp2", ".jxl", ".pbm", ".pgm", ".ppm", ".tga"})


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """How results are named and written.

    Attributes:
        suffix: between the picture's name and its file suffix.
        fmt: file format; that of the input if None (png for formats that are only read).
        outscale: final factor; the model's own if None.
        existing: what to do where a target is there already.
        quality: of JPEG and WebP, 1..100.
    """

    suffix: str = "_x4"
    fmt: Format | None = None
    outscale: float | None = None
    existing: Literal["error", "skip", "overwrite"] = "error"
    quality: int = 95


@dataclass(frozen=True, slots=True)
class Job:
    """A picture to upscale; None stands for standard input or output."""

    source: Path | None
    target: Path | None
    fmt: Format


@dataclass(frozen=True, slots=True)
class JobResult:
    """What became of a job.

    Attributes:
        job: which one.
        status: `done`, `skipped` (the target was there) or `failed`.
        message: why it failed or was skipped.
        lr_size: width and height of the input, once known.
        hr_size: width and height of the result, once known.
        seconds: spent in the model.
    """

    job: Job
    status: Literal["done", "skipped", "failed"]
    message: str = ""
    lr_size: tuple[int, int] | None = None
    hr_size: tuple[int, int] | None = None
    seconds: float = 0.0


def plan_jobs(inputs: list[str], output: str, options: OutputOptions, recursive: bool = False) -> list[Job]:
    """Which files become which.

    Args:
        inputs: files, folders, glob patterns, or `-` for standard input.
        output: a folder; or, for a single picture, a file with a picture's suffix, or `-` for standard output.
        options: how results are named.
        recursive: also take the folders in folders; their structure is kept in the output.

    Raises:
        UsageError: nothing to do, a format that cannot be written, or results that would overwrite each other or an
            input.
        ImageError: an input that is not there, or a pattern that matches no picture.
    """
    sources: list[tuple[Path | None, Path]] = []  # the file, and its place below the output folder
    for text in inputs:
        sources += _expand(text, recursive)
    if not sources:
        raise UsageError(f"no pictures in {', '.join(inputs)}" + ("" if recursive else " (folders in it: --recursive)"))
    unique = list({(None if s is None else s.resolve()): (s, place) for s, place in sources}.values())
    out = Path(output)
    single_file = output == STANDARD_STREAM or (out.suffix.lower() in FORMAT_OF_SUFFIX and not out.is_dir())
    if not single_file and out.suffix.lower() in readable_suffixes() | _OTHER_SUFFIXES and not out.is_dir():
        raise UsageError(f"{output}: cannot write {out.suffix}; use .png, .jpg or .webp")
    if single_file and len(unique) > 1:
        raise UsageError(f"{output} is one picture, but there are {len(unique)} inputs; give a folder")
    jobs = [_job(source, place, output if single_file else None, out, options) for source, place in unique]
    _refuse_clashes(jobs)
    return jobs


def _expand(text: str, recursive: bool) -> Iterator[tuple[Path | None, Path]]:
    if text == STANDARD_STREAM:
        yield None, Path("stdin")
        return
    path = Path(text)
    if path.is_dir():
        for found in find_images(path, recursive):
            yield found, found.relative_to(path)
    elif path.exists():
        yield path, Path(path.name)
    elif glob.has_magic(text):
        matches = [Path(m) for m in sorted(glob.glob(text, recursive=recursive))]  # noqa: PTH207 (absolute patterns)
        pictures = [m for m in matches if m.is_file() and m.suffix.lower() in readable_suffixes()]
        if not pictures:
            raise ImageError(f"{text}: matches no picture")
        for match in pictures:
            yield match, Path(match.name)
    else:
        raise ImageError(f"{text}: no such file or folder")


def _job(source: Path | None, place: Path, single: str | None, folder: Path, options: OutputOptions) -> Job:
    own = FORMAT_OF_SUFFIX.get(place.suffix.lower(), "png")
    if single is None:
        fmt = options.fmt or own
        # A JPEG keeps its spelling of the suffix.
        suffix = place.suffix if FORMAT_OF_SUFFIX.get(place.suffix.lower()) == fmt else f".{fmt}"
        return Job(source, folder / place.with_name(f"{place.stem}{options.suffix}{suffix}"), fmt)
    if single == STANDARD_STREAM:
        return Job(source, None, options.fmt or own)
    target = Path(single)
    fmt = FORMAT_OF_SUFFIX[target.suffix.lower()]
    if options.fmt not in (None, fmt):
        raise UsageError(f"{single} and --format {options.fmt} contradict each other")
    return Job(source, target, fmt)


def _refuse_clashes(jobs: list[Job]) -> None:
    targets: dict[Path, Job] = {}
    sources = {job.source.resolve() for job in jobs if job.source is not None}
    for job in jobs:
        if job.target is None:
            continue
        key = job.target.resolve()
        if key in targets:
            raise UsageError(
                f"{targets[key].source} and {job.source} would both become {job.target}; upscale them separately"
            )
        if key in sources:
            own = job.source is not None and key == job.source.resolve()
            raise UsageError(
                f"{job.target} would be overwritten by {'its own result' if own else f'the result of {job.source}'}; "
                f"give another -o or --suffix"
            )
        targets[key] = job


def run_jobs(
    jobs: Iterable[Job],
    upscaler: Upscaler,
    options: OutputOptions,
    on_tile: Callable[[Tile], None] | None = None,
) -> Iterator[JobResult]:
    """Upscales pictures one after the other; the next is read and the last written meanwhile.

    A picture that fails yields a failed result and the rest go on. At most three pictures are in memory. Results come
    in the order of the jobs.
    """
    jobs = list(jobs)
    with ThreadPoolExecutor(1, "reader") as reader, ThreadPoolExecutor(1, "writer") as writer:
        reading = reader.submit(_read, jobs[0], options) if jobs else None
        writing: Future[JobResult] | None = None
        try:
            for i, job in enumerate(jobs):
                assert reading is not None
                current, reading = reading, reader.submit(_read, jobs[i + 1], options) if i + 1 < len(jobs) else None
                result = _upscale(job, current, upscaler, options, on_tile)
                if writing is not None:
                    yield writing.result()
                writing = writer.submit(_finish, result, options)
            if writing is not None:
                yield writing.result()
        except BaseException:
            if reading is not None:
                reading.cancel()
            raise


@dataclass(frozen=True, slots=True)
class _Upscaled:
    """A result with its pixels, on its way to the writer."""

    result: JobResult
    image: Image | None = None


def _named(job: Job) -> str:
    return "standard input" if job.source is None else str(job.source)


def _read(job: Job, options: OutputOptions) -> Image | JobResult:
    try:
        if job.target is not None and job.target.exists() and options.existing != "overwrite":
            if options.existing == "skip":
                return JobResult(job, "skipped", f"{job.target} is there already")
            return JobResult(job, "failed", f"{job.target}: is there already; use --overwrite or --skip-existing")
        if job.source is None and sys.stdin is None:
            raise ImageError("standard input: is closed")
        return read_image(sys.stdin.buffer.read() if job.source is None else job.source)
    except (ImageError, OSError) as error:
        return JobResult(job, "failed", str(error))
    except UnicodeError:
        return JobResult(job, "failed", f"{_named(job)}: its name is not valid UTF-8; rename it")
    except MemoryError:
        return JobResult(job, "failed", f"{_named(job)}: not enough memory to decode it")


def _upscale(
    job: Job,
    reading: "Future[Image | JobResult]",
    upscaler: Upscaler,
    options: OutputOptions,
    on_tile: Callable[[Tile], None] | None,
) -> _Upscaled:
    image = reading.result()
    if isinstance(image, JobResult):
        return _Upscaled(image)
    size = (image.width, image.height)
    began = time.perf_counter()
    try:
        large = upscaler.upscale(image, options.outscale, on_tile)
    except (ImageError, BackendError) as error:
        return _Upscaled(JobResult(job, "failed", f"{_named(job)}: {error}", size))
    except MemoryError:
        message = f"{_named(job)}: not enough memory for a picture of {size[0]}x{size[1]} pixels"
        return _Upscaled(JobResult(job, "failed", f"{message}; try a smaller --tile", size))
    seconds = time.perf_counter() - began
    return _Upscaled(JobResult(job, "done", "", size, (large.width, large.height), seconds), large)


def _finish(upscaled: _Upscaled, options: OutputOptions) -> JobResult:
    result, image = upscaled.result, upscaled.image
    if image is None:
        return result
    job = result.job
    try:
        if job.target is None and sys.stdout is None:
            raise ImageError("standard output: is closed")
        if job.target is None:
            sys.stdout.buffer.write(encode_image(image, job.fmt, options.quality))
            sys.stdout.buffer.flush()
        else:
            write_image(job.target, image, options.quality)
    except (ImageError, OSError) as error:
        where = "standard output" if job.target is None else str(job.target)
        text = str(error)
        return JobResult(job, "failed", text if text.startswith(where) else f"{where}: {text}", result.lr_size)
    return result
