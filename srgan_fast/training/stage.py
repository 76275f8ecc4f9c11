"""One stage of a run: its networks, and its step repeated over batches with the stage's learning rates."""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn
from torch.optim import Adam

from srgan_fast.models import PRESETS
from srgan_fast.models.discriminator import build_discriminator
from srgan_fast.models.features import FeatureExtractor
from srgan_fast.training.averaging import AveragedGenerator
from srgan_fast.training.checkpoints import StageState
from srgan_fast.training.config import Betas, PretrainSection, StageName, TrainConfig
from srgan_fast.training.execution import Execution
from srgan_fast.training.feeding import prefetched
from srgan_fast.training.graphs import CapturedStep, can_record, fastest_algorithms
from srgan_fast.training.recipe import stage_recipe
from srgan_fast.training.schedule import learning_rate
from srgan_fast.training.step import Batch, GanStep, PretrainStep


@dataclass(frozen=True, slots=True)
class FinishedStep:
    """Result of a step.

    Attributes:
        number: number of finished steps of the stage, this one included.
        losses: losses by name.
        learning_rate: learning rate of the step.
    """

    number: int
    losses: dict[str, float]
    learning_rate: float


class Stage:
    """Trains the networks of one stage.

    Args:
        name: name of the stage.
        config: configuration of the run.
        generator: generator, placed for training.
        features: VGG of the stage's content loss; None if the loss is not used.
        average: average of the generator, updated after each step.
        execution: device and processes.
    """

    def __init__(
        self,
        name: StageName,
        config: TrainConfig,
        generator: nn.Module,
        features: FeatureExtractor | None,
        average: AveragedGenerator,
        execution: Execution,
    ) -> None:
        self.name, self.section = name, config.stage(name)
        self._generator, self._average, self._execution = generator, average, execution
        self._step = _build_step(name, config, generator, features, execution)
        generator.train()

    def state(self) -> StageState:
        """State of networks, optimisers and average, for a checkpoint."""
        return {
            "networks": {name: network.state_dict() for name, network in self._step.networks.items()},
            "optimisers": {name: optimiser.state_dict() for name, optimiser in self._step.optimisers.items()},
            "average": self._average.module.state_dict(),
        }

    def restore(self, state: StageState) -> None:
        """Restores a state of `state`.

        Raises:
            KeyError, RuntimeError, ValueError: the state belongs to other networks.
        """
        for name, network in self._step.networks.items():
            network.load_state_dict(state["networks"][name])
        for name, optimiser in self._step.optimisers.items():
            optimiser.load_state_dict(state["optimisers"][name])
        self._average.module.load_state_dict(state["average"])

    def run(self, first: int, load: Callable[[int], list[Batch]]) -> Generator[FinishedStep, None, None]:
        """Trains from step `first` to the end; the caller may stop after any step by closing the iterator.

        Args:
            first: number of steps that are finished already.
            load: function that returns this process's parts of a step's batch; called in another thread.

        Raises:
            NonFiniteLossError: a loss or gradient is not finite; the weights were not changed.
        """
        section, device = self.section, self._execution.device
        records = self._execution.run.graphs and can_record(device, self._execution.processes)
        step = CapturedStep(self._step) if records else self._step
        frozen, freeze_after = False, section.freeze_batchnorm_after
        with prefetched(load, range(first, section.steps), device) as batches:
            for number, parts in enumerate(batches, start=first):
                rate = learning_rate(section.schedule, section.learning_rate, number, section.steps)
                self._set_optimisers(rate)
                if freeze_after is not None and number >= freeze_after and not frozen:
                    frozen = True
                    freeze_batchnorm(self._generator)
                    if isinstance(step, CapturedStep):
                        step.forget()
                with fastest_algorithms(device):
                    losses = step(parts, partial(self._average.update, self._generator, number))
                yield FinishedStep(number + 1, losses, rate)

    def _set_optimisers(self, rate: float) -> None:
        """Sets learning rate and betas, both of which may differ in a resumed run."""
        for optimiser in self._step.optimisers.values():
            for group in optimiser.param_groups:
                group["lr"], group["betas"] = rate, self.section.betas


def freeze_batchnorm(network: nn.Module) -> None:
    """Makes all BatchNorms of a network in training mode use their running statistics, which then stay constant.

    Their weights and biases are still trained. `network.train()` undoes it.
    """
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()


def _build_step(
    name: StageName,
    config: TrainConfig,
    generator: nn.Module,
    features: FeatureExtractor | None,
    execution: Execution,
) -> PretrainStep | GanStep:
    section, preset = config.stage(name), PRESETS[config.generator.preset]
    recipe, options = stage_recipe(section, preset), execution.step_options()
    optimiser = _adam(generator, section.betas)
    if isinstance(section, PretrainSection):
        return PretrainStep(generator, optimiser, recipe, options, features)
    # A separate seed, so that D has the same initial weights with and without a first stage.
    torch.manual_seed(config.run.seed + 1)
    discriminator = execution.place_for_training(build_discriminator(config.discriminator, config.data.crop))
    return GanStep(
        generator,
        discriminator,
        features,
        optimiser,
        _adam(discriminator, section.betas),
        recipe,
        preset.discriminator_map,
        options,
    )


def _adam(network: nn.Module, betas: Betas) -> Adam:
    # The fused implementation updates the weights in one pass, where the device supports it.
    return Adam(network.parameters(), lr=0.0, betas=betas, fused=True)
