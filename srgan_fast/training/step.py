"""One optimiser step of each stage, in which nothing is computed twice.

The common adversarial loop forwards D(fake) in the generator's step and again in the discriminator's, though D has not
changed in between; it computes gradients of D's weights in the generator's step and throws them away; it builds a graph
through VGG(real). Here:

1. `sr = G(lr)`, cut off as a leaf, so that each loss hands back its gradient with respect to `sr` and frees its graph;
2. VGG(hr) without a graph, VGG(sr), each in one pass for all layers, content loss -> gradient of sr;
3. D(sr) once; the adversarial loss -> gradient of sr only (D's weights are left out of that backward pass);
4. the summed gradient goes through G, once;
5. D(hr); D's loss uses the D(sr) of 3, whose graph was kept, and gives gradients of D's weights only;
6. both optimisers step.

Without a discriminator 1, 2 and 4 are a step of the first stage. Where there are targets, they stand for hr in 2 and in
the pixel loss; D's real images are always the originals.

The parts have names of their own in traces of torch.profiler (`tools/profile_step.py`).

Losses and weights are those of the common loop. D's running statistics see each batch once in each step instead of
twice for D(sr), and D's BatchNorms are the only thing that differs.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.profiler import record_function

from srgan_fast.errors import TrainingError
from srgan_fast.models.features import FeatureExtractor
from srgan_fast.models.generator import Affine
from srgan_fast.models.presets import LossRecipe
from srgan_fast.network.graph import ColourMap
from srgan_fast.ops import PackedWeights, data_gradients_only
from srgan_fast.ops.spectral import power_iteration
from srgan_fast.training import losses
from srgan_fast.training.distributed import average_gradients, mean_of

# hr, lr and, where the generator shall not come near to hr, its target; N, 3, H, W in 0..1.
Batch = tuple[Tensor, Tensor] | tuple[Tensor, Tensor, Tensor]
Autocast = Callable[[], AbstractContextManager[object]]
PIXELS_ALONE = LossRecipe(pixel="l1", pixel_weight=1.0)


def target_of(batch: Batch) -> Tensor:
    """What pixel and content losses compare with."""
    return batch[2] if len(batch) == 3 else batch[0]


@dataclass(frozen=True, slots=True)
class StepOptions:
    """What both stages have in common.

    Attributes:
        autocast: makes the context in which networks run.
        clip: largest norm of each network's gradient; None for no limit.
    """

    autocast: Autocast = nullcontext
    clip: float | None = None


class NonFiniteLossError(TrainingError):
    """A loss or a gradient became NaN or infinite; the weights are as they were before that step."""

    def __init__(self, name: str, value: float) -> None:
        super().__init__(f"the {name} is {value}")
        self.name = name
        self.value = value


@dataclass(frozen=True, slots=True)
class Figures:
    """What a step computed, still on its device; the gradients are with the weights.

    Attributes:
        shown: names of the losses that the step tells.
        names: of all values.
        values: the losses and, behind them, the norm of each network's gradient; means over all processes.
        norms: of this process' gradients, by network, for clipping.
    """

    shown: tuple[str, ...]
    names: tuple[str, ...]
    values: Tensor
    norms: dict[str, Tensor]

    def read(self) -> dict[str, float]:
        """Fetches the values, all at once.

        Raises:
            NonFiniteLossError: names the first figure that is not finite, in all processes alike.
        """
        values = self.values.tolist()
        for name, value in zip(self.names, values, strict=True):
            if not math.isfinite(value):
                raise NonFiniteLossError(name, value)
        return dict(zip(self.shown, values, strict=False))


class _Meter:
    """Figures of one step: means over its parts and over all processes."""

    def __init__(self, parts: int) -> None:
        self._parts = parts
        self._sums: dict[str, Tensor] = {}

    def add(self, name: str, loss: Tensor) -> Tensor:
        """Counts a part's loss and gives its share of the step."""
        share = loss / self._parts
        seen = share.detach().double()
        self._sums[name] = self._sums[name] + seen if name in self._sums else seen
        return share

    def finish(self, networks: dict[str, nn.Module]) -> Figures:
        """The means, and the norms of the networks' gradients, which are averaged here."""
        norms: dict[str, Tensor] = {}
        for name, network in networks.items():
            gradients = [p for p in network.parameters() if p.grad is not None]
            average_gradients(gradients)
            norms[name] = nn.utils.get_total_norm([p.grad for p in gradients if p.grad is not None])
        named = {f"{name} loss": value for name, value in self._sums.items()}
        named |= {f"{name}'s gradient": norm for name, norm in norms.items()}
        values = mean_of(torch.stack([value.double() for value in named.values()]))
        return Figures(tuple(self._sums), tuple(named), values, norms)


