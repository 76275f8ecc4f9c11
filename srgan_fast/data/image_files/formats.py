"""File formats: their suffixes, and what each can hold."""

import importlib.util
from dataclasses import dataclass
from functools import cache
from typing import Literal

Format = Literal["png", "jpg", "webp", "tif", "gif", "apng", "avif"]

# Written by our own encoders' side of the table below; libvips reads all of them.
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

# Read by the libraries of the extra `formats`, by suffix: the module that has to be there.
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

# Of images that nothing here reads: whoever names a result so does not mean a folder.
OTHER_SUFFIXES = frozenset({".exr", ".hdr", ".jp2", ".psd", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".svg", ".ico"})


@dataclass(frozen=True, slots=True)
class Traits:
    """What a format holds.

    Attributes:
        max_side: largest width and height in pixels, or None.
        bits: most bits a sample that are written here.
        alpha: whether transparency is held.
        gray: whether there are gray images; else they are stored as RGB.
        several: `animation` (frames with timing), `pages`, or None for one image.
        icc: whether a profile is held.
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
    "jpg": Traits(65500, 8, False, True, None, True),  # libjpeg's limit; the format itself would hold 35 more
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
    """Suffixes of images that can be read with what is installed."""
    extra = {suffix for suffix, module in EXTRA_SUFFIXES.items() if has_module(module)}
    return frozenset(FORMAT_OF_SUFFIX) | extra


def known_suffixes() -> frozenset[str]:
    """Suffixes of images, whether or not they can be read."""
    return frozenset(FORMAT_OF_SUFFIX) | frozenset(EXTRA_SUFFIXES) | OTHER_SUFFIXES


def written_suffixes() -> str:
    """The suffixes that can be written, for messages."""
    return ".png, .jpg, .webp, .tif, .gif, .apng or .avif"
