"""What is upscaled: a photograph, since runtimes are judged on those."""

from pathlib import Path

import numpy as np

from srgan_fast.bench.options import Size
from srgan_fast.data.cache import flat_rgb8
from srgan_fast.data.calibration import SAMPLE, samples_folder
from srgan_fast.data.images import read_image
from srgan_fast.data.resize import resize_bicubic
from srgan_fast.runtime.protocol import FloatImages

_SEED = 0


def lr_images(size: Size, batch: int, picture: Path | None = None) -> tuple[FloatImages, str]:
    """The input as N, 3, H, W and what it is in words: see `lr_image`.

    Each picture of a batch is the one before it pushed to the right, so that a runtime that mixes them up is found out.
    """
    lr, description = lr_image(size, picture)
    if batch == 1:
        return lr, description
    shifts = [k * size.width // batch for k in range(batch)]
    pushed = np.concatenate([np.roll(lr, shift, axis=3) for shift in shifts])
    return pushed, f"{description}, {batch} times, pushed to the right in steps of {size.width / batch:g} pixels"


def lr_image(size: Size, picture: Path | None = None) -> tuple[FloatImages, str]:
    """The input, and what it is in words.

    Args:
        size: of the input.
        picture: its largest middle part of that shape is resized to the size; a sample if None; seeded noise where
            there are no samples.

    Returns:
        1, 3, H, W in 0..1 with the 256 values that 8 bits have, and a description.

    Raises:
        ImageError: a picture that cannot be read.
    """
    folder = samples_folder()
    if picture is None and folder is None:
        noise = np.random.default_rng(_SEED).integers(0, 256, (1, 3, *size))
        return noise.astype(np.float32) / np.float32(255), f"noise of seed {_SEED} (the project's samples are not here)"
    path = picture or (folder or Path()) / SAMPLE
    pixels = flat_rgb8(read_image(path))
    part = _middle(pixels, size)
    small = resize_bicubic(part, *size)
    lr = np.ascontiguousarray(small.transpose(2, 0, 1)[None], np.float32) / np.float32(255)
    return lr, f"{path.name}, the middle {part.shape[0]}x{part.shape[1]} resized to {size}"


def _middle(
    pixels: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]", size: Size
) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    """The largest part around the middle that has the shape of the size."""
    zoom = min(pixels.shape[0] / size.height, pixels.shape[1] / size.width)
    height, width = (max(1, round(side * zoom)) for side in size)
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    return np.ascontiguousarray(pixels[top : top + height, left : left + width])