class Step(Protocol):
    """A step in two halves: what the device computes, and what is done with it."""

    @property
    def networks(self) -> dict[str, nn.Module]:
        """Those that it trains, by name."""

    def compute(self, batches: Sequence[Batch]) -> Figures:
        """Losses and gradients of a batch, given in parts; nothing is fetched from the device."""

    def conclude(self, figures: Figures, meanwhile: Callable[[], None] | None = None) -> dict[str, float]:
        """Moves the weights by the gradients that `compute` left, and tells the losses.

        Args:
            figures: that `compute` gave.
            meanwhile: called when the weights have been moved, on a GPU before the host waits for the losses. Should
                one of those not be finite, it has been called all the same there.
        """


def _move(
    figures: Figures,
    optimisers: dict[str, Optimizer],
    networks: dict[str, nn.Module],
    clip: float | None,
    meanwhile: Callable[[], None] | None,
) -> dict[str, float]:
    """Checks everything, clips, steps.

    Raises:
        NonFiniteLossError: a loss or gradient is not finite; the weights were not changed.
    """
    holds = figures.values.is_cuda and all(getattr(o, "_step_supports_amp_scaling", False) for o in optimisers.values())
    values = {} if holds else figures.read()
    # The device decides whether weights move, so that it has work while the host waits for the values.
    bad = figures.values.isfinite().all().logical_not().float() if holds else None
    for name, optimiser in optimisers.items():
        with record_function("optimisers"), _held_back(optimiser, bad):
            if clip is not None:
                gradients = [p for p in networks[name].parameters() if p.grad is not None]
                nn.utils.clip_grads_with_norm_(gradients, clip, figures.norms[name])
            optimiser.step()
    if meanwhile is not None:
        meanwhile()
    return figures.read() if holds else values


@contextmanager
def _held_back(optimiser: Optimizer, bad: Tensor | None) -> Iterator[None]:
    """A fused optimiser that moves nothing where `bad` is 1, which the host need not know.

    This is what torch's GradScaler does with optimisers that say `_step_supports_amp_scaling`.
    """
    if bad is None:
        yield
        return
    optimiser.found_inf = bad  # type: ignore[attr-defined]
    try:
        yield
    finally:
        del optimiser.found_inf  # type: ignore[attr-defined]


class _SuperResolved:
    """SR of a part, each of whose losses hands back its gradient with respect to SR and frees its own graph.

    Args:
        sr: what the generator gave.
        meter: counts the losses.
    """

    def __init__(self, sr: Tensor, meter: _Meter) -> None:
        self._sr, self._meter = sr, meter
        self.leaf = sr.detach().requires_grad_()
        self._gradient = torch.zeros_like(self.leaf)
        self._total = torch.zeros((), dtype=torch.float64, device=sr.device)

    def add(self, name: str, network: str, loss: Tensor, weight: float, keep_graph: bool = False) -> None:
        """Adds a loss of `leaf` to what the generator minimises."""
        share = self._meter.add(name, loss) * weight
        with record_function(f"{network} backward, to SR"), data_gradients_only():
            self._gradient.add_(torch.autograd.grad(share, self.leaf, retain_graph=keep_graph)[0])
        self._total = self._total + loss.detach().double() * weight

    def backward(self, tells_sum: bool = True) -> None:
        """Takes the sum of all gradients through the generator."""
        if tells_sum:
            self._meter.add("generator", self._total)
        with record_function("G backward"):
            self._sr.backward(self._gradient)  # type: ignore[no-untyped-call]


