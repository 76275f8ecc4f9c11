"""Cutting a picture into overlapping tiles whose results, put together, equal the whole picture's result.

A tile is computed from a region that reaches one halo further on each side, so that every output pixel sees the same
input as it would in one piece. At the picture's border the region ends there, and zero padding applies as it should.
"""

import itertools
import math
from dataclasses import dataclass

from srgan_fast.errors import UsageError

# Low-resolution pixels in one region where nobody asks for a tile size. Peak memory of the libraries grows with it;
# smaller tiles compute more halo.
DEFAULT_REGION_AREA = 448 * 448


@dataclass(frozen=True, slots=True)
class Tile:
    """A core of the picture and the region it is computed from, in low-resolution pixels, ends exclusive."""

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


def plan_tiles(height: int, width: int, halo: int, tile: int | None = None) -> list[Tile]:
    """Tiles that cover a picture once.

    Args:
        height: rows of the picture.
        width: columns of the picture.
        halo: the model's receptive radius.
        tile: side of a core; 0 for the whole picture in one piece; None for a size that bounds memory.

    Raises:
        UsageError: a negative tile.
    """
    if tile is not None and tile < 0:
        raise UsageError(f"tile is {tile}; it must be 0 (no tiles) or a number of pixels")
    if tile is None:
        fits = height * width <= DEFAULT_REGION_AREA
        tile = 0 if fits else max(32, math.isqrt(DEFAULT_REGION_AREA) - 2 * halo)
    rows = _spans(height, tile or height)
    columns = _spans(width, tile or width)
    return [
        Tile(
            top, bottom, left, right,
            max(0, top - halo), min(height, bottom + halo), max(0, left - halo), min(width, right + halo),
        )
        for top, bottom in rows
        for left, right in columns
    ]  # fmt: skip


def _spans(size: int, longest: int) -> list[tuple[int, int]]:
    """Cuts 0..size into as few spans as possible, of nearly equal length."""
    count = -(-size // longest)
    edges = [size * i // count for i in range(count + 1)]
    return list(itertools.pairwise(edges))
