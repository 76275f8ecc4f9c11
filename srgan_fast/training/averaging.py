"""Exponential moving average of the generator: the weights that are validated and saved as a model."""

import copy

import torch
from torch import Tensor, nn

_Pairs = tuple[list[Tensor], list[Tensor]]  # ours and theirs


class AveragedGenerator:
    """A copy of a generator whose weights are averaged over the steps.

    `average = decay * average + (1 - decay) * current` after every step, running statistics included. The decay is
    lower in the first steps, `min(decay, (1 + n) / (10 + n))` at step n, so that the random initial weights lose
    their influence quickly.

    Args:
        generator: the generator to average.
        decay: decay per step; with 0 the average equals the current weights.
    """

    def __init__(self, generator: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(generator).eval().requires_grad_(False)
        self.decay = decay
        self._followed: nn.Module | None = None
        self._floats: _Pairs = ([], [])
        self._others: _Pairs = ([], [])

    def update(self, generator: nn.Module, step: int) -> None:
        """Updates the average after step `step` (from 0) of a stage.

        Args:
            generator: current weights; its tensors must keep their memory after the first call.
            step: number of the step.
        """
        if self._followed is not generator:
            self._follow(generator)
        decay = min(self.decay, (1 + step) / (10 + step)) if self.decay else 0.0
        with torch.no_grad():
            # A few launches for all tensors together; one by one, the host would launch 225 kernels.
            torch._foreach_lerp_(*self._floats, 1.0 - decay)
            if self._others[0]:
                torch._foreach_copy_(*self._others)

    def _follow(self, generator: nn.Module) -> None:
        """Lists the tensors once, because listing them takes the host longer than averaging them."""
        self._followed = generator
        pairs = list(zip(self.module.state_dict().values(), generator.state_dict().values(), strict=True))
        self._floats = _columns([pair for pair in pairs if pair[0].is_floating_point()])
        self._others = _columns([pair for pair in pairs if not pair[0].is_floating_point()])


def _columns(pairs: list[tuple[Tensor, Tensor]]) -> _Pairs:
    return [ours for ours, _ in pairs], [theirs for _, theirs in pairs]
