"""Images in and out: any mode becomes RGB or gray pixels plus an optional alpha, and goes back with its metadata.

libvips decodes and encodes; what the rest of the package sees is numpy arrays only. How is in `image_files`.
"""

from pathlib import Path

from srgan_fast.data.image_files.colour import Exchange, exchange_for, network_values
from srgan_fast.data.image_files.decode import Contents, Source, decode, header
from srgan_fast.data.image_files.decode_rows import open_rows
from srgan_fast.data.image_files.encode import Encoded, check_size, encode, frames_held
from srgan_fast.data.image_files.encode_rows import ROW_FORMATS, RowWriter
from srgan_fast.data.image_files.finding import find_images
from srgan_fast.data.image_files.formats import (
    FORMAT_OF_SUFFIX,
    TRAITS,
    Format,
    known_suffixes,
    readable_suffixes,
    written_suffixes,
)
from srgan_fast.data.image_files.picture import (
    Header,
    Image,
    ImageFile,
    Metadata,
    NextRows,
    Pixels,
    RowSource,
    Text,
    Timing,
)
from srgan_fast.errors import FileError, ImageError
from srgan_fast.files import atomic_write, shown

MAX_PIXELS = 500_000_000  # of one input; larger files are rather bombs than photographs

__all__ = [
    "FORMAT_OF_SUFFIX",
    "MAX_PIXELS",
    "ROW_FORMATS",
    "TRAITS",
    "Contents",
    "Encoded",
    "Exchange",
    "Format",
    "Header",
    "Image",
    "ImageFile",
    "Metadata",
    "NextRows",
    "Pixels",
    "RowSource",
    "RowWriter",
    "Text",
    "Timing",
    "check_size",
    "encode",
    "encode_image",
    "exchange_for",
    "find_images",
    "frames_held",
    "image_header",
    "image_size",
    "known_suffixes",
    "network_values",
    "read_file",
    "read_image",
    "read_rows",
    "readable_suffixes",
    "write_bytes",
    "write_image",
    "written_suffixes",
]


def read_image(source: Path | bytes, max_pixels: int = MAX_PIXELS) -> Image:
    """Decodes the first image of a file: palette, gray, CMYK, 1 to 32 bits, with or without alpha; turned upright.

    Args:
        source: a file, or an encoded image.
        max_pixels: larger images are refused by their header; a small file can hold more than fits into memory.

    Raises:
        ImageError: missing, unreadable, truncated, too large, or not an image.
    """
    found = Source.of(source)
    head = header(found)
    if head.height * head.width > max_pixels:
        raise ImageError(
            f"{found.name}: has {head.width}x{head.height} pixels, the limit is {max_pixels / 1e6:.0f} million"
        )
    return decode(found, all_frames=False).frames[0]


def read_file(source: Path | bytes) -> ImageFile:
    """Decodes all frames or pages of a file, and says what in it is left behind.

    Raises:
        ImageError: missing, unreadable, truncated, or not an image.
    """
    return decode(Source.of(source), all_frames=True)


def read_rows(source: Path | bytes) -> RowSource | None:
    """A file's one image, to be read row by row; None where only `read_file` reads it, or says why nothing does.

    Raises:
        ImageError: missing, or of samples that cannot be converted.
    """
    return open_rows(Source.of(source))


def image_header(source: Path | bytes) -> Header:
    """Size and number of frames, with nothing decoded.

    Raises:
        ImageError: not a readable image.
    """
    return header(Source.of(source))


def image_size(path: Path) -> tuple[int, int]:
    """Height and width of an image as `read_image` would give it, from its header only.

    Raises:
        ImageError: not a readable image.
    """
    found = image_header(path)
    return found.height, found.width


def encode_image(image: Image, fmt: Format, quality: int = 95) -> bytes:
    """Encodes one image; what the format cannot hold is dropped (`encode` names it).

    Args:
        image: what to encode.
        fmt: file format.
        quality: 1..100 for JPEG, WebP and AVIF.

    Raises:
        ImageError: the format cannot hold an image of that size.
    """
    return encode(ImageFile((image,)), fmt, quality).data


def write_image(path: Path, image: Image, quality: int = 95) -> None:
    """Writes an image in the format of the path's suffix, completely or not at all.

    Raises:
        ImageError: unknown suffix, or the file cannot be written; a file that was there stays as it was.
    """
    fmt = FORMAT_OF_SUFFIX.get(path.suffix.lower())
    if fmt is None:
        raise ImageError(
            f"{shown(path)}: cannot write {path.suffix or 'a file without suffix'}; use {written_suffixes()}"
        )
    write_bytes(path, encode_image(image, fmt, quality))


def write_bytes(path: Path, data: bytes) -> None:
    """Writes an encoded image, completely or not at all.

    Raises:
        ImageError: the file cannot be written; a file that was there stays as it was.
    """
    try:
        with atomic_write(path) as file:
            file.write(data)
    except FileError as error:
        raise ImageError(str(error)) from None
