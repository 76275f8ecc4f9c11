"""PSNR and SSIM of the averaged generator on held-out originals, while it trains."""

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
from srgan_fast.errors import ImageError, TrainingError

SAMPLES = 4  # pictures in the curves' sample grid
_MAX_SIDE = 512  # larger originals are cut to their centre, so that a validation stays short


@dataclass(frozen=True, slots=True)
class Scores:
    """Means over the validation images, and the first few results beside their originals."""

    psnr_y: float
    ssim_y: float
    samples: list[NDArray[np.uint8]]


class Validation:
    """Originals and their low-resolution versions, in memory.

    Args:
        folder: of originals.
        scale: of the generator.

    Attributes:
        pictures: files, and what stands for their pixels (`data.cache.pixel_digest`).

    Raises:
        TrainingError: no picture, one that cannot be read, or one that is too small.
    """

    def __init__(self, folder: Path, scale: int) -> None:
        self.scale = scale
        try:
            paths = find_images(folder)
            images = [flat_rgb8(read_image(path)) for path in paths]
        except ImageError as error:
            raise TrainingError(f"validation: {error}") from None
        if not images:
            raise TrainingError(f"validation: {folder} holds no pictures")
        self.pictures = [(path, pixel_digest(image)) for path, image in zip(paths, images, strict=True)]
        self.pairs: list[tuple[NDArray[np.uint8], NDArray[np.uint8]]] = []
        for path, image in zip(paths, images, strict=True):
            hr = crop_to_multiple(_centre(image), scale)
            if min(hr.shape[:2]) < 2 * scale + 11:
                raise TrainingError(f"validation: {path} is too small to be measured")
            self.pairs.append((hr, downscale(hr, scale)))

    def __call__(self, generator: nn.Module) -> Scores:
        """Measures a generator in eval mode, in fp32."""
        device = next(generator.parameters()).device
        psnrs, ssims, samples = [], [], []
        for number, (hr, lr) in enumerate(self.pairs):
            with torch.inference_mode():
                sr = to_pixels(generator(to_batch(lr[None], device)))[0]
            border = slice(self.scale, -self.scale)
            truth, ours = luma(hr[border, border]), luma(sr[border, border])
            psnrs.append(psnr(truth, ours))
            ssims.append(ssim(truth, ours))
            if number < SAMPLES:
                nearest = lr.repeat(self.scale, axis=0).repeat(self.scale, axis=1)
                samples.append(np.concatenate([nearest, sr, hr], axis=1))
        return Scores(fmean(psnrs), fmean(ssims), samples)


def _centre(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = (min(side, _MAX_SIDE) for side in image.shape[:2])
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]


def to_batch(images: NDArray[np.uint8], device: torch.device) -> Tensor:
    """N, H, W, 3 uint8 to N, 3, H, W float in 0..1, channels last.

    To a GPU they are copied from pinned memory, in the current stream's turn: the host does not wait.
    """
    batch = torch.from_numpy(np.ascontiguousarray(images))
    if device.type == "cuda":
        batch = batch.pin_memory().to(device, non_blocking=True)
    return batch.permute(0, 3, 1, 2).to(torch.float32).div_(255.0)


def to_pixels(images: Tensor) -> NDArray[np.uint8]:
    """N, 3, H, W in 0..1 to N, H, W, 3 uint8, clamped and rounded."""
    pixels = images.float().clamp(0.0, 1.0).mul(255.0).round().to(torch.uint8)
    return pixels.permute(0, 2, 3, 1).cpu().numpy()
