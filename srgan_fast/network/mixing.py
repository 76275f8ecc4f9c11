"""Interpolation between two networks of one structure: a network whose weights lie between theirs.

Networks that were trained from the same start for different losses stay close enough that what lies between them is a
network, too (Wang et al. 2019, Deep Network Interpolation for Continuous Imagery Effect Transition).
"""

from dataclasses import replace

import numpy as np

from srgan_fast.errors import ModelError
from srgan_fast.network.graph import Array, Conv, Network


def interpolate(first: Network, second: Network, share: float) -> Network:
    """The network with weights `(1 - share) * first + share * second`.

    Args:
        first: Network for share 0.
        second: Network for share 1.
        share: 0..1.

    Raises:
        ModelError: The networks differ in more than their weights; the message names the convolution.
    """
    for name in ("channels", "unshuffle", "skip", "input_map", "tanh", "output_map"):
        if getattr(first, name) != getattr(second, name):
            raise ModelError(
                f"{name} is {getattr(first, name)!r} in one network and {getattr(second, name)!r} in the other"
            )
    if len(first.convs) != len(second.convs):
        raise ModelError(f"one network has {len(first.convs)} convolutions, the other {len(second.convs)}")
    convs = tuple(_between(a, b, share) for a, b in zip(first.convs, second.convs, strict=True))
    return replace(first, convs=convs)


def _between(a: Conv, b: Conv, share: float) -> Conv:
    slopes = [None if conv.slope is None else conv.slope.shape for conv in (a, b)]
    if (a.inputs, a.residuals, a.shuffle, a.weight.shape, slopes[0]) != (
        b.inputs, b.residuals, b.shuffle, b.weight.shape, slopes[1],
    ):  # fmt: skip
        raise ModelError(f"{a.name} is another convolution in the two networks")

    def mixed(x: Array, y: Array) -> Array:
        return np.asarray((1 - share) * x.astype(np.float64) + share * y.astype(np.float64), np.float32)

    slope = None if a.slope is None or b.slope is None else mixed(a.slope, b.slope)
    return replace(a, weight=mixed(a.weight, b.weight), bias=mixed(a.bias, b.bias), slope=slope)
