"""Photographs for calibrating quantisation and for checking exported files."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import srgan_fast
from srgan_fast.data.cache import flat_rgb8
from srgan_fast.data.images import find_images, read_image
from srgan_fast.data.resize import crop_centre
from srgan_fast.errors import UsageError

CALIBRATION_SIDE = 128  # pixels; statistics of activations do not depend on the image size
CALIBRATION_IMAGES = 300  # NNCF's default
SAMPLE = "astronaut.png"


def samples_folder() -> Path | None:
    """Folder of this project's sample images; None in installed packages, which do not contain them."""
    folder = Path(srgan_fast.__file__).parent.parent / "docs" / "samples"
    return folder if (folder / SAMPLE).is_file() else None


def calibration_folder(folder: Path | None) -> Path | None:
    """The given folder, or by default the samples; None if there are none.

    Raises:
        ImageError: no such folder.
        UsageError: it contains no images.
    """
    if folder is not None and not find_images(folder):
        raise UsageError(f"{folder}: contains no images for calibration")
    return folder or samples_folder()


def calibration_images(folder: Path | None) -> list[NDArray[np.float32]]:
    """Central crops of at most 128x128 pixels of the images in a folder, as 1, 3, H, W in 0..1.

    Raises:
        ImageError: no such folder, or an image that cannot be read.
        UsageError: there are no images.
    """
    place = calibration_folder(folder)
    if place is None:
        raise UsageError("int8 needs images for calibration: --calibration FOLDER")
    return [_middle(path) for path in find_images(place)[:CALIBRATION_IMAGES]]


def _middle(path: Path) -> NDArray[np.float32]:
    part = crop_centre(flat_rgb8(read_image(path)), CALIBRATION_SIDE, CALIBRATION_SIDE)
    return np.ascontiguousarray(part.transpose(2, 0, 1)[None], np.float32) / np.float32(255)
