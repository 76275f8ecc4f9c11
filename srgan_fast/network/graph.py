"""A super-resolution network as data: a list of convolutions, each with a prologue and an epilogue.

Every execution path (CPU engine, CUDA, ONNX, PyTorch, NumPy interpreter) reads this list. All other properties of a
network (scale, receptive radius, multiply-adds, lifetimes of values) are computed from it in `analysis`. The files in
`srgan_fast.architectures` write it.
"""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Skip = Literal["none", "nearest", "bilinear"]

IMAGE = 0
"""Index of the value that is the image, after its colour map and pixel-unshuffle."""


@dataclass(frozen=True, slots=True)
class ColourMap:
    """Per-channel map of pixel values, `y = gain * x + offset`.

    Attributes:
        gain: factor per channel; three channels by default.
        offset: offset per channel.
    """

    gain: tuple[float, ...] = (1.0, 1.0, 1.0)
    offset: tuple[float, ...] = (0.0, 0.0, 0.0)

    @staticmethod
    def identity(channels: int) -> "ColourMap":
        """The map that changes nothing."""
        return ColourMap((1.0,) * channels, (0.0,) * channels)

    @property
    def is_identity(self) -> bool:
        """Whether values pass through unchanged."""
        return all(g == 1.0 for g in self.gain) and all(o == 0.0 for o in self.offset)

    def inverse(self) -> "ColourMap":
        """The map that undoes this one; its gains must not be 0."""
        gain = tuple(1 / g for g in self.gain)
        return ColourMap(gain, tuple(-o / g for g, o in zip(self.gain, self.offset, strict=True)))


@dataclass(frozen=True, slots=True)
class Residual:
    """A value added to a convolution's result after its activation.

    Attributes:
        value: index of the value.
        scale: factor.
    """

    value: int
    scale: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Conv:
    """A stride-1, same-size convolution with zero padding, and its epilogue.

    `y = shuffle(act(conv(concat(inputs)) + bias) + sum_k scale_k * residual_k)`

    Attributes:
        name: unique in its network; used in messages, timings and ONNX nodes.
        inputs: indices of the values whose channels are concatenated; 0 is the image, i + 1 the result of `convs[i]`.
        weight: C_out, C_in, k, k with k odd.
        bias: C_out.
        slope: factor of negative values (0 for ReLU, 0.2 for ESRGAN's LeakyReLU, learned for PReLU), 1 or C_out values;
            None for a linear layer.
        residuals: values added after the activation; shaped as the result before the shuffle.
        shuffle: factor r of the pixel shuffle at the end: channel c * r^2 + dy * r + dx becomes channel c of pixel
            (r * y + dy, r * x + dx); 1 for none.
    """

    name: str
    inputs: tuple[int, ...]
    weight: Array
    bias: Array
    slope: Array | None = None
    residuals: tuple[Residual, ...] = ()
    shuffle: int = 1

    @property
    def out_channels(self) -> int:
        """Channels before the shuffle."""
        return int(self.weight.shape[0])

    @property
    def in_channels(self) -> int:
        """Channels of all inputs combined."""
        return int(self.weight.shape[1])

    @property
    def size(self) -> int:
        """Side of the kernel."""
        return int(self.weight.shape[2])


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """A whole network: `output_map(tanh?(convs(unshuffle(input_map(image))) + skip(input_map(image))))`.

    Attributes:
        convs: in execution order; the result of the last one is the output.
        channels: channels of image and output: 1, 3 or 4.
        unshuffle: factor of the pixel-unshuffle before the first convolution (the inverse of `Conv.shuffle`'s order).
                Backends take images whose sides are multiples of it; callers extend others with
                `interpreter.pad_to_multiple` and crop the result.
        skip: how the mapped image, enlarged to the output's size, is added to the last convolution's result: not at
            all, nearest-neighbour, or bilinear with half-pixel centres and repeated borders.
        input_map: colour map applied to images in 0..1.
        tanh: whether the last convolution is followed by tanh.
        output_map: colour map applied last; its result is in 0..1.

    Raises:
        ModelError: the parts do not fit together; the message names the convolution.
    """

    convs: tuple[Conv, ...]
    channels: int = 3
    unshuffle: int = 1
    skip: Skip = "none"
    input_map: ColourMap = field(default=ColourMap((), ()))
    tanh: bool = False
    output_map: ColourMap = field(default=ColourMap((), ()))

    def __post_init__(self) -> None:
        for name in ("input_map", "output_map"):
            if not getattr(self, name).gain:
                object.__setattr__(self, name, ColourMap.identity(self.channels))
        from srgan_fast.network.analysis import check  # noqa: PLC0415 (analysis reads this module's types)

        check(self)


def value_of(index: int) -> int:
    """Index of the value that `convs[index]` produces."""
    return index + 1


__all__ = ["IMAGE", "Array", "ColourMap", "Conv", "Network", "Residual", "Skip", "value_of"]
