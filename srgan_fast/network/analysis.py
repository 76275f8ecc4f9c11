"""Properties computed from a network's list of convolutions: sizes, scale, receptive field, cost, readers of a value.

No architecture states any of this itself, so it cannot disagree with the list.
"""

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from srgan_fast.errors import ModelError
from srgan_fast.network.graph import IMAGE, Conv, Network, value_of

_IMAGE_CHANNELS = (1, 3, 4)
_SKIPS = ("none", "nearest", "bilinear")


@dataclass(frozen=True, slots=True)
class ValueShape:
    """Size of a value.

    Attributes:
        channels: of the value; for a convolution's result, after its shuffle.
        resolution: pixels along a side per pixel of the unshuffled image.
    """

    channels: int
    resolution: int


def check(network: Network) -> None:
    """Checks that the parts of a network fit together.

    Raises:
        ModelError: they do not; the message names the convolution, the problem and the value.
    """
    if network.channels not in _IMAGE_CHANNELS:
        raise ModelError(f"a network's images have 1, 3 or 4 channels, not {network.channels}")
    if network.unshuffle < 1:
        raise ModelError(f"unshuffle is {network.unshuffle}; it must be at least 1")
    if network.skip not in _SKIPS:
        raise ModelError(f"skip is {network.skip!r}; it must be one of {', '.join(_SKIPS)}")
    for name, values in (("input_map", network.input_map), ("output_map", network.output_map)):
        if not len(values.gain) == len(values.offset) == network.channels:
            raise ModelError(f"{name} does not have {network.channels} channels, as the images have")
        if not np.isfinite((*values.gain, *values.offset)).all():
            raise ModelError(f"{name} holds values that are not finite")
    if not network.convs:
        raise ModelError("a network needs at least one convolution")
    seen: set[str] = set()
    shapes = [ValueShape(network.channels * network.unshuffle**2, 1)]
    for conv in network.convs:
        if not conv.name or conv.name in seen:
            raise ModelError(f"{conv.name!r}: convolution names must be unique and not empty")
        seen.add(conv.name)
        shapes.append(_checked(conv, shapes))
    _check_ends(network, shapes[-1])


