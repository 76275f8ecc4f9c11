"""The SRGAN generator as a list of convolutions, against the torch module with its BatchNorms."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from srgan_fast.architectures import recognise
from srgan_fast.architectures.srgan import Conventions, GeneratorConfig, network_of
from srgan_fast.errors import ModelError
from srgan_fast.models import Generator, generator_config
from srgan_fast.network import macs_per_image_pixel, receptive_radius, scale_of
from srgan_fast.network.graph import ColourMap
from srgan_fast.network.interpreter import run

CONFIGS = {
    "paper": generator_config("paper", channels=8, blocks=2),
    "pytorch-gan": generator_config("pytorch-gan", channels=6, blocks=2),
    "slope per channel": GeneratorConfig(channels=5, blocks=2, prelu="channel"),
    "x2, no blocks": generator_config("pytorch-gan", scale=2, channels=4, blocks=0),
    "x8, every option": GeneratorConfig(
        scale=8,
        channels=4,
        blocks=1,
        block_bias=True,
        upsample_bn=True,
        prelu="channel",
        conventions=Conventions(
            block_eps=0.5,
            upsample_eps=0.05,
            lr_map=ColourMap((2.0, 1.0, 0.5), (0.1, 0.2, -0.3)),
            hr_map=ColourMap((2.0, 0.25, -4.0), (0.3, -0.1, 0.5)),
        ),
    ),
}


def generator_of(config: GeneratorConfig) -> Generator:
    """In evaluation, with statistics that matter."""
    torch.manual_seed(5)
    generator = Generator(config).eval()
    for name, tensor in generator.state_dict().items():
        if name.endswith("running_var"):
            nn.init.uniform_(tensor, 0.5, 1.5)
        elif name.endswith("act.weight"):
            nn.init.uniform_(tensor, 0.05, 0.4)
        elif tensor.dim() == 1 and "num_batches" not in name:
            nn.init.uniform_(tensor, -0.5, 0.9)
    return generator


def weights_of(generator: Generator) -> dict[str, np.ndarray]:
    return {name: t.numpy().copy() for name, t in generator.state_dict().items() if t.is_floating_point()}


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("size", [(1, 1), (6, 9)])
def test_the_network_computes_the_modules_output(name: str, size: tuple[int, int]) -> None:
    generator = generator_of(CONFIGS[name])
    network = network_of(CONFIGS[name], weights_of(generator))
    lr = torch.rand(2, 3, *size, dtype=torch.float64)
    with torch.inference_mode():
        expected = generator.double()(lr).numpy()
    np.testing.assert_allclose(run(network, lr.numpy()), expected, rtol=0, atol=2e-6 * np.abs(expected).max())


def test_a_linear_output_needs_no_map_and_a_tanh_keeps_it() -> None:
    linear, tanh = CONFIGS["x8, every option"], CONFIGS["pytorch-gan"]
    found = network_of(linear, weights_of(generator_of(linear)))
    assert (found.tanh, found.output_map.is_identity) == (False, True)
    found = network_of(tanh, weights_of(generator_of(tanh)))
    assert (found.tanh, found.output_map) == (True, tanh.conventions.hr_map.inverse())


def test_folding_leaves_the_weights_alone() -> None:
    weights = weights_of(generator_of(CONFIGS["x8, every option"]))
    before = {name: array.copy() for name, array in weights.items()}
    network_of(CONFIGS["x8, every option"], weights)
    assert all(np.array_equal(before[name], array) for name, array in weights.items())


def test_epsilons_count_in_channels_of_no_variance() -> None:
    generator = generator_of(CONFIGS["paper"])
    generator.blocks[0].bn1.running_var.zero_()
    lr = torch.rand(1, 3, 5, 5, dtype=torch.float64)
    found = run(network_of(CONFIGS["paper"], weights_of(generator)), lr.numpy())
    with torch.inference_mode():
        expected = generator.double()(lr).numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6 * np.abs(expected).max())


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("variance", [0.0, 1e-30])
def test_what_leaves_the_range_of_float32_is_refused(variance: float) -> None:
    config = GeneratorConfig(channels=4, blocks=1, conventions=Conventions(block_eps=0.0))
    weights = weights_of(generator_of(config))
    weights["blocks.0.bn2.weight"].fill(1e30)
    weights["blocks.0.bn2.running_var"].fill(variance)
    with pytest.raises(ModelError, match=r"^blocks\.0\.conv2: folded values exceed float32's range"):
        network_of(config, weights)


def test_the_papers_network_has_its_radius_and_cost() -> None:
    config = GeneratorConfig()
    network = network_of(config, weights_of(Generator(config)))
    assert (scale_of(network), receptive_radius(network)) == (4, 40)
    assert macs_per_image_pixel(network) == 2_218_176


def test_a_generator_without_its_conventions_is_not_guessed() -> None:
    with pytest.raises(ModelError, match=r"unknown network: .*head\.conv\.weight"):
        recognise(weights_of(generator_of(CONFIGS["paper"])))


def test_foreign_names_stand_for_the_same_network(state_of: Any) -> None:
    config = generator_config("pytorch-gan", channels=6, blocks=2)
    generator = generator_of(config)
    ours = weights_of(generator)
    theirs = {}
    for name, array in ours.items():
        new = name.replace("head.conv", "conv1.0").replace("head.act", "conv1.1").replace("fuse.conv", "conv2.0")
        new = new.replace("fuse.bn", "conv2.1").replace("tail", "conv3.0")
        for i, part in enumerate(("conv1", "bn1", "act", "conv2", "bn2")):
            new = new.replace(f".{part}.", f".conv_block.{i}.") if new.startswith("blocks") else new
        for stage in range(2):
            for i, part in ((0, "conv"), (1, "bn"), (3, "act")):
                new = new.replace(f"upsample.{stage}.{part}", f"upsampling.{4 * stage + i}")
        theirs[new.replace("blocks.", "res_blocks.")] = array
    found = recognise(theirs)
    assert found.description == "SRGAN generator, 2 blocks of 6 channels (eriklindernoren/PyTorch-GAN)"
    lr = np.random.default_rng(0).random((3, 5, 6))
    assert np.array_equal(run(found.network, lr), run(network_of(config, ours), lr))
