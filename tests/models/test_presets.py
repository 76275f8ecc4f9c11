"""The two recipes, value by value."""

import pytest
import torch
from torch import nn

from srgan_fast.architectures.srgan import IMAGENET_NORMALISED, SIGNED
from srgan_fast.errors import ModelError
from srgan_fast.models import PRESETS, ColourMap, Generator, generator_config, get_preset


def test_there_are_two_presets_under_their_own_names() -> None:
    assert {name: preset.name for name, preset in PRESETS.items()} == {"paper": "paper", "pytorch-gan": "pytorch-gan"}


def test_paper_is_the_papers_recipe() -> None:
    preset = get_preset("paper")
    generator = preset.generator
    assert (generator.scale, generator.channels, generator.blocks) == (4, 64, 16)
    assert (generator.block_bias, generator.upsample_bn, generator.conventions.output) == (False, False, "linear")
    assert (generator.conventions.block_eps, generator.conventions.upsample_eps) == (1e-5, 1e-5)
    # LR images in 0..1, HR images in -1..1 (section 3.2).
    assert generator.conventions.lr_map == ColourMap()
    assert generator.conventions.hr_map == SIGNED == preset.discriminator_map
    assert preset.discriminator == "paper"
    assert preset.feature_map == IMAGENET_NORMALISED
    losses = preset.losses
    assert (losses.content, losses.layers, losses.feature_scale) == ("mse", {"vgg54": 1.0}, pytest.approx(1 / 12.75))
    assert (losses.adversarial, losses.adversarial_weight, losses.discriminator_average) == ("bce", 1e-3, False)


def test_pytorch_gan_is_that_repositorys_recipe() -> None:
    preset = get_preset("pytorch-gan")
    generator, losses = preset.generator, preset.losses
    assert (generator.scale, generator.channels, generator.blocks) == (4, 64, 16)
    assert (generator.block_bias, generator.upsample_bn, generator.conventions.output) == (True, True, "tanh")
    assert preset.discriminator == "patch"
    spaces = (generator.conventions.lr_map, generator.conventions.hr_map, preset.discriminator_map, preset.feature_map)
    assert spaces == (IMAGENET_NORMALISED,) * 4
    assert (losses.content, losses.layers, losses.feature_scale) == ("l1", {"features[:18]": 1.0}, 1.0)
    assert (losses.adversarial, losses.adversarial_weight, losses.discriminator_average) == ("lsgan", 1e-3, True)


def test_pytorch_gan_has_biases_and_its_two_epsilons_in_their_places() -> None:
    with torch.device("meta"):
        generator = Generator(generator_config("pytorch-gan", channels=4, blocks=2))
    norms = {name: m for name, m in generator.named_modules() if isinstance(m, nn.BatchNorm2d)}
    trunk = ["blocks.0.bn1", "blocks.0.bn2", "blocks.1.bn1", "blocks.1.bn2", "fuse.bn"]
    eps = {**dict.fromkeys(trunk, 0.8), "upsample.0.bn": 1e-5, "upsample.1.bn": 1e-5}
    assert {name: m.eps for name, m in norms.items()} == eps
    assert [norms[f"upsample.{i}.bn"].num_features for i in (0, 1)] == [16, 16]  # before the shuffle
    assert all(m.bias is not None for m in generator.modules() if isinstance(m, nn.Conv2d))


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_a_presets_generator_comes_in_any_size(preset: str) -> None:
    config = generator_config(preset, scale=2, channels=8, blocks=3)
    assert (config.scale, config.channels, config.blocks) == (2, 8, 3)
    assert config.conventions == PRESETS[preset].generator.conventions
    assert generator_config(preset) == PRESETS[preset].generator


def test_unknown_presets_are_refused_with_the_known_names() -> None:
    for use in (get_preset, generator_config):
        with pytest.raises(ModelError, match=r"unknown preset 'Paper'; choose from paper, pytorch-gan"):
            use("Paper")


def test_sizes_that_no_generator_has_are_refused() -> None:
    with pytest.raises(ModelError, match="scale is 3"):
        generator_config("paper", scale=3)
