"""One optimiser step of each stage, without redundant computation.

The common adversarial loop computes D(sr) in the generator's step and again in the discriminator's, although D has not
changed in between; it computes gradients of D's weights in the generator's step and discards them; and it records an
autograd graph through VGG(hr). Here:

1. `sr = G(lr)`, detached as a leaf, so that each loss returns its gradient with respect to `sr` and frees its graph;
2. VGG(hr) without a graph and VGG(sr), both in one pass for all layers; the content loss gives a gradient of sr;
3. D(sr), once; the adversarial loss gives a gradient of sr only (this backward pass skips D's weights);
4. one backward pass of the summed gradient through G;
5. D(hr); D's loss uses D(sr) and its graph from 3, and gives gradients of D's weights only;
6. a step of both optimisers.

A step of the first stage, which has no discriminator, consists of 1, 2, 4 and the generator's part of 6. If there are
targets, they replace hr in 2 and in the pixel loss; D's real images are always the originals.

Recorded steps on CUDA may fork what is independent (`streams`): VGG(hr) and D(hr) beside G; D(sr) and its backward pass
beside VGG(sr) and its; D's backward pass to its weights beside G's.

Traces of torch.profiler show each part under its own name (`tools/profile_step.py`).

Losses and weights are those of the common loop, with one difference: D's BatchNorm running statistics are updated with
the batch of D(sr) once per step instead of twice.
"""

import math
from abc import ABC, abstractmethod
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
from srgan_fast.ops.switch import steps_are_recorded
from srgan_fast.training import losses
from srgan_fast.training.distributed import average_gradients, mean_of
from srgan_fast.training.streams import Branches, may_fork

# hr, lr and, if pixel and content losses do not compare with hr, the target; N, 3, H, W in 0..1.
Batch = tuple[Tensor, Tensor] | tuple[Tensor, Tensor, Tensor]
Autocast = Callable[[], AbstractContextManager[object]]
# Elements of weights that VGG's cache does not keep packed: those of 512 to 512 channels would be 1.1 GB in Winograd's
# domain, as much as all else of a step to conv5_4; packing them in each call takes about 2 % of it.
LARGE_WEIGHT = 1 << 20
PIXELS_ALONE = LossRecipe(pixel="l1", pixel_weight=1.0)


def target_of(batch: Batch) -> Tensor:
    """The images that pixel and content losses compare with."""
    return batch[2] if len(batch) == 3 else batch[0]


@dataclass(frozen=True, slots=True)
class StepOptions:
    """Options of both stages.

    Attributes:
        autocast: function that returns the context in which networks run.
        clip: maximum norm of each network's gradient; None for no limit.
        side_streams: whether independent parts of an adversarial step run on CUDA streams of their own where steps are
            recorded; no GPU has measured it yet. D's running statistics then see the real images first.
    """

    autocast: Autocast = nullcontext
    clip: float | None = None
    side_streams: bool = False


class NonFiniteLossError(TrainingError):
    """A loss or a gradient is NaN or infinite; the weights are those from before the step."""

    def __init__(self, name: str, value: float) -> None:
        super().__init__(f"the {name} is {value}")
        self.name = name
        self.value = value


@dataclass(frozen=True, slots=True)
class Figures:
    """Losses and gradient norms of a step, still on the device; the gradients are in the parameters.

    Attributes:
        shown: names under which the step returns the losses, which come first in `values`.
        names: names of all values, for messages.
        values: the losses, then the norm of each network's gradient; means over all processes.
        norms: norm of each network's gradient in this process, by network, for clipping.
    """

    shown: tuple[str, ...]
    names: tuple[str, ...]
    values: Tensor
    norms: dict[str, Tensor]

    def read(self) -> dict[str, float]:
        """Copies the values to the host, in one transfer.

        Raises:
            NonFiniteLossError: a value is not finite; names the first one, the same in all processes.
        """
        values = self.values.tolist()
        for name, value in zip(self.names, values, strict=True):
            if not math.isfinite(value):
                raise NonFiniteLossError(name, value)
        return dict(zip(self.shown, values, strict=False))


