"""Pictures in and out: any mode becomes RGB or gray pixels plus an optional alpha, and goes back with its metadata.

libvips decodes and encodes, because it keeps 16-bit colour, ICC profiles and EXIF apart from the pixels. What the rest
of the package sees is numpy arrays only.
"""

import os
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyvips
from numpy.typing import NDArray

from srgan_fast.errors import FileError, ImageError
from srgan_fast.files import atomic_write

Pixels = NDArray[np.uint8 | np.uint16]
Format = Literal["png", "jpg", "webp"]

READABLE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".gif", ".avif"})
FORMAT_OF_SUFFIX: dict[str, Format] = {".png": "png", ".jpg": "jpg", ".jpeg": "jpg", ".webp": "webp"}

_METADATA_FIELDS = ("icc-profile-data", "exif-data", "xmp-data")
_WEBP_MAX_SIDE = 16383
_JPEG_MAX_SIDE = 65500  # what libjpeg takes; the format itself would hold 35 more
# Decoders that libvips does not count as fit for files from strangers (ImageMagick's among them) stay off.
pyvips.block_untrusted_set(True)


@dataclass(frozen=True, slots=True)
class Image:
    """A decoded picture, upright, in sRGB or gray.

    Attributes:
        pixels: H, W, 3 (colour) or H, W, 1 (gray); uint8 or uint16, full range.
        alpha: H, W in the same dtype, or None.
        metadata: ICC profile, EXIF and XMP as raw bytes, by libvips' field name.
    """

    pixels: Pixels
    alpha: Pixels | None = None
    metadata: dict[str, bytes] = field(default_factory=dict)

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Columns."""
        return int(self.pixels.shape[1])

    @property
    def is_gray(self) -> bool:
        """Whether there is one channel only."""
        return bool(self.pixels.shape[2] == 1)

    def rgb(self) -> Pixels:
        """H, W, 3; gray is repeated."""
        return np.repeat(self.pixels, 3, axis=2) if self.is_gray else self.pixels


def read_image(source: Path | bytes) -> Image:
    """Decodes a picture of any mode: palette, gray, CMYK, 1 to 16 bits, with or without alpha; turned upright.

    Args:
        source: a file, or an encoded picture.

    Raises:
        ImageError: missing, unreadable, truncated, or not a picture.
    """
    name = "standard input" if isinstance(source, bytes) else str(source)
    if isinstance(source, Path):
        if source.is_dir():
            raise ImageError(f"{name}: is a folder, not a picture")
        if not source.exists():
            raise ImageError(f"{name}: no such file")
    # Whatever an earlier picture's decoder had said would become part of this one's message.
    pyvips.vips_lib.vips_error_clear()
    try:
        # Below "error" a decoder that fails halfway, or has no codec at all, leaves black pixels and says nothing.
        if isinstance(source, bytes):
            image = pyvips.Image.new_from_buffer(source, "", access="sequential", fail_on="error")
        else:
            image = pyvips.Image.new_from_file(str(source), access="sequential", fail_on="error")
        return _decode(image, name)
    except pyvips.Error as error:
        raise ImageError(f"{name}: cannot be read as a picture ({_first_line(error)})") from None


def image_size(path: Path) -> tuple[int, int]:
    """Height and width of a picture as `read_image` would give it, from its header only.

    Raises:
        ImageError: not a readable picture.
    """
    try:
        image = pyvips.Image.new_from_file(str(path), access="sequential")
    except pyvips.Error as error:
        raise ImageError(f"{path}: cannot be read as a picture ({_first_line(error)})") from None
    # 5 to 8 lie on their side.
    return (image.width, image.height) if _orientation(image) >= 5 else (image.height, image.width)


def _orientation(image: Any) -> int:
    """EXIF's number for how a picture is to be turned; 1 is upright."""
    return int(image.get("orientation")) if "orientation" in image.get_fields() else 1


