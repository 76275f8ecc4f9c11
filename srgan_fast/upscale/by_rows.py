"""Upscaling of one large image by rows: decoding, network and encoding overlap, with only some rows in memory."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from srgan_fast.data.images import (
    ROW_FORMATS,
    CurveConversion,
    Header,
    Image,
    NextRows,
    RowSource,
    RowWriter,
    curve_conversion,
    read_rows,
)
from srgan_fast.errors import FileError, ImageError
from srgan_fast.files import atomic_write, shown
from srgan_fast.runtime.tiling import Tile
from srgan_fast.runtime.upscaler import Upscaler
from srgan_fast.upscale.job import Job, OutputOptions
from srgan_fast.upscale.limits import result_size
from srgan_fast.upscale.places import Remote

# Results of at least this many bytes are computed by rows. Smaller ones would save little memory; as whole images, the
# next one is read and the previous one written while one is computed.
ROWS_FROM = 64 << 20
_LOOK = 64  # rows that are decoded at a time when only checking a file


def rows_of(
    job: Job, source: Path | bytes, header: Header, upscaler: Upscaler, options: OutputOptions
) -> RowSource | str:
    """Opens an image that can be computed by rows.

    Returns:
        The image; or the reason why it is computed as a whole, as the end of a sentence ("" for small images).

    Raises:
        ImageError: the file cannot be read.
    """
    width, height = result_size(header, upscaler.scale, options)
    if width * height * 3 < ROWS_FROM or not isinstance(upscaler, Upscaler):
        return ""
    native = (header.width * upscaler.scale, header.height * upscaler.scale)
    reasons = {
        "the result goes to standard output": job.target is None,
        "the result goes to an object store": isinstance(job.target, Remote),
        f"{job.fmt} is not encoded by rows ({', '.join(ROW_FORMATS)} are)": job.fmt not in ROW_FORMATS,
        "the file has several frames": header.frames > 1,
        f"the result is resized from {native[0]}x{native[1]}": (width, height) != native,
    }
    for reason, holds in reasons.items():
        if holds:
            return reason
    rows = read_rows(source)
    if rows is None:
        return "it cannot be decoded by rows"
    if not upscaler.supports_rows(rows.is_gray, rows.has_alpha):
        return f"the model cannot process {'transparent' if rows.has_alpha else 'colour'} images by rows"
    return rows


def upscale_rows(
    job: Job, source: RowSource, upscaler: Upscaler, options: OutputOptions, on_tile: Callable[[Tile], None] | None
) -> tuple[str, ...]:
    """Upscales an image and writes the job's target atomically.

    Returns:
        Contents of the input that were dropped, one clause each.

    Raises:
        ImageError: the image is damaged, or the result cannot be encoded or written.
        BackendError: the runtime failed.
    """
    assert isinstance(job.target, Path)
    conversion, note = (
        (None, "") if options.colour == "keep" else curve_conversion(source.metadata, source.is_gray, source.dtype)
    )
    prepared = source if conversion is None else _converted(source, conversion)
    like = np.zeros((1, 1, 1 if source.is_gray else 3), source.dtype)
    try:
        with (
            atomic_write(job.target) as file,
            RowWriter(
                file, job.fmt, source.height * upscaler.scale, source.width * upscaler.scale,
                Image(like, like[:, :, 0] if source.has_alpha else None, source.metadata),
                options.quality, options.compression,
            ) as writer,
        ):  # fmt: skip

            def write(rows: Image) -> None:
                writer.write(rows if conversion is None else conversion.from_srgb(rows))

            upscaler.upscale_rows(prepared, write, on_tile)
            lost = writer.finish()
    except FileError as error:
        raise ImageError(str(error)) from None
    except ImageError as error:
        if error is writer.failure:
            raise ImageError(f"{shown(job.target)}: {error}") from None
        raise
    notes = (*source.notes, *([note] if note else []))
    return (*notes, *(clause for clause in lost if clause not in notes))


def _converted(source: RowSource, conversion: CurveConversion) -> RowSource:
    """The image with sRGB's curve in 16 bits."""

    def begin() -> NextRows:
        following = source.begin()
        return lambda rows: conversion.to_srgb(following(rows))

    return replace(source, dtype=np.dtype(np.uint16), begin=begin)


def check_rows(source: RowSource) -> None:
    """Decodes an image completely, to check it.

    Raises:
        ImageError: it is damaged.
    """
    following = source.begin()
    for first in range(0, source.height, _LOOK):
        following(min(_LOOK, source.height - first))