class _Meter:
    """Accumulates the figures of one step: means over its parts and over all processes."""

    def __init__(self, parts: int) -> None:
        self._parts = parts
        self._sums: dict[str, Tensor] = {}

    def add(self, name: str, loss: Tensor) -> Tensor:
        """Adds a part's loss; returns its share of the step's loss, `loss / parts`."""
        share = loss / self._parts
        seen = share.detach().double()
        self._sums[name] = self._sums[name] + seen if name in self._sums else seen
        return share

    def finish(self, networks: dict[str, nn.Module]) -> Figures:
        """Averages the gradients over all processes; returns the mean losses and the gradient norms."""
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
    """A step in two halves: losses and gradients, which a CUDA graph can record, then the update of the weights."""

    @property
    def networks(self) -> dict[str, nn.Module]:
        """The trained networks, by name."""

    def compute(self, batches: Sequence[Batch]) -> Figures:
        """Computes losses and gradients of a batch, given in parts, without waiting for the device."""

    def conclude(self, figures: Figures, after_update: Callable[[], None] | None = None) -> dict[str, float]:
        """Updates the weights with the gradients of `compute`, and returns the losses.

        Args:
            figures: result of `compute`.
            after_update: called after the weights were updated; on a GPU before the host waits for the losses, and
                therefore even if one of them is not finite.
        """


def _update_weights(
    figures: Figures,
    optimisers: dict[str, Optimizer],
    networks: dict[str, nn.Module],
    clip: float | None,
    after_update: Callable[[], None] | None,
) -> dict[str, float]:
    """Checks that all figures are finite, clips the gradients, and updates the weights.

    Raises:
        NonFiniteLossError: a loss or gradient is not finite; the weights were not changed.
    """
    device_decides = figures.values.is_cuda and all(
        getattr(o, "_step_supports_amp_scaling", False) for o in optimisers.values()
    )
    values = {} if device_decides else figures.read()
    # The device decides whether the weights change, so that it has work while the host waits for the values.
    bad = figures.values.isfinite().all().logical_not().float() if device_decides else None
    for name, optimiser in optimisers.items():
        with record_function("optimisers"), _skipped_if(optimiser, bad):
            if clip is not None:
                gradients = [p for p in networks[name].parameters() if p.grad is not None]
                nn.utils.clip_grads_with_norm_(gradients, clip, figures.norms[name])
            optimiser.step()
    if after_update is not None:
        after_update()
    return figures.read() if device_decides else values


@contextmanager
def _skipped_if(optimiser: Optimizer, bad: Tensor | None) -> Iterator[None]:
    """Context in which a fused optimiser changes nothing if `bad`, a value on the device, is 1.

    torch's GradScaler uses the same mechanism with optimisers that declare `_step_supports_amp_scaling`.
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
    """Super-resolved images of a part; sums the gradients of its losses with respect to them.

    Each loss frees its graph as soon as its gradient is computed.

    Args:
        sr: result of the generator.
        meter: accumulator of the losses.
    """

    def __init__(self, sr: Tensor, meter: _Meter) -> None:
        self._sr, self._meter = sr, meter
        self.leaf = sr.detach().requires_grad_()
        self._gradient = torch.zeros_like(self.leaf)
        self._total = torch.zeros((), dtype=torch.float64, device=sr.device)

    def add(self, name: str, network: str, loss: Tensor, weight: float, keep_graph: bool = False) -> None:
        """Adds a loss of `leaf`, times its weight, to the generator's loss."""
        self.accept(loss, weight, self.gradient_of(name, network, loss, weight, keep_graph))

    def gradient_of(self, name: str, network: str, loss: Tensor, weight: float, keep_graph: bool = False) -> Tensor:
        """The gradient of a loss of `leaf`, times its weight; `accept` adds both to the generator's."""
        share = self._meter.add(name, loss) * weight
        with record_function(f"{network} backward, to SR"), data_gradients_only():
            return torch.autograd.grad(share, self.leaf, retain_graph=keep_graph)[0]

    def accept(self, loss: Tensor, weight: float, gradient: Tensor) -> None:
        """Adds a loss and what `gradient_of` returned for it."""
        self._gradient.add_(gradient)
        self._total = self._total + loss.detach().double() * weight

    def backward(self, reports_sum: bool = True) -> None:
        """Propagates the summed gradient through the generator.

        Args:
            reports_sum: whether the summed loss is one of the figures.
        """
        if reports_sum:
            self._meter.add("generator", self._total)
        with record_function("G backward"):
            self._sr.backward(self._gradient)  # type: ignore[no-untyped-call]


