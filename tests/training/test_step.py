"""A step gives the losses, gradients and weights of the plain adversarial loop, and computes nothing twice."""

import copy
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam

from srgan_fast.models import PRESETS, FeatureExtractor, Generator, PatchDiscriminator, generator_config
from srgan_fast.models.discriminator import build_discriminator
from srgan_fast.models.features import feature_layers
from srgan_fast.models.presets import LossRecipe
from srgan_fast.network.graph import ColourMap
from srgan_fast.ops.spectral import power_iteration
from srgan_fast.training.config import GanSection
from srgan_fast.training.figures import NonFiniteLossError
from srgan_fast.training.recipe import stage_recipe
from srgan_fast.training.step import Batch, GanStep, PretrainStep, StepOptions

CROP, BATCH = 32, 2
pytestmark = pytest.mark.usefixtures("_narrow")
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
FREE = ColourMap()


def pair(seed: int, dtype: torch.dtype | None = None) -> Batch:
    """Smooth images in 0..1 and their quarters."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(BATCH, 3, CROP // 4, CROP // 4, generator=generator, dtype=dtype)
    fine = torch.rand(BATCH, 3, CROP, CROP, generator=generator, dtype=dtype)
    hr = 0.8 * nn.functional.interpolate(coarse, scale_factor=4, mode="bilinear") + 0.2 * fine
    return hr, nn.functional.avg_pool2d(hr, 4)


def normalise(image: Tensor) -> Tensor:
    """torchvision's."""
    return (image - image.new_tensor(MEAN)[:, None, None]) / image.new_tensor(STD)[:, None, None]


def denormalise(image: Tensor) -> Tensor:
    return image * image.new_tensor(STD)[:, None, None] + image.new_tensor(MEAN)[:, None, None]


# What the losses of a plain loop are made of: from D's logits to the generator's loss, and to D's on real and fake.
Verdict = Callable[[Tensor, Tensor], Tensor]
Verdicts = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
MSE, L1, BCE = nn.MSELoss(), nn.L1Loss(), nn.BCEWithLogitsLoss()


def one(x: Tensor) -> Tensor:
    return torch.ones_like(x)


def zero(x: Tensor) -> Tensor:
    return torch.zeros_like(x)


GAMES: dict[str, tuple[Verdict, Verdicts]] = {
    "lsgan": (
        lambda real, fake: MSE(fake, one(fake)),
        lambda real, fake: (MSE(real, one(real)), MSE(fake, zero(fake))),
    ),
    "bce": (
        lambda real, fake: BCE(fake, one(fake)),
        lambda real, fake: (BCE(real, one(real)), BCE(fake, zero(fake))),
    ),
    "ragan": (
        lambda real, fake: (BCE(fake - real.mean(), one(fake)) + BCE(real - fake.mean(), zero(real))) / 2,
        lambda real, fake: (BCE(real - fake.mean(), one(real)), BCE(fake - real.mean(), zero(fake))),
    ),
}


@dataclass
class PlainLoop:
    """The plain loop: images in the networks' own ranges, every forward pass where the formula asks for it.

    `enter` maps 0..1 to the generator's low-resolution range, `train` to the range of its output, which D sees too;
    `look` goes from there to VGG's range, `show` back to 0..1.
    """

    generator: nn.Module
    discriminator: nn.Module
    vgg: nn.Module
    enter: Callable[[Tensor], Tensor]
    train: Callable[[Tensor], Tensor]
    look: Callable[[Tensor], Tensor]
    show: Callable[[Tensor], Tensor]
    game: str
    content: Callable[[Tensor, Tensor], Tensor]
    feature_scale: float
    adversarial_weight: float
    d_factor: float
    pixel_weight: float
    variation_weight: float
    opt_g: torch.optim.Optimizer
    opt_d: torch.optim.Optimizer

    def step(self, hr: Tensor, lr: Tensor) -> dict[str, float]:
        verdict, verdicts = GAMES[self.game]
        imgs_hr, imgs_lr = self.train(hr), self.enter(lr)

        power_iteration(self.discriminator)  # only where there is spectral norm
        self.opt_g.zero_grad()
        gen_hr = self.generator(imgs_lr)
        real = self.discriminator(imgs_hr).detach() if self.game == "ragan" else torch.zeros(())
        loss_gan = verdict(real, self.discriminator(gen_hr))
        gen_features = self.vgg(self.look(gen_hr)) * self.feature_scale
        real_features = self.vgg(self.look(imgs_hr)) * self.feature_scale
        loss_content = self.content(gen_features, real_features.detach())
        loss_g = loss_content + self.adversarial_weight * loss_gan
        if self.pixel_weight:
            loss_g = loss_g + self.pixel_weight * L1(self.show(gen_hr), hr)
        if self.variation_weight:
            x = self.show(gen_hr)
            down, right = (x[:, :, 1:] - x[:, :, :-1]).abs().mean(), (x[..., 1:] - x[..., :-1]).abs().mean()
            loss_g = loss_g + self.variation_weight * (down + right)
        loss_g.backward()
        self.opt_g.step()

        self.opt_d.zero_grad()
        loss_real, loss_fake = verdicts(self.discriminator(imgs_hr), self.discriminator(gen_hr.detach()))
        loss_d = (loss_real + loss_fake) * self.d_factor
        loss_d.backward()
        self.opt_d.step()
        return {
            "content": loss_content.item(),
            "adversarial": loss_gan.item(),
            "generator": loss_g.item(),
            "real": loss_real.item(),
            "fake": loss_fake.item(),
            "discriminator": loss_d.item(),
        }


