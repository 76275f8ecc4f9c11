"""A simple float64 NumPy implementation of the resize, the reference of its self-test."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Exact = NDArray[np.float64]


def resize(image: NDArray[np.generic], axis: int, size: int, edges: Literal["mirror", "replicate"]) -> Exact:
    """MATLAB's imresize along one axis: bicubic, antialiased, not rounded.

    Args:
        image: of any shape.
        axis: axis to resize.
        size: new size.
        edges: padding beyond the border.
    """
    matrix = _resize_matrix(image.shape[axis], size, edges)
    return np.moveaxis(np.tensordot(matrix, image.astype(np.float64), (1, axis)), 0, axis)


def _resize_matrix(size: int, result: int, edges: Literal["mirror", "replicate"]) -> Exact:
    """Resampling matrix, result x size, after MATLAB's imresize.m; with its 1-based indices."""
    scale = result / size
    stretch = min(scale, 1.0)
    width = 4.0 / stretch
    centres = np.arange(1, result + 1)[:, None] / scale + 0.5 * (1 - 1 / scale)
    indices = np.floor(centres - width / 2) + np.arange(np.ceil(width) + 2)[None]
    distance = np.abs(stretch * (centres - indices))
    near = 1.5 * distance**3 - 2.5 * distance**2 + 1
    far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
    weights = near * (distance <= 1) + far * ((distance > 1) & (distance <= 2))
    weights /= weights.sum(axis=1, keepdims=True)
    if edges == "mirror":
        there_and_back = np.concatenate([np.arange(size), np.arange(size)[::-1]])
        sources = there_and_back[(indices.astype(int) - 1) % (2 * size)]
    else:
        sources = np.clip(indices.astype(int) - 1, 0, size - 1)
    matrix = np.zeros((result, size))
    np.add.at(matrix, (np.arange(result)[:, None], sources), weights)
    return matrix
