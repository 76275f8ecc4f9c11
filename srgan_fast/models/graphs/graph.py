"""Intermediate graph between the files of ncnn and ONNX and a network.

Readers translate every layer to one of the operations below, or reject it by name; `fuse` converts the graph to a list
of convolutions. So the semantics of each format and of networks are implemented once each.
"""

import re
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from srgan_fast.errors import ModelError

Floats = NDArray[np.floating]

# Limits far above any published file; beyond them a file is damaged or hostile. The largest published network of this
# kind (EDSR) has 43 million weights, the longest (ESRGAN, 23 blocks) a thousand layers, the widest map 1024 channels.
MAX_WEIGHTS = 50_000_000
MAX_FILE = 4 * MAX_WEIGHTS + (1 << 20)
MAX_NODES = 10_000
MAX_CHANNELS = 16_384
MAX_PARTS = 256
MAX_KERNEL = 15
MAX_FACTOR = 16


@dataclass(frozen=True, slots=True, eq=False)
class Conv2d:
    """A stride-1, same-size convolution with zero padding.

    Attributes:
        weight: C_out, C_in, k, k with k odd, in the file's own precision.
        bias: C_out.
    """

    weight: Floats
    bias: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Slope:
    """Multiplies negative values: ReLU, LeakyReLU, PReLU.

    Attributes:
        slope: 1 value, or one per channel.
    """

    slope: Floats


@dataclass(frozen=True, slots=True)
class Concat:
    """Concatenation of all inputs' channels."""


@dataclass(frozen=True, slots=True)
class Sum:
    """Weighted sum of the inputs.

    Attributes:
        scales: factor per input.
    """

    scales: tuple[float, ...]


@dataclass(frozen=True, slots=True, eq=False)
class ScaleShift:
    """`y = gain * x + offset`.

    Attributes:
        gain: 1 value, or one per channel.
        offset: likewise.
    """

    gain: Floats
    offset: Floats


@dataclass(frozen=True, slots=True)
class Resize:
    """Resize with half-pixel centres and repeated borders.

    Attributes:
        kind: interpolation; bicubic is Keys' with a = -0.75, without antialiasing.
        factor: of both sides.
    """

    kind: Literal["nearest", "bilinear", "bicubic"]
    factor: Fraction


@dataclass(frozen=True, slots=True)
class Shuffle:
    """Depth to space (pixel shuffle).

    Attributes:
        factor: r, of both sides.
        blocks_first: whether channel (dy * r + dx) * C + c becomes channel c of pixel (dy, dx); channel
            c * r^2 + dy * r + dx otherwise.
    """

    factor: int
    blocks_first: bool = False


@dataclass(frozen=True, slots=True)
class Unshuffle:
    """Space to depth, the inverse of `Shuffle`."""

    factor: int
    blocks_first: bool = False


@dataclass(frozen=True, slots=True)
class Reorder:
    """Permutation of channels.

    Attributes:
        order: source channel of each channel of the result.
    """

    order: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Tanh:
    """Hyperbolic tangent."""


@dataclass(frozen=True, slots=True)
class Clip:
    """Limits values to a range."""

    low: float
    high: float


Op = Conv2d | Slope | Concat | Sum | ScaleShift | Resize | Shuffle | Unshuffle | Reorder | Tanh | Clip


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One operation of a file.

    Attributes:
        name: name in the file, for messages.
        op: the operation.
        inputs: names of values defined earlier in the graph.
        output: name of its result.
    """

    name: str
    op: Op
    inputs: tuple[str, ...]
    output: str


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """A graph with one image as input and one as output.

    Attributes:
        nodes: in execution order.
        input: name of the image.
        output: name of the result.
        channels: channels of the image, if the file states them.
    """

    nodes: tuple[Node, ...]
    input: str
    output: str
    channels: int | None = None


@dataclass(slots=True)
class GraphBuilder:
    """Collects a file's layers in order, and resolves names of values.

    A value must be defined before it is read, so cycles are rejected.
    """

    nodes: list[Node] = field(default_factory=list)
    _known: dict[str, str] = field(default_factory=dict)

    def define(self, name: str, same_as: str | None = None) -> None:
        """Defines a value, as a new one or as an alias.

        Raises:
            ModelError: the name is already defined.
        """
        if name in self._known:
            raise ModelError(f"two layers write {quoted(name)}")
        self._known[name] = name if same_as is None else self.resolve(same_as)

    def resolve(self, name: str) -> str:
        """The value that a name refers to.

        Raises:
            ModelError: no layer has defined it yet.
        """
        if name not in self._known:
            raise ModelError(f"{quoted(name)} is read before any layer has written it")
        return self._known[name]

    def add(self, name: str, op: Op, inputs: tuple[str, ...], output: str) -> None:
        """Appends a node.

        Raises:
            ModelError: an undefined input, a second definition of the output, or too many nodes.
        """
        resolved = tuple(self.resolve(value) for value in inputs)
        self.define(output)
        if len(self.nodes) >= MAX_NODES:
            raise ModelError(f"more than {MAX_NODES} layers")
        self.nodes.append(Node(name, op, resolved, output))


def quoted(name: str) -> str:
    """Text from a file, made safe for a one-line message: printable ASCII, at most 60 characters."""
    plain = re.sub(r"[^ -~]", "?", name)
    return repr(plain if len(plain) <= 60 else f"{plain[:57]}...")


__all__ = [
    "MAX_CHANNELS",
    "MAX_FACTOR",
    "MAX_FILE",
    "MAX_KERNEL",
    "MAX_NODES",
    "MAX_PARTS",
    "MAX_WEIGHTS",
    "Clip",
    "Concat",
    "Conv2d",
    "Floats",
    "Graph",
    "GraphBuilder",
    "Node",
    "Op",
    "Reorder",
    "Resize",
    "ScaleShift",
    "Shuffle",
    "Slope",
    "Sum",
    "Tanh",
    "Unshuffle",
    "quoted",
]
