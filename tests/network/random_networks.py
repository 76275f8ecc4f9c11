"""Random networks in which every part of the description appears."""

from typing import Any

import numpy as np

from srgan_fast.network import ColourMap, Conv, Network, Residual

Rng = np.random.Generator


def random_conv(rng: Rng, name: str, c_in: int, c_out: int, size: int = 3, **parts: Any) -> Conv:
    """Weights that keep the variance, a bias, and whatever else is given."""
    weight = rng.standard_normal((c_out, c_in, size, size)) / np.sqrt(c_in * size * size)
    arrays = weight.astype(np.float32), (0.1 * rng.standard_normal(c_out)).astype(np.float32)
    return Conv(name, parts.pop("inputs", (0,)), *arrays, **parts)


def slopes(rng: Rng, count: int) -> np.ndarray:
    return rng.uniform(0.05, 0.4, count).astype(np.float32)


def rich_network(rng: Rng, *, channels: int = 3, unshuffle: int = 1, skip: Any = "none", tanh: bool = False) -> Network:
    """Dense inputs, two scaled residuals, every kind of activation, three shuffles (x8), maps on both sides."""
    c = channels
    convs = (
        random_conv(rng, "first", c * unshuffle**2, 8, 5, slope=slopes(rng, 8)),
        random_conv(rng, "dense.1", 8, 4, inputs=(1,), slope=np.array([0.2], np.float32)),
        random_conv(rng, "dense.2", 12, 4, inputs=(1, 2), slope=np.zeros(1, np.float32)),
        random_conv(rng, "dense.3", 16, 8, inputs=(1, 2, 3), residuals=(Residual(1, 0.5),)),
        random_conv(rng, "trunk", 8, 8, 1, inputs=(4,), residuals=(Residual(4, 0.2), Residual(1))),
        random_conv(rng, "up.1", 8, 24, inputs=(5,), slope=slopes(rng, 24), shuffle=2),
        random_conv(rng, "up.2", 6, 24, inputs=(6,), slope=np.array([0.1], np.float32), shuffle=2),
        random_conv(rng, "last", 6, c * 4, inputs=(7,), shuffle=2),
    )
    gains, offsets = rng.uniform(0.5, 2, (2, c)), rng.uniform(-0.5, 0.5, (2, c))
    maps = [ColourMap(tuple(map(float, g)), tuple(map(float, o))) for g, o in zip(gains, offsets, strict=True)]
    return Network(convs, channels=c, unshuffle=unshuffle, skip=skip, input_map=maps[0], tanh=tanh, output_map=maps[1])