class _Features:
    """VGG and its transformed weights, which stay the same from step to step."""

    def __init__(self, extractor: FeatureExtractor) -> None:
        self._extractor, self._weights = extractor, PackedWeights()

    def begin(self) -> None:
        """Called before each step."""
        if self._extractor.trainable:  # torch does not count what its fused optimisers change
            self._weights.clear()

    def content(self, recipe: LossRecipe, sr: Tensor, target: Tensor, autocast: Autocast) -> Tensor:
        """The content loss of SR, whose graph goes back to it alone."""
        with record_function("VGG(HR) forward"), torch.no_grad(), autocast(), self._weights.active():
            wanted = self._of(target)
        with record_function("VGG(SR) forward"), autocast(), self._weights.active():
            given = self._of(sr)
        return losses.layered_content_loss(recipe.content, given, wanted, recipe.layer_weights, recipe.feature_scale)

    def _of(self, image: Tensor) -> list[Tensor]:
        maps: Tensor | list[Tensor] = self._extractor(image)
        return [maps] if isinstance(maps, Tensor) else maps


def _add_image_losses(
    part: _SuperResolved, batch: Batch, recipe: LossRecipe, features: _Features | None, autocast: Autocast
) -> None:
    """The losses that need no discriminator."""
    target, leaf = target_of(batch), part.leaf
    if features is not None and recipe.content_weight:
        part.add("content", "VGG", features.content(recipe, leaf, target, autocast), recipe.content_weight)
    if recipe.pixel_weight:
        part.add("pixel", "pixel loss", losses.distance(recipe.pixel, leaf, target), recipe.pixel_weight)
    if recipe.variation_weight:
        part.add("variation", "variation loss", losses.total_variation(leaf), recipe.variation_weight)


@dataclass
class PretrainStep:
    """SRResNet: the generator without a discriminator, on a pixel loss, a content loss, or both.

    Attributes:
        generator: in training mode.
        optimiser: of its parameters.
        recipe: losses; its adversarial part is not used.
        options: autocast and clipping.
        features: frozen; None where the content weight is 0.
    """

    generator: nn.Module
    optimiser: Optimizer
    recipe: LossRecipe = PIXELS_ALONE
    options: StepOptions = field(default_factory=StepOptions)
    features: FeatureExtractor | None = None

    def __post_init__(self) -> None:
        self._features = None if self.features is None else _Features(self.features)
        weights = (self.recipe.content_weight, self.recipe.pixel_weight, self.recipe.variation_weight)
        self._tells_sum = sum(weight > 0 for weight in weights) > 1

    def __call__(self, batches: Sequence[Batch], meanwhile: Callable[[], None] | None = None) -> dict[str, float]:
        """One step over the given parts of a batch, their gradients accumulated.

        Args:
            batches: the parts.
            meanwhile: see `Step.conclude`.

        Returns:
            Mean losses `content`, `pixel`, `variation` (where used), and their weighted sum `generator` where there are
            several.

        Raises:
            NonFiniteLossError: a loss or gradient is not finite; the weights were not changed.
        """
        return self.conclude(self.compute(batches), meanwhile)

    @property
    def networks(self) -> dict[str, nn.Module]:
        """See `Step`."""
        return {"generator": self.generator}

    def compute(self, batches: Sequence[Batch]) -> Figures:
        """See `Step`."""
        meter = _Meter(len(batches))
        self.optimiser.zero_grad(set_to_none=True)
        if self._features is not None:
            self._features.begin()
        for batch in batches:
            with record_function("G forward"), self.options.autocast():
                sr = self.generator(batch[1])
            part = _SuperResolved(sr, meter)
            _add_image_losses(part, batch, self.recipe, self._features, self.options.autocast)
            part.backward(self._tells_sum)
        return meter.finish(self.networks)

    def conclude(self, figures: Figures, meanwhile: Callable[[], None] | None = None) -> dict[str, float]:
        """See `Step`."""
        return _move(figures, {"generator": self.optimiser}, self.networks, self.options.clip, meanwhile)


