"""Exponential moving average of the generator: the weights that are validated and shipped."""

import copy

import torch
from torch import Tensor, nn

_Pairs = tuple[list[Tensor], list[Tensor]]  # ours and theirs


class AveragedGenerator:
    """A generator that follows another one slowly.

    `average = decay * average + (1 - decay) * current` after every step, running statistics included; the decay starts
    lower, `min(decay, (1 + n) / (10 + n))` at the n-th step, so that the random start is forgotten.

    Args:
        generator: to follow.
        decay: 0 follows at once.
    """

    def __init__(self, generator: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(generator).eval().requires_grad_(False)
        self.decay = decay
        self._followed: nn.Module | None = None
        self._floats: _Pairs = ([], [])
        self._others: _Pairs = ([], [])

    def update(self, generator: nn.Module, step: int) -> None:
        """Moves the average after step `step` (from 0) of a stage.

        Args:
            generator: whose tensors stay where they are from the first call on.
            step: number of the step.
        """
        if self._followed is not generator:
            self._follow(generator)
        decay = min(self.decay, (1 + step) / (10 + step)) if self.decay else 0.0
        with torch.no_grad():
            # A few kernels for all tensors together: one by one they are 225, each a start by the host.
            torch._foreach_lerp_(*self._floats, 1.0 - decay)
            if self._others[0]:
                torch._foreach_copy_(*self._others)

    def _follow(self, generator: nn.Module) -> None:
        """Collecting a network's tensors takes the host longer than averaging them."""
        self._followed = generator
        pairs = list(zip(self.module.state_dict().values(), generator.state_dict().values(), strict=True))
        self._floats = _columns([pair for pair in pairs if pair[0].is_floating_point()])
        self._others = _columns([pair for pair in pairs if not pair[0].is_floating_point()])


def _columns(pairs: list[tuple[Tensor, Tensor]]) -> _Pairs:
    return [ours for ours, _ in pairs], [theirs for _, theirs in pairs]
