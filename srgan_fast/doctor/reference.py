"""The generator and the resize in NumPy, float64, slow and plain: what results are held against, without PyTorch."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from srgan_fast.models import GeneratorFile
from srgan_fast.models.folding import FoldedConv, fold_generator

Exact = NDArray[np.float64]


def generator(file: GeneratorFile, lr: NDArray[np.float32]) -> Exact:
    """What a generator computes, from the same folded weights as every runtime without torch.

    Args:
        file: of the generator.
        lr: 3, H, W in 0..1; small, since this is slow.

    Returns:
        3, scale * H, scale * W, not clamped.
    """
    folded = fold_generator(file)
    conventions = folded.config.conventions
    lr_map, hr_map = conventions.lr_map, folded.hr_map
    x = lr.astype(np.float64) * _colours(lr_map.gain) + _colours(lr_map.offset)
    head = x = _prelu(_conv(x, folded.head), folded.head)
    for first, second in folded.blocks:
        x = x + _conv(_prelu(_conv(x, first), first), second)
    x = head + _conv(x, folded.fuse)
    for conv in folded.upsample:
        x = _prelu(_shuffle(_conv(x, conv)), conv)
    y = _conv(x, folded.tail)
    if conventions.output == "tanh":
        y = np.tanh(y)
    return y * _colours(hr_map.gain) + _colours(hr_map.offset)


def _colours(values: tuple[float, float, float]) -> Exact:
    return np.array(values)[:, None, None]


def _conv(x: Exact, conv: FoldedConv) -> Exact:
    radius = conv.weight.shape[-1] // 2
    padded = np.pad(x, ((0, 0), (radius, radius), (radius, radius)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, conv.weight.shape[-2:], (1, 2))
    result: Exact = np.tensordot(conv.weight.astype(np.float64), windows, ((1, 2, 3), (0, 3, 4)))
    return result + conv.bias[:, None, None]


def _prelu(x: Exact, conv: FoldedConv) -> Exact:
    return x if conv.slope is None else np.where(x > 0, x, x * conv.slope.reshape(-1, 1, 1))


def _shuffle(x: Exact) -> Exact:
    channels, height, width = x.shape[0] // 4, *x.shape[1:]
    pixels = x.reshape(channels, 2, 2, height, width).transpose(0, 3, 1, 4, 2)
    return pixels.reshape(channels, 2 * height, 2 * width)


def resize(image: NDArray[np.generic], axis: int, size: int, edges: Literal["mirror", "replicate"]) -> Exact:
    """MATLAB's imresize along one axis, bicubic and antialiased, not rounded.

    Args:
        image: of any shape.
        axis: that changes.
        size: that it gets.
        edges: what lies beyond the border.
    """
    matrix = _resize_matrix(image.shape[axis], size, edges)
    return np.moveaxis(np.tensordot(matrix, image.astype(np.float64), (1, axis)), 0, axis)


def _resize_matrix(size: int, result: int, edges: Literal["mirror", "replicate"]) -> Exact:
    """Result x size, after the text of MATLAB's imresize.m; indices from 1 as there."""
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
