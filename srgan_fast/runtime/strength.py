"""Blending of a network's result with bicubic interpolation, which adds no invented detail."""

import math

import numpy as np
from numpy.typing import NDArray

from srgan_fast.data.images import Pixels
from srgan_fast.data.resize import resize_bicubic
from srgan_fast.errors import UsageError

CONTEXT = 3  # rows above and below a row that bicubic interpolation reads
_BAND = 64  # low-resolution rows that are interpolated at a time, to bound memory


def checked_strength(strength: float) -> float:
    """Returns the strength if it is valid.

    Raises:
        UsageError: It is not a number in 0..1.
    """
    if not (math.isfinite(strength) and 0 <= strength <= 1):
        raise UsageError(f"strength is {strength:g}; it must be between 0 (bicubic interpolation) and 1 (the model)")
    return strength


def blend(result: Pixels, interpolated: Pixels, strength: float) -> Pixels:
    """Returns `strength * result + (1 - strength) * interpolated`, rounded.

    Args:
        result: The network's result of shape (H, W, C), uint8 or uint16.
        interpolated: Interpolated image of the same shape and dtype.
        strength: Weight of the network's result in 0..1.
    """
    mixed: NDArray[np.float32] = interpolated + np.float32(strength) * (result.astype(np.float32) - interpolated)
    return np.rint(mixed).astype(result.dtype)


def blend_in_place(result: Pixels, image: Pixels, strength: float, scale: int) -> None:
    """Blends a whole result with the interpolated image.

    Args:
        result: The network's result of shape (scale * H, scale * W, C); overwritten.
        image: The original image of shape (H, W, C) and the same dtype.
        strength: Weight of the network's result in 0..1.
        scale: Upscaling factor.
    """
    height = image.shape[0]
    for first in range(0, height, _BAND):
        end = min(height, first + _BAND)
        part = slice(first * scale, end * scale)
        low, high = max(0, first - CONTEXT), min(height, end + CONTEXT)
        result[part] = blend(result[part], interpolate_rows(image[low:high], low, part, scale), strength)


def interpolate_rows(rows: Pixels, low: int, part: slice, scale: int) -> Pixels:
    """Computes rows `part` of the interpolated image.

    Args:
        rows: Rows of the image from `low` on, with `CONTEXT` additional rows on both sides, fewer at the borders.
        low: Index of the first of these rows.
        part: Requested rows of the interpolated image.
        scale: Upscaling factor.
    """
    if scale == 1:
        return rows[part.start - low : part.stop - low]
    larger = resize_bicubic(np.ascontiguousarray(rows), len(rows) * scale, rows.shape[1] * scale)
    return larger[part.start - low * scale : part.stop - low * scale]
