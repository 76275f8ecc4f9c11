"""File formats: suffixes and capabilities."""

import importlib.util
from dataclasses import dataclass
from functools import cache
from typing import Literal

Format = Literal["png", "jpg", "webp", "tif", "gif", "apng", "avif"]

# Formats that can be written; libvips reads all of them.
FORMAT_OF_SUFFIX: dict[str, Format] = {
    ".png": "png",
    ".apng": "apng",
    ".jpg": "jpg",
    ".jpeg": "jpg",
    ".webp": "webp",
    ".tif": "tif",
    ".tiff": "tif",
    ".gif": "gif",
    ".avif": "avif",
}

# Suffixes of formats that the libraries of the extra `formats` read, with the required module.
EXTRA_SUFFIXES: dict[str, str] = {
    ".bmp": "PIL",
    ".ppm": "PIL",
    ".pgm": "PIL",
    ".pbm": "PIL",
    ".pnm": "PIL",
    ".tga": "PIL",
    ".heic": "pillow_heif",
    ".heif": "pillow_heif",
    ".jxl": "imagecodecs",
}
EXTRA_HINT = "pip install 'srgan_fast[formats]'"

# Suffixes of image formats that are not supported; an output with such a suffix is not meant as a folder.
OTHER_SUFFIXES = frozenset({".exr", ".hdr", ".jp2", ".psd", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".svg", ".ico"})


@dataclass(frozen=True, slots=True)
class Traits:
    """Capabilities of a format.

    Attributes:
        max_side: largest width and height in pixels; None if unlimited.
        bits: maximum bits per sample that our encoder writes.
        alpha: whether alpha is supported.
        gray: whether gray images are supported; otherwise they are stored as RGB.
        several: `animation` (frames with timing), `pages`, or None for a single image.
        icc: whether ICC profiles are supported.
    """

    max_side: int | None
    bits: int
    alpha: bool
    gray: bool
    several: Literal["animation", "pages"] | None
    icc: bool


_PNG = Traits(None, 16, True, True, "animation", True)
TRAITS: dict[Format, Traits] = {
    "png": _PNG,
    "apng": _PNG,
    "jpg": Traits(65500, 8, False, True, None, True),  # libjpeg's limit; the format's is 65535
    "webp": Traits(16383, 8, True, False, "animation", True),
    "tif": Traits(None, 16, True, True, "pages", True),
    "gif": Traits(65535, 8, True, False, "animation", False),
    "avif": Traits(16384, 12, True, True, None, True),
}


@cache
def has_module(name: str) -> bool:
    """Whether an optional library is installed."""
    return importlib.util.find_spec(name) is not None


@cache
def readable_suffixes() -> frozenset[str]:
    """Suffixes of image formats that can be read with the installed libraries."""
    extra = {suffix for suffix, module in EXTRA_SUFFIXES.items() if has_module(module)}
    return frozenset(FORMAT_OF_SUFFIX) | extra


def known_suffixes() -> frozenset[str]:
    """Suffixes of all known image formats, including those that cannot be read."""
    return frozenset(FORMAT_OF_SUFFIX) | frozenset(EXTRA_SUFFIXES) | OTHER_SUFFIXES


def written_suffixes() -> str:
    """Suffixes that can be written, as text for messages."""
    return ".png, .jpg, .webp, .tif, .gif, .apng or .avif"
