"""Workload of all rows of a case: a batch of images of one size on a number of threads, and the images themselves."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from srgan_fast.errors import UsageError
from srgan_fast.runtime.protocol import FloatImages

LARGEST_SIDE = 32768

_SEED = 0


class ImageSize(NamedTuple):
    """Size of a low-resolution image in pixels."""

    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.height}x{self.width}"

    @property
    def area(self) -> int:
        """Pixels."""
        return self.height * self.width


def parse_size(text: str) -> ImageSize:
    """Parses `HxW`, or one number for a square.

    Raises:
        UsageError: another format, 0, or sides that are too large.
    """
    match = re.fullmatch(r"(\d+)(?:x(\d+))?", text.strip().lower(), re.ASCII)
    if not match:
        raise UsageError(f"size is {text!r}; it must be HEIGHTxWIDTH in pixels, as in 180x320")
    # int() rejects thousands of digits; numbers too long to be a side are not parsed.
    sides = [int(side) if len(side) < 10 else LARGEST_SIDE + 1 for side in match.groups() if side]
    if min(sides) < 1 or max(sides) > LARGEST_SIDE:
        raise UsageError(f"size is {text!r}; sides must lie between 1 and {LARGEST_SIDE}")
    return ImageSize(sides[0], sides[-1])


@dataclass(frozen=True, slots=True)
class Workload:
    """A batch of images of one size on a number of CPU threads, for the network of the run."""

    size: ImageSize
    batch: int = 1
    threads: int = 1

    def __str__(self) -> str:
        batch = f", batch {self.batch}" if self.batch != 1 else ""
        return f"{self.size}{batch}, {self.threads} thread{'s' if self.threads != 1 else ''}"

    @property
    def pixels(self) -> int:
        """Low-resolution pixels per run."""
        return self.batch * self.size.area


def lr_images(size: ImageSize, batch: int, image: Path | None = None) -> tuple[FloatImages, str]:
    """The input, N, 3, H, W, and its description: see `lr_image`.

    Each image of a batch is its predecessor rolled to the right, so that mixed-up images are detected.
    """
    lr, description = lr_image(size, image)
    if batch == 1:
        return lr, description
    shifts = [k * size.width // batch for k in range(batch)]
    rolled = np.concatenate([np.roll(lr, shift, axis=3) for shift in shifts])
    return rolled, f"{description}, {batch} times, each rolled to the right by {size.width / batch:g} pixels"


def lr_image(size: ImageSize, image: Path | None = None) -> tuple[FloatImages, str]:
    """The input, 1, 3, H, W in 0..1 with the 256 values of 8 bits, and its description.

    The largest centre crop of the image (None: a sample) with the right aspect ratio, resized to the size; seeded noise
    if there are no samples.

    Raises:
        ImageError: an image that cannot be read.
    """
    # Imported here, since this loads libvips, which the GPU report does not need.
    from srgan_fast.data.cache import flat_rgb8  # noqa: PLC0415
    from srgan_fast.data.calibration import SAMPLE, samples_folder  # noqa: PLC0415
    from srgan_fast.data.images import read_image  # noqa: PLC0415
    from srgan_fast.data.resize import crop_centre, resize_bicubic  # noqa: PLC0415

    folder = samples_folder()
    if image is None and folder is None:
        noise = np.random.default_rng(_SEED).integers(0, 256, (1, 3, *size))
        return noise.astype(np.float32) / np.float32(255), f"noise of seed {_SEED} (the project's samples are not here)"
    path = image or (folder or Path()) / SAMPLE
    pixels = flat_rgb8(read_image(path))
    zoom = min(pixels.shape[0] / size.height, pixels.shape[1] / size.width)
    part = np.ascontiguousarray(crop_centre(pixels, *(max(1, round(side * zoom)) for side in size)))
    small = resize_bicubic(part, *size)
    lr = np.ascontiguousarray(small.transpose(2, 0, 1)[None], np.float32) / np.float32(255)
    return lr, f"{path.name}, the middle {part.shape[0]}x{part.shape[1]} resized to {size}"
