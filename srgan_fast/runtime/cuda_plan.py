"""Plans the CUDA execution of a network: which kernel computes which convolution, and where values are stored.

Every step is derived from the list of convolutions, independent of the architecture:

    head: the first convolution of an RGB image, up to 9x9
    block: two 3x3 convolutions of 64 channels plus the block's input
    conv: any other convolution
    tail: a last convolution of 5x5 to 9x9 that is the only reader of a pixel shuffle by 2, which it includes
    picture: any other last convolution

Values that a convolution concatenates are stored as adjacent channels of one wider map, in the order in which it
reads them, so that nothing is copied: the dense blocks of ESRGAN read and write slices.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from srgan_fast.network.analysis import last_readers, readers, scale_of, value_shapes
from srgan_fast.network.graph import IMAGE, Conv, Network, Residual, value_of
from srgan_fast.ops.infer import BLOCK_CHANNELS, ENDS_SIDE, UNFOLDED_CHANNELS, UNIT

Kernel = Literal["head", "conv", "block", "tail", "picture"]

_HALF, _FLOAT = 2, 4  # bytes
_IMAGES = 3  # float32 copies of the image in memory at once: original, mapped, and for a skip
_RESULTS = 3  # float32 copies of the output: planes and postprocessing; a skip adds two


@dataclass(frozen=True, slots=True)
class KernelStep:
    """One kernel call.

    Attributes:
        kernel: kind of kernel.
        convs: indices of its convolutions; the last one's result is the step's.
        shuffle: factor of the pixel shuffle for which the output channels are phase-major, 1 for none.
        shuffles: whether this kernel performs the shuffle; otherwise the tail does when it reads the result.
        shuffle_after: factor of a shuffle that PyTorch performs afterwards.
    """

    kernel: Kernel
    convs: tuple[int, ...]
    shuffle: int = 1
    shuffles: bool = True
    shuffle_after: int = 1

    @property
    def value(self) -> int:
        """Index of the value that it computes."""
        return value_of(self.convs[-1])


@dataclass(frozen=True, slots=True)
class Place:
    """Position of a value within a shared map.

    Attributes:
        map: index of the map.
        first: first channel of the value within the map.
    """

    map: int
    first: int


@dataclass(frozen=True, slots=True)
class KernelPlan:
    """Steps of a network in execution order.

    Attributes:
        steps: the kernel calls.
        places: positions of the values that share a map.
        widths: channels of the shared maps.
        last_steps: for every value, the last step that reads it.
        reads_image: whether a step reads the image as a feature map; `head` reads the image itself.
        bytes_per_pixel: peak device memory per image pixel.
        elements_per_pixel: elements of the largest map per image pixel.
    """

    steps: tuple[KernelStep, ...]
    places: dict[int, Place]
    widths: tuple[int, ...]
    last_steps: tuple[int, ...]
    reads_image: bool
    bytes_per_pixel: Fraction
    elements_per_pixel: Fraction


def padded(channels: int) -> int:
    """Channels of a value's map: padded to whole units; the padding stays zero."""
    return -(-channels // UNIT) * UNIT


def plan_of(network: Network) -> KernelPlan:
    """Plans a network."""
    places, widths = _places(network)
    steps = tuple(_steps(network, places))
    step_of = {index: number for number, step in enumerate(steps) for index in step.convs}
    step_of[len(network.convs)] = len(steps)
    last_steps = tuple(step_of[index] for index in last_readers(network))
    reads_image = any(IMAGE in _read(network, step) for step in steps if step.kernel != "head")
    most_bytes, most_elements = _sizes(network, steps, places, widths, last_steps, reads_image)
    return KernelPlan(steps, places, widths, last_steps, reads_image, most_bytes, most_elements)


def side_by_side(conv: Conv, places: dict[int, Place], channels: list[int]) -> bool:
    """Whether the values that a convolution reads are adjacent in one map.

    Args:
        conv: convolution with several inputs.
        places: positions of the values that share a map.
        channels: padded channels of every value.
    """
    found = [places.get(value) for value in conv.inputs]
    first = found[0]
    if first is None:
        return False
    expected = first.first
    for value, place in zip(conv.inputs, found, strict=True):
        if place != Place(first.map, expected):
            return False
        expected += channels[value]
    return True


def _steps(network: Network, places: dict[int, Place]) -> Iterator[KernelStep]:
    convs, last = network.convs, len(network.convs) - 1
    ends_in_tail = _ends_in_tail(network)
    index = 0
    while index < last:
        conv = convs[index]
        if ends_in_tail and index == last - 1:
            yield KernelStep("conv", (index,), conv.shuffle, shuffles=False)
        elif _is_head(network, conv):
            yield KernelStep("head", (index,))
        elif _is_block(network, index, places):
            yield KernelStep("block", (index, index + 1))
            index += 1
        elif conv.residuals:
            yield KernelStep("conv", (index,), shuffle_after=conv.shuffle)
        else:
            yield KernelStep("conv", (index,), conv.shuffle)
        index += 1
    if ends_in_tail:
        yield KernelStep("tail", (last,))
    elif convs[last].residuals:
        yield KernelStep("conv", (last,), shuffle_after=convs[last].shuffle)
    else:
        yield KernelStep("picture", (last,), convs[last].shuffle)


def _is_head(network: Network, conv: Conv) -> bool:
    reads_rgb = conv.inputs == (IMAGE,) and network.channels == 3 and network.unshuffle == 1
    return reads_rgb and conv.size <= ENDS_SIDE and not conv.residuals and conv.shuffle == 1


def _is_block(network: Network, index: int, places: dict[int, Place]) -> bool:
    if index + 1 >= len(network.convs):
        return False
    first, second = network.convs[index : index + 2]
    before, inner, after = first.inputs[0], value_of(index), value_of(index + 1)
    widths = {padded(count) for conv in (first, second) for count in (conv.in_channels, conv.out_channels)}
    return (
        widths == {BLOCK_CHANNELS}
        and first.size == second.size == 3
        and first.shuffle == second.shuffle == 1
        and first.inputs == (before,)
        and first.slope is not None
        and not first.residuals
        and second.inputs == (inner,)
        and second.slope is None
        and second.residuals == (Residual(before),)
        and readers(network)[inner] == (index + 1,)
        and not {before, after} & places.keys()
    )


def _ends_in_tail(network: Network) -> bool:
    if len(network.convs) < 2 or network.channels != 3:
        return False
    before, conv = network.convs[-2:]
    value = value_of(len(network.convs) - 2)
    return (
        conv.inputs == (value,)
        and 3 < conv.size <= ENDS_SIDE  # for smaller kernels the tail would mostly multiply zeros
        and conv.slope is None
        and not conv.residuals
        and conv.shuffle == 1
        and before.shuffle == 2
        and not before.residuals
    )


def _places(network: Network) -> tuple[dict[int, Place], tuple[int, ...]]:
    """Assigns a shared map to values that a convolution reads together, unless they already have one.

    Inputs that start with all values of a map's end extend that map: in a dense block each convolution reads what the
    previous one read plus one value. Values that cannot be adjacent are copied when they are read.
    """
    maps: list[list[int]] = []
    map_of: dict[int, int] = {}
    for conv in network.convs:
        values = conv.inputs
        if len(values) < 2 or len(set(values)) < len(values):
            continue
        known = next((i for i, value in enumerate(values) if value not in map_of), len(values))
        if any(value in map_of for value in values[known:]):
            continue
        if known == 0:
            maps.append([])
        number = map_of[values[0]] if known else len(maps) - 1
        if known and tuple(maps[number][-known:]) != values[:known]:
            continue
        maps[number].extend(values[known:])
        map_of.update(dict.fromkeys(values[known:], number))
    shapes = value_shapes(network)
    places: dict[int, Place] = {}
    widths = []
    for number, members in enumerate(maps):
        width = 0
        for value in members:
            places[value] = Place(number, width)
            width += padded(shapes[value].channels)
        widths.append(width)
    return places, tuple(widths)


def _read(network: Network, step: KernelStep) -> set[int]:
    convs = [network.convs[index] for index in step.convs]
    inner = {value_of(index) for index in step.convs}
    return {value for conv in convs for value in (*conv.inputs, *(r.value for r in conv.residuals))} - inner


def _sizes(
    network: Network,
    steps: tuple[KernelStep, ...],
    places: dict[int, Place],
    widths: tuple[int, ...],
    last_steps: tuple[int, ...],
    reads_image: bool,
) -> tuple[Fraction, Fraction]:
    """Peak bytes and elements of the largest map per image pixel, by simulating the steps."""
    shapes = value_shapes(network)
    channels = [padded(shape.channels) for shape in shapes]
    live: dict[tuple[str, int], int] = {}  # elements of maps

    def hold(value: int) -> None:
        place, pixels = places.get(value), shapes[value].resolution ** 2
        if place is None:
            live["value", value] = channels[value] * pixels
        else:
            live["map", place.map] = widths[place.map] * pixels

    members: dict[int, set[int]] = {}
    for value, place in places.items():
        members.setdefault(place.map, set()).add(value)
    if reads_image:
        hold(IMAGE)
    most, largest = 0, max(live.values(), default=0)
    for number, step in enumerate(steps):
        conv = network.convs[step.convs[-1]]
        pixels = shapes[conv.inputs[0]].resolution ** 2
        beside = UNFOLDED_CHANNELS * pixels if step.kernel == "head" else 0
        if step.kernel == "block":  # intermediate map, if the block takes two kernels
            beside += BLOCK_CHANNELS * pixels
        if len(conv.inputs) > 1 and not side_by_side(conv, places, channels):
            beside += sum(channels[value] for value in conv.inputs) * pixels
        if step.shuffle_after > 1 or (step.kernel == "conv" and step.value in places):
            beside += padded(conv.out_channels) * pixels
        if step.value < len(network.convs):
            hold(step.value)
        elif step.kernel == "conv":
            beside += padded(conv.out_channels) * pixels
        most = max(most, sum(live.values()) + beside)
        largest = max(largest, beside, *live.values(), padded(conv.out_channels) * pixels)
        for value, last in enumerate(last_steps):
            if last == number:
                live.pop(("value", value), None)
        for shared, values in members.items():
            if all(last_steps[value] <= number for value in values):
                live.pop(("map", shared), None)
    cells = network.unshuffle**2
    results = (_RESULTS + (2 if network.skip != "none" else 0)) * scale_of(network) ** 2
    planes = _FLOAT * network.channels * (_IMAGES + results)
    return Fraction(_HALF * most, cells) + planes, Fraction(largest, cells)


__all__ = ["Kernel", "KernelPlan", "KernelStep", "Place", "padded", "plan_of", "side_by_side"]
