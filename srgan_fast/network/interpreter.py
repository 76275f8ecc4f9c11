"""A simple float64 NumPy implementation of a network: the reference of tests, the doctor and exports."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srgan_fast.errors import ModelError
from srgan_fast.network.analysis import last_readers, scale_of
from srgan_fast.network.graph import ColourMap, Conv, Network

Exact = NDArray[np.float64]


def run(network: Network, images: NDArray[Any], on_conv: Callable[[int, Exact], None] | None = None) -> Exact:
    """Runs a network.

    Args:
        network: to run.
        images: N, C, H, W or C, H, W in 0..1, any H, W >= 1. Sides that are not a multiple of the pixel-unshuffle
            factor are extended by `pad_to_multiple`, and the output is cropped.
        on_conv: called with index and result of every convolution, image by image; used by tests.

    Returns:
        float64 with the rank of `images`: scale * H, scale * W, not clamped.

    Raises:
        ModelError: images have another rank or number of channels.
    """
    if images.ndim == 4:
        return np.stack([run(network, image, on_conv) for image in images])
    if images.ndim != 3 or images.shape[0] != network.channels:
        raise ModelError(f"the network takes N, {network.channels}, H, W images, got an array of {images.shape}")
    scale = scale_of(network)
    height, width = images.shape[1:]
    image = colour_map(pad_to_multiple(images, network.unshuffle).astype(np.float64), network.input_map)
    values: list[Exact | None] = [unshuffle(image, network.unshuffle)]
    last = last_readers(network)
    for index, conv in enumerate(network.convs):
        values.append(_conv(conv, values))
        if on_conv is not None:
            on_conv(index, _value(values, -1))
        for value, reader in enumerate(last):
            if reader == index:
                values[value] = None
    y = _value(values, -1)
    if network.skip == "nearest":
        y = y + image.repeat(scale, 1).repeat(scale, 2)
    elif network.skip == "bilinear":
        y = y + enlarge_bilinear(enlarge_bilinear(image, scale, 1), scale, 2)
    if network.tanh:
        y = np.tanh(y)
    return colour_map(y, network.output_map)[:, : height * scale, : width * scale]


def _conv(conv: Conv, values: list[Exact | None]) -> Exact:
    """One convolution with its epilogue."""
    y = convolve(np.concatenate([_value(values, v) for v in conv.inputs]), conv.weight) + conv.bias[:, None, None]
    if conv.slope is not None:
        y = np.where(y > 0, y, y * conv.slope[:, None, None])
    for residual in conv.residuals:
        y = y + residual.scale * _value(values, residual.value)
    return shuffle(y, conv.shuffle)


def _value(values: list[Exact | None], index: int) -> Exact:
    value = values[index]
    assert value is not None, f"value {index} was dropped before its last reader"
    return value


def convolve(x: Exact, weight: NDArray[Any]) -> Exact:
    """Zero-padded convolution of stride 1: C_in, H, W and C_out, C_in, k, k to C_out, H, W."""
    size, (height, width) = weight.shape[2], x.shape[1:]
    radius = size // 2
    wide = width + 2 * radius
    # One extra row below the padding: the image shifted by a tap is then a contiguous slice of the flattened rows.
    padded = np.pad(x, ((0, 0), (radius, radius + 1), (radius, radius))).reshape(x.shape[0], -1)
    y = np.zeros((weight.shape[0], height * wide))
    product = np.empty_like(y)
    for ky in range(size):
        for kx in range(size):
            moved = padded[:, ky * wide + kx :][:, : height * wide]
            y += np.matmul(weight[:, :, ky, kx].astype(np.float64), moved, out=product)
    return y.reshape(-1, height, wide)[:, :, :width]


def shuffle(x: Exact, factor: int) -> Exact:
    """Pixel shuffle: channel c * r^2 + dy * r + dx becomes channel c of pixel (r * y + dy, r * x + dx)."""
    channels, height, width = x.shape[0] // factor**2, *x.shape[1:]
    pixels = x.reshape(channels, factor, factor, height, width).transpose(0, 3, 1, 4, 2)
    return pixels.reshape(channels, height * factor, width * factor)


def unshuffle(x: Exact, factor: int) -> Exact:
    """Inverse of `shuffle`; both sides must be multiples of the factor."""
    channels, height, width = x.shape[0], x.shape[1] // factor, x.shape[2] // factor
    pixels = x.reshape(channels, height, factor, width, factor).transpose(0, 2, 4, 1, 3)
    return pixels.reshape(channels * factor**2, height, width)


def enlarge_bilinear(x: Exact, factor: int, axis: int) -> Exact:
    """Linear interpolation along one axis, half-pixel centres, borders repeated."""
    size = x.shape[axis]
    where = np.clip((np.arange(size * factor) + 0.5) / factor - 0.5, 0, size - 1)
    before = np.floor(where).astype(int)
    after = np.minimum(before + 1, size - 1)
    share = np.expand_dims(where - before, tuple(i for i in range(x.ndim) if i != axis))
    result: Exact = x.take(before, axis) * (1 - share) + x.take(after, axis) * share
    return result


def colour_map(x: Exact, values: ColourMap) -> Exact:
    """`gain * x + offset` on C, H, W."""
    result: Exact = x * np.array(values.gain)[:, None, None] + np.array(values.offset)[:, None, None]
    return result


def pad_to_multiple(images: NDArray[Any], factor: int) -> NDArray[Any]:
    """Extends images to multiples of a factor, by mirroring at the right and bottom without repeating the border pixel.

    Args:
        images: ..., H, W.
        factor: of the pixel-unshuffle.

    Returns:
        The same array if nothing needs to be added.
    """
    below, right = (-side % factor for side in images.shape[-2:])
    if not (below or right):
        return images
    # If the image is smaller than the padding, NumPy keeps mirroring; a single pixel is repeated.
    return np.pad(images, [(0, 0)] * (images.ndim - 2) + [(0, below), (0, right)], "reflect")


__all__ = ["Exact", "colour_map", "convolve", "enlarge_bilinear", "pad_to_multiple", "run", "shuffle", "unshuffle"]
