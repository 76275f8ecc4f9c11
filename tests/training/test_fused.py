"""A step with fused kernels is the step with plain torch's, but for rounding.

In float64 rounding is far below what five steps can magnify, so everything is compared: losses, weights, running
statistics. In float32 Adam makes whole steps of gradients that are nothing but rounding (a bias in front of a
BatchNorm, a slope whose terms cancel), so losses are compared, and the weights of convolutions on the scale of the way
that they went. In 16 bits, on a CPU and on a GPU where there is one, losses are as near to float32 as plain torch's.
"""

import copy
import statistics
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Adam

from srgan_fast.models import PRESETS, FeatureExtractor, Generator, discriminator, features, generator_config
from srgan_fast.models.discriminator import build_discriminator
from srgan_fast.models.presets import LossRecipe
from srgan_fast.ops import cuda, use_kernels
from srgan_fast.ops.prologue import ARGUMENTS
from srgan_fast.training.figures import NonFiniteLossError
from srgan_fast.training.stage import freeze_batchnorm
from srgan_fast.training.step import Batch, GanStep, PretrainStep, StepOptions

CROP, BATCH, STEPS = 32, 4, 5
LAYERS = {"conv1_2": 0.1, "relu2_1": 0.1, "conv2_2": 1.0, "pool2": 1.0}
Step = GanStep | PretrainStep
Place = tuple[str, torch.dtype | None]  # a device, and the type of autocast there
CPU: Place = ("cpu", None)
GPU: list[Place] = [("cuda", dtype) for dtype in cuda.TYPES] if cuda.usable() else []
FLOATS_ON_GPU: list[Place] = [("cuda", None)] if cuda.usable() else []


def at(*places: Place) -> Any:
    """Parametrises a test by place."""
    return pytest.mark.parametrize("place", places, ids=lambda place: f"{place[0]} {place[1] or 'plain'}")


@pytest.fixture(autouse=True)
def _small_and_repeatable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The usual layers with few channels; of cuDNN's algorithms those that give equal bits."""
    monkeypatch.setattr(discriminator, "TRUNK_WIDTHS", (8, 8, 8, 8, 16, 16, 16, 16))
    monkeypatch.setattr(discriminator, "UNET_WIDTH", 8)
    monkeypatch.setattr(features, "_WIDTHS", (8, 8, 8, 16, 16))
    with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
        yield