def adam(network: nn.Module) -> Adam:
    return Adam(network.parameters(), lr=2e-4, betas=(0.5, 0.999))


def build(preset: str, recipe: LossRecipe, optimiser: Any = adam, cut: str = "", kind: str = "") -> GanStep:
    """A step of a small generator with the preset's discriminator, ranges and layer of VGG19 (random weights)."""
    p = PRESETS[preset]
    torch.manual_seed(5)
    generator = Generator(generator_config(preset, channels=8, blocks=2)).train()
    with torch.no_grad():  # a fresh tail is so small that the images would say little
        generator.tail.weight.mul_(10)
    discriminator = build_discriminator(kind or p.discriminator, CROP).train()  # type of a preset
    features = FeatureExtractor(cut or next(iter(p.losses.layers)), weights="random", input_map=p.feature_map)
    for layer in features.features:
        if isinstance(layer, nn.Conv2d):  # He's rule keeps deep features alive
            nn.init.kaiming_normal_(layer.weight)
    return GanStep(
        generator, discriminator, features, optimiser(generator), optimiser(discriminator), recipe, p.discriminator_map
    )


def plain(step: GanStep, preset: str, game: str, content: Any, **weights: float) -> PlainLoop:
    """The plain loop with copies of a step's networks, in which nothing maps ranges."""
    generator, discriminator = copy.deepcopy(step.generator), copy.deepcopy(step.discriminator)
    generator.lr_map, generator.hr_map = nn.Identity(), nn.Identity()
    assert step.features is not None
    vgg = copy.deepcopy(step.features.features)
    if preset == "paper":
        ranges = (lambda x: x, lambda x: 2 * x - 1, lambda x: normalise((x + 1) / 2), lambda x: (x + 1) / 2)
    else:
        ranges = (normalise, normalise, lambda x: x, denormalise)
    values = {"feature_scale": 1.0, "pixel_weight": 0.0, "variation_weight": 0.0, "adversarial_weight": 1e-3}
    return PlainLoop(
        generator,
        discriminator,
        vgg,
        *ranges,
        game=game,
        content=content,
        **(values | weights),
        opt_g=adam(generator),
        opt_d=adam(discriminator),
    )


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("case", ["pytorch-gan", "paper", "ragan with every term", "patch-sn", "unet-sn"])
def test_three_steps_are_those_of_the_plain_loop(case: str) -> None:
    if case == "pytorch-gan":
        step = build("pytorch-gan", stage_recipe(GanSection(), PRESETS["pytorch-gan"]))
        loop = plain(step, "pytorch-gan", "lsgan", L1, d_factor=0.5)
        assert step.features is not None
        assert len(step.features.features) == 18
    elif case == "paper":
        step = build("paper", stage_recipe(GanSection(), PRESETS["paper"]))
        loop = plain(step, "paper", "bce", MSE, d_factor=1.0, feature_scale=1 / 12.75)
    elif case.endswith("-sn"):
        step = build("paper", stage_recipe(GanSection(), PRESETS["paper"]), cut="vgg22", kind=case)
        loop = plain(step, "paper", "bce", MSE, d_factor=1.0, feature_scale=1 / 12.75)
    else:
        weights = {"adversarial_weight": 5e-3, "pixel_weight": 0.01, "variation_weight": 0.02}
        recipe = stage_recipe(GanSection(adversarial="ragan", discriminator_average=True, **weights), PRESETS["paper"])
        step = build("paper", recipe, cut="vgg22")
        loop = plain(step, "paper", "ragan", MSE, d_factor=0.5, feature_scale=1 / 12.75, **weights)
    start = {name: p.clone() for name, p in step.generator.named_parameters()}
    for number in range(3):
        hr, lr = pair(number, torch.float64)
        ours, theirs = step([(hr, lr)]), loop.step(hr, lr)
        assert {name: ours[name] for name in theirs} == pytest.approx(theirs, rel=1e-9, abs=1e-12)

    for name, tensor in loop.generator.state_dict().items():  # its running statistics included
        ours = step.generator.state_dict()[name]
        assert ours.dtype in (torch.float64, torch.int64)
        assert torch.allclose(ours, tensor, rtol=1e-9, atol=1e-12), name
        if name in start and not ("conv.bias" in name or "conv1.bias" in name or "conv2.bias" in name):
            assert (tensor - start[name]).abs().max() > 1e-5, name
    for name, p in loop.discriminator.named_parameters():
        # BatchNorm takes a bias before it away, so its gradient is 0 but for rounding, which Adam magnifies.
        atol = 1e-9 if name.endswith("conv.bias") else 1e-12
        assert torch.allclose(step.discriminator.get_parameter(name), p, rtol=1e-9, atol=atol), name
    # Only these see fewer batches: the plain loop passes D(fake) twice, and ragan's D(real) too.
    passes = {"ragan with every term": 4}.get(case, 3)
    for name in loop.discriminator.state_dict().keys() - dict(loop.discriminator.named_parameters()).keys():
        tensor = loop.discriminator.get_buffer(name)
        ours = step.discriminator.get_buffer(name)
        if name.endswith(("weight_u", "weight_v")):
            assert torch.allclose(ours, tensor, rtol=1e-9, atol=1e-12), name
        elif name.endswith("num_batches_tracked"):
            assert (ours.item(), tensor.item()) == (3 * 2, 3 * passes)
        else:
            assert not torch.allclose(ours, tensor, rtol=1e-3, atol=1e-6), name


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("kind", ["l1", "mse"])
def test_pretraining_is_the_plain_loop(kind: Any) -> None:
    generator = Generator(generator_config("paper", channels=8, blocks=2)).train()
    other = copy.deepcopy(generator)
    step, optimiser = PretrainStep(generator, adam(generator), LossRecipe(pixel=kind, pixel_weight=1.0)), adam(other)
    for number in range(3):
        hr, lr = pair(number, torch.float64)
        optimiser.zero_grad()
        loss = {"l1": L1, "mse": MSE}[kind](other(lr), hr)
        loss.backward()
        optimiser.step()
        assert step([(hr, lr)]) == {"pixel": pytest.approx(loss.item(), rel=1e-12)}
    for name, tensor in other.state_dict().items():
        assert torch.equal(generator.state_dict()[name], tensor), name