@dataclass
class GanStep:
    """SRGAN: generator and discriminator together; see the head of this file.

    Attributes:
        generator: in training mode.
        discriminator: in training mode.
        features: frozen; None where the content weight is 0.
        generator_optimiser: of the generator's parameters.
        discriminator_optimiser: of the discriminator's.
        recipe: losses.
        discriminator_map: from images in 0..1 to the discriminator's input.
        options: autocast and clipping.
    """

    generator: nn.Module
    discriminator: nn.Module
    features: FeatureExtractor | None
    generator_optimiser: Optimizer
    discriminator_optimiser: Optimizer
    recipe: LossRecipe
    discriminator_map: ColourMap
    options: StepOptions = field(default_factory=StepOptions)

    def __post_init__(self) -> None:
        parameter = next(self.generator.parameters())
        self._to_critic = Affine(self.discriminator_map).to(parameter)
        self._critic_weights = PackedWeights()  # D's weights stay the same while it looks at both pictures and back
        self._features = None if self.features is None else _Features(self.features)

    def __call__(self, batches: Sequence[Batch], meanwhile: Callable[[], None] | None = None) -> dict[str, float]:
        """One step of both networks over the given parts of a batch, their gradients accumulated.

        Args:
            batches: the parts.
            meanwhile: see `Step.conclude`.

        Returns:
            Mean losses `content`, `adversarial`, `pixel`, `variation` (where used), `generator` (their weighted sum),
            `real`, `fake`, `discriminator`, and D's mean probability of real, `D(hr)` and `D(sr)`.

        Raises:
            NonFiniteLossError: a loss or gradient is not finite; the weights were not changed.
        """
        return self.conclude(self.compute(batches), meanwhile)

    @property
    def networks(self) -> dict[str, nn.Module]:
        """See `Step`."""
        return {"generator": self.generator, "discriminator": self.discriminator}

    def compute(self, batches: Sequence[Batch]) -> Figures:
        """See `Step`."""
        meter = _Meter(len(batches))
        self.generator_optimiser.zero_grad(set_to_none=True)
        self.discriminator_optimiser.zero_grad(set_to_none=True)
        # Torch does not count what its fused optimisers change.
        self._critic_weights.clear()
        power_iteration(self.discriminator)
        if self._features is not None:
            self._features.begin()
        for batch in batches:
            self._part(batch, meter)
        return meter.finish(self.networks)

    def conclude(self, figures: Figures, meanwhile: Callable[[], None] | None = None) -> dict[str, float]:
        """See `Step`."""
        optimisers = {"generator": self.generator_optimiser, "discriminator": self.discriminator_optimiser}
        return _move(figures, optimisers, self.networks, self.options.clip, meanwhile)

    def _part(self, batch: Batch, meter: _Meter) -> None:
        r, hr = self.recipe, batch[0]
        with record_function("G forward"), self.options.autocast():
            sr = self.generator(batch[1])
        part = _SuperResolved(sr, meter)
        _add_image_losses(part, batch, r, self._features, self.options.autocast)

        relativistic = losses.needs_real_logits(r.adversarial)
        real = self._criticise(hr) if relativistic else None
        fake = self._criticise(part.leaf)
        adversarial = losses.generator_loss(r.adversarial, fake, None if real is None else real.detach())
        part.add("adversarial", "D", adversarial, r.adversarial_weight, keep_graph=True)
        part.backward()

        if real is None:
            real = self._criticise(hr)
        real_loss, fake_loss = losses.discriminator_losses(r.adversarial, real, fake)
        share = meter.add("real", real_loss) + meter.add("fake", fake_loss)
        share = share / 2 if r.discriminator_average else share
        meter.add("discriminator", (real_loss + fake_loss) * (0.5 if r.discriminator_average else 1.0))
        parameters = [p for p in self.discriminator.parameters() if p.requires_grad]
        with record_function("D backward, to its weights"):
            torch.autograd.backward(share, inputs=parameters)
        for name, logits in (("D(hr)", real), ("D(sr)", fake)):
            meter.add(name, self._probability(logits.detach()))

    def _criticise(self, image: Tensor) -> Tensor:
        with record_function("D forward"), self.options.autocast(), self._critic_weights.active():
            # A view, since of a leaf autograd cannot tell whether its gradient is wanted.
            logits: Tensor = self.discriminator(self._to_critic(image).view_as(image))
        return logits

    def _probability(self, logits: Tensor) -> Tensor:
        """How real D finds images: the logit itself in the least-squares game, where real is 1, else its sigmoid."""
        wide = logits.double()
        return wide.mean() if self.recipe.adversarial == "lsgan" else torch.sigmoid(wide).mean()
