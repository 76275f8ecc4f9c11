"""Second-order degradations, which model images that were shared, resized and saved repeatedly.

Wang et al. 2021, "Real-ESRGAN", section 3: two rounds of blur, resize, noise and JPEG, each with a range and a
probability, and a final sinc filter before or after the last JPEG. Each pair has a separate random generator, so that
it depends on neither workers nor batches.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyvips
from numpy.typing import NDArray

from srgan_fast.data.blur_kernels import RADIUS, blurred, random_blur, random_sinc

Resampling = Literal["area", "bilinear", "bicubic"]
_RESAMPLINGS: tuple[Resampling, ...] = ("area", "bilinear", "bicubic")
# Halo that is degraded together with a crop, in pixels of the original: three times the radius of the largest kernels.
# Pixels beyond it are mirrored, as at the borders of an image.
MARGIN = 3 * RADIUS


@dataclass(frozen=True, slots=True)
class Round:
    """Parameters of one round; ranges are sampled uniformly.

    Attributes:
        blur: standard deviation of blur kernels, in pixels of the image at that point.
        blur_probability: probability of a blur.
        sinc_probability: probability that a blur uses a sinc filter instead of a blur kernel.
        resize: factor relative to the original size in the first round, and to the final low resolution in the second.
        shrink_probability: probability of a factor between the range's lower end and 1.
        enlarge_probability: probability of a factor between 1 and the range's upper end; otherwise the factor is 1.
        noise: standard deviation of Gaussian noise, in 8-bit steps.
        noise_probability: probability of Gaussian noise.
        poisson: strength of shot noise; 1 is the noise that `shot_noise` computes.
        poisson_probability: probability of shot noise instead of Gaussian noise.
        gray_probability: probability that noise is the same in all channels.
        jpeg: JPEG quality, 1..100.
        jpeg_probability: probability of JPEG compression.
    """

    blur: tuple[float, float]
    blur_probability: float
    sinc_probability: float
    resize: tuple[float, float]
    shrink_probability: float
    enlarge_probability: float
    noise: tuple[float, float]
    noise_probability: float
    poisson: tuple[float, float]
    poisson_probability: float
    gray_probability: float
    jpeg: tuple[int, int]
    jpeg_probability: float


@dataclass(frozen=True, slots=True)
class SecondOrder:
    """Parameters of both rounds.

    Attributes:
        first: first round, starting at the original's resolution.
        second: second round, near the final low resolution.
        final_sinc_probability: probability of a sinc filter on the low-resolution image.
    """

    first: Round
    second: Round
    final_sinc_probability: float

    def degraded(self, image: NDArray[np.uint8], scale: int, rng: np.random.Generator) -> NDArray[np.uint8]:
        """Computes the low-resolution version of an image.

        Args:
            image: H, W, 3; H and W are multiples of the scale.
            scale: downscaling factor.
            rng: random generator.

        Returns:
            H / scale, W / scale, 3.
        """
        height, width = image.shape[0] // scale, image.shape[1] // scale
        one, two = self.first, self.second
        x = _blur(image.astype(np.float32), one, rng)
        factor = _factor(one, rng)
        if factor != 1:
            x = _resized(x, factor * image.shape[0], factor * image.shape[1], rng)
        x = _jpeg(_noisy(x, one, rng), one, rng)

        x = _blur(x, two, rng)
        factor = _factor(two, rng)
        x = _noisy(_resized(x, factor * height, factor * width, rng), two, rng)
        if rng.random() < 0.5:  # the final resize and sinc filter come before the JPEG, or after it
            x = _jpeg(self._finish(x, height, width, rng), two, rng)
        else:
            x = self._finish(_jpeg(x, two, rng), height, width, rng)
        return _rounded(x)

    def _finish(self, x: NDArray[np.float32], height: int, width: int, rng: np.random.Generator) -> NDArray[np.float32]:
        x = _resized(x, height, width, rng)
        if rng.random() < self.final_sinc_probability:
            x = _clipped(blurred(x, random_sinc(rng, np.pi / 3)))
        return x


def _blur(x: NDArray[np.float32], how: Round, rng: np.random.Generator) -> NDArray[np.float32]:
    if rng.random() >= how.blur_probability:
        return x
    sinc = rng.random() < how.sinc_probability
    return _clipped(blurred(x, random_sinc(rng) if sinc else random_blur(how.blur, rng)))


def _factor(how: Round, rng: np.random.Generator) -> float:
    chance = rng.random()
    if chance < how.shrink_probability:
        return float(rng.uniform(how.resize[0], 1))
    if chance < how.shrink_probability + how.enlarge_probability:
        return float(rng.uniform(1, how.resize[1]))
    return 1.0


def _resized(x: NDArray[np.float32], height: float, width: float, rng: np.random.Generator) -> NDArray[np.float32]:
    kind = _RESAMPLINGS[int(rng.integers(len(_RESAMPLINGS)))]
    return _clipped(resample(x, max(1, round(height)), max(1, round(width)), kind))


def _noisy(x: NDArray[np.float32], how: Round, rng: np.random.Generator) -> NDArray[np.float32]:
    chance = rng.random()
    if chance >= how.noise_probability + how.poisson_probability:
        return x
    gray = rng.random() < how.gray_probability
    if chance < how.noise_probability:
        shape = (*x.shape[:2], 1) if gray else x.shape
        return _clipped(x + rng.standard_normal(shape, np.float32) * np.float32(rng.uniform(*how.noise)))
    return _clipped(x + np.float32(rng.uniform(*how.poisson)) * shot_noise(x, gray, rng))


def shot_noise(x: NDArray[np.float32], gray: bool, rng: np.random.Generator) -> NDArray[np.float32]:
    """Poisson noise of an image, whose variance grows with brightness (Wang et al. 2021, section 3.2).

    An image with n distinct brightness values is treated as photon counts, with `2^ceil(log2 n)` photons at full
    brightness.

    Args:
        x: H, W, 3 in 0..255.
        gray: whether all channels get the same noise, computed from the image's luma.
        rng: random generator.

    Returns:
        Noise to add: H, W, 3 or, if gray, H, W, 1.
    """
    light = x @ np.array([[0.299], [0.587], [0.114]], np.float32) if gray else x
    values = int(np.count_nonzero(np.bincount(_rounded(light).ravel(), minlength=256)))
    photons = 2.0 ** math.ceil(math.log2(max(2, values)))
    counted = rng.poisson(np.clip(light, 0, 255) * (photons / 255)) * (255 / photons)
    return np.asarray(counted - light).astype(np.float32)


def _jpeg(x: NDArray[np.float32], how: Round, rng: np.random.Generator) -> NDArray[np.float32]:
    if rng.random() >= how.jpeg_probability:
        return x
    quality = int(rng.integers(how.jpeg[0], how.jpeg[1] + 1))
    image = pyvips.Image.new_from_array(np.ascontiguousarray(_rounded(x))).copy(interpretation="srgb")
    decoded = pyvips.Image.new_from_buffer(image.jpegsave_buffer(Q=quality), "").numpy()
    return np.asarray(decoded).astype(np.float32)


def resample(image: NDArray[np.float32], height: int, width: int, kind: Resampling) -> NDArray[np.float32]:
    """Resizes an image as common programs do, without antialiasing except for `area`.

    `area` is the mean over the area that a pixel covers. `bilinear` and `bicubic` (Keys 1981, a = -0.75) read two and
    four pixels per axis at any factor and therefore alias when downscaling, as OpenCV and PyTorch do by default.

    Args:
        image: H, W, C.
        height: number of rows of the result.
        width: number of columns of the result.
        kind: resampling method.
    """
    if image.shape[:2] == (height, width):
        return image
    for axis, size in ((0, height), (1, width)):
        places, weights = _taps(image.shape[axis], size, kind)
        shape = [1, 1, 1]
        shape[axis] = size
        image = sum(
            (
                np.take(image, at, axis) * weight.reshape(shape)
                for at, weight in zip(places[1:], weights[1:], strict=True)
            ),
            start=np.take(image, places[0], axis) * weights[0].reshape(shape),
        )
    return image


def _taps(size: int, wanted: int, kind: Resampling) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Indices of the pixels that each new pixel reads, and their weights; both of shape taps, `wanted`."""
    step = size / wanted
    if kind == "area":
        start, stop = np.arange(wanted) * step, np.arange(1, wanted + 1) * step
        places = np.floor(start).astype(np.intp) + np.arange(int(np.ceil(step)) + 1)[:, None]
        weights = np.clip(np.minimum(places + 1, stop) - np.maximum(places, start), 0, None) / step
    else:
        centre = (np.arange(wanted) + 0.5) * step - 0.5
        first = np.floor(centre).astype(np.intp)
        places = first + (np.arange(2) if kind == "bilinear" else np.arange(-1, 3))[:, None]
        distance = np.abs(centre - places)
        weights = 1 - distance if kind == "bilinear" else _keys(distance)
    return np.clip(places, 0, size - 1), np.asarray(weights).astype(np.float32)


def _keys(distance: NDArray[np.float64], a: float = -0.75) -> NDArray[np.float64]:
    """The cubic convolution kernel (Keys 1981, equation 15, with a different a)."""
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = a * (((distance - 5) * distance + 8) * distance - 4)
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))


def _clipped(x: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.clip(x, 0, 255)


def _rounded(x: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.clip(np.rint(x), 0, 255).astype(np.uint8)
