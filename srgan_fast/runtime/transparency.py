"""Colours below fully transparent pixels: often arbitrary, and not to bleed into visible edges."""

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Pixel = TypeVar("Pixel", bound=np.uint8 | np.uint16)
REACH = 8  # pixels around the visible part that get colours of their neighbours


def fill_transparent(
    rgb: NDArray[Pixel], alpha: NDArray[Pixel], reach: int = REACH, hidden: NDArray[np.float64] | None = None
) -> NDArray[Pixel]:
    """Colours of fully transparent pixels near visible ones, replaced by the mean of their known neighbours.

    Args:
        rgb: H, W, 3 (or 1).
        alpha: H, W; 0 is fully transparent.
        reach: how many pixels far from the visible part.
        hidden: colour of what lies further; the mean of all known colours if None. Of a part of a picture, which needs
            `reach` pixels around what is used of it, it is the whole picture's.

    Returns:
        A new array, or `rgb` itself where there is nothing to fill. What lies further than `reach` gets the mean of all
        known colours, so that nothing hidden is left to shine through.
    """
    known: NDArray[Any] = alpha > 0
    if known.all() or (hidden is None and not known.any()):
        return rgb
    colours = rgb.astype(np.float32)
    visible = colours[known].mean(axis=0, dtype=np.float64) if hidden is None else hidden
    for _ in range(reach):
        weight = np.pad(known, 1).astype(np.float32)
        values = np.pad(np.where(known[..., None], colours, 0), ((1, 1), (1, 1), (0, 0)))
        near = weight[:-2, 1:-1] + weight[2:, 1:-1] + weight[1:-1, :-2] + weight[1:-1, 2:]
        total = values[:-2, 1:-1] + values[2:, 1:-1] + values[1:-1, :-2] + values[1:-1, 2:]
        fresh = ~known & (near > 0)
        if not fresh.any():
            break
        colours[fresh] = total[fresh] / near[fresh][:, None]
        known = known | fresh
    colours[~known] = visible
    return np.rint(colours).astype(rgb.dtype)
