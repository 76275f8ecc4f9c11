"""Shapes that an engine accepts: smallest, usual and largest, i.e. min, opt and max of TensorRT's profiles."""

import re
from dataclasses import dataclass
from typing import NamedTuple

from srgan_fast.errors import UsageError

LARGEST = 65_536


class Shape(NamedTuple):
    """Shape of a batch of low-resolution images; they always have three channels."""

    batch: int
    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.batch}x3x{self.height}x{self.width}"

    def dims(self, pixels: bool = False) -> tuple[int, int, int, int]:
        """N, 3, H, W; or N, H, W, 3 for graphs with uint8 pixels."""
        return (self.batch, self.height, self.width, 3) if pixels else (self.batch, 3, self.height, self.width)


def parse_shape(text: str) -> Shape:
    """Parses `NxCxHxW`, optionally with the input's name as in trtexec: 1x3x128x128, lr:1x3x128x128.

    Raises:
        UsageError: another format, sides out of range, or channels other than 3.
    """
    match = re.fullmatch(r"(?:lr:)?(\d{1,9})x(\d{1,9})x(\d{1,9})x(\d{1,9})", text.strip().lower(), re.ASCII)
    if not match:
        raise UsageError(f"shape is {text!r}; it must be NxCxHxW, as in 1x3x128x128")
    count, channels, height, width = (int(number) for number in match.groups())
    if channels != 3:
        raise UsageError(f"shape is {text!r}; it has {channels} channels, images have 3")
    if not all(1 <= side <= LARGEST for side in (count, height, width)):
        raise UsageError(f"shape is {text!r}; numbers must lie between 1 and {LARGEST}")
    return Shape(count, height, width)


@dataclass(frozen=True, slots=True)
class Profile:
    """Shapes that an engine accepts.

    Attributes:
        least: smallest sides.
        usual: shape that kernels are optimised for.
        largest: largest sides; memory is allocated for it.

    Raises:
        UsageError: the shapes are not in ascending order.
    """

    least: Shape
    usual: Shape
    largest: Shape

    def __post_init__(self) -> None:
        if not all(a <= b <= c for a, b, c in zip(self.least, self.usual, self.largest, strict=True)):
            raise UsageError(
                f"shapes are {self.least}, {self.usual} and {self.largest}; no number may be larger than the same "
                f"number of the next"
            )

    def why_not(self, shape: Shape) -> str | None:
        """Why a shape cannot be run; None if it can."""
        if all(a <= b <= c for a, b, c in zip(self.least, shape, self.largest, strict=True)):
            return None
        return f"{shape} is outside the engine's profile: {self.least} to {self.largest}"


ONE_IMAGE = Profile(Shape(1, 1, 1), Shape(1, 256, 256), Shape(1, 512, 512))
"""The default profile."""
