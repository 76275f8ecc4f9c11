"""Second-order degradations: what a picture suffers that was taken, shared, scaled and saved more than once.

Wang et al. 2021, "Real-ESRGAN", section 3: two rounds of blur, resize, noise and JPEG, each with a range and a
probability, and a final sinc filter before or after the last JPEG. A pair is drawn from a generator of its own, so
that it depends on neither workers nor batches.
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
# Surroundings of a crop that are degraded with it, in pixels of the original: three of the largest kernels. What is
# farther away is mirrored, as at the borders of a picture.
MARGIN = 3 * RADIUS


@dataclass(frozen=True, slots=True)
class Round:
    """One round. Ranges are drawn from uniformly, and everything happens with its probability.

    Attributes:
        blur: standard deviation of blur kernels, in pixels of the image as it is then.
        blur_probability: of a blur.
        sinc_probability: of a sinc filter in place of a blur kernel, where there is a blur.
        resize: factor of the size: of the original's in the first round, of the final low resolution's in the second.
        shrink_probability: of a factor between the range's lower end and 1.
        enlarge_probability: of a factor between 1 and the range's upper end; else the size is that of factor 1 in the
            second round, and stays in the first.
        noise: standard deviation of Gaussian noise, in 8-bit steps.
        noise_probability: of Gaussian noise.
        poisson: strength of shot noise; 1 is that of the image's own number of brightness values.
        poisson_probability: of shot noise in place of Gaussian noise.
        gray_probability: of noise that is the same in all channels, where there is noise.
        jpeg: quality, 1..100.
        jpeg_probability: of a JPEG.
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
    """Both rounds.

    Attributes:
        first: round, on the original's scale.
        second: round, near the low-resolution image's.
        final_sinc_probability: of a sinc filter on the low-resolution image.
    """

    first: Round
    second: Round
    final_sinc_probability: float

    def degraded(self, image: NDArray[np.uint8], scale: int, rng: np.random.Generator) -> NDArray[np.uint8]:
        """The low-resolution version of an image.

        Args:
            image: H, W, 3, sides multiples of the scale.
            scale: to shrink by.
            rng: where everything is drawn from.

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
        if rng.random() < 0.5:  # resampled and sharpened before it was saved, or by whoever opened it
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

    An image of n brightness values is taken for a count of photons with `2^ceil(log2 n)` at full brightness.

    Args:
        x: H, W, 3 in 0..255.
        gray: one noise for all channels, of the image's luma.
        rng: where it is drawn from.

    Returns:
        H, W, 3 or, if gray, H, W, 1; what is to be added.
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
    """An image in another size, as programs do that do not care.

    `area` is the mean over what a pixel covers. `bilinear` and `bicubic` (Keys 1981, a = -0.75) read two and four
    pixels, however much they shrink, and so alias: this is what OpenCV and PyTorch do by default.

    Args:
        image: H, W, C.
        height: of the result.
        width: of the result.
        kind: which.
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
    """Which pixels each new one reads, and their weights; both number of taps, wanted."""
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
    """The cubic convolution kernel (Keys 1981, equation 15, with another a)."""
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = a * (((distance - 5) * distance + 8) * distance - 4)
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))


def _clipped(x: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.clip(x, 0, 255)


def _rounded(x: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.clip(np.rint(x), 0, 255).astype(np.uint8)