def _first_line(error: Exception) -> str:
    """What libvips says below its own headline, shortened to its first statement."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    detail = lines[1:] or lines or ["unknown error"]
    return detail[0]


def _decode(image: Any, name: str) -> Image:
    metadata = {name: bytes(image.get(name)) for name in _METADATA_FIELDS if name in image.get_fields()}
    if _orientation(image) > 1:
        image = image.copy_memory()  # turning needs rows in another order than a sequential decoder gives them
    image = image.autorot()
    if image.interpretation == "cmyk":
        image = image.icc_transform("srgb")
        metadata.pop("icc-profile-data", None)  # the pixels no longer mean what it says
    wide = image.format not in ("uchar", "char")
    gray = image.bands <= 2
    if image.format in ("float", "double") or image.interpretation in ("scrgb", "lab", "labs", "xyz"):
        raise ImageError(f"{name}: has floating-point or Lab pixels; convert it to 8 or 16 bits RGB first")
    space = ("grey16" if gray else "rgb16") if wide else ("b-w" if gray else "srgb")
    image = image.colourspace(space)
    array = image.numpy()
    array = array.reshape(image.height, image.width, image.bands)
    has_alpha = array.shape[2] in (2, 4)
    channels = 1 if array.shape[2] <= 2 else 3
    return Image(
        pixels=np.ascontiguousarray(array[:, :, :channels]),
        alpha=np.ascontiguousarray(array[:, :, -1]) if has_alpha else None,
        metadata=metadata,
    )


def encode_image(image: Image, fmt: Format, quality: int = 95) -> bytes:
    """Encodes a picture.

    PNG keeps everything. JPEG takes 8 bits without alpha (flattened on white); WebP is lossless at quality 100 and
    takes 8 bits.

    Args:
        image: what to encode.
        fmt: file format.
        quality: 1..100 for JPEG and WebP.

    Raises:
        ImageError: the format cannot hold a picture of that size.
    """
    limit = {"webp": _WEBP_MAX_SIDE, "jpg": _JPEG_MAX_SIDE}.get(fmt)
    if limit and max(image.height, image.width) > limit:
        raise ImageError(
            f"{fmt} holds at most {limit} pixels a side, the result has {image.width}x{image.height}; use --format png"
        )
    if fmt != "png" and image.pixels.dtype == np.uint16:
        image = _to_8_bits(image)
    vips = _to_vips(image)
    try:
        if fmt == "png":
            return bytes(vips.pngsave_buffer(compression=6, filter="all"))
        if fmt == "jpg":
            if image.alpha is not None:
                vips = vips.flatten(background=255)
            # Full-resolution chroma at high quality: the detail was just paid for.
            return bytes(vips.jpegsave_buffer(Q=quality, subsample_mode="off" if quality >= 90 else "auto"))
        return bytes(vips.webpsave_buffer(Q=quality, lossless=quality == 100))
    except pyvips.Error as error:
        raise ImageError(f"cannot be encoded as {fmt} ({_first_line(error)})") from None


def _to_8_bits(image: Image) -> Image:
    def shrink(values: Pixels) -> Pixels:
        return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)

    return replace(image, pixels=shrink(image.pixels), alpha=None if image.alpha is None else shrink(image.alpha))


def _to_vips(image: Image) -> Any:
    array = image.pixels
    if image.alpha is not None:
        array = np.concatenate([array, image.alpha[:, :, None]], axis=2)
    vips = pyvips.Image.new_from_array(np.ascontiguousarray(array))
    wide = array.dtype == np.uint16
    space = ("grey16" if wide else "b-w") if image.is_gray else ("rgb16" if wide else "srgb")
    vips = vips.copy(interpretation=space)
    for name, data in image.metadata.items():
        vips.set_type(pyvips.GValue.blob_type, name, data)
    # The pixels are upright now; the picture's own EXIF must not turn them again.
    vips.set_type(pyvips.GValue.gint_type, "orientation", 1)
    return vips


def write_image(path: Path, image: Image, quality: int = 95) -> None:
    """Writes a picture in the format of the path's suffix, completely or not at all.

    Raises:
        ImageError: unknown suffix, or the file cannot be written; a file that was there stays as it was.
    """
    fmt = FORMAT_OF_SUFFIX.get(path.suffix.lower())
    if fmt is None:
        raise ImageError(f"{path}: cannot write {path.suffix or 'a file without suffix'}; use .png, .jpg or .webp")
    data = encode_image(image, fmt, quality)
    try:
        with atomic_write(path) as file:
            file.write(data)
    except FileError as error:
        raise ImageError(str(error)) from None


def find_images(folder: Path, recursive: bool = True) -> list[Path]:
    """The pictures of a folder by their suffix, sorted; hidden files and our own unfinished ones are left out.

    Raises:
        ImageError: not a folder, or one that cannot be listed.
    """
    if not folder.is_dir():
        raise ImageError(f"{folder}: no such folder")
    found: list[Path] = []

    def refuse(error: OSError) -> None:
        raise ImageError(f"{error.filename}: cannot be listed ({error.strerror})") from None

    for root, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = sorted(f for f in folders if not f.startswith(".")) if recursive else []
        found += [
            Path(sys.intern(root)) / f
            for f in files
            if Path(f).suffix.lower() in READABLE_SUFFIXES and not f.startswith(".")
        ]
    return sorted(found)
