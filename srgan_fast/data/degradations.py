"""What real photographs suffer besides shrinking: blur, noise and JPEG, drawn anew for each crop.

A model that saw only clean bicubic images sharpens a camera's noise and a JPEG's blocks as if they were detail.
"""

from dataclasses import dataclass

import numpy as np
import pyvips
from numpy.typing import NDArray

from srgan_fast.data.second_order import SecondOrder


@dataclass(frozen=True, slots=True)
class Degradations:
    """Ranges that are drawn from uniformly; (0, 0) leaves one out.

    Attributes:
        blur: standard deviation of a Gaussian on the original, in its pixels.
        noise: standard deviation of Gaussian noise on the low-resolution image, in 8-bit steps.
        jpeg: quality, 1..100, of a JPEG that the low-resolution image goes through last.
        second_order: two rounds of everything instead of all these; the original is not shrunk before.
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
        """Pixels around a crop that its blur can reach."""
        return int(np.ceil(4 * self.blur[1]))

    def blur_original(self, image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        """An H, W, 3 image after a Gaussian of random width."""
        sigma = rng.uniform(*self.blur)
        if sigma < 0.05:  # narrower than that it changes nothing in 8 bits
            return image
        vips = pyvips.Image.new_from_array(np.ascontiguousarray(image))
        # libvips' default cuts the Gaussian where it is still a fifth of its peak, which narrows it by a sixth.
        blurred = vips.gaussblur(sigma, min_ampl=0.01, precision="float")
        return np.asarray(np.clip(np.rint(blurred.numpy()), 0, 255)).astype(np.uint8)

    def spoil(self, lr: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        """An H, W, 3 low-resolution image with noise and through JPEG."""
        if self.noise[1] > 0:
            noise = rng.standard_normal(lr.shape, np.float32) * np.float32(rng.uniform(*self.noise))
            lr = np.clip(np.rint(lr + noise), 0, 255).astype(np.uint8)
        if self.jpeg[1] > 0:
            quality = int(rng.integers(self.jpeg[0], self.jpeg[1] + 1))
            vips = pyvips.Image.new_from_array(np.ascontiguousarray(lr)).copy(interpretation="srgb")
            lr = pyvips.Image.new_from_buffer(vips.jpegsave_buffer(Q=quality), "").numpy()
        return lr
