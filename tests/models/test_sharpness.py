"""Sharpness: a network between a faithful model and its sharp partner, from either of them."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from srgan_fast import Upscaler
from srgan_fast.errors import ModelError, UsageError
from srgan_fast.models import ModelFile, read_model
from srgan_fast.models.safetensors_file import write_safetensors
from srgan_fast.models.sharpness import with_sharpness
from srgan_fast.network.mixing import interpolate


def _saved(path: Path, seed: int, features: int = 16, layers: int = 1, **metadata: str) -> ModelFile:
    """A small Compact with random weights, as a file that other programs could have written."""
    rng = np.random.default_rng(seed)
    shapes = {"body.0": (features, 3)}
    shapes |= {f"body.{2 * i + 2}": (features, features) for i in range(layers)}
    shapes[f"body.{2 * layers + 2}"] = (48, features)
    tensors: dict[str, Any] = {}
    for name, (out, into) in shapes.items():
        tensors[f"{name}.weight"] = rng.normal(0, 0.1, (out, into, 3, 3)).astype(np.float32)
        tensors[f"{name}.bias"] = rng.normal(0, 0.1, out).astype(np.float32)
    for name in (f"body.{2 * i + 1}" for i in range(layers + 1)):
        tensors[f"{name}.weight"] = rng.normal(0.2, 0.1, features).astype(np.float32)
    write_safetensors(path, tensors, metadata)
    return read_model(path)


@pytest.fixture
def pair(tmp_path: Path) -> tuple[ModelFile, ModelFile]:
    soft, sharp = tmp_path / "soft.safetensors", tmp_path / "sharp.safetensors"
    return _saved(soft, 1, sharper=str(sharp)), _saved(sharp, 2, softer=str(soft))


@pytest.mark.parametrize("given", [0, 1], ids=["from the faithful model", "from the sharp model"])
@pytest.mark.parametrize("sharpness", [0.0, 0.25, 1.0])
def test_weights_lie_between_those_of_the_pair(pair: tuple[ModelFile, ModelFile], given: int, sharpness: float) -> None:
    mixed = with_sharpness(pair[given], sharpness)
    assert mixed.name == f"soft to sharp, sharpness {sharpness:g}"
    for between, soft, sharp in zip(mixed.network.convs, pair[0].network.convs, pair[1].network.convs, strict=True):
        for name in ("weight", "bias", "slope"):
            a, b = getattr(soft, name), getattr(sharp, name)
            if a is None:
                assert getattr(between, name) is None
                continue
            expected = (1 - sharpness) * a.astype(float) + sharpness * b.astype(float)
            np.testing.assert_allclose(getattr(between, name), expected, rtol=1e-6, atol=1e-8)


def test_the_upscaler_takes_a_sharpness(pair: tuple[ModelFile, ModelFile]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (9, 11, 3), np.uint8)
    ends = [Upscaler(model, backend="native", threads=1)(image) for model in pair]
    for sharpness, expected in zip((0, 1), ends, strict=True):
        mixed = Upscaler(pair[0], backend="native", threads=1, sharpness=sharpness)
        np.testing.assert_array_equal(mixed(image), expected)


@pytest.mark.parametrize("sharpness", [-0.1, 1.01, math.nan])
def test_other_sharpnesses_are_refused(pair: tuple[ModelFile, ModelFile], sharpness: float) -> None:
    with pytest.raises(UsageError, match=r"sharpness is .*; it must be between 0 \(faithful\) and 1 \(sharp\)"):
        with_sharpness(pair[0], sharpness)


def test_a_model_without_a_partner_is_refused(tmp_path: Path) -> None:
    alone = _saved(tmp_path / "alone.safetensors", 3)
    with pytest.raises(UsageError, match="alone has no sharp or faithful partner"):
        with_sharpness(alone, 0.5)


def test_a_partner_of_another_structure_is_refused(tmp_path: Path, pair: tuple[ModelFile, ModelFile]) -> None:
    wide = tmp_path / "wide.safetensors"
    _saved(wide, 4, features=32)
    with pytest.raises(ModelError, match=r"soft and wide do not fit: .* is another convolution in the two networks"):
        with_sharpness(replace(pair[0], metadata={"sharper": str(wide)}), 0.5)
    network = pair[0].network
    with pytest.raises(ModelError, match="tanh is False in one network and True in the other"):
        interpolate(network, replace(network, tanh=True), 0.5)
    deeper = tmp_path / "deeper.safetensors"
    _saved(deeper, 5, layers=2)
    with pytest.raises(ModelError, match="one network has 3 convolutions, the other 4"):
        interpolate(network, read_model(deeper).network, 0.5)
