"""How our CUDA kernels go through a network's list: which kernel computes which convolution, and where values lie.

Every step is found by looking at the list, so that nobody asks which architecture it came from:

    head: the first convolution of an RGB image, up to 9x9
    block: two 3x3 convolutions of 64 channels, what they began with added
    conv: any other convolution
    tail: a last convolution of 5x5 to 9x9 that alone reads a shuffle by 2, which it does itself
    picture: any other last convolution

Values that a convolution reads together are channels of one wider map, where they stand side by side as it wants them,
so that nothing is copied: the dense blocks of ESRGAN write and read slices.
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
_IMAGES = 3  # of float, as large as the image, at once: as given, mapped, and for a skip
_RESULTS = 3  # of float, as large as the result: planes, and what follows from them; a skip makes two more


@dataclass(frozen=True, slots=True)
class Step:
    """One call of a kernel.

    Attributes:
        kernel: that computes it.
        convs: indices of its convolutions, the last of which gives the result.
        shuffle: factor of the pixel shuffle whose pixels' channels the kernel takes phase by phase, 1 for none.
        shuffles: whether the kernel shuffles; otherwise the tail does, which reads its result.
        shuffle_after: factor of a shuffle that is left to PyTorch.
    """

    kernel: Kernel
    convs: tuple[int, ...]
    shuffle: int = 1
    shuffles: bool = True
    shuffle_after: int = 1

    @property
    def value(self) -> int:
        """That it gives."""
        return value_of(self.convs[-1])


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value is that shares a map with others.

    Attributes:
        map: number of the map.
        first: channel of the map that is the value's first.
    """

    map: int
    first: int


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps for a network, in order.

    Attributes:
        steps: that compute it.
        places: of the values that share a map.
        widths: channels of the shared maps.
        last_steps: for every value the last step that reads it.
        reads_image: whether a step reads the image as a map; the head reads images.
        bytes_per_pixel: of the image, of device memory that is in use at once, at most.
        elements_per_pixel: of the image, of the largest map.
    """

    steps: tuple[Step, ...]
    places: dict[int, Place]
    widths: tuple[int, ...]
    last_steps: tuple[int, ...]
    reads_image: bool
    bytes_per_pixel: Fraction
    elements_per_pixel: Fraction


def padded(channels: int) -> int:
    """Channels of a map for a value: kernels read and write whole units, and what is filled up stays zero."""
    return -(-channels // UNIT) * UNIT


def plan_of(network: Network) -> Plan:
    """The steps for a network."""
    places, widths = _places(network)
    steps = tuple(_steps(network, places))
    step_of = {index: number for number, step in enumerate(steps) for index in step.convs}
    step_of[len(network.convs)] = len(steps)
    last_steps = tuple(step_of[index] for index in last_readers(network))
    reads_image = any(IMAGE in _read(network, step) for step in steps if step.kernel != "head")
    most_bytes, most_elements = _sizes(network, steps, places, widths, last_steps, reads_image)
    return Plan(steps, places, widths, last_steps, reads_image, most_bytes, most_elements)


def side_by_side(conv: Conv, places: dict[int, Place], channels: list[int]) -> bool:
    """Whether the values that a convolution reads follow each other in one map.

    Args:
        conv: that reads several.
        places: of values that share a map.
        channels: of every value, padded.
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


def _steps(network: Network, places: dict[int, Place]) -> Iterator[Step]:
    convs, last = network.convs, len(network.convs) - 1
    ends_in_tail = _ends_in_tail(network)
    index = 0
    while index < last:
        conv = convs[index]
        if ends_in_tail and index == last - 1:
            yield Step("conv", (index,), conv.shuffle, shuffles=False)
        elif _is_head(network, conv):
            yield Step("head", (index,))
        elif _is_block(network, index, places):
            yield Step("block", (index, index + 1))
            index += 1
        elif conv.residuals:
            yield Step("conv", (index,), shuffle_after=conv.shuffle)
        else:
            yield Step("conv", (index,), conv.shuffle)
        index += 1
    if ends_in_tail:
        yield Step("tail", (last,))
    elif convs[last].residuals:
        yield Step("conv", (last,), shuffle_after=convs[last].shuffle)
    else:
        yield Step("picture", (last,), convs[last].shuffle)


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
        and 3 < conv.size <= ENDS_SIDE  # of a smaller one most of the tail's products would be with zeros
        and conv.slope is None
        and not conv.residuals
        and conv.shuffle == 1
        and before.shuffle == 2
        and not before.residuals
    )


def _places(network: Network) -> tuple[dict[int, Place], tuple[int, ...]]:
    """A map for the values that a convolution reads together, where they are not in one already.

    A list that begins with the values that a map ends with makes that map wider: in a dense block each convolution
    reads what the one before it read, and one more. Values that cannot stand side by side are copied to be read.
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


def _read(network: Network, step: Step) -> set[int]:
    convs = [network.convs[index] for index in step.convs]
    inner = {value_of(index) for index in step.convs}
    return {value for conv in convs for value in (*conv.inputs, *(r.value for r in conv.residuals))} - inner


def _sizes(
    network: Network,
    steps: tuple[Step, ...],
    places: dict[int, Place],
    widths: tuple[int, ...],
    last_steps: tuple[int, ...],
    reads_image: bool,
) -> tuple[Fraction, Fraction]:
    """Bytes in use at once and elements of the largest map, for each pixel of the image: lived through step by step."""
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
        if step.kernel == "block":  # what is between its convolutions, where it takes two kernels
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


__all__ = ["Kernel", "Place", "Plan", "Step", "padded", "plan_of", "side_by_side"]
