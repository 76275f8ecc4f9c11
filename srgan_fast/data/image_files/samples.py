"""Conversion of samples to unsigned 8 or 16 bits, gray or RGB; types without defined black and white are rejected."""

from dataclasses import replace
from typing import Any

import numpy as np
import pyvips
from numpy.typing import NDArray

from srgan_fast.data.image_files.image import Image, Metadata, Pixels
from srgan_fast.errors import ImageError


def has_field(image: pyvips.Image, name: str) -> bool:
    """Whether a libvips image has a metadata field.

    The list of all field names is not used, since it may contain names that are not valid text.
    """
    return bool(image.get_typeof(name))


def orientation_of(image: pyvips.Image) -> int:
    """EXIF orientation of a libvips image, 1..8; 1 is upright."""
    return int(image.get("orientation")) if has_field(image, "orientation") else 1


def convert(image: pyvips.Image, metadata: Metadata, name: str, turn: bool = True) -> tuple[Image, list[str]]:
    """Converts a libvips image to an `Image`.

    Args:
        image: libvips image.
        metadata: metadata of the upright image.
        name: name of the file for messages.
        turn: whether to apply the EXIF orientation.

    Returns:
        The image, and notes on conversions.

    Raises:
        ImageError: samples without defined black and white, or an unsupported number of channels.
        pyvips.Error: a decoder failed.
    """
    if turn and orientation_of(image) > 1:
        image = image.copy_memory()  # turning needs rows in another order than a sequential decoder provides
        image = image.autorot()
    image, metadata, notes = integers(image, metadata, name)
    array: NDArray[Any] = image.numpy().reshape(image.height, image.width, image.bands)
    if image.format == "uint":
        array = _of_32_bits(array, name)
        notes.append("the lower 16 of 32 bits")
    return split(array, metadata), notes


def split(array: Pixels, metadata: Metadata) -> Image:
    """Splits an array of H, W, 1 to 4 channels into pixels and alpha."""
    has_alpha = array.shape[2] in (2, 4)
    channels = 1 if array.shape[2] <= 2 else 3
    pixels: Pixels = np.ascontiguousarray(array[:, :, :channels])
    return Image(pixels, np.ascontiguousarray(array[:, :, -1]) if has_alpha else None, metadata)


def integers(image: pyvips.Image, metadata: Metadata, name: str) -> tuple[pyvips.Image, Metadata, list[str]]:
    """Converts a libvips image to unsigned samples of 8, 16 or 32 bits, gray or RGB.

    Returns:
        The libvips image, its metadata, and notes on conversions.

    Raises:
        ImageError: samples without defined black and white, or an unsupported number of channels.
        pyvips.Error: the profile cannot be used.
    """
    notes: list[str] = []
    sample = image.format
    if image.interpretation == "cmyk":
        if sample not in ("uchar", "ushort"):
            raise ImageError(f"{name}: has CMYK samples of type {sample}; convert them to 8 or 16 bits first")
        with_profile = metadata.icc is not None
        image = image.icc_transform("srgb", embedded=with_profile, depth=16 if sample == "ushort" else 8)
        metadata = replace(metadata, icc=None)  # it does not describe the converted pixels
        notes.append(f"CMYK, converted to sRGB through {'its' if with_profile else 'a general'} profile")
    elif image.interpretation in ("scrgb", "lab", "labs", "xyz", "labq", "lch") or sample in ("float", "double"):
        raise ImageError(
            f"{name}: has floating-point or Lab samples, whose black and white are not defined; convert them to 8 or "
            f"16 bits RGB first"
        )
    elif sample in ("char", "short", "int"):
        bits = {"char": 8, "short": 16, "int": 32}[sample]
        raise ImageError(
            f"{name}: has signed samples of {bits} bits, whose black and white are not defined; convert them to "
            f"unsigned 8 or 16 bits first"
        )
    elif sample not in ("uchar", "ushort", "uint"):
        raise ImageError(f"{name}: has samples of type {sample}; convert them to unsigned 8 or 16 bits first")
    if image.bands > 4:
        raise ImageError(f"{name}: has {image.bands} channels; 1 to 4 can be read")
    if sample != "uint":
        wide, gray = image.format == "ushort", image.bands <= 2
        image = image.colourspace(("grey16" if gray else "rgb16") if wide else ("b-w" if gray else "srgb"))
    return image, metadata, notes


def full_range(image: Image, bits: int) -> Image:
    """Scales samples so that white is 65535.

    Args:
        image: image whose samples are stored in the upper `bits` of 16 bits, as libvips decodes AVIF.
        bits: bits per sample.
    """

    def stretch(values: Pixels) -> Pixels:
        stored = (values >> (16 - bits)).astype(np.uint32)
        return ((stored * 65535 + (1 << (bits - 1))) // ((1 << bits) - 1)).astype(np.uint16)

    return replace(image, pixels=stretch(image.pixels), alpha=None if image.alpha is None else stretch(image.alpha))


def to_16_bits(image: Image) -> Image:
    """Widens 8-bit samples to the same values in 16 bits."""

    def widen(values: Pixels) -> Pixels:
        return values.astype(np.uint16) * np.uint16(257) if values.dtype == np.uint8 else values

    return replace(image, pixels=widen(image.pixels), alpha=None if image.alpha is None else widen(image.alpha))


def _of_32_bits(array: NDArray[np.uint32], name: str) -> NDArray[np.uint16]:
    brightest = int(array.max())
    if 0 < brightest < 65536:  # detector counts or labels, which would become black in 16 bits
        raise ImageError(
            f"{name}: has samples of 32 bits of which none is above {brightest}; as an image it would be black, "
            f"convert it to 8 or 16 bits first"
        )
    return ((array.astype(np.uint64) + 32768) // 65537).astype(np.uint16)
