"""Images that the generator returned, where the gradients of a step's losses meet before its backward pass."""

import torch
from torch import Tensor
from torch.profiler import record_function

from srgan_fast.ops import data_gradients_only
from srgan_fast.training.figures import Meter


class SuperResolved:
    """Super-resolved images of a part; sums the gradients of its losses with respect to them.

    Each loss frees its graph as soon as its gradient is computed.

    Args:
        sr: result of the generator.
        meter: accumulator of the losses.
    """

    def __init__(self, sr: Tensor, meter: Meter) -> None:
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
