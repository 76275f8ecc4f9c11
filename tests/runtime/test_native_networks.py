"""The native engine computes any network of its list: dense blocks, skips, unshuffled images, 1 to 4 channels."""

from typing import Any

import numpy as np
import pytest

from srgan_fast import _engine
from srgan_fast.network import interpreter
from srgan_fast.network.graph import ColourMap, Conv, Network, Residual
from srgan_fast.runtime.native_backend import create_engine

ISAS = _engine.isas()
TOLERANCES = {"fp32": 2e-5, "bf16": 8e-2}  # of the output's range


class Builder:
    """Collects convolutions with random weights; `add` returns the number of the result."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.convs: list[Conv] = []

    def add(
        self, inputs: list[int], into: int, out: int, slope: float | str | None = None, gain: float = 1.0, **rest: Any
    ) -> int:
        size = rest.pop("size", 3)
        weight = self.rng.normal(0, gain / np.sqrt(into * size * size), (out, into, size, size)).astype(np.float32)
        bias = self.rng.normal(0, 0.1, out).astype(np.float32)
        if slope == "channel":
            slopes: Any = self.rng.normal(0, 0.3, out).astype(np.float32)
        else:
            slopes = None if slope is None else np.array([slope], np.float32)
        self.convs.append(Conv(f"conv {len(self.convs)}", tuple(inputs), weight, bias, slopes, **rest))
        return len(self.convs)


def dense(features: int, growth: int, channels: int = 3, unshuffle: int = 1, seed: int = 0) -> Network:
    """RRDBNet with one block, x4 / unshuffle."""
    b = Builder(seed)
    first = x = start = b.add([0], channels * unshuffle**2, features)
    for r in range(3):
        values = [x]
        for k in range(4):
            values.append(b.add(values, features + growth * k, growth, 0.2))
        last = r == 2
        residuals = (Residual(x, 0.2), Residual(start)) if last else (Residual(x),)
        x = b.add(values, features + 4 * growth, features, gain=0.04 if last else 0.2, residuals=residuals)
    x = b.add([x], features, features, residuals=(Residual(first),))
    for _ in range(2):
        x = b.add([x], features, 4 * features, 0.2, shuffle=2)
    x = b.add([x], features, features, 0.2)
    b.add([x], features, channels)
    return Network(tuple(b.convs), channels=channels, unshuffle=unshuffle)


def compact(features: int, shuffle: int, channels: int = 3, skip: Any = "nearest") -> Network:
    """SRVGGNetCompact."""
    b = Builder()
    x = b.add([0], channels, features, "channel")
    for _ in range(3):
        x = b.add([x], features, features, "channel")
    b.add([x], features, channels * shuffle**2, shuffle=shuffle)
    return Network(tuple(b.convs), channels=channels, skip=skip)


def residual(features: int, skip: Any = "bilinear", channels: int = 3, **rest: Any) -> Network:
    """MSRResNet, or EDSR; its last convolution is 1x1."""
    b = Builder()
    x = b.add([0], channels, features, 0.1)
    for _ in range(2):
        inner = b.add([x], features, features, 0.0)
        x = b.add([inner], features, features, gain=0.5, residuals=(Residual(x),))
    for _ in range(2):
        x = b.add([x], features, 4 * features, 0.1, shuffle=2)
    x = b.add([x], features, features, 0.1)
    b.add([x], features, channels, size=1)
    return Network(tuple(b.convs), channels=channels, skip=skip, **rest)


MAPS = {
    "input_map": ColourMap((2.0, 1.9, 1.8), (-1.0, -0.9, -0.8)),
    "output_map": ColourMap((0.3, 0.28, 0.26), (0.5, 0.51, 0.52)),
}
NETWORKS = {
    "dense": dense(16, 16),
    "dense, 24 + 8, gray": dense(24, 8, channels=1),
    "dense, 64 + 32": dense(64, 32, seed=1),
    "dense x2, unshuffled": dense(16, 16, unshuffle=2),
    "dense x1, unshuffled": dense(16, 16, unshuffle=4),
    "compact x4": compact(24, 4),
    "compact x2, gray": compact(24, 2, channels=1),
    "compact x1, 4 channels": compact(24, 1, channels=4),
    "compact x3, no skip": compact(17, 3, skip="none"),
    "residual, bilinear": residual(20),
    "residual, nearest": residual(20, "nearest"),
    "residual, tanh and maps": residual(20, "none", tanh=True, **MAPS),
    "128 features": residual(128),
}


def check(network: Network, height: int, width: int, precision: Any) -> None:
    step = network.unshuffle
    shape = (network.channels, -(-height // step) * step, -(-width // step) * step)
    image = np.random.default_rng(height).random(shape, np.float32)
    exact = interpreter.run(network, image)
    got = create_engine(network, precision, 2).run(image)
    reach = max(np.ptp(exact), 0.5)
    error = np.abs(got - exact).max()
    assert error <= TOLERANCES[precision] * reach
    assert got.tobytes() == create_engine(network, precision, 3).run(image).tobytes(), "threads make a difference"


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (9, 7)], ids=str)
@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("isa", ISAS)
def test_agrees_with_float64(
    monkeypatch: pytest.MonkeyPatch, isa: str, network: Network, size: tuple[int, int]
) -> None:
    monkeypatch.setenv("SRGAN_FAST_ISA", isa)
    check(network, *size, "fp32")


@pytest.mark.parametrize("size", [(5, 600), (300, 4)], ids=str)
@pytest.mark.parametrize("name", ["dense", "compact x4", "residual, bilinear", "residual, nearest"])
def test_panels_and_strips_agree_with_float64(name: str, size: tuple[int, int]) -> None:
    check(NETWORKS[name], *size, "fp32")


@pytest.mark.skipif("avx512_bf16" not in ISAS, reason="this processor does not multiply bfloat16")
@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_bf16_is_near_float64(network: Network) -> None:
    check(network, 9, 37, "bf16")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("name", ["dense", "compact x2, gray", "compact x1, 4 channels"])
def test_pixels_are_those_of_floats_rounded(name: str, dtype: Any) -> None:
    network, white = NETWORKS[name], np.iinfo(dtype).max
    image = np.random.default_rng(3).integers(0, white, (11, 13, network.channels), dtype, endpoint=True)
    engine = create_engine(network, "fp32", 2)
    floats = engine.run(np.ascontiguousarray(image.transpose(2, 0, 1), np.float32) / np.float32(white))
    expected = np.rint(np.clip(floats, 0, 1) * np.float32(white)).transpose(1, 2, 0)
    assert np.abs(engine.run(image).astype(int) - expected).max() <= 1


def test_sides_that_do_not_divide_into_unshuffled_pixels_are_refused() -> None:
    engine = create_engine(NETWORKS["dense x2, unshuffled"], "fp32", 1)
    with pytest.raises(ValueError, match="must be multiples of 2, got 3 x 4"):
        engine.run(np.zeros((3, 3, 4), np.float32))


def test_memory_grows_with_the_width_of_the_image() -> None:
    engine = create_engine(NETWORKS["dense"], "fp32", 2)
    assert engine.working_memory(20000, 64) <= 1.01 * engine.working_memory(5000, 64)
