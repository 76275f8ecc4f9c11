"""The little graph that ncnn's and ONNX's files become before they are a network.

Readers translate every layer into one of the few operations below or refuse it by its name; `fuse` turns the graph into
a list of convolutions. So what a format can say and what a network can be are written apart, and once each.
"""

import re
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from srgan_fast.errors import ModelError

Floats = NDArray[np.floating]

# What no file of this field comes near; beyond it a file is damaged or hostile. The largest published network of this
# kind (EDSR) has 43 million weights, the longest (23 blocks of ESRGAN) a thousand layers, the widest map 1024 channels.
MAX_WEIGHTS = 50_000_000
MAX_FILE = 4 * MAX_WEIGHTS + (1 << 20)
MAX_NODES = 10_000
MAX_CHANNELS = 16_384
MAX_PARTS = 256
MAX_KERNEL = 15
MAX_FACTOR = 16


@dataclass(frozen=True, slots=True, eq=False)
class Conv2d:
    """A stride-1 convolution with zero padding that keeps the size.

    Attributes:
        weight: C_out, C_in, k, k with k odd, in the file's own precision.
        bias: C_out.
    """

    weight: Floats
    bias: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Slope:
    """Negative values are multiplied: ReLU, LeakyReLU, PReLU.

    Attributes:
        slope: 1 value, or one for each channel.
    """

    slope: Floats


@dataclass(frozen=True, slots=True)
class Concat:
    """All inputs' channels, one after the other."""


@dataclass(frozen=True, slots=True)
class Sum:
    """The inputs' sum.

    Attributes:
        scales: a factor for each input.
    """

    scales: tuple[float, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Affine:
    """`y = gain * x + offset`.

    Attributes:
        gain: 1 value, or one for each channel.
        offset: likewise.
    """

    gain: Floats
    offset: Floats


@dataclass(frozen=True, slots=True)
class Resize:
    """Another size, with half-pixel centres and repeated borders.

    Attributes:
        kind: interpolation; bicubic is Keys' with a = -0.75 and without antialiasing.
        factor: of both sides.
    """

    kind: Literal["nearest", "bilinear", "bicubic"]
    factor: Fraction


@dataclass(frozen=True, slots=True)
class Shuffle:
    """Depth to space.

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
    """The same channels in another order.

    Attributes:
        order: which channel each channel of the result is.
    """

    order: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Tanh:
    """The hyperbolic tangent of every value."""


@dataclass(frozen=True, slots=True)
class Clip:
    """Values are limited to a range."""

    low: float
    high: float


Op = Conv2d | Slope | Concat | Sum | Affine | Resize | Shuffle | Unshuffle | Reorder | Tanh | Clip


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One operation of a file.

    Attributes:
        name: the file's name for it, for messages.
        op: what it does.
        inputs: names of values that stand earlier in the graph.
        output: name of its result.
    """

    name: str
    op: Op
    inputs: tuple[str, ...]
    output: str


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """One image in, one image out.

    Attributes:
        nodes: in order of use.
        input: name of the image.
        output: name of the result.
        channels: of the image, where the file says so.
    """

    nodes: tuple[Node, ...]
    input: str
    output: str
    channels: int | None = None


@dataclass(slots=True)
class GraphBuilder:
    """Collects a file's layers in order: who gives a value its name, and who reads it.

    A value must be there before it is read, so a file with a circle in it never becomes a graph.
    """

    nodes: list[Node] = field(default_factory=list)
    _known: dict[str, str] = field(default_factory=dict)

    def define(self, name: str, same_as: str | None = None) -> None:
        """Makes a value known, as a new one or as another name of one.

        Raises:
            ModelError: there is a value of this name already.
        """
        if name in self._known:
            raise ModelError(f"two layers write {quoted(name)}")
        self._known[name] = name if same_as is None else self.resolve(same_as)

    def resolve(self, name: str) -> str:
        """The value that a name stands for.

        Raises:
            ModelError: no layer has written it yet.
        """
        if name not in self._known:
            raise ModelError(f"{quoted(name)} is read before any layer has written it")
        return self._known[name]

    def add(self, name: str, op: Op, inputs: tuple[str, ...], output: str) -> None:
        """Appends a node.

        Raises:
            ModelError: an input that is not there yet, a second writer of the output, or too many nodes.
        """
        resolved = tuple(self.resolve(value) for value in inputs)
        self.define(output)
        if len(self.nodes) >= MAX_NODES:
            raise ModelError(f"more than {MAX_NODES} layers")
        self.nodes.append(Node(name, op, resolved, output))


def quoted(name: str) -> str:
    """A file's own text for use in a one-line message: printable ASCII, at most 60 characters."""
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
    "Affine",
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
    "Shuffle",
    "Slope",
    "Sum",
    "Tanh",
    "Unshuffle",
    "quoted",
]
