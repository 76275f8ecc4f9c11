"""Lowering of layers to plain convolutions; every function is exact up to one rounding.

Arrays are float64 throughout, so that values folded more than once are rounded only once, by `rounded`.
"""

import numpy as np
from numpy.typing import NDArray

from srgan_fast.errors import ModelError
from srgan_fast.network.graph import Array, ColourMap

Exact = NDArray[np.float64]


def rounded(array: Exact | Array, what: str) -> Array:
    """Converts an array to contiguous float32.

    Raises:
        ModelError: a value exceeds float32's range, e.g. after folding a BatchNorm whose variance and epsilon are 0.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        result = np.ascontiguousarray(array, np.float32)
    if not np.isfinite(result).all():
        raise ModelError(f"{what}: folded values exceed float32's range; the file is damaged or training diverged")
    return result


def fold_batchnorm(
    weight: Exact, bias: Exact, *, gamma: Array, beta: Array, mean: Array, variance: Array, eps: float
) -> tuple[Exact, Exact]:
    """Folds the BatchNorm after a convolution into its weights and bias.

    In evaluation mode BatchNorm is `gamma * (x - mean) / sqrt(variance + eps) + beta`, an affine map per channel.

    Args:
        weight: C_out, C_in, k, k.
        bias: C_out.
        gamma: C_out, BatchNorm's weight.
        beta: C_out, BatchNorm's bias.
        mean: C_out, running mean.
        variance: C_out, running variance.
        eps: BatchNorm's epsilon.
    """
    with np.errstate(all="ignore"):  # values out of range are reported by `rounded`
        gain = gamma.astype(np.float64) / np.sqrt(variance.astype(np.float64) + eps)
        return weight * gain[:, None, None, None], (bias - mean) * gain + beta


def nearest_as_phases(weight: Exact, bias: Exact, factor: int) -> tuple[Exact, Exact]:
    """Lowers nearest-neighbour enlargement and a convolution to a convolution and a pixel shuffle.

    Each of the factor^2 output pixels of an input pixel depends on the same few input pixels; its weights are sums of
    the original ones. Zero padding remains zero padding.

    Args:
        weight: C_out, C_in, k, k, with k odd and k // 2 at most `factor`.
        bias: C_out.
        factor: of the enlargement.

    Returns:
        C_out * factor^2, C_in, 3, 3 and C_out * factor^2, in the channel order of `Conv.shuffle`.
    """
    c_out, c_in, size = weight.shape[:3]
    radius = size // 2
    assert radius <= factor, "the kernel must not reach beyond the neighbouring pixels"
    phases = np.zeros((c_out, factor, factor, c_in, 3, 3))
    for dy in range(factor):
        for dx in range(factor):
            for ky in range(size):
                for kx in range(size):
                    # Row dy + ky - radius of the enlarged image, relative to the first row of this pixel.
                    y, x = (dy + ky - radius) // factor, (dx + kx - radius) // factor
                    phases[:, dy, dx, :, y + 1, x + 1] += weight[:, :, ky, kx]
    return phases.reshape(-1, c_in, 3, 3), np.repeat(bias, factor**2)


def slopes_before_shuffle(slopes: Array, factor: int) -> Array:
    """Expands slopes of an activation after a pixel shuffle to the channels before it.

    Args:
        slopes: 1 or C, for the shuffled channels.
        factor: of the shuffle.

    Returns:
        1 or C * factor^2.
    """
    return slopes.reshape(-1) if slopes.size == 1 else np.repeat(slopes.reshape(-1), factor**2)


def fold_output_map(weight: Exact, bias: Exact, values: ColourMap, shuffle: int = 1) -> tuple[Exact, Exact]:
    """Folds the colour map after a linear last convolution into its weights and bias.

    (The input's colour map cannot be folded into the first convolution: zero padding is applied between the two.)

    Args:
        weight: C * shuffle^2, C_in, k, k.
        bias: C * shuffle^2.
        values: of C channels.
        shuffle: factor of the convolution's pixel shuffle.
    """
    gain, offset = (np.repeat(np.array(v, np.float64), shuffle**2) for v in (values.gain, values.offset))
    return weight * gain[:, None, None, None], bias * gain + offset


def embedded(weight: Exact, size: int) -> Exact:
    """Embeds a kernel in the centre of a larger one that computes the same.

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
