"""Degradations of real photographs besides downscaling: blur, noise and JPEG, drawn separately for each crop.

A model trained on clean bicubic images only would sharpen camera noise and JPEG blocks as if they were detail.
"""

from dataclasses import dataclass

import numpy as np
import pyvips
from numpy.typing import NDArray

from srgan_fast.data.second_order import SecondOrder


@dataclass(frozen=True, slots=True)
class Degradations:
    """Ranges of degradations, sampled uniformly; (0, 0) disables one.

    Attributes:
        blur: standard deviation of Gaussian blur of the original, in pixels of the original.
        noise: standard deviation of Gaussian noise on the low-resolution image, in 8-bit steps.
        jpeg: quality of the JPEG compression that is applied to the low-resolution image last, 1..100.
        second_order: two rounds of degradations that replace all others, and include the downscaling.
    """

    blur: tuple[float, float] = (0.0, 0.0)
    noise: tuple[float, float] = (0.0, 0.0)
    jpeg: tuple[int, int] = (0, 0)
    second_order: SecondOrder | None = None

    @property
    def blurs(self) -> bool:
        """Whether originals are ever blurred."""
        return self.blur[1] > 0

    @property
    def margin(self) -> int:
        """Pixels around a crop that its blur depends on."""
        return int(np.ceil(4 * self.blur[1]))

    def blur_original(self, image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        """Blurs an H, W, 3 image with a Gaussian of random width."""
        sigma = rng.uniform(*self.blur)
        if sigma < 0.05:  # has no effect on 8-bit values
            return image
        vips = pyvips.Image.new_from_array(np.ascontiguousarray(image))
        # libvips' default truncates the Gaussian at a fifth of its peak, which reduces its width by a sixth.
        blurred = vips.gaussblur(sigma, min_ampl=0.01, precision="float")
        return np.asarray(np.clip(np.rint(blurred.numpy()), 0, 255)).astype(np.uint8)

    def add_noise_and_jpeg(self, lr: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        """Adds noise to an H, W, 3 low-resolution image, and compresses it as JPEG."""
        if self.noise[1] > 0:
            noise = rng.standard_normal(lr.shape, np.float32) * np.float32(rng.uniform(*self.noise))
            lr = np.clip(np.rint(lr + noise), 0, 255).astype(np.uint8)
        if self.jpeg[1] > 0:
            quality = int(rng.integers(self.jpeg[0], self.jpeg[1] + 1))
            vips = pyvips.Image.new_from_array(np.ascontiguousarray(lr)).copy(interpretation="srgb")
            lr = pyvips.Image.new_from_buffer(vips.jpegsave_buffer(Q=quality), "").numpy()
        return lr
