"""Validation during training: PSNR, SSIM and, if installed, ST-LPIPS of the averaged generator on held-out images."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from srgan_fast.data.cache import flat_rgb8, pixel_digest
from srgan_fast.data.images import find_images, read_image
from srgan_fast.data.metrics import luma, psnr, ssim
from srgan_fast.data.resize import crop_to_multiple, downscale
from srgan_fast.data.st_lpips import MIN_SIDE, available, st_lpips
from srgan_fast.errors import ImageError, TrainingError

SAMPLES = 4  # number of sample images in TensorBoard
_MAX_SIDE = 512  # larger originals are cropped to their centre, so that a validation stays short


@dataclass(frozen=True, slots=True)
class Scores:
    """Mean figures of a validation set, and sample images.

    Attributes:
        psnr_y: PSNR of luma, in dB.
        ssim_y: SSIM of luma, in -1..1.
        samples: for the first images, nearest-neighbour upscaling, result and original side by side; H, W, 3.
        st_lpips: ST-LPIPS, lower is better; None if it is not installed or an image is too small for it.
        name: name of the set; empty for a single set without a name.
    """

    psnr_y: float
    ssim_y: float
    samples: list[NDArray[np.uint8]]
    st_lpips: float | None = None
    name: str = ""

    def figures(self) -> dict[str, float]:
        """The figures that were measured, by name."""
        figures = {"psnr_y": self.psnr_y, "ssim_y": self.ssim_y}
        return figures if self.st_lpips is None else {**figures, "st_lpips": self.st_lpips}


class Validation:
    """Originals and their low-resolution versions, in memory.

    Args:
        folder: folder of originals.
        scale: scale of the generator.
        name: name of the set.

    Attributes:
        images: files and the digests of their pixels (`data.cache.pixel_digest`).

    Raises:
        TrainingError: there are no images, or one cannot be read or is too small.
    """

    def __init__(self, folder: Path, scale: int, name: str = "") -> None:
        self.scale, self.name = scale, name
        try:
            paths = find_images(folder)
            images = [flat_rgb8(read_image(path)) for path in paths]
        except ImageError as error:
            raise TrainingError(f"validation: {error}") from None
        if not images:
            raise TrainingError(f"validation: {folder} contains no images")
        self.images = [(path, pixel_digest(image)) for path, image in zip(paths, images, strict=True)]
        self.pairs: list[tuple[NDArray[np.uint8], NDArray[np.uint8]]] = []
        for path, image in zip(paths, images, strict=True):
            hr = crop_to_multiple(_centre(image), scale)
            if min(hr.shape[:2]) < 2 * scale + 11:
                raise TrainingError(f"validation: {path} is too small to be measured")
            self.pairs.append((hr, downscale(hr, scale)))

    def __call__(self, generator: nn.Module) -> Scores:
        """Measures a generator in eval mode, in fp32."""
        device = next(generator.parameters()).device
        psnrs, ssims, distances, samples = [], [], [], []
        perceptual = available() and all(min(hr.shape[:2]) >= MIN_SIDE for hr, _ in self.pairs)
        for number, (hr, lr) in enumerate(self.pairs):
            with torch.inference_mode():
                sr = to_pixels(generator(to_batch(lr[None], device)))[0]
            border = slice(self.scale, -self.scale)
            truth, ours = luma(hr[border, border]), luma(sr[border, border])
            psnrs.append(psnr(truth, ours))
            ssims.append(ssim(truth, ours))
            if perceptual:
                distances.append(st_lpips(hr, sr, str(device)))
            if number < SAMPLES:
                nearest = lr.repeat(self.scale, axis=0).repeat(self.scale, axis=1)
                samples.append(np.concatenate([nearest, sr, hr], axis=1))
        return Scores(fmean(psnrs), fmean(ssims), samples, fmean(distances) if perceptual else None, self.name)


class ValidationSets:
    """One validation set, or several named ones; the first selects the best model.

    Args:
        folders: folder of originals, or one for each name.
        scale: scale of the generator.

    Attributes:
        sets: validation sets, in the given order.

    Raises:
        TrainingError: see `Validation`.
    """

    def __init__(self, folders: Path | Mapping[str, Path], scale: int) -> None:
        named = {"": folders} if isinstance(folders, Path) else folders
        self.sets = [Validation(folder, scale, name) for name, folder in named.items()]

    def __call__(self, generator: nn.Module) -> list[Scores]:
        """Measures a generator on each set, in eval mode, in fp32."""
        return [validation(generator) for validation in self.sets]


def _centre(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = (min(side, _MAX_SIDE) for side in image.shape[:2])
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]


def to_batch(images: NDArray[np.uint8], device: torch.device) -> Tensor:
    """Converts N, H, W, 3 uint8 to N, 3, H, W float32 in 0..1, channels last.

    Copies to a GPU are asynchronous: from pinned memory, on the current stream.
    """
    batch = torch.from_numpy(np.ascontiguousarray(images))
    if device.type == "cuda":
        batch = batch.pin_memory().to(device, non_blocking=True)
    return batch.permute(0, 3, 1, 2).to(torch.float32).div_(255.0)


def to_pixels(images: Tensor) -> NDArray[np.uint8]:
    """Converts N, 3, H, W in 0..1 to N, H, W, 3 uint8, clamped and rounded."""
    pixels = images.float().clamp(0.0, 1.0).mul(255.0).round().to(torch.uint8)
    return pixels.permute(0, 2, 3, 1).cpu().numpy()
