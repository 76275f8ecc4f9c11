"""State dicts of torch modules in which every tensor matters."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

State = dict[str, np.ndarray]


@pytest.fixture(scope="session")
def randomised() -> Callable[[nn.Module], nn.Module]:
    """Gives a module random weights that keep the variance, biases that are not 0 and slopes of all sizes."""

    def randomise(module: nn.Module) -> nn.Module:
        torch.manual_seed(11)
        for part in module.modules():
            if isinstance(part, nn.Conv2d) and part.weight.requires_grad:
                nn.init.normal_(part.weight, std=part.weight[0].numel() ** -0.5)
                if part.bias is not None:
                    nn.init.normal_(part.bias, std=0.1)
            elif isinstance(part, nn.PReLU):
                nn.init.uniform_(part.weight, 0.05, 0.4)
        return module.eval()

    return randomise


@pytest.fixture(scope="session")
def state_of() -> Callable[[nn.Module], State]:
    """A module's state dict as a model file's reader hands it over."""

    def state(module: nn.Module) -> State:
        return {
            name: tensor.float().numpy() for name, tensor in module.state_dict().items() if tensor.is_floating_point()
        }

    return state


@pytest.fixture(scope="session")
def damaged() -> Callable[[State, dict[str, tuple[int, ...] | None]], State]:
    """A state dict with some arrays left out (None) or of another shape."""

    def damage(state: State, change: dict[str, tuple[int, ...] | None]) -> State:
        kept = {name: array for name, array in state.items() if name not in change or change[name] is not None}
        return {**kept, **{name: np.zeros(shape, np.float32) for name, shape in change.items() if shape is not None}}

    return damage
