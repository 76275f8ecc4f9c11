# ruff: noqa: E402, T201 (the library is replaced before it is imported; the result goes to the caller)
"""Steps on the emulated GPU, in a process of their own: `emulated_step.py FOLDER` prints JSON for test_launches.py."""

import copy
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.emulated_gpu import emulate, launches

emulate(Path(sys.argv[1]))

import torch
from torch import Tensor, nn
from torch.optim import Adam

from srgan_fast.models import PRESETS, FeatureExtractor, Generator, discriminator, features, generator_config
from srgan_fast.models.discriminator import build_discriminator
from srgan_fast.ops import use_kernels
from srgan_fast.training.step import GanStep, StepOptions


def build(crop: int, blocks: int, channels: int) -> GanStep:
    """The paper's step, the same weights each time."""
    torch.manual_seed(5)
    preset = PRESETS["paper"]
    generator = Generator(generator_config("paper", channels=channels, blocks=blocks)).train()
    critic = build_discriminator("paper", crop).train()
    vgg = FeatureExtractor("features[:18]", weights="random", input_map=preset.feature_map)
    for layer in vgg.features:
        if isinstance(layer, nn.Conv2d):  # He's rule keeps deep features alive
            nn.init.kaiming_normal_(layer.weight)
    for network in (generator, critic, vgg):
        network.to(memory_format=torch.channels_last)
        use_kernels(network, "fused")
    with torch.no_grad():  # a fresh tail is so small that the images would say little
        generator.tail.weight.mul_(10)
    options = StepOptions(lambda: torch.autocast("cpu", torch.bfloat16))
    return GanStep(
        generator, critic, vgg, Adam(generator.parameters()), Adam(critic.parameters()),
        preset.losses, preset.discriminator_map, options,
    )  # fmt: skip


def batch(size: int, crop: int) -> tuple[Tensor, Tensor]:
    """Smooth images in 0..1 and their quarters."""
    coarse = torch.rand(size, 3, crop // 4, crop // 4, generator=torch.Generator().manual_seed(1))
    hr = nn.functional.interpolate(coarse, scale_factor=4, mode="bilinear")
    return hr, nn.functional.avg_pool2d(hr, 4)


def tensors(step: GanStep) -> dict[str, Tensor]:
    """Gradients and running statistics."""
    named = {f"{name}.{key}": p.grad for name, net in step.networks.items() for key, p in net.named_parameters()}
    buffers = {f"{name}.{key}": b.float() for name, net in step.networks.items() for key, b in net.named_buffers()}
    return {key: t.detach().clone() for key, t in (named | buffers).items() if t is not None}


def compare() -> dict[str, Any]:
    """Relative differences of a narrow step in float32, whose convolutions are PyTorch's, from plain PyTorch's."""
    discriminator.TRUNK_WIDTHS = (8, 8, 8, 8, 16, 16, 16, 16)  # type: ignore[assignment]
    features._WIDTHS = (8, 8, 8, 16, 16)  # type: ignore[attr-defined]
    made, results = build(32, 2, 16), []
    for kernels in ("fused", "fused", "reference"):
        step = copy.deepcopy(made)
        step.options = StepOptions()
        for network in (step.generator, step.discriminator, step.features):
            assert network is not None
            use_kernels(network, kernels)
        with launches() as found:
            figures = step.compute([batch(4, 32)])
        assert ("MomentsParams" in found) == (kernels == "fused")
        results.append(tensors(step) | {"losses": figures.values.float()})
    first, again, exact = results
    return {
        "repeats": all(torch.equal(first[key], again[key]) for key in first),
        "missing": sorted(set(exact) ^ set(first)),
        "errors": {key: float((first[key] - exact[key]).norm() / exact[key].norm().clamp_min(1e-12)) for key in exact},
    }


def count() -> dict[str, int]:
    """Launches of the paper's step from its second on, when nothing is left to be prepared."""
    step = build(32, 16, 64)
    images = batch(4, 32)
    for _ in range(2):
        with launches(computes=False) as found:
            step.compute([images])
    return dict(found)


counts = count()
print(json.dumps({"launches": counts, **compare()}))
