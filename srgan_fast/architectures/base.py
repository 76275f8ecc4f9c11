"""What an architecture is to the rest: something that recognises a state dict and makes a network of it."""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from srgan_fast.errors import ModelError
from srgan_fast.network.graph import Array, Conv, Network, Residual, value_of
from srgan_fast.network.lowering import Exact, rounded

State = Mapping[str, NDArray[np.float32]]
"""A state dict: float32 arrays by name, BatchNorm's counters left out."""

Facts = Mapping[str, str]
"""What is recorded beside the arrays: metadata of the file, plain values of a checkpoint."""


@dataclass(frozen=True, slots=True)
class Recognised:
    """A state dict that was understood.

    Attributes:
        network: that it stands for.
        description: of the architecture with its sizes, in words.
    """

    network: Network
    description: str


@dataclass(frozen=True, slots=True)
class Architecture:
    """A family of networks.

    Attributes:
        name: in messages.
        matches: whether a state dict is meant to be one, by a few names and shapes.
        build: makes the network; raises ModelError for a state dict that is none after all.
    """

    name: str
    matches: Callable[[State], bool]
    build: Callable[[State, Facts], Recognised]


class Tensors:
    """A state dict that is taken apart by name; what is left over at the end does not belong to the network.

    Args:
        state: to take from.
    """

    def __init__(self, state: State) -> None:
        self._left = dict(state)

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def take(self, name: str, *shape: int) -> Array:
        """An array of exactly that shape.

        Raises:
            ModelError: there is none.
        """
        array = self._left.pop(name, None)
        if array is None:
            raise ModelError(f"it lacks {name}")
        if array.shape != shape:
            raise ModelError(f"{name} has shape {array.shape}, the network needs {shape}")
        return array

    def conv(self, name: str, c_in: int | None = None, c_out: int | None = None, size: int = 3) -> tuple[Exact, Exact]:
        """Weights and bias of a convolution in float64.

        Args:
            name: without `.weight` and `.bias`; a missing bias is zero.
            c_in: input channels; any if None.
            c_out: output channels; any if None.
            size: side of the kernel.

        Raises:
            ModelError: the weights are missing or of another shape.
        """
        found = self._left.get(f"{name}.weight")
        if found is None or found.ndim != 4:
            raise ModelError(f"it lacks {name}.weight" if found is None else f"{name}.weight is no convolution's")
        c_out, c_in = c_out or found.shape[0], c_in or found.shape[1]
        weight = self.take(f"{name}.weight", c_out, c_in, size, size).astype(np.float64)
        bias = self.take(f"{name}.bias", c_out) if f"{name}.bias" in self else np.zeros(c_out)
        return weight, bias.astype(np.float64)

    def finish(self) -> None:
        """Checks that nothing is left.

        Raises:
            ModelError: something is.
        """
        if self._left:
            names = ", ".join(sorted(self._left)[:3])
            raise ModelError(f"{len(self._left)} of its arrays are no part of that network: {names}")


class Builder:
    """Collects a network's convolutions from a state dict; methods return the value of what they added.

    Args:
        tensors: to take weights from.

    Attributes:
        tensors: as given.
        convs: so far, in order of use.
    """

    def __init__(self, tensors: Tensors) -> None:
        self.tensors = tensors
        self.convs: list[Conv] = []

    def add(
        self,
        name: str,
        arrays: tuple[Exact, Exact],
        *inputs: int,
        residuals: tuple[Residual, ...] = (),
        slope: Array | None = None,
        shuffle: int = 1,
    ) -> int:
        """Adds a convolution.

        Args:
            name: of it.
            arrays: weights and bias in float64, rounded here.
            inputs: values that it reads.
            residuals: see `Conv`.
            slope: see `Conv`.
            shuffle: see `Conv`.

        Raises:
            ModelError: weights that leave float32's range.
        """
        weight, bias = (rounded(array, name) for array in arrays)
        self.convs.append(Conv(name, inputs, weight, bias, slope, residuals, shuffle))
        return value_of(len(self.convs) - 1)


def renamed(state: State, renames: Iterable[tuple[str, str]]) -> dict[str, NDArray[np.float32]]:
    """A state dict under other names.

    Args:
        state: to rename.
        renames: patterns of whole names and what they become; the first that matches counts.

    Raises:
        ModelError: two arrays get the same name.
    """
    renames, result = tuple(renames), dict[str, NDArray[np.float32]]()
    for name, array in state.items():
        matches = ((re.fullmatch(pattern, name), new) for pattern, new in renames)
        new = next((match.expand(new) for match, new in matches if match), name)
        if new in result:
            raise ModelError(f"it holds {new} twice")
        result[new] = array
    return result


def square_root(count: int, what: str) -> int:
    """The factor of a shuffle that leaves `count` channels for each.

    Raises:
        ModelError: there is none.
    """
    factor = math.isqrt(count) if count > 0 else 0
    if factor < 1 or factor**2 != count:
        raise ModelError(f"{what}: {count} is no square number, so no pixel shuffle can follow")
    return factor


def count_numbered(state: State, prefix: str) -> int:
    """How many different numbers follow a prefix in the names: of `body.0.weight` and `body.2.weight` two.

    (How many, not the highest: a damaged name must not ask for a billion blocks. Gaps show as missing ones.)
    """
    after = (name[len(prefix) :].partition(".")[0] for name in state if name.startswith(prefix))
    return len({number for number in after if number.isdecimal()})
