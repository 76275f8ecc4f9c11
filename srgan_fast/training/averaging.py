"""Exponential moving average of the generator: the weights that are validated and shipped."""

import copy

import torch
from torch import nn

from srgan_fast.models.generator import Generator


class AveragedGenerator:
    """A generator that follows another one slowly.

    `average = decay * average + (1 - decay) * current` after every step, running statistics included; the decay starts
    lower, `min(decay, (1 + n) / (10 + n))` at the n-th step, so that the random start is forgotten.

    Args:
        generator: to follow.
        decay: 0 follows at once.
    """

    def __init__(self, generator: Generator, decay: float) -> None:
        self.module = copy.deepcopy(generator).eval().requires_grad_(False)
        self.decay = decay

    def update(self, generator: nn.Module, step: int) -> None:
        """Moves the average after step `step` (from 0) of a stage."""
        decay = min(self.decay, (1 + step) / (10 + step)) if self.decay else 0.0
        with torch.no_grad():
            for ours, theirs in zip(self.module.state_dict().values(), generator.state_dict().values(), strict=True):
                if ours.is_floating_point():
                    ours.lerp_(theirs, 1.0 - decay)
                else:
                    ours.copy_(theirs)
