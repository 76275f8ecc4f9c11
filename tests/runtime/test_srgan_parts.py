"""What our CUDA kernels are made for is found in a network by looking."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from srgan_fast.errors import BackendError
from srgan_fast.models import GeneratorConfig, model_of
from srgan_fast.network import Network, Residual
from srgan_fast.runtime.srgan_parts import slope_after_shuffle, srgan_parts

from .conftest import FileOf


def network_of(file_of: FileOf, **config: Any) -> Network:
    return model_of(file_of(GeneratorConfig(**{"channels": 6, "blocks": 2, **config}))).network


@pytest.mark.parametrize("blocks", [0, 1, 3])
@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize("prelu", ["shared", "channel"])
def test_the_parts_of_every_generator_are_found(blocks: int, scale: int, prelu: Any, file_of: FileOf) -> None:
    file = file_of(GeneratorConfig(scale=scale, channels=6, blocks=blocks, prelu=prelu))
    parts = srgan_parts(model_of(file).network, "random")
    assert parts.head.name == "head.conv"
    assert [(a.name, b.name) for a, b in parts.blocks] == [
        (f"blocks.{i}.conv1", f"blocks.{i}.conv2") for i in range(blocks)
    ]
    assert (parts.fuse.name, parts.tail.name) == ("fuse.conv", "tail")
    assert len(parts.upsample) == scale.bit_length() - 1
    for i, conv in enumerate(parts.upsample):
        slope = slope_after_shuffle(conv)
        assert slope is not None
        assert np.array_equal(slope, file.weights[f"upsample.{i}.act.weight"])


def changed(network: Network, index: int, **parts: Any) -> Network:
    convs = list(network.convs)
    convs[index] = replace(convs[index], **parts)
    return replace(network, convs=tuple(convs))


@pytest.mark.parametrize(
    ("index", "parts", "message"),
    [
        (0, {"slope": None}, r"head\.conv is no head"),
        (2, {"residuals": ()}, r"blocks\.0\.conv2 is no second convolution of a residual block"),
        (2, {"residuals": (Residual(1, 0.5),)}, r"blocks\.0\.conv2 is no second convolution"),
        (4, {"residuals": (Residual(1),)}, r"blocks\.1\.conv2 is no second convolution"),
        (5, {"residuals": (Residual(1), Residual(3))}, r"fuse\.conv is no end of a trunk"),
        (6, {"slope": None}, r"upsample\.0\.conv is no upsampling convolution"),
        (8, {"slope": np.array([0.1], np.float32)}, r"tail is no tail"),
    ],
)
def test_a_network_that_is_built_otherwise_is_refused_by_what_differs(
    index: int, parts: dict[str, Any], message: str, file_of: FileOf
) -> None:
    with pytest.raises(BackendError, match=rf"^other: our CUDA kernels run SRGAN generators only so far \({message}"):
        srgan_parts(changed(network_of(file_of), index, **parts), "other")


def test_a_skip_around_everything_is_refused(file_of: FileOf) -> None:
    with pytest.raises(BackendError, match="its image goes another way"):
        srgan_parts(replace(network_of(file_of), skip="nearest"), "other")


def test_slopes_that_differ_within_a_channel_are_refused(file_of: FileOf) -> None:
    network = changed(network_of(file_of), 6, slope=np.arange(24, dtype=np.float32))
    with pytest.raises(BackendError, match=r"upsample\.0\.conv: its slopes differ within a channel"):
        slope_after_shuffle(srgan_parts(network, "other").upsample[0])
