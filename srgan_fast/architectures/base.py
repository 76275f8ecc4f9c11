"""Interface of an architecture: it recognises a state dict and builds a network from it."""

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
"""A state dict: float32 arrays by name, without BatchNorm's batch counters."""

Facts = Mapping[str, str]
"""Metadata stored with the arrays: the file's metadata, plain values of a checkpoint."""


Shapes = dict[str, tuple[int, ...]]
"""Names and shapes of a state dict's arrays."""

UNCHANGED, NOTHING = (1.0,), (0.0,)


@dataclass(frozen=True, slots=True)
class Origin:
    """How a convolution's weights are derived from the trainable tensors of a state dict.

    Weights and bias are multiplied by `gain` and `offset` is added to the bias. A kernel smaller than the convolution's
    is centred in it, and a kernel that follows a nearest-neighbour enlargement by `nearest` is split into its phases.

    Attributes:
        name: prefix of the tensors, without `.weight` and `.bias`.
        slope: name of the slopes; None if there are none or they are constants.
        gain: factor per output channel, or one for all.
        offset: bias offset per output channel, or one for all.
        nearest: factor of the nearest-neighbour enlargement before the convolution; 1 for none.
    """

    name: str
    slope: str | None = None
    gain: tuple[float, ...] = UNCHANGED
    offset: tuple[float, ...] = NOTHING
    nearest: int = 1

    def lower(self, weight: Exact, bias: Exact, size: int) -> tuple[Exact, Exact]:
        """Weights and bias of the network's convolution, computed from the state dict's.

        Args:
            weight: C_out, C_in, k, k, from the state dict.
            bias: C_out.
            size: kernel side of the network's convolution, k or more.
        """
        weight = embedded(weight * np.array(self.gain)[:, None, None, None], size)
        bias = bias * np.array(self.gain) + np.array(self.offset)
        return nearest_as_phases(weight, bias, self.nearest) if self.nearest > 1 else (weight, bias)


@dataclass(frozen=True, slots=True)
class Recognised:
    """A recognised state dict.

    Attributes:
        network: its network.
        description: architecture and sizes, in words.
        origins: of the network's convolutions if the architecture can be trained from its list, else empty.
        tensors: the state dict under the architecture's canonical names, which `origins` refer to.
        facts: metadata that must be stored with the tensors so that they are recognised again.
    """

    network: Network
    description: str
    origins: tuple[Origin, ...] = ()
    tensors: State = field(default_factory=dict, repr=False)
    facts: Facts = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Settings:
    """Sizes of a new network for RGB images; each architecture adds its own fields.

    Attributes:
        SCALES: supported upscaling factors.
        scale: upscaling factor.
        channels: feature channels.
    """

    SCALES: ClassVar[tuple[int, ...]] = ()

    scale: int = 4
    channels: int = 64

    @property
    def unshuffle(self) -> int:
        """Factor of the pixel-unshuffle before the first convolution."""
        return 1

    def shapes(self) -> Shapes:
        """Names and shapes of the state dict's tensors."""
        raise NotImplementedError

    def facts(self) -> Facts:
        """Metadata stored with the state dict."""
        return {}

    def he_factor(self, name: str) -> float | None:
        """Initialisation of a new convolution: a factor on He's standard deviation for ReLU, with zero biases.

        He et al. 2015, equation 10. None for PyTorch's default, whose standard deviation is about 0.4 times as large
        and whose biases are random.

        Args:
            name: of the convolution in the state dict.
        """
        return None


@dataclass(frozen=True, slots=True)
class Architecture:
    """A family of networks.

    Attributes:
        name: used in messages.
        matches: whether a state dict looks like this architecture, judged by a few names and shapes.
        build: builds the network; raises ModelError if the state dict does not fit after all.
        key: name in training configurations.
        settings: its sizes; None if it cannot be trained from its list.
    """

    name: str
    matches: Callable[[State], bool]
    build: Callable[[State, Facts], Recognised]
    key: str = ""
    settings: type[Settings] | None = None


