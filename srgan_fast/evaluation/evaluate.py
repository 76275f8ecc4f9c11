"""Evaluates a model: PSNR and SSIM per image and on average, compared with bicubic interpolation.

The usual protocol: low-resolution images by MATLAB's bicubic downscaling (given, or computed here bit-exactly), results
rounded to 8 bits, a border of `scale` pixels cropped, Y of BT.601 in 16..235. ST-LPIPS, where its package is installed,
is computed on whole RGB images.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srgan_fast.data.images import find_images, read_image
from srgan_fast.data.metrics import luma, psnr, ssim
from srgan_fast.data.resize import crop_to_multiple, downscale, resize_bicubic
from srgan_fast.data.st_lpips import MIN_SIDE, available, st_lpips
from srgan_fast.errors import DataError, ImageError
from srgan_fast.runtime.upscaler import Upscaler

_MIN_SIDE = 11  # SSIM's window


@dataclass(frozen=True, slots=True)
class ImageScores:
    """Figures of one image: PSNR in dB, SSIM in -1..1. For gray images `psnr_rgb` is that of the gray channel.

    ST-LPIPS is None if its package is not installed or the image is too small for it.
    """

    name: str
    psnr_y: float
    psnr_rgb: float
    ssim_y: float
    bicubic_psnr_y: float
    bicubic_ssim_y: float
    st_lpips: float | None = None
    bicubic_st_lpips: float | None = None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Figures of a set of images, sorted by name."""

    images: list[ImageScores]

    def mean(self) -> ImageScores:
        """Mean of each figure over the images; None if an image lacks it."""
        figures: dict[str, Any] = {}
        for name in (f.name for f in fields(ImageScores) if f.name != "name"):
            values = [getattr(image, name) for image in self.images]
            figures[name] = None if None in values else fmean(values)
        return ImageScores("mean", **figures)

    def as_json(self) -> dict[str, Any]:
        """`{"mean": {...}, "images": [{...}, ...]}`; figures that there are not have no key."""
        mean = _figures(self.mean())
        del mean["name"]
        return {"mean": mean, "images": [_figures(image) for image in self.images]}


def _figures(scores: ImageScores) -> dict[str, Any]:
    return {name: value for name, value in asdict(scores).items() if value is not None}


def evaluate(
    upscaler: Upscaler,
    hr_folder: Path,
    lr_folder: Path | None = None,
    on_image: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Measures a model.

    Args:
        upscaler: upscaler with the model.
        hr_folder: folder of original images.
        lr_folder: folder of the low-resolution versions with the same names, optionally with `x4` or `_x4` after the
            stem (for scale 4); computed from the originals if None.
        on_image: called with the number of images done and in total.

    Raises:
        DataError: an empty or unreadable folder, a missing low-resolution version, sizes that do not match, or images
            that are too small. No image is skipped silently, since a mean over other images is a different figure.
    """
    try:
        originals = find_images(hr_folder, recursive=False)
        partners = None if lr_folder is None else find_images(lr_folder, recursive=False)
    except ImageError as error:
        raise DataError(str(error)) from None
    if not originals:
        raise DataError(f"{hr_folder}: holds no images")
    scores = []
    for done, path in enumerate(originals):
        try:
            hr = _pixels8(path)
            lr = None if partners is None else _pixels8(_partner(path, partners, lr_folder, upscaler.scale))
            scores.append(_score(path, hr, lr, upscaler))
        except ImageError as error:
            raise DataError(str(error)) from None
        if on_image:
            on_image(done + 1, len(originals))
    return Evaluation(scores)


def _pixels8(path: Path) -> NDArray[np.uint8]:
    pixels = read_image(path).pixels
    if pixels.dtype != np.uint8:
        raise DataError(f"{path}: has 16 bits; the protocol is defined for 8-bit images")
    return pixels.astype(np.uint8, copy=False)


def _partner(path: Path, partners: list[Path], folder: Path | None, scale: int) -> Path:
    stems = (path.stem, f"{path.stem}x{scale}", f"{path.stem}_x{scale}")
    for partner in partners:
        if partner.stem in stems:
            return partner
    raise DataError(f"{path}: no low-resolution version in {folder} (looked for {', '.join(stems)})")


def _score(path: Path, hr: NDArray[np.uint8], lr: NDArray[np.uint8] | None, upscaler: Upscaler) -> ImageScores:
    scale = upscaler.scale
    if lr is None:
        hr = crop_to_multiple(hr, scale)
        if min(hr.shape[:2]) < scale:
            raise DataError(f"{path}: {hr.shape[1]}x{hr.shape[0]} pixels are too few for scale {scale}")
        lr = downscale(hr, scale)
    height, width = lr.shape[0] * scale, lr.shape[1] * scale
    if hr.shape[0] < height or hr.shape[1] < width or hr.shape[0] - height >= scale or hr.shape[1] - width >= scale:
        raise DataError(
            f"{path}: {hr.shape[1]}x{hr.shape[0]} pixels are not {scale} times the {lr.shape[1]}x{lr.shape[0]} of its "
            f"low-resolution version"
        )
    if hr.shape[2] != lr.shape[2]:
        raise DataError(f"{path}: one of the original and its low-resolution version is gray, the other in colour")
    hr = hr[:height, :width]
    if min(height, width) - 2 * scale < _MIN_SIDE:
        needed = math.ceil(_MIN_SIDE / scale + 2) * scale  # originals are cropped to multiples of the scale
        raise DataError(f"{path}: too small to be measured; sides must be at least {needed} pixels")
    gray = hr.shape[2] == 1
    sr = upscaler(np.repeat(lr, 3, axis=2) if gray else lr)
    if gray:
        sr = np.rint(sr.mean(axis=2, keepdims=True)).astype(np.uint8)
    inner = (slice(scale, height - scale), slice(scale, width - scale))
    truth, ours = hr[inner], sr[inner]
    interpolated = resize_bicubic(lr, height, width)
    bicubic = interpolated[inner]
    perceptual = available() and min(height, width) >= MIN_SIDE
    return ImageScores(
        name=path.name,
        psnr_y=psnr(luma(truth), luma(ours)),
        psnr_rgb=psnr(truth, ours),
        ssim_y=ssim(luma(truth), luma(ours)),
        bicubic_psnr_y=psnr(luma(truth), luma(bicubic)),
        bicubic_ssim_y=ssim(luma(truth), luma(bicubic)),
        st_lpips=st_lpips(hr, sr) if perceptual else None,
        bicubic_st_lpips=st_lpips(hr, interpolated) if perceptual else None,
    )