class _Features:
    """VGG and its packed weights, which are reused from step to step."""

    def __init__(self, extractor: FeatureExtractor) -> None:
        self._extractor, self._weights = extractor, PackedWeights(most=LARGE_WEIGHT)

    def begin(self) -> None:
        """Prepares for a step; must be called before each one."""
        if self._extractor.trainable:  # torch's fused optimisers do not increment the version of changed tensors
            self._weights.clear()

    def _of_both(self, target: Tensor, sr: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Features of the target, without gradient, and of SR."""
        if isinstance(self._extractor, FeatureExtractor):
            return self._extractor.of_two(target, sr)
        with torch.no_grad():
            wanted = self._of(target)  # compiled
        return wanted, self._of(sr)

    def of_target(self, target: Tensor, autocast: Autocast) -> list[Tensor]:
        """Features of the target alone, without gradient."""
        with record_function("VGG(HR) forward"), torch.no_grad(), autocast(), self._weights.active():
            return self._of(target)

    def _of(self, image: Tensor) -> list[Tensor]:
        maps: Tensor | list[Tensor] = self._extractor(image)
        return [maps] if isinstance(maps, Tensor) else maps

    def content(
        self, recipe: LossRecipe, sr: Tensor, target: Tensor, autocast: Autocast, wanted: list[Tensor] | None = None
    ) -> Tensor:
        """The content loss of SR; only SR gets a gradient. `wanted` is the result of `of_target`, if it is there."""
        if wanted is not None:
            with record_function("VGG(SR) forward"), autocast(), self._weights.active():
                given = self._of(sr)
        else:
            with record_function("VGG forward"), autocast(), self._weights.active():
                wanted, given = self._of_both(target, sr)
        return losses.layered_content_loss(recipe.content, given, wanted, recipe.layer_weights, recipe.feature_scale)


class _StepOfStage(ABC):
    """What the steps of both stages have in common; see `Step`."""

    generator: nn.Module
    recipe: LossRecipe
    options: StepOptions
    features: FeatureExtractor | None

    def __post_init__(self) -> None:
        self._weights = PackedWeights(casts_only=True)
        self._features = None if self.features is None else _Features(self.features)

    def __call__(self, batches: Sequence[Batch], after_update: Callable[[], None] | None = None) -> dict[str, float]:
        """Computes one step, accumulating the gradients of a batch's parts.

        Args:
            batches: parts of the batch.
            after_update: see `Step.conclude`.

        Returns:
            Mean losses; the class names them.

        Raises:
            NonFiniteLossError: a loss or gradient is not finite; the weights were not changed.
        """
        return self.conclude(self.compute(batches), after_update)

    @property
    @abstractmethod
    def networks(self) -> dict[str, nn.Module]:
        """See `Step`."""

    @property
    @abstractmethod
    def optimisers(self) -> dict[str, Optimizer]:
        """Optimisers of the trained networks, by name."""

    @abstractmethod
    def compute(self, batches: Sequence[Batch]) -> Figures:
        """See `Step`."""

    def conclude(self, figures: Figures, after_update: Callable[[], None] | None = None) -> dict[str, float]:
        """See `Step`."""
        return _update_weights(figures, self.optimisers, self.networks, self.options.clip, after_update)

    def _begin(self) -> None:
        """Prepares for a step."""
        for optimiser in self.optimisers.values():
            optimiser.zero_grad(set_to_none=True)
        self._weights.clear()  # torch's fused optimisers do not increment the version of changed tensors
        if self._features is not None:
            self._features.begin()

    def _upscale(self, batch: Batch, meter: _Meter) -> _SuperResolved:
        """Super-resolves a part of the batch."""
        with record_function("G forward"), self.options.autocast(), self._weights.active():
            sr = self.generator(batch[1])
        return _SuperResolved(sr, meter)

    def _add_image_losses(self, part: _SuperResolved, batch: Batch, wanted: list[Tensor] | None = None) -> None:
        """Adds losses that need no discriminator; `wanted` is the result of `_Features.of_target`, if it is there."""
        recipe, features, target = self.recipe, self._features, target_of(batch)
        if features is not None and recipe.content_weight:
            content = features.content(recipe, part.leaf, target, self.options.autocast, wanted)
            part.add("content", "VGG", content, recipe.content_weight)
        if recipe.pixel_weight:
            pixel = losses.distance(recipe.pixel, part.leaf, target)
            part.add("pixel", "pixel loss", pixel, recipe.pixel_weight)
        if recipe.checkerboard_weight:
            period = part.leaf.shape[3] // batch[1].shape[3]
            checkerboard = losses.checkerboard(part.leaf, target, period)
            part.add("checkerboard", "checkerboard loss", checkerboard, recipe.checkerboard_weight)
        if recipe.variation_weight:
            variation = losses.total_variation(part.leaf)
            part.add("variation", "variation loss", variation, recipe.variation_weight)


@dataclass
class PretrainStep(_StepOfStage):
    """Step of the first stage (SRResNet): the generator with a pixel loss, a content loss, or both.

    Its losses are `content`, `pixel`, `checkerboard`, `variation` (those that are used), and if there are several,
    their weighted sum `generator`.

    Attributes:
        generator: generator in training mode.
        optimiser: optimiser of the generator's parameters.
        recipe: losses; the adversarial part is not used.
        options: autocast and clipping.
        features: frozen VGG for the content loss; None if its weight is 0.
    """

    generator: nn.Module
    optimiser: Optimizer
    recipe: LossRecipe = PIXELS_ALONE
    options: StepOptions = field(default_factory=StepOptions)
    features: FeatureExtractor | None = None

    @property
    def networks(self) -> dict[str, nn.Module]:
        """See `Step`."""
        return {"generator": self.generator}

    @property
    def optimisers(self) -> dict[str, Optimizer]:
        """Optimiser of the generator."""
        return {"generator": self.optimiser}

    def compute(self, batches: Sequence[Batch]) -> Figures:
        """See `Step`."""
        self._begin()
        meter = _Meter(len(batches))
        for batch in batches:
            part = self._upscale(batch, meter)
            self._add_image_losses(part, batch)
            part.backward(reports_sum=sum(weight > 0 for weight in self.recipe.weights) > 1)
        return meter.finish(self.networks)


@dataclass
class GanStep(_StepOfStage):
    """Step of the adversarial stage (SRGAN): generator and discriminator; see the module's docstring.

    Its losses are `content`, `adversarial`, `pixel`, `checkerboard`, `variation` (those that are used), `generator`
    (their weighted sum), `real`, `fake`, `discriminator`, and D's mean probability of being real, `D(hr)` and `D(sr)`.

    Attributes:
        generator: generator in training mode.
        discriminator: discriminator in training mode.
        features: frozen VGG for the content loss; None if its weight is 0.
        generator_optimiser: optimiser of the generator's parameters.
        discriminator_optimiser: optimiser of the discriminator's parameters.
        recipe: losses.
        discriminator_map: colour map from images in 0..1 to the discriminator's input.
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
        super().__post_init__()
        self._to_discriminator = Affine(self.discriminator_map).to(next(self.generator.parameters()))
        self._side: Branches | None = None
        self._discriminator_weights = PackedWeights()  # D's weights are constant within a step

    @property
    def networks(self) -> dict[str, nn.Module]:
        """See `Step`."""
        return {"generator": self.generator, "discriminator": self.discriminator}

    @property
    def optimisers(self) -> dict[str, Optimizer]:
        """Optimisers of both networks."""
        return {"generator": self.generator_optimiser, "discriminator": self.discriminator_optimiser}

    def compute(self, batches: Sequence[Batch]) -> Figures:
        """See `Step`."""
        self._begin()
        # torch's fused optimisers do not increment the version of changed tensors.
        self._discriminator_weights.clear()
        power_iteration(self.discriminator)
        meter = _Meter(len(batches))
        for i, batch in enumerate(batches):
            self._add_part(batch, meter, last=i == len(batches) - 1)
        return meter.finish(self.networks)

    def _add_part(self, batch: Batch, meter: _Meter, last: bool) -> None:
        r, hr = self.recipe, batch[0]
        branches = self._branches(hr)
        real, wanted = None, None
        if branches.forks:  # beside G; else later, because what D and VGG keep would take memory until then
            with branches.beside("originals"):
                if self._features is not None and r.content_weight:
                    wanted = self._features.of_target(target_of(batch), self.options.autocast)
                real = self._discriminate(hr)
        part = self._upscale(batch, meter)
        branches.join()
        if not branches.forks:
            self._add_image_losses(part, batch)

        relativistic = losses.needs_real_logits(r.adversarial)
        if relativistic and real is None:
            real = self._discriminate(hr)
        with branches.beside("discriminator"):
            fake = self._discriminate(part.leaf)
            of_real = real.detach() if relativistic and real is not None else None
            adversarial = losses.generator_loss(r.adversarial, fake, of_real)
            gradient = part.gradient_of("adversarial", "D", adversarial, r.adversarial_weight, keep_graph=True)
        if branches.forks:
            self._add_image_losses(part, batch, wanted)
        branches.join()
        part.accept(adversarial, r.adversarial_weight, gradient)

        if not branches.forks:
            part.backward()
        with branches.beside("discriminator"):
            if real is None:
                real = self._discriminate(hr)
            if last:
                self._discriminator_weights.drop_forward()
            self._to_weights(real, fake, meter)
        if branches.forks:
            part.backward()
        branches.join()  # what crossed streams is alive until here

    def _branches(self, image: Tensor) -> Branches:
        if not self.options.side_streams or not may_fork(image, steps_are_recorded()):
            return Branches()
        if self._side is None:
            self._side = Branches(image.device)
        return self._side

    def _to_weights(self, real: Tensor, fake: Tensor, meter: _Meter) -> None:
        """Adds D's losses, and their gradients to D's weights."""
        average = self.recipe.discriminator_average
        real_loss, fake_loss = losses.discriminator_losses(self.recipe.adversarial, real, fake)
        share = meter.add("real", real_loss) + meter.add("fake", fake_loss)
        share = share / 2 if average else share
        meter.add("discriminator", (real_loss + fake_loss) * (0.5 if average else 1.0))
        parameters = [p for p in self.discriminator.parameters() if p.requires_grad]
        with record_function("D backward, to its weights"):
            torch.autograd.backward(share, inputs=parameters)
        for name, logits in (("D(hr)", real), ("D(sr)", fake)):
            meter.add(name, self._probability(logits.detach()))

    def _discriminate(self, image: Tensor) -> Tensor:
        with record_function("D forward"), self.options.autocast(), self._discriminator_weights.active():
            # A view, because for a leaf autograd does not tell whether its gradient is needed.
            logits: Tensor = self.discriminator(self._to_discriminator(image).view_as(image))
        return logits

    def _probability(self, logits: Tensor) -> Tensor:
        """D's mean probability of being real: the logit itself for `lsgan`, where real is 1, otherwise its sigmoid."""
        wide = logits.double()
        return wide.mean() if self.recipe.adversarial == "lsgan" else torch.sigmoid(wide).mean()
