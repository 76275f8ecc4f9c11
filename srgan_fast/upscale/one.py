"""Steps for one image: read and check, upscale frame by frame, encode and write. Every failure becomes a result."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from srgan_fast.data.images import (
    Contents,
    Header,
    Image,
    ImageFile,
    RowSource,
    encode,
    frames_held,
    image_header,
    network_values,
    read_file,
    read_rows,
    write_bytes,
)
from srgan_fast.data.resize import resize_bicubic
from srgan_fast.errors import ImageError, SrganFastError
from srgan_fast.files import shown
from srgan_fast.runtime.tiling import Tile
from srgan_fast.runtime.upscaler import Upscaler
from srgan_fast.upscale.by_rows import check_rows, rows_of, upscale_rows
from srgan_fast.upscale.job import Job, JobResult, OutputOptions
from srgan_fast.upscale.limits import check_limits, check_target
from srgan_fast.upscale.places import Remote

OnTile = Callable[[Tile], None]


class Stopped(Exception):  # noqa: N818 (not an error: the stop was requested)
    """Raised to abandon an image because the run was stopped."""


@dataclass(frozen=True, slots=True)
class Upscaled:
    """A result that has not been written yet.

    Attributes:
        result: outcome so far.
        file: upscaled frames; None if there is nothing to write.
    """

    result: JobResult
    file: ImageFile | None = None


@dataclass(frozen=True, slots=True)
class Opened:
    """An image that passed all checks; only its header has been read.

    Attributes:
        job: the job.
        source: path of the file, or its contents.
        header: header of the file.
        rows: the image, if it is computed by rows; else the reason why not.
    """

    job: Job
    source: Path | bytes
    header: Header
    rows: RowSource | str


def look(job: Job, upscaler: Upscaler, options: OutputOptions) -> Opened | JobResult:
    """Reads the header and checks the job; returns a skipped or failed result if there is nothing to upscale."""
    try:
        if job.target is not None:
            there = already_there(job, job.target, options)
            if there is not None:
                return there
            if isinstance(job.target, Path):
                check_target(job.target)
        if job.source is None and sys.stdin is None:
            raise ImageError("standard input: is closed")
        source = contents(job)
        header = image_header(source)
        rows = rows_of(job, source, header, upscaler, options)
        check_limits(job, header, upscaler.scale, options, rows)
        return Opened(job, source, header, rows)
    except MemoryError:
        return JobResult(job, "failed", f"{job.name}: not enough memory to decode it")
    except Exception as error:
        return _failed(job, job.name, error)


def contents(job: Job) -> Path | bytes:
    """Path of a local file, or the contents of any other source."""
    if isinstance(job.source, Path):
        return job.source
    data = Contents(sys.stdin.buffer.read() if job.source is None else job.source.read_bytes())
    data.name = job.name
    return data


def decode(job: Job, looked: Opened | JobResult) -> ImageFile | RowSource | JobResult:
    """Decodes an image, unless it is computed by rows; skipped and failed results are passed on."""
    if isinstance(looked, JobResult):
        return looked
    if isinstance(looked.rows, RowSource):
        return looked.rows
    try:
        return read_file(looked.source)
    except MemoryError:
        return JobResult(job, "failed", f"{job.name}: not enough memory to decode it")
    except Exception as error:
        return _failed(job, job.name, error)


def already_there(job: Job, target: Path | Remote, options: OutputOptions) -> JobResult | None:
    """The skipped or failed result if the target exists and is not replaced; None if the image is to be computed."""
    if options.existing == "overwrite" or job.redo or not target.exists():
        return None
    if options.existing == "error":
        return JobResult(job, "failed", f"{shown(target)}: exists already; use --overwrite or --skip-existing")
    return JobResult(job, "skipped", f"{shown(target)} exists already") if is_whole(target) else None


def is_whole(path: Path | Remote) -> bool:
    """Whether a file can be decoded completely."""
    try:
        source = path if isinstance(path, Path) else path.read_bytes()
        rows = read_rows(source)
        if rows is None:
            read_file(source)
        else:
            check_rows(rows)
    except (ImageError, MemoryError):
        return False
    return True


def _failed(job: Job, where: str, error: Exception, size: tuple[int, int] | None = None) -> JobResult:
    """A failed result with a message of one line; unexpected exceptions are shown with their type."""
    text = str(error) if isinstance(error, SrganFastError | OSError) else f"{type(error).__name__}: {error}"
    text = " ".join(text.split())
    known = (where, job.name, "" if job.target is None else shown(job.target))
    said = any(name and text.startswith(name) for name in known)
    return JobResult(job, "failed", text if said else f"{where}: {text}", size)


def upscale(
    job: Job,
    read_result: ImageFile | RowSource | JobResult,
    upscaler: Upscaler,
    options: OutputOptions,
    on_tile: OnTile | None,
) -> Upscaled:
    """Upscales all frames that the target can store; images that are computed by rows are also written.

    Raises:
        Stopped: raised by `on_tile`.
    """
    if isinstance(read_result, JobResult):
        return Upscaled(read_result)
    if isinstance(read_result, RowSource):
        return Upscaled(_by_rows(job, read_result, upscaler, options, on_tile))
    file = read_result
    first = file.frames[0]
    size = (first.width, first.height)
    began = time.perf_counter()
    held = frames_held("pages" if file.timing is None else "animation", len(file.frames), job.fmt)
    notes = list(file.notes)
    large: list[Image] = []
    try:
        for frame in file.frames[:held]:
            result, note = _one_frame(frame, upscaler, options, on_tile)
            large.append(result)
            notes += [note] if note and note not in notes else []
    except Stopped:
        raise
    except MemoryError:
        message = f"{job.name}: not enough memory for an image of {size[0]}x{size[1]} pixels; try a smaller --tile"
        return Upscaled(JobResult(job, "failed", message, size))
    except Exception as error:
        return Upscaled(_failed(job, job.name, error, size))
    seconds = time.perf_counter() - began
    # Dropped frames remain in the list, not upscaled, so that the encoder's notes mention them.
    result_file = replace(file, frames=(*large, *file.frames[held:]))
    done = JobResult(
        job, "done", "", size, (large[0].width, large[0].height), seconds, len(large), tuple(notes)
    )  # fmt: skip
    return Upscaled(done, result_file)


def _by_rows(
    job: Job, source: RowSource, upscaler: Upscaler, options: OutputOptions, on_tile: OnTile | None
) -> JobResult:
    size, s = (source.width, source.height), upscaler.scale
    began = time.perf_counter()
    try:
        notes = upscale_rows(job, source, upscaler, options, on_tile)
    except Stopped:
        raise
    except MemoryError:
        message = f"{job.name}: not enough memory for an image of {size[0]}x{size[1]} pixels; try a smaller --tile"
        return JobResult(job, "failed", message, size)
    except Exception as error:
        return _failed(job, job.name, error, size)
    return JobResult(job, "done", "", size, (size[0] * s, size[1] * s), time.perf_counter() - began, 1, notes)


def _one_frame(frame: Image, upscaler: Upscaler, options: OutputOptions, on_tile: OnTile | None) -> tuple[Image, str]:
    prepared, turn_back, note = (frame, None, "") if options.colour == "keep" else network_values(frame)
    outscale = None if options.size is not None else options.outscale
    large = upscaler.upscale(prepared, outscale, on_tile)
    if options.size is not None:
        width, height = options.size.of(frame.width, frame.height)
        if (large.width, large.height) != (width, height):
            alpha = None if large.alpha is None else resize_bicubic(large.alpha, height, width)
            large = Image(resize_bicubic(large.pixels, height, width), alpha, large.metadata)
    return (large if turn_back is None else turn_back(large)), note


def finish(upscaled: Upscaled, options: OutputOptions) -> JobResult:
    """Encodes and writes a result."""
    result, file = upscaled.result, upscaled.file
    if file is None:
        return result
    job = result.job
    where = "standard output" if job.target is None else shown(job.target)
    try:
        if job.target is None and sys.stdout is None:
            raise ImageError("standard output: is closed")
        encoded = encode(file, job.fmt, options.quality, options.compression)
        if job.target is None:
            sys.stdout.buffer.write(encoded.data)
            sys.stdout.buffer.flush()
        elif isinstance(job.target, Remote):
            job.target.write_bytes(encoded.data)
        else:
            write_bytes(job.target, encoded.data)
    except MemoryError:
        return JobResult(job, "failed", f"{where}: not enough memory to encode it", result.lr_size)
    except Exception as error:
        return _failed(job, where, error, result.lr_size)
    return replace(result, notes=result.notes + tuple(n for n in encoded.notes if n not in result.notes))
