"""Reading and writing images as RGB or gray pixels with optional alpha and metadata.

libvips decodes and encodes (see `image_files`); the rest of the package handles NumPy arrays only.
"""

from pathlib import Path

from srgan_fast.data.image_files.colour import CurveConversion, curve_conversion, network_values
from srgan_fast.data.image_files.decode import Contents, Source, decode, header
from srgan_fast.data.image_files.decode_rows import open_rows
from srgan_fast.data.image_files.encode import Encoded, check_size, encode, frames_held
from srgan_fast.data.image_files.encode_rows import ROW_FORMATS, RowWriter
from srgan_fast.data.image_files.finding import counted, find_images
from srgan_fast.data.image_files.formats import (
    FORMAT_OF_SUFFIX,
    TRAITS,
    Format,
    known_suffixes,
    readable_suffixes,
    written_suffixes,
)
from srgan_fast.data.image_files.image import (
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

MAX_PIXELS = 500_000_000  # limit per input; larger files are more likely decompression bombs than photographs

__all__ = [
    "FORMAT_OF_SUFFIX",
    "MAX_PIXELS",
    "ROW_FORMATS",
    "TRAITS",
    "Contents",
    "CurveConversion",
    "Encoded",
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
    "counted",
    "curve_conversion",
    "encode",
    "encode_image",
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
    """Decodes the first image of a file and applies its EXIF orientation.

    Supports palette, gray, RGB and CMYK images of 1 to 32 bits, with or without alpha.

    Args:
        source: path of a file, or an encoded image.
        max_pixels: limit that is checked in the header before decoding; a small file can decode to more than fits
            into memory.

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
    """Decodes all frames or pages of a file; its notes list the contents that were dropped.

    Raises:
        ImageError: missing, unreadable, truncated, or not an image.
    """
    return decode(Source.of(source), all_frames=True)


def read_rows(source: Path | bytes) -> RowSource | None:
    """Opens a file with a single image for reading by rows.

    Returns:
        The image; None if it must be read by `read_file`, which also reports why a file is unreadable.

    Raises:
        ImageError: missing, or its sample format cannot be converted.
    """
    return open_rows(Source.of(source))


def image_header(source: Path | bytes) -> Header:
    """Size and number of frames; pixels are not decoded.

    Raises:
        ImageError: not a readable image.
    """
    return header(Source.of(source))


def image_size(path: Path) -> tuple[int, int]:
    """Height and width of the image that `read_image` returns; only the header is read.

    Raises:
        ImageError: not a readable image.
    """
    found = image_header(path)
    return found.height, found.width


def encode_image(image: Image, fmt: Format, quality: int = 95) -> bytes:
    """Encodes one image; contents that the format does not support are dropped (`encode` lists them).

    Args:
        image: image to encode.
        fmt: file format.
        quality: JPEG, WebP and AVIF quality, 1..100.

    Raises:
        ImageError: the image is too large for the format.
    """
    return encode(ImageFile((image,)), fmt, quality).data


def write_image(path: Path, image: Image, quality: int = 95) -> None:
    """Writes an image atomically, in the format given by the path's suffix.

    Raises:
        ImageError: unknown suffix, or the file cannot be written; an existing file is then unchanged.
    """
    fmt = FORMAT_OF_SUFFIX.get(path.suffix.lower())
    if fmt is None:
        raise ImageError(
            f"{shown(path)}: cannot write {path.suffix or 'a file without suffix'}; use {written_suffixes()}"
        )
    write_bytes(path, encode_image(image, fmt, quality))


def write_bytes(path: Path, data: bytes) -> None:
    """Writes an encoded image atomically.

    Raises:
        ImageError: the file cannot be written; an existing file is then unchanged.
    """
    try:
        with atomic_write(path) as file:
            file.write(data)
    except FileError as error:
        raise ImageError(str(error)) from None
