"""Splits an image into overlapping tiles whose combined results equal the result of the whole image.

A tile is computed from a region that extends one halo beyond it on each side. With a halo of the network's receptive
radius, every output pixel depends on the same input as without tiles. Deep networks have radii of hundreds of pixels,
of which distant ones hardly matter, so their halo is shorter. At the image border the region ends, and zero padding
applies as for the whole image.
"""

import itertools
import math
from dataclasses import dataclass

from srgan_fast.errors import UsageError

# Low-resolution pixels per region by default. Peak memory grows with it; smaller tiles spend more time on halos.
DEFAULT_REGION_AREA = 448 * 448


# Receptive radii up to this are used as the halo, so that tiling does not change the result.
EXACT_HALO = 64
# Halo of networks with larger radii: the result then differs slightly from that of the whole image.
SHORT_HALO = 32


@dataclass(frozen=True, slots=True)
class Tile:
    """Core of a tile and the region that it is computed from, in low-resolution pixels, ends exclusive."""

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

    @property
    def region(self) -> tuple[slice, slice]:
        """Rows and columns of the region in the image."""
        return slice(self.region_top, self.region_bottom), slice(self.region_left, self.region_right)

    def core(self, scale: int) -> tuple[slice, slice]:
        """Rows and columns of the core in the output."""
        return slice(self.top * scale, self.bottom * scale), slice(self.left * scale, self.right * scale)

    def core_in_region(self, scale: int) -> tuple[slice, slice]:
        """Rows and columns of the core in the output of its region."""
        top, left = (self.top - self.region_top) * scale, (self.left - self.region_left) * scale
        rows, columns = (self.bottom - self.top) * scale, (self.right - self.left) * scale
        return slice(top, top + rows), slice(left, left + columns)


def choose_halo(radius: int, asked: int | None = None) -> int:
    """Pixels of context around a tile: the requested number, else the exact radius up to `EXACT_HALO`.

    Args:
        radius: the network's receptive radius.
        asked: requested halo; more than the radius has no effect.

    Raises:
        UsageError: the halo is negative.
    """
    if asked is None:
        return radius if radius <= EXACT_HALO else SHORT_HALO
    if asked < 0:
        raise UsageError(f"halo is {asked}; it must be a number of pixels")
    return min(asked, radius)


def plan_tiles(height: int, width: int, halo: int, tile: int | None = None, multiple: int = 1) -> list[Tile]:
    """Tiles whose cores partition an image.

    Args:
        height: rows of the image.
        width: columns of the image.
        halo: pixels of context around each tile.
        tile: side of a core; 0 for a single tile; None for a size that bounds memory.
        multiple: region edges are rounded outwards to multiples of it (pixel-unshuffle); so must be the image's sides.

    Raises:
        UsageError: the tile size is negative.
    """
    if tile is not None and tile < 0:
        raise UsageError(f"tile is {tile}; it must be 0 (no tiles) or a number of pixels")
    reach = halo + multiple - 1  # largest extent, including the rounding of edges
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
    """Region of a core's span."""
    first, last = (begin - halo) // multiple * multiple, -(-(end + halo) // multiple) * multiple
    return max(0, first), min(size, last)


def _spans(size: int, longest: int) -> list[tuple[int, int]]:
    """Splits 0..size into as few spans as possible, of nearly equal length."""
    count = -(-size // longest)
    edges = [size * i // count for i in range(count + 1)]
    return list(itertools.pairwise(edges))
