"""Sizes and value maps of a generator."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from srgan_fast.architectures.srgan import IDENTITY, IMAGENET_NORMALISED, SIGNED, expected_shapes, network_of
from srgan_fast.errors import ModelError
from srgan_fast.models import ColourMap, Generator, GeneratorConfig
from srgan_fast.network import Network, macs_per_image_pixel, receptive_radius

gains = st.tuples(*[st.floats(0.01, 100) | st.floats(-100, -0.01)] * 3)
offsets = st.tuples(*[st.floats(-100, 100)] * 3)


def network(config: GeneratorConfig) -> Network:
    return network_of(config, {name: np.ones(shape, np.float32) for name, shape in expected_shapes(config).items()})


def reach(config: GeneratorConfig) -> int:
    """Farthest input pixel that an output pixel sees, found by walking the layers backwards from one output cell."""
    low, high = -4, config.scale - 1 + 4  # the tail, around the output pixels of input pixel 0
    for _ in range(config.stages):
        low, high = low // 2 - 1, high // 2 + 1
    ends = 2 * config.blocks + 1 + 4
    return max(ends - low, high + ends)


@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize("blocks", [0, 1, 2, 5, 16, 23])
def test_receptive_radius_is_the_farthest_pixel_that_the_layers_reach(scale: int, blocks: int) -> None:
    config = GeneratorConfig(scale=scale, channels=1, blocks=blocks)
    assert receptive_radius(network(config)) == reach(config)


def test_the_papers_generator_is_the_default() -> None:
    config = GeneratorConfig()
    assert (config.scale, config.channels, config.blocks, config.stages) == (4, 64, 16, 2)
    assert (config.block_bias, config.upsample_bn, config.prelu) == (False, False, "shared")


@pytest.mark.parametrize(
    ("scale", "channels", "blocks"), [(4, 64, 16), (2, 64, 16), (8, 5, 3), (4, 1, 0), (2, 7, 1), (8, 32, 8)]
)
def test_cost_is_what_torch_counts(scale: int, channels: int, blocks: int) -> None:
    config = GeneratorConfig(scale=scale, channels=channels, blocks=blocks)
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        Generator(config).eval()(torch.empty(2, 3, 6, 5))
    assert counter.get_total_flops() == 2 * macs_per_image_pixel(network(config)) * 2 * 6 * 5


@pytest.mark.parametrize("scale", [-4, 0, 1, 3, 5, 6, 16])
def test_other_scales_than_2_4_8_are_refused(scale: int) -> None:
    with pytest.raises(ModelError, match=rf"scale is {scale}; .*2, 4 or 8"):
        GeneratorConfig(scale=scale)


@pytest.mark.parametrize(("channels", "blocks"), [(0, 16), (-1, 16), (64, -1)])
def test_sizes_without_a_network_are_refused(channels: int, blocks: int) -> None:
    with pytest.raises(ModelError, match="channels >= 1 and blocks >= 0"):
        GeneratorConfig(channels=channels, blocks=blocks)


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        GeneratorConfig().scale = 2  # type: ignore[misc]


@given(gain=gains, offset=offsets)
def test_the_inverse_undoes_a_map(gain: tuple[float, float, float], offset: tuple[float, float, float]) -> None:
    there = ColourMap(gain, offset)
    back = there.inverse()
    x = np.linspace(-1, 2, 9)[:, None]
    mapped = x * np.array(there.gain) + np.array(there.offset)
    restored = mapped * np.array(back.gain) + np.array(back.offset)
    assert np.allclose(restored, np.broadcast_to(x, restored.shape), atol=1e-9)


def test_only_the_neutral_map_is_the_identity() -> None:
    assert IDENTITY.is_identity
    assert not SIGNED.is_identity
    assert not ColourMap(offset=(0.0, 0.0, 0.1)).is_identity
    assert not ColourMap(gain=(1.0, 1.1, 1.0)).is_identity


@pytest.mark.parametrize(
    ("mapping", "black", "white"),
    [
        (SIGNED, (-1, -1, -1), (1, 1, 1)),
        (
            IMAGENET_NORMALISED,
            (-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225),
            (0.515 / 0.229, 0.544 / 0.224, 0.594 / 0.225),
        ),
    ],
    ids=["signed", "imagenet"],
)
def test_named_spaces_map_black_and_white(
    mapping: ColourMap, black: tuple[float, ...], white: tuple[float, ...]
) -> None:
    assert np.allclose(mapping.offset, black)
    assert np.allclose(np.add(mapping.gain, mapping.offset), white)
