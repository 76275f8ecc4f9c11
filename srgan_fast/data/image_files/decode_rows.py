"""Decoding by rows, for decoders that produce rows from top to bottom."""

import numpy as np
import pyvips

from srgan_fast.data.image_files import tiff
from srgan_fast.data.image_files.decode import Source, describe, header, tiles_checked
from srgan_fast.data.image_files.image import Image, Metadata, NextRows, RowSource
from srgan_fast.data.image_files.libvips_messages import libvips_users
from srgan_fast.data.image_files.samples import has_field, integers, orientation_of, split
from srgan_fast.errors import ImageError

_LOADERS = ("jpegload", "pngload", "tiffload", "webpload")
_DTYPES: dict[str, np.dtype[np.uint8 | np.uint16]] = {"uchar": np.dtype(np.uint8), "ushort": np.dtype(np.uint16)}
# Rows that are requested from libvips at a time; its caches and regions hold several times as many. For a PNG of 20,000
# columns they take 75 MB with this value, and 170 MB with 64.
_FETCHED = 8
_COEFFICIENTS = 6  # bytes per pixel that libjpeg buffers for a progressive JPEG: three coefficients of two bytes


def open_rows(source: Source) -> RowSource | None:
    """Opens an image for reading by rows.

    JPEG, PNG, TIFF and WebP files with one image are supported. Decoders buffer interlaced and progressive files and
    WebP as a whole, and images with an EXIF orientation other than 1 are decoded before they are turned; `held` is the
    memory that this takes. 32-bit samples are not supported, since their range depends on the brightest sample.

    Returns:
        The image; None if it must be read by `decode`, which also reports why a file is unreadable.

    Raises:
        ImageError: the sample format cannot be converted.
    """
    try:
        if header(source).frames > 1:
            return None
    except ImageError:
        return None
    with libvips_users.using():
        return _opened(source)


def _opened(source: Source) -> RowSource | None:
    try:
        image = source.open()
        loader = str(image.get("vips-loader"))
        if not loader.startswith(_LOADERS):
            return None
        described, notes = describe(source, image, loader)
        tiled = False
        if loader.startswith("tiffload"):
            with source.file() as file:
                notes = (["EXIF of the TIFF"] if tiff.pages(file)[1] else []) + notes
                tiled = tiff.is_tiled(file)
            # Fails here if libvips lacks the codec; another library may decode it, but only the whole image.
            with tiles_checked(tiled):
                pyvips.Region.new(image).fetch(0, 0, image.width, 1)
        converted, metadata, more = integers(image, described, source.name)
    except (pyvips.Error, UnicodeDecodeError):
        return None
    if converted.format not in _DTYPES:
        return None
    turned = orientation_of(image)
    height, width = (image.width, image.height) if turned >= 5 else (image.height, image.width)

    def begin() -> NextRows:
        return _Reader(source, described, turned > 1, tiled, width).following

    return RowSource(
        height, width, _DTYPES[converted.format], converted.bands <= 2, converted.bands in (2, 4), metadata, begin,
        (*notes, *(note for note in more if note not in notes)), _held(image, loader, turned),
    )  # fmt: skip


def _held(image: pyvips.Image, loader: str, turned: int) -> int:
    """Bytes that decoding takes in addition to the rows."""
    area = image.width * image.height
    samples = area * image.bands * (1 if image.format == "uchar" else 2)
    held = samples if turned > 1 else 0
    if loader.startswith("webpload"):
        held += area * 4
    elif has_field(image, "interlaced"):
        held += area * _COEFFICIENTS if loader.startswith("jpegload") else samples
    return held


class _Reader:
    """Reads an image once from top to bottom."""

    def __init__(self, source: Source, described: Metadata, turn: bool, tiled: bool, width: int) -> None:
        self.source, self.tiled, self.width, self.row = source, tiled, width, 0
        try:
            with libvips_users.using():
                image = source.open()
                if turn:
                    with tiles_checked(tiled):  # at once: turning clears the error buffer
                        image = image.copy_memory()
                    image = image.autorot()
                self.image, self.metadata, _ = integers(image, described, source.name)
                self.region = pyvips.Region.new(self.image)
        except pyvips.Error:
            raise self._damaged() from None

    def following(self, rows: int) -> Image:
        """The next rows.

        Raises:
            ImageError: the file is damaged.
        """
        samples = np.empty((rows, self.width, self.image.bands), _DTYPES[self.image.format])
        try:
            with libvips_users.using(), tiles_checked(self.tiled):
                for first in range(0, rows, _FETCHED):
                    part = samples[first : first + _FETCHED]
                    data = self.region.fetch(0, self.row, self.width, len(part))
                    part[...] = np.frombuffer(data, samples.dtype).reshape(part.shape)
                    self.row += len(part)
        except pyvips.Error:
            raise self._damaged() from None
        return split(samples, self.metadata)

    def _damaged(self) -> ImageError:
        # libvips' own words could be about another thread's file.
        return ImageError(f"{self.source.name}: cannot be read as an image (it is damaged or cut off)")
