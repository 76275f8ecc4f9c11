"""Decoded images: pixels, metadata, and files with several frames or pages."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8 | np.uint16]
# x and y of white, red, green and blue, in the order of PNG's cHRM chunk.
Chromaticities = tuple[float, float, float, float, float, float, float, float]


@dataclass(frozen=True, slots=True)
class Text:
    """A comment with its PNG keyword; the keyword is `Comment` for JPEG and GIF, `Description` for TIFF."""

    keyword: str
    text: str


@dataclass(frozen=True, slots=True)
class Metadata:
    """Metadata of an image, independent of the file format.

    Attributes:
        icc: ICC profile.
        exif: EXIF as a TIFF block, without JPEG's prefix; its orientation is 1.
        xmp: XMP packet; its orientation is 1.
        iptc: IPTC-IIM records.
        density: horizontal and vertical resolution in dots per inch.
        texts: comments.
        srgb_intent: rendering intent of PNG's sRGB chunk.
        gamma: exponent of PNG's gAMA chunk; 0.45455 for a display gamma of 2.2.
        chromaticities: chromaticities of PNG's cHRM chunk.
        cicp: primaries, transfer function, matrix and full-range flag of PNG's cICP chunk, numbered as in ITU-T H.273.
        mastering_display: content of PNG's mDCV chunk: primaries and luminances of the display of the grading (SMPTE ST
            2086).
        light_levels: content of PNG's cLLI chunk: brightest pixel and brightest mean of a frame (CTA 861.3).
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
    mastering_display: bytes | None = None
    light_levels: bytes | None = None


@dataclass(frozen=True, slots=True)
class Image:
    """A decoded image, upright, colour or gray, in the colour space given by its metadata (sRGB by default).

    Attributes:
        pixels: H, W, 3 (colour) or H, W, 1 (gray); uint8 or uint16, full range.
        alpha: H, W in the same dtype, or None.
        metadata: metadata of the image.
    """

    pixels: Pixels
    alpha: Pixels | None = None
    metadata: Metadata = field(default_factory=Metadata)

    @property
    def height(self) -> int:
        """Number of rows."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Number of columns."""
        return int(self.pixels.shape[1])

    @property
    def is_gray(self) -> bool:
        """Whether the image has one channel besides alpha."""
        return bool(self.pixels.shape[2] == 1)

    def rgb(self) -> Pixels:
        """Pixels as H, W, 3; a gray channel is repeated."""
        return np.repeat(self.pixels, 3, axis=2) if self.is_gray else self.pixels


NextRows = Callable[[int], Image]
"""Returns the given number of next rows of an image, as an image of that height."""


@dataclass(frozen=True, slots=True)
class RowSource:
    """An upright image that is read by rows, so that only some of them are in memory at a time.

    Attributes:
        height: number of rows.
        width: number of columns.
        dtype: uint8 or uint16.
        is_gray: whether the image has one channel besides alpha.
        has_alpha: whether the image has an alpha channel.
        metadata: metadata of the image.
        begin: starts reading at the first row, on every call; the returned function raises ImageError if the file is
            damaged.
        notes: contents of the file that were dropped, one clause each.
        held: bytes that the decoder buffers because the file does not store its rows in order; 0 for most files.
    """

    height: int
    width: int
    dtype: np.dtype[np.uint8 | np.uint16]
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
        delays: duration of each frame in milliseconds.
        loop: number of times the animation is played; 0 for an infinite loop.
    """

    delays: tuple[int, ...]
    loop: int = 0


@dataclass(frozen=True, slots=True)
class ImageFile:
    """All decoded contents of a file.

    Attributes:
        frames: one image, the frames of an animation, or pages.
        timing: timing of an animation; None for one image and for pages.
        notes: contents of the file that were dropped, one clause each.
    """

    frames: tuple[Image, ...]
    timing: Timing | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Header:
    """Size and number of frames, as read from a file's header.

    Attributes:
        height: number of rows of the first frame, upright.
        width: number of columns of the first frame, upright.
        frames: number of frames or pages.
        kind: `animation`, `pages` or `image`.
        pixels: number of pixels of all frames, as stored.
    """

    height: int
    width: int
    frames: int = 1
    kind: Literal["image", "animation", "pages"] = "image"
    pixels: int = 0
