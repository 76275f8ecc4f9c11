"""Figures of a training step: losses and gradient norms, kept on the device until they are read at once."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from srgan_fast.errors import TrainingError
from srgan_fast.training.distributed import average_gradients, mean_of


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


class Meter:
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
