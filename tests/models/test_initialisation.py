"""A fresh generator may start as an upscaler: pixels repeated, then smoothed, whatever computes it."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from srgan_fast.errors import ModelError
from srgan_fast.models import ColourMap, Conventions, Generator, GeneratorConfig, generator_config
from srgan_fast.models.initialisation import start_as_upscaler, why_no_upscaler
from srgan_fast.ops import use_kernels
from srgan_fast.ops.switch import Kernels

BOX = slice(2, 7)  # of the tail's 9x9 weights


def started(config: GeneratorConfig) -> Generator:
    generator = Generator(config)
    start_as_upscaler(generator)
    return generator


def silence_the_rest(generator: Generator) -> None:
    """Sets the tail's weights to 0 besides those of the colours' box."""
    with torch.no_grad():
        weight = torch.zeros_like(generator.tail.weight)
        for colour in range(3):
            weight[colour, colour, BOX, BOX] = generator.tail.weight[colour, colour, BOX, BOX]
        generator.tail.weight.copy_(weight)


def smoothed_nearest(lr: Tensor, scale: int) -> Tensor:
    return F.avg_pool2d(F.interpolate(lr, scale_factor=scale, mode="nearest"), 5, stride=1)


@pytest.mark.parametrize("kernels", ["fused", "reference"])
@pytest.mark.parametrize("training", [True, False], ids=["training", "eval"])
@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize(("channels", "blocks"), [(3, 0), (16, 2), (64, 3)])
def test_before_any_step_the_output_is_nearest_through_a_5x5_box(
    scale: int, training: bool, kernels: Kernels, channels: int, blocks: int
) -> None:
    generator = started(generator_config("paper", scale=scale, channels=channels, blocks=blocks)).train(training)
    silence_the_rest(generator)
    use_kernels(generator, kernels)
    lr = torch.rand(2, 3, 9, 11)
    with torch.no_grad():
        found = generator(lr)[:, :, 2:-2, 2:-2]
    assert (found - smoothed_nearest(lr, scale)).abs().max() <= 1e-5


@pytest.mark.parametrize("prelu", ["shared", "channel"])
def test_output_maps_and_slopes_of_other_networks_are_respected(prelu: str) -> None:
    maps = Conventions(hr_map=ColourMap((4.0, 0.5, -2.0), (0.3, -0.4, 1.0)))
    config = GeneratorConfig(channels=5, blocks=1, block_bias=True, prelu=prelu, conventions=maps)
    generator = started(config)
    silence_the_rest(generator)
    lr = torch.rand(1, 3, 6, 7)
    with torch.no_grad():
        found = generator(lr)[:, :, 2:-2, 2:-2]
    assert (found - smoothed_nearest(lr, 4)).abs().max() <= 1e-5


def test_the_tails_other_weights_are_a_tenth_of_the_usual() -> None:
    config = generator_config("paper", channels=8, blocks=1)
    torch.manual_seed(5)
    usual = Generator(config).tail.weight
    torch.manual_seed(5)
    ours = started(config).tail.weight
    others = torch.ones_like(ours, dtype=torch.bool)
    for colour in range(3):
        others[colour, colour, BOX, BOX] = False
    assert others.sum() == ours.numel() - 3 * 25
    torch.testing.assert_close(ours[others], 0.1 * usual[others])


def test_the_first_output_of_the_papers_network_is_near_a_smoothed_image() -> None:
    lr = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        found = started(generator_config("paper", blocks=2))(lr)[:, :, 4:-4, 4:-4]
    assert (found - smoothed_nearest(lr, 4)[:, :, 2:-2, 2:-2]).square().mean().sqrt() < 0.05


@pytest.mark.parametrize("kernels", ["fused", "reference"])
def test_every_weight_of_a_network_that_starts_as_an_upscaler_learns_within_three_steps(kernels: Kernels) -> None:
    torch.manual_seed(1)
    generator = started(generator_config("paper", channels=8, blocks=2)).train()
    use_kernels(generator, kernels)
    before = {name: p.detach().clone() for name, p in generator.named_parameters()}
    optimiser = torch.optim.Adam(generator.parameters(), lr=1e-3)
    lr, hr = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 32, 32)
    for _ in range(3):  # the trunk's gains first, then, through them, its convolutions
        optimiser.zero_grad()
        F.l1_loss(generator(lr), hr).backward()
        optimiser.step()
    assert [name for name, p in generator.named_parameters() if torch.equal(p, before[name])] == []


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (generator_config("pytorch-gan", channels=4, blocks=1), "its input is not in 0..1"),
        (GeneratorConfig(channels=4, blocks=1, upsample_bn=True), "a BatchNorm in the upsamplers"),
        (GeneratorConfig(channels=4, blocks=1, conventions=Conventions(output="tanh")), "a tanh after the tail"),
        (GeneratorConfig(channels=2, blocks=1), "2 channels cannot carry 3 colours"),
    ],
    ids=["input range", "batchnorm", "tanh", "channels"],
)
def test_networks_that_cannot_are_refused_with_the_reason(config: GeneratorConfig, reason: str) -> None:
    assert (why_no_upscaler(config) or "").startswith(reason)
    generator = Generator(config)
    before = {name: tensor.clone() for name, tensor in generator.state_dict().items()}
    with pytest.raises(ModelError, match="cannot start as an upscaler: " + reason):
        start_as_upscaler(generator)
    assert all(torch.equal(before[name], tensor) for name, tensor in generator.state_dict().items())
