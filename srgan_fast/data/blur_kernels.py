"""Random blur kernels that model lenses, camera shake and resampling filters, and their application to images.

The families are those of Wang et al. 2021, "Real-ESRGAN", section 3.2 and appendix A: Gaussian, generalised Gaussian
and plateau-shaped kernels, isotropic or anisotropic, and the ideal low-pass filter, which causes ringing.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Family = Literal["gaussian", "generalised", "plateau"]
SIZES = tuple(range(7, 22, 2))  # sides of kernels in pixels, drawn uniformly
RADIUS = SIZES[-1] // 2

# Family, whether isotropic, and probability (from Real-ESRGAN's published training options); and ranges of the
# exponents.
_FAMILIES: tuple[tuple[Family, bool, float], ...] = (
    ("gaussian", True, 0.45),
    ("gaussian", False, 0.25),
    ("generalised", True, 0.12),
    ("generalised", False, 0.03),
    ("plateau", True, 0.12),
    ("plateau", False, 0.03),
)
_EXPONENTS: dict[Family, tuple[float, float]] = {"gaussian": (1, 1), "generalised": (0.5, 4), "plateau": (1, 2)}
_ANGLES = 128  # sample points of the integral in Bessel's function


def random_blur(sigma: tuple[float, float], rng: np.random.Generator) -> NDArray[np.float32]:
    """Draws a kernel with random family, width, elongation, direction and size.

    Args:
        sigma: range of the standard deviations along both axes, in pixels.
        rng: random generator.

    Returns:
        Kernel of shape side, side, with sum 1.
    """
    side = int(rng.choice(SIZES))
    shares = np.cumsum([share for *_, share in _FAMILIES])
    family, isotropic, _ = _FAMILIES[min(int(np.searchsorted(shares, rng.random(), "right")), len(_FAMILIES) - 1)]
    along = rng.uniform(*sigma)
    across, angle = (along, 0.0) if isotropic else (rng.uniform(*sigma), rng.uniform(-np.pi, np.pi))
    return kernel(family, side, along, across, angle, rng.uniform(*_EXPONENTS[family]))


def kernel(
    family: Family, side: int, along: float, across: float, angle: float, exponent: float = 1.0
) -> NDArray[np.float32]:
    """Computes a kernel of a family, with `q = x^T S^-1 x` for the covariance S.

    * `gaussian`: `exp(-q / 2)`.
    * `generalised`: `exp(-q^b / 2)` (Liu et al. 2020, "Estimating generalized Gaussian blur kernels for out-of-focus
      image deblurring").
    * `plateau`: `1 / (1 + q^b)` (Wang et al. 2021, section 3.2).

    Args:
        family: family of the kernel.
        side: side of the kernel in pixels, odd.
        along: standard deviation along the first axis of S in pixels, above 0.
        across: standard deviation along the second axis in pixels, above 0.
        angle: angle between the first axis and the pixel rows, in radians.
        exponent: exponent b.

    Returns:
        Kernel of shape side, side, with sum 1.
    """
    y, x = _coordinates(side)
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    q = (u / max(along, 1e-3)) ** 2 + (v / max(across, 1e-3)) ** 2
    values = 1 / (1 + q**exponent) if family == "plateau" else np.exp(-0.5 * q**exponent)
    return np.asarray(values / values.sum()).astype(np.float32)


def random_sinc(rng: np.random.Generator, lowest: float | None = None) -> NDArray[np.float32]:
    """Draws an ideal low-pass filter with random cutoff and size.

    Args:
        rng: random generator.
        lowest: minimum cutoff in radians per pixel; if None, pi / 3 for small kernels and pi / 5 for large ones, since
            small kernels cannot be as selective.
    """
    side = int(rng.choice(SIZES))
    least = (np.pi / 3 if side < 13 else np.pi / 5) if lowest is None else lowest
    return sinc(side, rng.uniform(least, np.pi))


def sinc(side: int, cutoff: float) -> NDArray[np.float32]:
    """The circular ideal low-pass filter, `w J1(w r) / (2 pi r)` (Wang et al. 2021, equation 6), cut to a square.

    Args:
        side: side of the kernel in pixels, odd.
        cutoff: cutoff w in radians per pixel, up to pi.

    Returns:
        Kernel of shape side, side, with sum 1.
    """
    y, x = _coordinates(side)
    radius = np.hypot(y, x)
    middle = side // 2
    radius[middle, middle] = 1.0
    values = cutoff * _bessel_j1(cutoff * radius) / (2 * np.pi * radius)
    values[middle, middle] = cutoff**2 / (4 * np.pi)
    return np.asarray(values / values.sum()).astype(np.float32)


def blurred(image: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Filters an H, W, C image with a kernel; borders are mirrored.

    Uses the Fourier transform, with which large kernels cost hardly more than small ones.
    """
    radius = weights.shape[0] // 2
    padded = np.pad(image, ((radius, radius), (radius, radius), (0, 0)), mode="reflect")
    height, width = (_good_size(side) for side in padded.shape[:2])
    spectrum = np.fft.rfft2(padded, (height, width), axes=(0, 1))
    # The kernel is transformed once for all channels. This is a convolution, that is correlation with the mirrored
    # kernel.
    spectrum *= np.fft.rfft2(weights, (height, width))[:, :, None]
    result = np.fft.irfft2(spectrum, (height, width), axes=(0, 1))
    rows, columns = (slice(2 * radius, 2 * radius + side) for side in image.shape[:2])
    return np.asarray(result[rows, columns]).astype(np.float32)


def _coordinates(side: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    at = np.arange(side, dtype=np.float64) - side // 2
    y, x = np.meshgrid(at, at, indexing="ij")
    return y, x


def _bessel_j1(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """J1 by Bessel's integral, `1 / pi * integral of cos(t - x sin t) over 0..pi`.

    The mean over equal steps of the full circle is exact up to rounding if the number of steps is larger than x.
    """
    t = np.arange(_ANGLES) * (2 * np.pi / _ANGLES)
    return np.asarray(np.cos(t - x[..., None] * np.sin(t)).mean(axis=-1))


def _good_size(side: int) -> int:
    """The smallest size >= `side` with the prime factors 2, 3 and 5 only, for which the transform is fast."""
    while True:
        rest = side
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return side
        side += 1