LAYERS = {"conv1_2": 0.1, "relu2_1": 0.5, "conv2_2": 1.0}


def layered_features() -> FeatureExtractor:
    features = FeatureExtractor(layers=tuple(LAYERS), weights="random")
    for layer in features.features:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
    return features


def layered_loss(kind: Any, features: FeatureExtractor, sr: Tensor, target: Tensor) -> Tensor:
    """Every layer by a pass of its own through torch's modules."""
    loss = torch.zeros(())
    for name, weight in LAYERS.items():
        upto = features.features[: feature_layers("vgg19").index(name) + 1]
        loss = loss + weight * {"l1": L1, "mse": MSE}[kind](0.3 * upto(normalise(sr)), 0.3 * upto(normalise(target)))
    return loss


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("targets", [False, True], ids=["originals", "targets"])
@pytest.mark.parametrize("kind", ["l1", "mse"])
def test_pretraining_with_features_is_the_plain_loop(kind: Any, targets: bool) -> None:
    features = layered_features()
    generator = Generator(generator_config("paper", channels=8, blocks=2)).train()
    other = copy.deepcopy(generator)
    recipe = LossRecipe(
        pixel_weight=0.5,
        content=kind,
        content_weight=2.0,
        layers=LAYERS,
        feature_scale=0.3,
        variation_weight=0.1,
        checkerboard_weight=7.0,
    )
    step, optimiser = PretrainStep(generator, adam(generator), recipe, features=features), adam(other)
    for number in range(3):
        hr, lr = pair(number, torch.float64)
        target = hr.flip(3) if targets else hr
        optimiser.zero_grad()
        sr = other(lr)
        content, pixel = layered_loss(kind, features, sr, target), L1(sr, target)
        variation = sr.diff(dim=2).abs().mean() + sr.diff(dim=3).abs().mean()
        cells = (sr - target).unflatten(3, (-1, 4)).unflatten(2, (-1, 4)).mean((2, 4))
        checkerboard = cells.var((2, 3), correction=0).mean()
        loss = 2 * content + 0.5 * pixel + 0.1 * variation + 7 * checkerboard
        loss.backward()
        optimiser.step()
        ours = step([(hr, lr, target) if targets else (hr, lr)])
        theirs = {"content": content, "pixel": pixel, "checkerboard": checkerboard, "variation": variation}
        theirs["generator"] = loss
        assert ours == {name: pytest.approx(value.item(), rel=1e-10) for name, value in theirs.items()}
    for name, tensor in other.state_dict().items():
        assert torch.allclose(generator.state_dict()[name], tensor, rtol=1e-9, atol=1e-12), name
    assert [name for name, p in features.named_parameters() if p.grad is not None] == []


