"""How much of a result is the network's; the rest is bicubic interpolation, which invents nothing."""

import math

import numpy as np
from numpy.typing import NDArray

from srgan_fast.data.images import Pixels
from srgan_fast.data.resize import resize_bicubic
from srgan_fast.errors import UsageError

CONTEXT = 3  # rows around a row that bicubic interpolation reads
_BAND = 64  # low-resolution rows at a time, which bounds the memory for the interpolated image


def checked_strength(strength: float) -> float:
    """The strength itself.

    Raises:
        UsageError: It is not a number in 0..1.
    """
    if not (math.isfinite(strength) and 0 <= strength <= 1):
        raise UsageError(f"strength is {strength:g}; it must be between 0 (bicubic interpolation) and 1 (the model)")
    return strength


def blend(result: Pixels, interpolated: Pixels, strength: float) -> Pixels:
    """`strength` times the network's result plus the rest of the interpolated image, rounded.

    Args:
        result: Array of shape (H, W, C), uint8 or uint16.
        interpolated: Likewise.
        strength: 0..1.
    """
    mixed: NDArray[np.float32] = interpolated + np.float32(strength) * (result.astype(np.float32) - interpolated)
    return np.rint(mixed).astype(result.dtype)


def blend_in_place(result: Pixels, image: Pixels, strength: float, scale: int) -> None:
    """Blends a whole result with the interpolated image.

    Args:
        result: Array of shape (scale * H, scale * W, C); overwritten.
        image: Array of shape (H, W, C) of the same dtype.
        strength: 0..1.
        scale: Factor between the two.
    """
    height = image.shape[0]
    for first in range(0, height, _BAND):
        end = min(height, first + _BAND)
        part = slice(first * scale, end * scale)
        low, high = max(0, first - CONTEXT), min(height, end + CONTEXT)
        result[part] = blend(result[part], interpolate_rows(image[low:high], low, part, scale), strength)


def interpolate_rows(rows: Pixels, low: int, part: slice, scale: int) -> Pixels:
    """Rows `part` of the interpolated image.

    Args:
        rows: The image's rows from `low` on, with `CONTEXT` rows around what is wanted, fewer at the image's border.
        low: Index of the first of them.
        part: Rows of the interpolated image.
        scale: Factor.
    """
    if scale == 1:
        return rows[part.start - low : part.stop - low]
    larger = resize_bicubic(np.ascontiguousarray(rows), len(rows) * scale, rows.shape[1] * scale)
    return larger[part.start - low * scale : part.stop - low * scale]