def _checked(conv: Conv, shapes: list[ValueShape]) -> ValueShape:
    """Shape of a convolution's result, given those of the values before it."""
    _check_arrays(conv)
    if not conv.inputs:
        raise ModelError(f"{conv.name}: has no inputs")
    for value in (*conv.inputs, *(residual.value for residual in conv.residuals)):
        if not 0 <= value < len(shapes):
            raise ModelError(f"{conv.name}: value {value} does not exist before it")
    given = [shapes[value] for value in conv.inputs]
    resolution = given[0].resolution
    if any(shape.resolution != resolution for shape in given):
        sizes = ", ".join(str(shape.resolution) for shape in given)
        raise ModelError(f"{conv.name}: its inputs have different resolutions ({sizes})")
    channels = sum(shape.channels for shape in given)
    if channels != conv.in_channels:
        raise ModelError(f"{conv.name}: its inputs have {channels} channels, its weights {conv.in_channels}")
    wanted = ValueShape(conv.out_channels, resolution)
    for residual in conv.residuals:
        if shapes[residual.value] != wanted:
            found = shapes[residual.value]
            raise ModelError(
                f"{conv.name}: residual {residual.value} has {found.channels} channels at resolution "
                f"{found.resolution}, its result {wanted.channels} at {wanted.resolution}"
            )
        if not math.isfinite(residual.scale):
            raise ModelError(f"{conv.name}: the scale of residual {residual.value} is {residual.scale}")
    if conv.shuffle < 1 or conv.out_channels % conv.shuffle**2:
        raise ModelError(f"{conv.name}: {conv.out_channels} channels cannot be shuffled by {conv.shuffle}")
    return ValueShape(conv.out_channels // conv.shuffle**2, resolution * conv.shuffle)


def _check_arrays(conv: Conv) -> None:
    shape = conv.weight.shape
    if len(shape) != 4 or 0 in shape or shape[2] != shape[3] or shape[2] % 2 == 0:
        raise ModelError(f"{conv.name}: weights of shape {shape}; they must be C_out, C_in, k, k with k odd")
    if conv.bias.shape != (shape[0],):
        raise ModelError(f"{conv.name}: a bias of shape {conv.bias.shape} for {shape[0]} output channels")
    if conv.slope is not None and conv.slope.shape not in ((1,), (shape[0],)):
        raise ModelError(f"{conv.name}: slopes of shape {conv.slope.shape} for {shape[0]} output channels")
    for what, array in (("weights", conv.weight), ("bias", conv.bias), ("slopes", conv.slope)):
        if array is None:
            continue
        if array.dtype != np.float32:
            raise ModelError(f"{conv.name}: {what} of {array.dtype}; they must be float32")
        if not np.isfinite(array).all():
            raise ModelError(f"{conv.name}: {what} that are not finite; the file is damaged or training diverged")


def _check_ends(network: Network, result: ValueShape) -> None:
    last = network.convs[-1].name
    if result.channels != network.channels:
        raise ModelError(f"{last}: the last result has {result.channels} channels, the image {network.channels}")
    if result.resolution % network.unshuffle:
        raise ModelError(
            f"{last}: enlarges by {result.resolution} what pixel-unshuffle divides by {network.unshuffle}; "
            f"the scale must be a whole number"
        )
    for value, found in enumerate(readers(network)[:-1]):
        if not found:
            name = "the image" if value == IMAGE else network.convs[value - 1].name
            raise ModelError(f"{name}: is read by no convolution")


def value_shapes(network: Network) -> tuple[ValueShape, ...]:
    """Channels and resolution of every value: the image, then each convolution's result."""
    shapes = [ValueShape(network.channels * network.unshuffle**2, 1)]
    for conv in network.convs:
        before = shapes[conv.inputs[0]].resolution
        shapes.append(ValueShape(conv.out_channels // conv.shuffle**2, before * conv.shuffle))
    return tuple(shapes)


def scale_of(network: Network) -> int:
    """Upscaling factor: output pixels along a side per image pixel."""
    return value_shapes(network)[-1].resolution // network.unshuffle


def readers(network: Network) -> tuple[tuple[int, ...], ...]:
    """For every value, the ascending indices of the convolutions that read it, as input or residual.

    The last value is the output, which no convolution reads.
    """
    found: list[list[int]] = [[] for _ in range(len(network.convs) + 1)]
    for index, conv in enumerate(network.convs):
        for value in {*conv.inputs, *(residual.value for residual in conv.residuals)}:
            found[value].append(index)
    return tuple(tuple(indices) for indices in found)


def last_readers(network: Network) -> tuple[int, ...]:
    """For every value, the index of the last convolution that reads it; for the output, the number of convolutions."""
    return tuple(indices[-1] if indices else len(network.convs) for indices in readers(network))


def parameter_count(network: Network) -> int:
    """Number of weights, biases and slopes as executed: BatchNorm folded, upsampling split into phases."""
    arrays = (array for conv in network.convs for array in (conv.weight, conv.bias, conv.slope) if array is not None)
    return sum(array.size for array in arrays)


def macs_per_image_pixel(network: Network) -> Fraction:
    """Multiply-adds of direct convolution per image pixel; a whole number unless the image is unshuffled."""
    shapes = value_shapes(network)
    total = sum(conv.weight.size * shapes[conv.inputs[0]].resolution ** 2 for conv in network.convs)
    return Fraction(total, network.unshuffle**2)


def receptive_radius(network: Network) -> int:
    """Radius of the receptive field in image pixels, rounded up.

    Exact: the intervals that the output pixels of one cell of the unshuffled image depend on are traced back through
    the list. 40 for SRGAN with 16 blocks at scale 4: 4 pixels for the head, 1 for each of the 33 convolutions of the
    trunk, 1 on its own grid for each upsampling convolution, and 4 output pixels for the tail.
    """
    shapes = value_shapes(network)
    scale, unshuffle = scale_of(network), network.unshuffle
    farthest = 0
    for phase in range(shapes[-1].resolution):
        low, high = _seen(network, phase)
        pixel = phase // scale  # that the output pixel belongs to
        farthest = max(farthest, pixel - low * unshuffle, high * unshuffle + unshuffle - 1 - pixel)
    return max(farthest, 1) if network.skip == "bilinear" and scale > 1 else farthest


def _seen(network: Network, pixel: int) -> tuple[int, int]:
    """First and last column of the unshuffled image that an output column depends on."""
    seen: list[tuple[int, int] | None] = [None] * (len(network.convs) + 1)
    seen[-1] = (pixel, pixel)

    def widen(value: int, low: int, high: int) -> None:
        before = seen[value]
        seen[value] = (low, high) if before is None else (min(low, before[0]), max(high, before[1]))

    for index in reversed(range(len(network.convs))):
        conv, here = network.convs[index], seen[value_of(index)]
        assert here is not None, f"{conv.name} is read by nobody"
        low, high = here[0] // conv.shuffle, here[1] // conv.shuffle
        for residual in conv.residuals:
            widen(residual.value, low, high)
        radius = conv.size // 2
        for value in conv.inputs:
            widen(value, low - radius, high + radius)
    image = seen[IMAGE]
    assert image is not None, "the image is read by nobody"
    return image


__all__ = [
    "ValueShape",
    "check",
    "last_readers",
    "macs_per_image_pixel",
    "parameter_count",
    "readers",
    "receptive_radius",
    "scale_of",
    "value_shapes",
]
