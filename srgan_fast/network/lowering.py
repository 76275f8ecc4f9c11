"""From what architectures are made of to plain convolutions: every function is exact up to one rounding.

All take and give float64, so that what is folded twice is rounded once, by `rounded`.
"""

import numpy as np
from numpy.typing import NDArray

from srgan_fast.errors import ModelError
from srgan_fast.network.graph import Array, ColourMap

Exact = NDArray[np.float64]


def rounded(array: Exact | Array, what: str) -> Array:
    """float32 of an array, contiguous.

    Raises:
        ModelError: a value leaves float32's range, as with a variance and an epsilon of 0.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        result = np.ascontiguousarray(array, np.float32)
    if not np.isfinite(result).all():
        raise ModelError(
            f"{what}: its values leave float32's range when they are folded; the file is damaged or training diverged"
        )
    return result


def fold_batchnorm(
    weight: Exact, bias: Exact, *, gamma: Array, beta: Array, mean: Array, variance: Array, eps: float
) -> tuple[Exact, Exact]:
    """Weights and bias of a convolution with the BatchNorm that follows it, in evaluation.

    There BatchNorm is `gamma * (x - mean) / sqrt(variance + eps) + beta`, an affine map for each channel.

    Args:
        weight: C_out, C_in, k, k.
        bias: C_out.
        gamma: C_out, BatchNorm's weight.
        beta: C_out, BatchNorm's bias.
        mean: C_out, running.
        variance: C_out, running.
        eps: BatchNorm's.
    """
    with np.errstate(all="ignore"):  # what leaves the range is found by `rounded`
        gain = gamma.astype(np.float64) / np.sqrt(variance.astype(np.float64) + eps)
        return weight * gain[:, None, None, None], (bias - mean) * gain + beta


def nearest_as_phases(weight: Exact, bias: Exact, factor: int) -> tuple[Exact, Exact]:
    """A convolution of an image enlarged by nearest neighbour, as one of the image itself and a pixel shuffle.

    Each of the factor^2 pixels that an image pixel becomes sees the same few image pixels, with weights that are sums
    of the convolution's. Zero padding stays zero padding.

    Args:
        weight: C_out, C_in, k, k, with k odd and k // 2 at most `factor`.
        bias: C_out.
        factor: of the enlargement.

    Returns:
        C_out * factor^2, C_in, 3, 3 and C_out * factor^2, in the order of `Conv.shuffle`.
    """
    c_out, c_in, size = weight.shape[:3]
    radius = size // 2
    assert radius <= factor, "a wider kernel sees more than the neighbouring pixels"
    phases = np.zeros((c_out, factor, factor, c_in, 3, 3))
    for dy in range(factor):
        for dx in range(factor):
            for ky in range(size):
                for kx in range(size):
                    # Row dy + ky - radius of the enlarged image, counted from the first of this pixel's own.
                    y, x = (dy + ky - radius) // factor, (dx + kx - radius) // factor
                    phases[:, dy, dx, :, y + 1, x + 1] += weight[:, :, ky, kx]
    return phases.reshape(-1, c_in, 3, 3), np.repeat(bias, factor**2)


def slopes_before_shuffle(slopes: Array, factor: int) -> Array:
    """Slopes of an activation after a pixel shuffle, for the channels before it.

    Args:
        slopes: 1 or C, of the shuffled channels.
        factor: of the shuffle.

    Returns:
        1 or C * factor^2.
    """
    return slopes.reshape(-1) if slopes.size == 1 else np.repeat(slopes.reshape(-1), factor**2)


def fold_output_map(weight: Exact, bias: Exact, values: ColourMap, shuffle: int = 1) -> tuple[Exact, Exact]:
    """Weights and bias of a linear last convolution with the colour map that follows it.

    (An input's map cannot go into the first convolution: zero padding lies between the two.)

    Args:
        weight: C * shuffle^2, C_in, k, k.
        bias: C * shuffle^2.
        values: of C channels.
        shuffle: the convolution's own.
    """
    gain, offset = (np.repeat(np.array(v, np.float64), shuffle**2) for v in (values.gain, values.offset))
    return weight * gain[:, None, None, None], bias * gain + offset


def embedded(weight: Exact, size: int) -> Exact:
    """A kernel in the middle of a larger one that computes the same.

    Args:
        weight: C_out, C_in, k, k.
        size: odd, at least k.
    """
    margin = (size - weight.shape[2]) // 2
    return np.pad(weight, ((0, 0), (0, 0), (margin, margin), (margin, margin)))


__all__ = [
    "Exact",
    "embedded",
    "fold_batchnorm",
    "fold_output_map",
    "nearest_as_phases",
    "rounded",
    "slopes_before_shuffle",
]
