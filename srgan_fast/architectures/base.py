"""What an architecture is to the rest: something that recognises a state dict and makes a network of it."""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from srgan_fast.errors import ModelError
from srgan_fast.network.graph import Array, Conv, Network, Residual, value_of
from srgan_fast.network.lowering import Exact, embedded, nearest_as_phases, rounded

State = Mapping[str, NDArray[np.float32]]
"""A state dict: float32 arrays by name, BatchNorm's counters left out."""

Facts = Mapping[str, str]
"""What is recorded beside the arrays: metadata of the file, plain values of a checkpoint."""


Shapes = dict[str, tuple[int, ...]]
"""Names and shapes of a state dict."""

UNCHANGED, NOTHING = (1.0,), (0.0,)


@dataclass(frozen=True, slots=True)
class Origin:
    """How a convolution of the network comes from a state dict: what training changes, and what is computed with.

    Weights and bias are multiplied by `gain`, `offset` is added to the bias, weights smaller than the convolution's
    are put into the middle of it, and those of an image enlarged by `nearest` become its phases.

    Attributes:
        name: of weights and bias, without `.weight` and `.bias`.
        slope: name of the slopes; None where there are none, or constant ones.
        gain: of each output channel, or one for all.
        offset: of each output channel, or one for all.
        nearest: factor of the nearest-neighbour enlargement before the convolution; 1 for none.
    """

    name: str
    slope: str | None = None
    gain: tuple[float, ...] = UNCHANGED
    offset: tuple[float, ...] = NOTHING
    nearest: int = 1

    def lower(self, weight: Exact, bias: Exact, size: int) -> tuple[Exact, Exact]:
        """Weights and bias of the network's convolution.

        Args:
            weight: C_out, C_in, k, k of the state dict.
            bias: C_out.
            size: of the network's convolution, k or more.
        """
        weight = embedded(weight * np.array(self.gain)[:, None, None, None], size)
        bias = bias * np.array(self.gain) + np.array(self.offset)
        return nearest_as_phases(weight, bias, self.nearest) if self.nearest > 1 else (weight, bias)


@dataclass(frozen=True, slots=True)
class Recognised:
    """A state dict that was understood.

    Attributes:
        network: that it stands for.
        description: of the architecture with its sizes, in words.
        origins: of the network's convolutions, where the architecture is trained by its list; empty where not.
        tensors: the state dict under the architecture's own names, which `origins` name.
        facts: what must be recorded beside it to be understood again.
    """

    network: Network
    description: str
    origins: tuple[Origin, ...] = ()
    tensors: State = field(default_factory=dict, repr=False)
    facts: Facts = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Settings:
    """Sizes of a fresh network of RGB images; each architecture adds fields of its own.

    Attributes:
        SCALES: upscaling factors that the architecture has.
        SMALL: pattern of names of convolutions that start with a tenth of He's rule and biases of 0; others start as
            PyTorch's do.
        scale: upscaling factor.
        channels: width.
    """

    SCALES: ClassVar[tuple[int, ...]] = ()
    SMALL: ClassVar[str] = ""

    scale: int = 4
    channels: int = 64

    @property
    def unshuffle(self) -> int:
        """Factor of the pixel-unshuffle before the first convolution."""
        return 1

    def shapes(self) -> Shapes:
        """Names and shapes of its state dict."""
        raise NotImplementedError

    def facts(self) -> Facts:
        """What is recorded beside the state dict."""
        return {}


@dataclass(frozen=True, slots=True)
class Architecture:
    """A family of networks.

    Attributes:
        name: in messages.
        matches: whether a state dict is meant to be one, by a few names and shapes.
        build: makes the network; raises ModelError for a state dict that is none after all.
        key: in training configurations.
        settings: class of its sizes; None where it is not trained by its list.
    """

    name: str
    matches: Callable[[State], bool]
    build: Callable[[State, Facts], Recognised]
    key: str = ""
    settings: type[Settings] | None = None


class Tensors:
    """A state dict that is taken apart by name; what is left over at the end does not belong to the network.

    Args:
        state: to take from.

    Attributes:
        state: as given.
    """

    def __init__(self, state: State) -> None:
        self.state = state
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
        origins: of the convolutions.
    """

    def __init__(self, tensors: Tensors) -> None:
        self.tensors = tensors
        self.convs: list[Conv] = []
        self.origins: list[Origin] = []

    def add(
        self,
        name: str,
        arrays: tuple[Exact, Exact],
        *inputs: int,
        residuals: tuple[Residual, ...] = (),
        slope: Array | str | None = None,
        shuffle: int = 1,
        gain: tuple[float, ...] = UNCHANGED,
        offset: tuple[float, ...] = NOTHING,
        nearest: int = 1,
        size: int = 3,
    ) -> int:
        """Adds a convolution.

        Args:
            name: of it, and of its weights and bias.
            arrays: weights and bias in float64, as the state dict has them.
            inputs: values that it reads.
            residuals: see `Conv`.
            slope: see `Conv`; or the name of the slopes in the state dict, one for each output channel.
            shuffle: see `Conv`.
            gain: see `Origin`.
            offset: see `Origin`.
            nearest: see `Origin`.
            size: of the convolution.

        Raises:
            ModelError: slopes that are missing or of another shape, or weights that leave float32's range.
        """
        trained = slope if isinstance(slope, str) else None
        origin = Origin(name, trained, gain, offset, nearest)
        weight, bias = (rounded(array, name) for array in origin.lower(*arrays, size))
        slopes = np.ascontiguousarray(self.tensors.take(slope, len(bias))) if isinstance(slope, str) else slope
        self.convs.append(Conv(name, inputs, weight, bias, slopes, residuals, shuffle))
        self.origins.append(origin)
        return value_of(len(self.convs) - 1)

    def finish(self, network: Network, description: str, facts: Facts | None = None) -> Recognised:
        """The network of these convolutions, with where they come from."""
        return Recognised(network, description, tuple(self.origins), self.tensors.state, facts or {})


def conv_shapes(name: str, c_in: int, c_out: int) -> Shapes:
    """Names and shapes of a 3x3 convolution with bias."""
    return {f"{name}.weight": (c_out, c_in, 3, 3), f"{name}.bias": (c_out,)}


def shuffle_factors(scale: int) -> list[int]:
    """Pixel shuffles that enlarge by `scale` one after the other, as BasicSR has them: 3 at once, else twofold."""
    return [3] if scale == 3 else [2] * (scale.bit_length() - 1)


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
