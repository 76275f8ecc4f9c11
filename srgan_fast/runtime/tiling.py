"""Cutting an image into overlapping tiles whose results, put together, equal the whole image's result.

A tile is computed from a region that reaches one halo further on each side. With a halo of the network's receptive
radius every output pixel sees the same input as it would in one piece; deep networks reach hundreds of pixels, of
which the far ones hardly matter, so theirs is shorter. At the image's border the region ends there, and zero padding
applies as it should.
"""

import itertools
import math
from dataclasses import dataclass

from srgan_fast.errors import UsageError

# Low-resolution pixels in one region where nobody asks for a tile size. Peak memory of the libraries grows with it;
# smaller tiles compute more halo.
DEFAULT_REGION_AREA = 448 * 448


# Receptive radii up to this are halos as they are, so that tiles change nothing.
EXACT_HALO = 64
# Of networks that reach further: tiles then differ from the whole image by what lies beyond.
SHORT_HALO = 32


@dataclass(frozen=True, slots=True)
class Tile:
    """A core of the image and the region it is computed from, in low-resolution pixels, ends exclusive."""

    top: int
    bottom: int
    left: int
    right: int
    region_top: int
    region_bottom: int
    region_left: int
    region_right: int

    @property
    def area(self) -> int:
        """Pixels of the core."""
        return (self.bottom - self.top) * (self.right - self.left)


def choose_halo(radius: int, asked: int | None = None) -> int:
    """Pixels of context around a tile: as asked for, else exact where that is not absurd.

    Args:
        radius: the network's receptive radius.
        asked: halo that is asked for; more than the radius changes nothing.

    Raises:
        UsageError: a negative halo.
    """
    if asked is None:
        return radius if radius <= EXACT_HALO else SHORT_HALO
    if asked < 0:
        raise UsageError(f"halo is {asked}; it must be a number of pixels")
    return min(asked, radius)


def plan_tiles(height: int, width: int, halo: int, tile: int | None = None, multiple: int = 1) -> list[Tile]:
    """Tiles that cover an image once.

    Args:
        height: rows of the image.
        width: columns of the image.
        halo: pixels of context around each.
        tile: side of a core; 0 for the whole image in one piece; None for a size that bounds memory.
        multiple: that edges of regions are moved outwards to, and the image's sides are: of a pixel-unshuffle.

    Raises:
        UsageError: a negative tile.
    """
    if tile is not None and tile < 0:
        raise UsageError(f"tile is {tile}; it must be 0 (no tiles) or a number of pixels")
    reach = halo + multiple - 1  # at most, with what edges are moved by
    if tile is None:
        fits = height * width <= DEFAULT_REGION_AREA
        tile = 0 if fits else max(32, math.isqrt(DEFAULT_REGION_AREA) - 2 * reach)
    rows = _spans(height, tile or height)
    columns = _spans(width, tile or width)
    return [
        Tile(
            top, bottom, left, right,
            *_region(top, bottom, height, halo, multiple), *_region(left, right, width, halo, multiple),
        )
        for top, bottom in rows
        for left, right in columns
    ]  # fmt: skip


def _region(begin: int, end: int, size: int, halo: int, multiple: int) -> tuple[int, int]:
    """What a span of a core is computed from."""
    first, last = (begin - halo) // multiple * multiple, -(-(end + halo) // multiple) * multiple
    return max(0, first), min(size, last)


def _spans(size: int, longest: int) -> list[tuple[int, int]]:
    """Cuts 0..size into as few spans as possible, of nearly equal length."""
    count = -(-size // longest)
    edges = [size * i // count for i in range(count + 1)]
    return list(itertools.pairwise(edges))