def test_the_adversarial_stage_compares_features_with_targets_and_shows_originals_to_the_discriminator() -> None:
    step = small(replace(stage_recipe(GanSection(), PRESETS["paper"]), adversarial="lsgan"))
    seen: dict[str, list[Tensor]] = {"features": [], "discriminator": []}
    for name, images in seen.items():
        getattr(step, name).register_forward_hook(lambda *args, images=images: images.append(args[1][0].detach()))
    hr, lr = pair(0)
    step([(hr, lr, hr.flip(2))])
    assert torch.equal(seen["features"][0], hr.flip(2))
    assert torch.equal(seen["discriminator"][1], 2 * hr - 1)


def small(recipe: LossRecipe | None = None, optimiser: Any = None, preset: str = "paper") -> GanStep:
    """A step that is quick: patches, a shallow cut, plain descent."""
    recipe = recipe or replace(stage_recipe(GanSection(), PRESETS[preset]), pixel_weight=0.1, variation_weight=0.1)
    return build(preset, recipe, optimiser or (lambda network: SGD(network.parameters(), lr=1.0)), "vgg12", "patch")


@pytest.mark.parametrize("game", ["lsgan", "bce", "ragan"])
@pytest.mark.parametrize("parts", [1, 3])
def test_nothing_is_computed_twice(game: Any, parts: int) -> None:
    step = small(replace(stage_recipe(GanSection(), PRESETS["paper"]), adversarial=game))
    assert step.features is not None
    passes: dict[str, list[bool]] = {"generator": [], "discriminator": [], "features": []}
    for name, seen in passes.items():
        getattr(step, name).register_forward_hook(lambda *args, seen=seen: seen.append(args[2].requires_grad))
    gradients: list[str] = []
    for network in ("generator", "discriminator"):
        for name, p in getattr(step, network).named_parameters():
            p.register_hook(lambda _, name=f"{network}.{name}": gradients.append(name))
    step([pair(n) for n in range(parts)])
    assert passes["generator"] == [True] * parts
    assert passes["discriminator"] == [True] * (2 * parts)
    assert passes["features"] == [False, True] * parts  # of originals without a graph
    # One backward pass of a part reaches each weight; the plain loop computes D's in the generator's step, too.
    assert set(Counter(gradients).values()) == {parts}
    assert set(gradients) == {
        f"{network}.{name}"
        for network in ("generator", "discriminator")
        for name, _ in getattr(step, network).named_parameters()
    }
    assert [name for name, p in step.features.named_parameters() if p.grad is not None or p.requires_grad] == []


