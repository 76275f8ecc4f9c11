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

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.profiler import record_function

from srgan_fast.models.features import FeatureExtractor
from srgan_fast.models.generator import Affine
from srgan_fast.models.presets import LossRecipe
from srgan_fast.network.graph import ColourMap
from srgan_fast.ops import PackedWeights
from srgan_fast.ops.spectral import power_iteration
from srgan_fast.ops.switch import steps_are_recorded
from srgan_fast.training import losses
from srgan_fast.training.features import Autocast, Features
from srgan_fast.training.figures import Figures, Meter
from srgan_fast.training.streams import Branches, may_fork
from srgan_fast.training.super_resolved import SuperResolved
from srgan_fast.training.weight_update import update_weights

# hr, lr and, if pixel and content losses do not compare with hr, the target; N, 3, H, W in 0..1.
Batch = tuple[Tensor, Tensor] | tuple[Tensor, Tensor, Tensor]
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


class _StepOfStage(ABC):
    """What the steps of both stages have in common; see `Step`."""

    generator: nn.Module
    recipe: LossRecipe
    options: StepOptions
    features: FeatureExtractor | None

    def __post_init__(self) -> None:
        self._weights = PackedWeights(casts_only=True)
        self._features = None if self.features is None else Features(self.features)

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
        return update_weights(figures, self.optimisers, self.networks, self.options.clip, after_update)

    def _begin(self) -> None:
        """Prepares for a step."""
        for optimiser in self.optimisers.values():
            optimiser.zero_grad(set_to_none=True)
        self._weights.clear()  # torch's fused optimisers do not increment the version of changed tensors
        if self._features is not None:
            self._features.begin()

    def _upscale(self, batch: Batch, meter: Meter) -> SuperResolved:
        """Super-resolves a part of the batch."""
        with record_function("G forward"), self.options.autocast(), self._weights.active():
            sr = self.generator(batch[1])
        return SuperResolved(sr, meter)

    def _add_image_losses(self, part: SuperResolved, batch: Batch, wanted: list[Tensor] | None = None) -> None:
        """Adds losses that need no discriminator; `wanted` is the result of `Features.of_target`, if it is there."""
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
        meter = Meter(len(batches))
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
        meter = Meter(len(batches))
        for i, batch in enumerate(batches):
            self._add_part(batch, meter, last=i == len(batches) - 1)
        return meter.finish(self.networks)

    def _add_part(self, batch: Batch, meter: Meter, last: bool) -> None:
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

    def _to_weights(self, real: Tensor, fake: Tensor, meter: Meter) -> None:
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
