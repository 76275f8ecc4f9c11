"""What is refused before it is computed: too many pixels, too little memory, a target that cannot be written."""

import os
from pathlib import Path

from srgan_fast import memory
from srgan_fast.data.images import Header, RowSource, check_size, frames_held
from srgan_fast.errors import ImageError
from srgan_fast.files import shown
from srgan_fast.upscale.job import Job, OutputOptions

_ENCODER = {"webp": 4, "avif": 4, "gif": 4}  # bytes a pixel of the encoder's own copy; the others work on strips
_ROWS = 64  # of the picture: what is under way between decoder, network and encoder
_RESERVE = 64 << 20  # of an encoder, and of the rows that a network works on


def result_size(header: Header, scale: int, options: OutputOptions) -> tuple[int, int]:
    """Width and height of a result."""
    if options.size is not None:
        return options.size.of(header.width, header.height)
    factor = float(scale) if options.outscale is None else options.outscale
    return round(header.width * factor), round(header.height * factor)


def check_limits(job: Job, header: Header, scale: int, options: OutputOptions, rows: RowSource | str = "") -> None:
    """Whether a picture can be upscaled and its result be held.

    Args:
        job: what is to be done.
        header: of its source.
        scale: of the network.
        options: how results are written.
        rows: the picture if it is computed by rows, else why it is not.

    Raises:
        ImageError: it cannot.
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
            f"{job.name}: a picture of {header.width}x{header.height} pixels"
            f"{f' in {header.frames} frames' if header.frames > 1 else ''} with a result of {width}x{height} needs "
            f"{need / 2**30:.1f} GiB{why}, {have / 2**30:.1f} GiB are available; cut it into parts"
        )


def _need_of_rows(rows: RowSource, width: int, scale: int) -> int:
    """Bytes; what the network works on comes on top, and is bounded by tiles where there is little."""
    samples = width * 4 * rows.dtype.itemsize
    return rows.held + samples * scale * _ROWS + _RESERVE


def _need(job: Job, header: Header, scale: int, size: tuple[int, int]) -> int:
    """Bytes for a picture that is there as a whole."""
    held = frames_held(header.kind, header.frames, job.fmt)
    # The network's own result, and the final one beside it where the size is another.
    native = header.width * header.height * scale**2
    final = size[0] * size[1]
    one = max(native, final) + (min(native, final) if native != final else 0)
    # At least 8 bits of three channels have to be there, whatever else.
    return header.pixels * 3 + (final * held + one) * 3 + final * held * _ENCODER.get(job.fmt, 0) + _RESERVE


def check_target(path: Path) -> None:
    """Whether a file can be made there, without making anything.

    Raises:
        ImageError: it cannot.
    """
    if path.is_dir():
        raise ImageError(f"{shown(path)}: cannot be written (Is a directory)")
    folder = path.parent
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        raise ImageError(f"{shown(path)}: cannot be written ({shown(folder)} is no folder)")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ImageError(f"{shown(path)}: cannot be written ({shown(folder)} is not writable)")