class Tensors:
    """A state dict whose tensors are taken one by one; any that are left at the end do not belong to the network.

    Args:
        state: the state dict.

    Attributes:
        state: as given.
    """

    def __init__(self, state: State) -> None:
        self.state = state
        self._left = dict(state)

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def take(self, name: str, *shape: int) -> Array:
        """Takes an array of exactly that shape.

        Raises:
            ModelError: it is missing or has another shape.
        """
        array = self._left.pop(name, None)
        if array is None:
            raise ModelError(f"missing {name}")
        if array.shape != shape:
            raise ModelError(f"{name} has shape {array.shape}, the network needs {shape}")
        return array

    def conv(self, name: str, c_in: int | None = None, c_out: int | None = None, size: int = 3) -> tuple[Exact, Exact]:
        """Takes weights and bias of a convolution, as float64.

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
            raise ModelError(f"missing {name}.weight" if found is None else f"{name}.weight is not of a convolution")
        c_out, c_in = c_out or found.shape[0], c_in or found.shape[1]
        weight = self.take(f"{name}.weight", c_out, c_in, size, size).astype(np.float64)
        bias = self.take(f"{name}.bias", c_out) if f"{name}.bias" in self else np.zeros(c_out)
        return weight, bias.astype(np.float64)

    def finish(self) -> None:
        """Checks that every array was taken.

        Raises:
            ModelError: arrays are left over.
        """
        if self._left:
            names = ", ".join(sorted(self._left)[:3])
            raise ModelError(f"{len(self._left)} arrays do not belong to that network: {names}")


class Builder:
    """Collects convolutions from a state dict; methods return the index of the value they added.

    Args:
        tensors: source of the weights.

    Attributes:
        tensors: as given.
        convs: convolutions so far, in execution order.
        origins: their origins.
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
            name: of the convolution and of its tensors.
            arrays: weights and bias as stored in the state dict, float64.
            inputs: values that it reads.
            residuals: see `Conv`.
            slope: see `Conv`; or the name of the slopes in the state dict, one per output channel.
            shuffle: see `Conv`.
            gain: see `Origin`.
            offset: see `Origin`.
            nearest: see `Origin`.
            size: side of the kernel.

        Raises:
            ModelError: slopes are missing or have another shape, or weights exceed float32's range.
        """
        trained = slope if isinstance(slope, str) else None
        origin = Origin(name, trained, gain, offset, nearest)
        weight, bias = (rounded(array, name) for array in origin.lower(*arrays, size))
        slopes = np.ascontiguousarray(self.tensors.take(slope, len(bias))) if isinstance(slope, str) else slope
        self.convs.append(Conv(name, inputs, weight, bias, slopes, residuals, shuffle))
        self.origins.append(origin)
        return value_of(len(self.convs) - 1)

    def finish(self, network: Network, description: str, facts: Facts | None = None) -> Recognised:
        """The network of these convolutions, with their origins."""
        return Recognised(network, description, tuple(self.origins), self.tensors.state, facts or {})


def conv_shapes(name: str, c_in: int, c_out: int) -> Shapes:
    """Names and shapes of the tensors of a 3x3 convolution with bias."""
    return {f"{name}.weight": (c_out, c_in, 3, 3), f"{name}.bias": (c_out,)}


def shuffle_factors(scale: int) -> list[int]:
    """Factors of the consecutive pixel shuffles that enlarge by `scale`, as in BasicSR: one of 3, otherwise 2 each."""
    return [3] if scale == 3 else [2] * (scale.bit_length() - 1)


def renamed(state: State, renames: Iterable[tuple[str, str]]) -> dict[str, NDArray[np.float32]]:
    """A state dict with its tensors renamed.

    Args:
        state: the state dict.
        renames: pairs of a pattern for whole names and its replacement; the first match applies.

    Raises:
        ModelError: two tensors get the same name.
    """
    renames, result = tuple(renames), dict[str, NDArray[np.float32]]()
    for name, array in state.items():
        matches = ((re.fullmatch(pattern, name), new) for pattern, new in renames)
        new = next((match.expand(new) for match, new in matches if match), name)
        if new in result:
            raise ModelError(f"{new} occurs twice")
        result[new] = array
    return result


def square_root(count: int, what: str) -> int:
    """The factor r for which `count` channels are r^2 phases of one.

    Raises:
        ModelError: `count` is not a square.
    """
    factor = math.isqrt(count) if count > 0 else 0
    if factor < 1 or factor**2 != count:
        raise ModelError(f"{what}: {count} is not a square number, so no pixel shuffle can follow")
    return factor


def count_numbered(state: State, prefix: str) -> int:
    """Number of distinct indices after a prefix: 2 for `body.0.weight` and `body.2.weight`.

    (The number, not the highest index: a corrupt name must not request a billion blocks. Gaps are reported as missing.)
    """
    after = (name[len(prefix) :].partition(".")[0] for name in state if name.startswith(prefix))
    return len({number for number in after if number.isdecimal()})
