"""Colours of fully transparent pixels, which are often arbitrary and must not bleed into visible edges."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Pixel = TypeVar("Pixel", bound=np.uint8 | np.uint16)
REACH = 8  # width in pixels of the area around the visible part that is filled with colours of neighbours


def fill_transparent(
    rgb: NDArray[Pixel], alpha: NDArray[Pixel], reach: int = REACH, hidden: NDArray[np.float64] | None = None
) -> NDArray[Pixel]:
    """Replaces the colours of fully transparent pixels near visible ones by the mean of their known neighbours.

    Args:
        rgb: H, W, 3 (or 1).
        alpha: H, W; 0 is fully transparent.
        reach: distance from the visible part, in pixels, up to which neighbours' colours are used.
        hidden: colour of pixels farther away; the mean of all visible colours if None. For a part of an image it must
            be the mean of the whole image, and the part must include `reach` pixels around the area that is used.

    Returns:
        A new array, or `rgb` itself if there is nothing to fill. All hidden colours are replaced, so that none of them
        can show through.
    """
    known: NDArray[np.bool_] = alpha > 0
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