def test_losses_that_weigh_nothing_are_not_computed() -> None:
    recipe = replace(stage_recipe(GanSection(), PRESETS["paper"]), content_weight=0.0)
    step = small(recipe)
    assert step.features is not None
    step.features.register_forward_hook(lambda *_: pytest.fail("VGG was called"))
    values = step([pair(0)])
    assert set(values) == {"adversarial", "generator", "real", "fake", "discriminator", "D(hr)", "D(sr)"}
    assert values["generator"] == pytest.approx(1e-3 * values["adversarial"])
    step.features = None
    assert set(step([pair(1)])) == set(values)


@pytest.mark.parametrize(("preset", "probability"), [("paper", torch.sigmoid), ("pytorch-gan", lambda x: x)])
def test_verdicts_are_mean_probabilities(preset: str, probability: Callable[[Tensor], Tensor]) -> None:
    step = small(preset=preset)
    logits: list[Tensor] = []
    step.discriminator.register_forward_hook(lambda *args: logits.append(args[2].detach()))
    values = step([pair(0)])
    fake, real = (probability(x).mean().item() for x in logits)
    assert (values["D(sr)"], values["D(hr)"]) == pytest.approx((fake, real), rel=1e-6)
    assert fake != pytest.approx(real, rel=1e-3)


def gradients(step: GanStep | PretrainStep) -> dict[str, Tensor]:
    networks = {name: getattr(step, name) for name in ("generator", "discriminator") if hasattr(step, name)}
    return {f"{n}.{name}": p.grad.clone() for n, network in networks.items() for name, p in network.named_parameters()}


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("training", [False, True], ids=["fixed statistics", "equal halves"])
def test_accumulated_parts_are_the_whole_batch(training: bool) -> None:
    # In training BatchNorm sees a part at a time: only halves with the same statistics are exactly the whole.
    (hr, lr), (more_hr, more_lr) = pair(0, torch.float64), pair(0 if training else 1, torch.float64)
    whole, parts = small(), small()
    for step in (whole, parts):
        step.generator.train(training)
        step.discriminator.train(training)
    values = whole([(torch.cat([hr, more_hr]), torch.cat([lr, more_lr]))])
    assert parts([(hr, lr), (more_hr, more_lr)]) == pytest.approx(values, rel=1e-9)
    expected = gradients(whole)
    assert sum(g.norm() > 1e-6 for g in expected.values()) > len(expected) / 2
    for name, gradient in gradients(parts).items():
        assert torch.allclose(gradient, expected[name], rtol=1e-8, atol=1e-12), name
    for a, b in zip(whole.generator.parameters(), parts.generator.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=1e-8, atol=1e-12)


@pytest.mark.usefixtures("float64")
def test_pretraining_accumulates_too() -> None:
    generators = [Generator(generator_config("paper", channels=4, blocks=1)).eval() for _ in range(2)]
    generators[1].load_state_dict(generators[0].state_dict())
    whole, parts = (PretrainStep(g, SGD(g.parameters(), lr=0.1), LossRecipe("mse", 1.0)) for g in generators)
    (hr, lr), (more_hr, more_lr) = pair(0, torch.float64), pair(1, torch.float64)
    values = whole([(torch.cat([hr, more_hr]), torch.cat([lr, more_lr]))])
    assert parts([(hr, lr), (more_hr, more_lr)]) == pytest.approx(values, rel=1e-12)
    for name, gradient in gradients(parts).items():
        assert torch.allclose(gradient, gradients(whole)[name], rtol=1e-10, atol=1e-14), name


def test_gradients_of_the_step_before_are_forgotten() -> None:
    step, fresh = (
        small(optimiser=lambda n: SGD(n.parameters(), lr=0.0)),
        small(optimiser=lambda n: SGD(n.parameters(), lr=0.0)),
    )
    step([pair(0)])
    step([pair(1)])
    fresh([pair(1)])
    expected = gradients(fresh)
    assert all(torch.allclose(g, expected[name], rtol=1e-4, atol=1e-7) for name, g in gradients(step).items())


