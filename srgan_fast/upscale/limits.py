"""Checks before computing: number of pixels, memory, and whether the target can be written."""

import os
from pathlib import Path

from srgan_fast import memory
from srgan_fast.data.images import Header, RowSource, check_size, frames_held
from srgan_fast.errors import ImageError
from srgan_fast.files import shown
from srgan_fast.upscale.job import Job, OutputOptions

_ENCODER = {"webp": 4, "avif": 4, "gif": 4}  # bytes per pixel of the encoder's copy; other encoders work on strips
_ROWS = 64  # rows of the image that decoder, network and encoder hold together
_RESERVE = 64 << 20  # bytes for an encoder, and for the rows that a network works on


def result_size(header: Header, scale: int, options: OutputOptions) -> tuple[int, int]:
    """Width and height of a result."""
    if options.size is not None:
        return options.size.of(header.width, header.height)
    factor = float(scale) if options.outscale is None else options.outscale
    return round(header.width * factor), round(header.height * factor)


def check_limits(job: Job, header: Header, scale: int, options: OutputOptions, rows: RowSource | str = "") -> None:
    """Checks the number of pixels, the format's limits and the memory for an image and its result.

    Args:
        job: the job.
        header: header of its source.
        scale: scale of the network.
        options: options of the results.
        rows: the image, if it is computed by rows; else the reason why not.

    Raises:
        ImageError: a limit is exceeded.
    """
    if header.pixels > options.max_pixels:
        frames = f" in {header.frames} frames" if header.frames > 1 else ""
        raise ImageError(
            f"{job.name}: has {header.pixels / 1e6:.0f} million pixels{frames}, the limit is "
            f"{options.max_pixels / 1e6:.0f} million; raise it with --max-pixels"
        )
    width, height = result_size(header, scale, options)
    check_size(job.fmt, width, height)
    if isinstance(rows, RowSource):
        need, why = _need_of_rows(rows, width, scale), ""
    else:
        need, why = _need(job, header, scale, (width, height)), f" as a whole, since {rows}" if rows else ""
    have = memory.available()
    if have is not None and need > have:
        raise ImageError(
            f"{job.name}: an image of {header.width}x{header.height} pixels"
            f"{f' in {header.frames} frames' if header.frames > 1 else ''} with a result of {width}x{height} needs "
            f"{need / 2**30:.1f} GiB{why}, {have / 2**30:.1f} GiB are available; cut it into parts"
        )


def _need_of_rows(rows: RowSource, width: int, scale: int) -> int:
    """Bytes for an image that is computed by rows.

    The network's working memory is not included; tiles bound it if memory is short.
    """
    samples = width * 4 * rows.dtype.itemsize
    return rows.held + samples * scale * _ROWS + _RESERVE


def _need(job: Job, header: Header, scale: int, size: tuple[int, int]) -> int:
    """Bytes for an image that is computed as a whole."""
    held = frames_held(header.kind, header.frames, job.fmt)
    # The network's result, and the final one in addition if it has another size.
    native = header.width * header.height * scale**2
    final = size[0] * size[1]
    one = max(native, final) + (min(native, final) if native != final else 0)
    # A lower bound: three channels of 8 bits.
    return header.pixels * 3 + (final * held + one) * 3 + final * held * _ENCODER.get(job.fmt, 0) + _RESERVE


def check_target(path: Path) -> None:
    """Checks that a file can be created, without creating anything.

    Raises:
        ImageError: it cannot.
    """
    if path.is_dir():
        raise ImageError(f"{shown(path)}: cannot be written (Is a directory)")
    folder = path.parent
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        raise ImageError(f"{shown(path)}: cannot be written ({shown(folder)} is not a folder)")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ImageError(f"{shown(path)}: cannot be written ({shown(folder)} is not writable)")
