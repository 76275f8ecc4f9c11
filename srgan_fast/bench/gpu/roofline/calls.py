"""What a step asks of a GPU, as data: calls of the fused operators, and passes over memory of all others."""

from dataclasses import dataclass, replace
from typing import Literal

Direction = Literal["forward", "dgrad", "wgrad"]
Place = Literal["head", "conv", "block", "tail"]
HALF = 2  # bytes of an element of a map
FLOAT = 4  # bytes of everything else
UNIT = 8  # channels that are copied at once


def padded(channels: int) -> int:
    """Channels of a map as the kernels take it: filled up to whole units (`whole_map` in csrc/torch/conv_cuda.cpp)."""
    return -(-channels // UNIT) * UNIT


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a fused operator; see `ops.conv` for what its parts compute.

    Attributes:
        direction: forward, data gradient or weight gradient.
        batch: images.
        channels: of z.
        out: channels of y.
        height: of z.
        width: of z.
        taps: side of the filters.
        stride: of the convolution.
        bias: forward it is added, for the weight gradient its gradient is wanted.
        normalises: whether the prologue is affine.
        activates: whether the prologue activates.
        residual: whether the prologue adds a map, and writes the sum.
        shuffle: whether the prologue shuffles.
        moments: forward they are taken of y, backward their gradients are spread over y's.
        activation: whether y is activated.
        sum_gradient: whether the sum of the prologue has a gradient of its own.
    """

    direction: Direction
    batch: int
    channels: int
    out: int
    height: int
    width: int
    taps: int
    stride: int
    bias: bool = False
    normalises: bool = False
    activates: bool = False
    residual: bool = False
    shuffle: bool = False
    moments: bool = False
    activation: bool = False
    sum_gradient: bool = False

    @property
    def transforms(self) -> bool:
        """Whether z comes through a prologue."""
        return self.normalises or self.activates or self.residual

    @property
    def two_gradients(self) -> bool:
        """Whether dy is computed from two maps."""
        return self.direction != "forward" and (self.moments or self.activation)

    @property
    def out_height(self) -> int:
        """Of y."""
        return -(-self.height // self.stride)

    @property
    def out_width(self) -> int:
        """Of y."""
        return -(-self.width // self.stride)

    @property
    def pixels(self) -> int:
        """Of z, in the batch."""
        return self.batch * self.height * self.width

    @property
    def out_pixels(self) -> int:
        """Of y, in the batch."""
        return self.batch * self.out_height * self.out_width

    @property
    def weights(self) -> int:
        """Values of the filters."""
        return self.out * self.channels * self.taps**2

    @property
    def flops(self) -> int:
        """Operations of the direct convolution: a product and a sum for each pixel of y and weight."""
        return 2 * self.out_pixels * self.weights

    @property
    def shape(self) -> str:
        """For tables."""
        stride = f", stride {self.stride}" if self.stride > 1 else ""
        return f"{self.channels} to {self.out}, {self.taps}x{self.taps}{stride}, {self.height}x{self.width}"

    @property
    def around(self) -> str:
        """What it does besides, for tables."""
        words = {
            "affine": self.normalises, "activation before": self.activates, "residual": self.residual,
            "shuffle": self.shuffle, "bias": self.bias, "moments": self.moments, "activation behind": self.activation,
            "sum's gradient": self.sum_gradient,
        }  # fmt: skip
        return _listed(words)


@dataclass(frozen=True, slots=True)
class InferCall:
    """A call of an operator of `ops.infer`; all add a bias.

    Attributes:
        direction: which of the operators.
        batch: pictures.
        channels: of x.
        out: channels of the convolution's result, before a shuffle.
        height: of x.
        width: of x.
        activates: whether there is a PReLU.
        residual: whether a map is added.
        shuffle: whether the result is shuffled; the tail shuffles what it reads.
    """

    direction: Place
    batch: int
    channels: int
    out: int
    height: int
    width: int
    activates: bool = False
    residual: bool = False
    shuffle: bool = False

    @property
    def taps(self) -> int:
        """Side of the filters."""
        return 3 if self.direction in ("conv", "block") else 9

    @property
    def convolutions(self) -> tuple["InferCall", "InferCall"]:
        """Of a block."""
        conv = replace(self, direction="conv", activates=False, residual=False)
        return replace(conv, activates=True), replace(conv, residual=True)

    @property
    def pixels(self) -> int:
        """Of x, in the batch."""
        return self.batch * self.height * self.width

    @property
    def out_values(self) -> int:
        """Of the result."""
        return self.pixels * self.out * (4 if self.direction == "tail" else 1)

    @property
    def weights(self) -> int:
        """Values of the filters; a block has two convolutions."""
        count = 2 if self.direction == "block" else 1
        return count * self.out * self.taps**2 * (self.channels // 4 if self.direction == "tail" else self.channels)

    @property
    def flops(self) -> int:
        """Operations of the direct convolution: a product and a sum for each pixel of the result and weight."""
        return 2 * self.out_values // self.out * self.weights

    @property
    def shape(self) -> str:
        """For tables."""
        return f"{self.channels} to {self.out}, {self.taps}x{self.taps}, {self.height}x{self.width}"

    @property
    def around(self) -> str:
        """What it does besides, for tables."""
        words = {
            "unfolding": self.direction == "head", "shuffle before": self.direction == "tail", "bias": True,
            "activation between": self.direction == "block",
            "activation behind": self.activates and self.direction != "block",
            "residual": self.residual, "shuffle": self.shuffle,
        }  # fmt: skip
        return _listed(words)


def _listed(words: dict[str, bool]) -> str:
    return ", ".join(word for word, there in words.items() if there)


@dataclass(frozen=True, slots=True)
class Pass:
    """One kernel's pass over memory, as a floor knows it.

    Attributes:
        name: what it does.
        bytes: that it must read and write, each once.
        flops: multiplications and additions on tensor cores.
        moved: bytes that its blocks ask for, with what they read twice; `bytes` where nothing is known of its blocks.
        busiest: operations of the multiprocessor that has most to do; None where nothing is known of its blocks, so
            that all are taken to share evenly.
    """

    name: str
    bytes: int
    flops: int = 0
    moved: int | None = None
    busiest: int | None = None