def batch(seed: int, device: str = "cpu") -> Batch:
    """Smooth images in 0..1 and their quarters."""
    generator = torch.Generator().manual_seed(seed)
    dtype = torch.get_default_dtype()
    coarse = torch.rand(BATCH, 3, CROP // 4, CROP // 4, generator=generator, dtype=torch.float64).to(dtype)
    fine = torch.rand(BATCH, 3, CROP, CROP, generator=generator, dtype=torch.float64).to(dtype)
    hr = 0.8 * nn.functional.interpolate(coarse, scale_factor=4, mode="bilinear") + 0.2 * fine
    return hr.to(device), nn.functional.avg_pool2d(hr, 4).to(device)


def adam(network: nn.Module) -> Adam:
    return Adam(network.parameters(), lr=2e-4, fused=True)


def build(
    kernels: str,
    stage: str = "gan",
    preset: str = "pytorch-gan",
    kind: str = "patch",
    place: Place = CPU,
    **changes: Any,
) -> Step:
    """A step of 4 blocks of 16 channels, the same from the same seed."""
    torch.manual_seed(5)
    p = PRESETS[preset]
    generator = Generator(generator_config(preset, channels=16, blocks=4)).train()
    with torch.no_grad():  # a fresh tail is so small that the images would say little
        generator.tail.weight.mul_(10)
    critic = build_discriminator(kind, CROP).train()
    layers = LAYERS if stage == "pretrain with features" else ()
    vgg = FeatureExtractor("features[:9]", layers=tuple(layers), weights="random", input_map=p.feature_map)
    for layer in vgg.features:
        if isinstance(layer, nn.Conv2d):  # He's rule keeps deep features alive
            nn.init.kaiming_normal_(layer.weight)
    device, autocast = place
    for network in (generator, critic, vgg):
        network.to(device, memory_format=torch.channels_last)
        use_kernels(network, kernels)
    options = StepOptions(lambda: torch.autocast(device, autocast, enabled=autocast is not None))
    if stage == "pretrain":
        return PretrainStep(generator, adam(generator), options=options)
    if stage == "pretrain with features":
        recipe = LossRecipe(pixel_weight=1.0, content_weight=0.3, layers=LAYERS)
        return PretrainStep(generator, adam(generator), recipe, options, vgg)
    recipe = replace(p.losses, **changes)
    return GanStep(generator, critic, vgg, adam(generator), adam(critic), recipe, p.discriminator_map, options)


def networks(step: Step) -> dict[str, nn.Module]:
    return {name: getattr(step, name) for name in ("generator", "discriminator") if hasattr(step, name)}


def state(step: Step) -> dict[str, Tensor]:
    """Everything that the networks hold, as it is now."""
    named = networks(step).items()
    return {f"{name}.{key}": tensor.clone() for name, net in named for key, tensor in net.state_dict().items()}


CASES: dict[str, Callable[..., Step]] = {
    "pretrain": partial(build, stage="pretrain"),
    "pretrain with features": partial(build, stage="pretrain with features"),
    "pytorch-gan": build,
    "paper": partial(build, preset="paper", kind="paper"),
    "spectral U-Net": partial(build, preset="paper", kind="unet-sn"),
    "spectral patches": partial(build, preset="paper", kind="patch-sn", adversarial="ragan"),
    "ragan with every term": partial(
        build, preset="paper", adversarial="ragan", adversarial_weight=5e-3, pixel_weight=0.01, variation_weight=0.02
    ),
}


def bias_before_batchnorm(name: str) -> bool:
    """Its gradient is 0 but for rounding; whole steps of Adam are made of that."""
    return name.endswith(("conv.bias", "conv1.bias", "conv2.bias"))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("case", CASES)
def test_five_steps_in_float64_are_those_of_plain_torch(case: str, parts: int) -> None:
    fused, plain = CASES[case]("fused"), CASES[case]("reference")
    start = state(plain)
    for number in range(STEPS):
        batches = [batch(10 * number + part) for part in range(parts)]
        ours, theirs = fused(batches), plain(batches)
        assert ours == pytest.approx(theirs, rel=1e-9, abs=1e-12)
    found, expected = state(fused), state(plain)
    moved = 0
    for name, tensor in expected.items():
        atol = 1e-2 * STEPS if bias_before_batchnorm(name) else 1e-10
        torch.testing.assert_close(found[name], tensor, rtol=1e-8, atol=atol, msg=name)
        moved += bool((tensor.double() - start[name].double()).abs().max() > 1e-5)
    assert moved > 0.8 * len(expected)  # else it would be no wonder


def running(step: Step) -> dict[str, Tensor]:
    """The generator's running statistics."""
    return {name: tensor for name, tensor in state(step).items() if name.startswith("generator") and "running" in name}


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("case", CASES)
def test_steps_with_frozen_batchnorms_in_float64_are_those_of_plain_torch(case: str) -> None:
    fused, plain = CASES[case]("fused"), CASES[case]("reference")
    for step in (fused, plain):
        step([batch(0)])
        freeze_batchnorm(step.generator)
    before, frozen = state(plain), [running(step) for step in (fused, plain)]
    for number in range(1, STEPS):
        ours, theirs = fused([batch(number)]), plain([batch(number)])
        assert ours == pytest.approx(theirs, rel=1e-9, abs=1e-12)
    found, expected = state(fused), state(plain)
    for name, tensor in expected.items():
        # A bias before a frozen BatchNorm has a gradient; the step before the freezing moved it by rounding.
        atol = 1e-2 if bias_before_batchnorm(name) else 1e-8
        torch.testing.assert_close(found[name], tensor, rtol=1e-7, atol=atol, msg=name)
    for step, kept in zip((fused, plain), frozen, strict=True):
        now = running(step)
        assert all(torch.equal(now[name], tensor) for name, tensor in kept.items())
    trained = [name for name, p in plain.generator.named_parameters() if p.requires_grad]
    assert [name for name in trained if torch.equal(before[f"generator.{name}"], expected[f"generator.{name}"])] == []


@pytest.mark.parametrize("kernels", ["fused", "reference"])
@at(CPU, *FLOATS_ON_GPU)
def test_with_frozen_batchnorms_what_trains_is_the_network_that_is_shipped(kernels: str, place: Place) -> None:
    step = build(kernels, stage="pretrain", preset="paper", place=place)
    for number in range(3):
        step([batch(number, place[0])])
    lr = batch(9, place[0])[1]
    with torch.no_grad():
        of_batch = step.generator(lr)
        freeze_batchnorm(step.generator)
        of_running = step.generator(lr)
        shipped = copy.deepcopy(step.generator).eval()(lr)
    assert torch.equal(of_running, shipped)
    assert not torch.allclose(of_running, of_batch, rtol=1e-2)


# Where a network's value is near the knee of an activation, rounding decides which side it is on, and from there on two
# networks go ways of their own. So there are several images to begin with, and the median of them counts: of a loss'
# relative difference 1e-7 in pretraining, 3e-5 of the presets, 3e-4 of ragan, whose losses are differences of verdicts;
# of convolution weights 1e-3 to 1e-2 of the way that they went, where single ones reach 1e-1.
LOSSES = {"pretrain": 1e-6, "ragan with every term": 2e-3}
WAY = 3e-2
TRIES = 7


@at(CPU, *FLOATS_ON_GPU)
@pytest.mark.parametrize("case", CASES)
def test_five_steps_in_float32_agree_to_rounding(case: str, place: Place) -> None:
    rel, atol = LOSSES.get(case, 2e-4), 1e-6 if case == "pretrain" else 3e-5
    losses, ways = [], []
    for seed in range(0, TRIES * STEPS, STEPS):
        fused, plain = CASES[case]("fused", place=place), CASES[case]("reference", place=place)
        start = state(plain)
        worst = 0.0
        for number in range(seed, seed + STEPS):
            ours, theirs = fused([batch(number, place[0])]), plain([batch(number, place[0])])
            # Mean verdicts near 0 are sums that cancel: what counts is their distance on the scale of single verdicts.
            worst = max(
                worst, *(abs(ours[name] - value) / max(rel * abs(value), atol) for name, value in theirs.items())
            )
        losses.append(worst)
        found = state(fused)
        weights = {name: tensor for name, tensor in state(plain).items() if tensor.dim() == 4}
        ways.append(max(float((found[n] - t).norm() / (t - start[n]).norm()) for n, t in weights.items()))
    assert statistics.median(losses) <= 1
    assert statistics.median(ways) <= WAY


@at(("cpu", torch.bfloat16), *GPU)
@pytest.mark.parametrize("case", ["pretrain", "pytorch-gan"])
def test_16_bits_are_as_near_to_float32_as_plain_torchs(case: str, place: Place) -> None:
    # Of one batch the losses' errors are anything between 1e-4 and 1e-1.
    errors: dict[str, list[float]] = {"fused": [], "reference": []}
    for number in range(13):
        exact = CASES[case]("reference")([batch(number)])
        for kernels, found in errors.items():
            step = CASES[case](kernels, place=place)
            losses = step([batch(number, place[0])])
            found.append(max(abs(losses[name] - exact[name]) / max(abs(exact[name]), 1e-2) for name in exact))
            assert all(not t.is_floating_point() or t.dtype == torch.float32 for t in state(step).values())
    assert statistics.median(errors["fused"]) <= 2 * statistics.median(errors["reference"]) + 2**-9


@pytest.mark.parametrize("value", [float("nan"), float("inf")], ids=str)
@pytest.mark.parametrize("which", [0, 1], ids=["hr", "lr"])
@pytest.mark.parametrize("kernels", ["fused", "reference"])
@pytest.mark.parametrize("case", ["pretrain", "pytorch-gan"])
@at(CPU, *GPU[:1])
def test_values_that_are_not_finite_stop_before_the_weights_change(
    case: str, kernels: str, which: int, value: float, place: Place
) -> None:
    step = CASES[case](kernels, place=place)
    step([batch(0, place[0])])
    before = {name: p.detach().clone() for net in networks(step).values() for name, p in net.named_parameters()}
    poisoned = batch(1, place[0])
    poisoned[which][0, 1, 2, 3] = value
    expected = "pixel" if case == "pretrain" else "content"
    with pytest.raises(NonFiniteLossError, match=f"the {expected} loss is (nan|inf)"):
        step([poisoned])
    after = {name: p for net in networks(step).values() for name, p in net.named_parameters()}
    assert all(torch.equal(before[name], p) for name, p in after.items())


@pytest.mark.parametrize("case", CASES)
@at(CPU, *GPU, *FLOATS_ON_GPU)
def test_steps_are_repeatable_to_the_bit(case: str, place: Place) -> None:
    runs = []
    for _ in range(2):
        step = CASES[case]("fused", place=place)
        losses = [step([batch(number, place[0])]) for number in range(3)]
        runs.append((losses, state(step)))
    assert runs[0][0] == runs[1][0]
    assert all(torch.equal(tensor, runs[1][1][name]) for name, tensor in runs[0][1].items())


@at(CPU, *GPU[:1])
def test_each_weight_gradient_of_a_step_is_computed_once(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    step = build("fused", place=place)
    assert isinstance(step, GanStep)
    calls: list[tuple[str, int]] = []
    for name in ("conv_dgrad", "conv_wgrad"):
        real = getattr(torch.ops.srgan_fast, name)

        def counted(*a: Any, real: Any = real, name: str = name) -> Any:
            calls.append((name, a[ARGUMENTS].data_ptr()))
            return real(*a)

        monkeypatch.setattr(torch.ops.srgan_fast, name, counted)
    step([batch(0, place[0])])
    wgrads = [place for name, place in calls if name == "conv_wgrad"]
    critic = {p.data_ptr() for p in step.discriminator.parameters() if p.dim() == 4}
    vgg = {p.data_ptr() for p in step.features.parameters()} if step.features else set()
    # D's weights see real and generated images; G's once; VGG's, which are frozen, never.
    assert sorted(wgrads.count(place) for place in critic) == [2] * len(critic)
    assert not vgg & set(wgrads)
    blocks = {p.data_ptr() for p in step.generator.blocks.parameters() if p.dim() == 4}
    assert [wgrads.count(place) for place in blocks] == [1] * len(blocks)
    # Three passes go through D: to the generated image, and to the weights for both. Only one ends in an image.
    dgrads = [place for name, place in calls if name == "conv_dgrad"]
    first = step.discriminator.trunk.conv1.conv.weight.data_ptr()
    assert dgrads.count(first) == 1
    assert all(dgrads.count(place) == 3 for place in critic - {first})


@at(CPU, *GPU[:1])
def test_a_copy_of_a_step_goes_on_alike(place: Place) -> None:
    step = build("fused", place=place)
    step([batch(0, place[0])])
    other = copy.deepcopy(step)
    assert step([batch(1, place[0])]) == other([batch(1, place[0])])
    assert all(torch.equal(a, b) for a, b in zip(state(step).values(), state(other).values(), strict=True))