@pytest.mark.usefixtures("float64")
def test_each_networks_gradient_is_clipped_by_its_own_norm() -> None:
    free, batch = small(), [pair(0, torch.float64)]
    before = copy.deepcopy(free)
    free(batch)
    norms = {
        name: torch.cat([p.grad.flatten() for p in getattr(free, name).parameters()]).norm().item()
        for name in ("generator", "discriminator")
    }
    assert norms["generator"] != pytest.approx(norms["discriminator"], rel=0.1)
    limit = (norms["generator"] * norms["discriminator"]) ** 0.5  # between the two
    clipped = small()
    clipped.options = StepOptions(clip=limit)
    clipped(batch)
    for name, norm in norms.items():
        factor = min(1.0, limit / norm)
        for key, p in getattr(clipped, name).named_parameters():
            moved = getattr(before, name).get_parameter(key) - p
            expected = getattr(free, name).get_parameter(key).grad * factor
            assert torch.allclose(moved, expected, rtol=1e-4, atol=1e-12), key


def weights(step: GanStep | PretrainStep) -> list[Tensor]:
    networks = [getattr(step, name) for name in ("generator", "discriminator") if hasattr(step, name)]
    return [p.detach().clone() for network in networks for p in network.parameters()]


def poisoned(seed: int, which: int, value: float) -> Batch:
    batch = pair(seed)
    batch[which][0, 1, 2, 3] = value
    return batch


@pytest.mark.parametrize("value", [float("nan"), float("inf")], ids=str)
@pytest.mark.parametrize("which", [0, 1], ids=["hr", "lr"])
@pytest.mark.parametrize("stage", ["pretrain", "gan"])
def test_values_that_are_not_finite_stop_before_the_weights_change(stage: str, which: int, value: float) -> None:
    step: GanStep | PretrainStep = small(optimiser=adam)
    expected = "content"
    if stage == "pretrain":
        step, expected = PretrainStep(step.generator, adam(step.generator)), "pixel"
    step([pair(0)])
    before = weights(step)
    with pytest.raises(NonFiniteLossError, match=f"the {expected} loss is (nan|inf)") as error:
        step([pair(1), poisoned(2, which, value)])
    assert error.value.name == f"{expected} loss"
    assert all(torch.equal(a, b) for a, b in zip(before, weights(step), strict=True))
    optimiser = step.optimiser if isinstance(step, PretrainStep) else step.discriminator_optimiser
    assert {int(state["step"]) for state in optimiser.state.values()} == {1}


@pytest.mark.parametrize("network", ["generator", "discriminator"])
def test_a_gradient_that_is_not_finite_stops_though_losses_are(network: str) -> None:
    step = small(optimiser=adam)
    parameter = list(getattr(step, network).parameters())[-1]
    parameter.register_hook(lambda gradient: gradient * float("inf"))
    before = weights(step)
    with pytest.raises(NonFiniteLossError, match=f"the {network}'s gradient is (nan|inf)"):
        step([pair(0)])
    assert all(torch.equal(a, b) for a, b in zip(before, weights(step), strict=True))
    assert not step.generator_optimiser.state
    assert not step.discriminator_optimiser.state


def test_a_discriminator_that_overflows_is_named() -> None:
    step = small(replace(stage_recipe(GanSection(), PRESETS["paper"]), adversarial="lsgan"))
    assert isinstance(step.discriminator, PatchDiscriminator)
    with torch.no_grad():
        step.discriminator.head.bias.fill_(float("inf"))
    with pytest.raises(NonFiniteLossError, match="the adversarial loss is inf"):
        step([pair(0)])


@pytest.mark.parametrize("preset", ["paper", "pytorch-gan"])
def test_bf16_keeps_weights_gradients_and_statistics_in_float32(preset: str) -> None:
    exact, half = small(preset=preset), small(preset=preset)
    half.options = StepOptions(autocast=lambda: torch.autocast("cpu", torch.bfloat16))
    seen: list[torch.dtype] = []
    half.generator.fuse.conv.register_forward_hook(lambda *args: seen.append(args[2].dtype))
    half.discriminator.trunk.conv2.conv.register_forward_hook(lambda *args: seen.append(args[2].dtype))
    values, expected = half([pair(0)]), exact([pair(0)])
    assert set(seen) == {torch.bfloat16}
    assert values == pytest.approx(expected, rel=0.05, abs=0.02)
    assert values != expected
    for network in (half.generator, half.discriminator):
        assert {t.dtype for t in network.state_dict().values()} <= {torch.float32, torch.int64}
        assert {p.grad.dtype for p in network.parameters()} == {torch.float32}
    directions = [torch.cat([g.flatten() for n, g in gradients(s).items() if "generator" in n]) for s in (exact, half)]
    assert torch.cosine_similarity(*directions, dim=0) > 0.95
