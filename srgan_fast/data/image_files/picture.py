"""Decoded images: pixels, what describes them, and the frames of a file that holds several."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8 | np.uint16]
# x and y of white, red, green and blue, as PNG's cHRM has them.
Chromaticities = tuple[float, float, float, float, float, float, float, float]


@dataclass(frozen=True, slots=True)
class Text:
    """A comment: PNG's keyword and text. JPEG's and GIF's comments have the keyword `Comment`, TIFF's `Description`."""

    keyword: str
    text: str


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a file says about its pixels, apart from any format.

    Attributes:
        icc: ICC profile.
        exif: EXIF as a TIFF block, without JPEG's prefix; its orientation is 1.
        xmp: XMP packet; its orientation is 1.
        iptc: IPTC-IIM records.
        density: dots per inch, horizontally and vertically.
        texts: comments.
        srgb_intent: rendering intent of PNG's sRGB chunk.
        gamma: exponent of PNG's gAMA chunk, 0.45455 for what is shown with 2.2.
        chromaticities: of PNG's cHRM chunk.
        cicp: of PNG's cICP chunk: primaries, transfer curve, matrix and full range, numbered as in ITU-T H.273.
    """

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    density: tuple[float, float] | None = None
    texts: tuple[Text, ...] = ()
    srgb_intent: int | None = None
    gamma: float | None = None
    chromaticities: Chromaticities | None = None
    cicp: tuple[int, int, int, int] | None = None


@dataclass(frozen=True, slots=True)
class Image:
    """A decoded image, upright, colour or gray, in the colour space that its metadata names (sRGB if none).

    Attributes:
        pixels: H, W, 3 (colour) or H, W, 1 (gray); uint8 or uint16, full range.
        alpha: H, W in the same dtype, or None.
        metadata: what describes the pixels.
    """

    pixels: Pixels
    alpha: Pixels | None = None
    metadata: Metadata = field(default_factory=Metadata)

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


NextRows = Callable[[int], Image]
"""Gives the next so many rows of an image, as an image of that height."""


@dataclass(frozen=True, slots=True)
class RowSource:
    """An image of which only some rows are in memory at a time, upright.

    Attributes:
        height: rows.
        width: columns.
        dtype: uint8 or uint16.
        is_gray: whether there is one channel beside alpha.
        has_alpha: whether there is transparency.
        metadata: what describes the pixels.
        begin: starts at the top, each time it is called. What it gives raises ImageError where the file is damaged.
        notes: what the file held that is not here, one clause each.
        held: bytes that decoding takes because the file gives its rows in another order; 0 mostly.
    """

    height: int
    width: int
    dtype: np.dtype[Any]
    is_gray: bool
    has_alpha: bool
    metadata: Metadata
    begin: Callable[[], NextRows]
    notes: tuple[str, ...] = ()
    held: int = 0


@dataclass(frozen=True, slots=True)
class Timing:
    """Timing of an animation.

    Attributes:
        delays: milliseconds that each frame is shown.
        loop: how many times it is played; 0 for ever.
    """

    delays: tuple[int, ...]
    loop: int = 0


@dataclass(frozen=True, slots=True)
class ImageFile:
    """Everything in a file.

    Attributes:
        frames: one image, the frames of an animation, or pages.
        timing: of an animation; None for one image and for pages.
        notes: what the file held that is not here, one clause each.
    """

    frames: tuple[Image, ...]
    timing: Timing | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Header:
    """What a file's header says.

    Attributes:
        height: rows of the first frame, upright.
        width: columns of the first frame, upright.
        frames: number of frames or pages.
        kind: `animation`, `pages` or `image`.
        pixels: of all frames together, as stored.
    """

    height: int
    width: int
    frames: int = 1
    kind: Literal["image", "animation", "pages"] = "image"
    pixels: int = 0
