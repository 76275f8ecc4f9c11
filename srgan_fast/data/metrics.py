"""PSNR and SSIM as reported in super-resolution papers."""

import numpy as np
from numpy.typing import NDArray

PEAK = 255.0
_SSIM_WINDOW = 11
_SSIM_SIGMA = 1.5


def luma(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Y of BT.601 in 16..235, rounded, equal to MATLAB's `rgb2ycbcr` for uint8.

    Args:
        image: H, W, 3 RGB; or H, W, 1 gray, whose values are used as Y without conversion.

    Returns:
        H, W.
    """
    if image.shape[2] == 1:
        return image[:, :, 0].astype(np.float64)
    weights = np.array([65.481, 128.553, 24.966]) / PEAK
    return np.asarray(np.floor(16.0 + image @ weights + 0.5))


def psnr(a: NDArray[np.generic], b: NDArray[np.generic]) -> float:
    """Peak signal-to-noise ratio in dB of two images in 0..255; infinite for equal images."""
    error = float(np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2))
    return float("inf") if error == 0 else float(10 * np.log10(PEAK**2 / error))


def ssim(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Structural similarity of two H, W images in 0..255.

    Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity": 11x11 Gaussian window
    with sigma 1.5, K1 = 0.01, K2 = 0.03, mean over all positions where the window fits.
    """
    c1, c2 = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2
    mean_a, mean_b = _blur(a), _blur(b)
    var_a = _blur(a * a) - mean_a**2
    var_b = _blur(b * b) - mean_b**2
    covariance = _blur(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    structure = (2 * covariance + c2) / (var_a + var_b + c2)
    return float(np.mean(luminance * structure))


def _blur(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Filters with a separable Gaussian; returns the 'valid' part only."""
    offsets = np.arange(_SSIM_WINDOW) - _SSIM_WINDOW // 2
    kernel = np.exp(-(offsets**2) / (2 * _SSIM_SIGMA**2))
    kernel /= kernel.sum()
    height, width = (side - _SSIM_WINDOW + 1 for side in image.shape)
    rows = sum(k * image[i : i + height] for i, k in enumerate(kernel))
    return np.asarray(sum(k * rows[:, i : i + width] for i, k in enumerate(kernel)))


def blockiness(image: NDArray[np.float64], period: int) -> float:
    """Visibility of a grid of blocks: mean step across its lines beyond the mean step between other neighbours.

    JPEG's 8x8 blocks have the period 8, and 8 times the scale after upscaling. The measure of Wang, Bovik and Evans
    (2000) without its normalisation.

    Args:
        image: H, W in 0..255; the grid starts at its top left pixel.
        period: distance of the lines in pixels; both sides must be longer.

    Returns:
        Steps of 8 bits, the mean of both directions; about 0 without blocks.
    """
    found = []
    for lines in (image, image.T):
        steps = np.abs(np.diff(lines, axis=0)).mean(1)
        across = np.arange(len(steps)) % period == period - 1
        found.append(steps[across].mean() - steps[~across].mean())
    return float(np.mean(found))


def checkerboard(image: NDArray[np.float64], period: int) -> float:
    """RMS of the pattern that repeats over a whole image every `period` pixels, as upsampling layers leave it.

    The pattern is the mean of all pixels at the same place of the period, without the mean of the image. Photographs
    have some tenths of a step of it by chance, fewer the larger they are.

    Args:
        image: H, W in 0..255.
        period: the scale of the network that made the image.

    Returns:
        Steps of 8 bits.
    """
    height, width = (side // period * period for side in image.shape)
    cells = image[:height, :width].reshape(height // period, period, width // period, period)
    return float(np.std(cells.mean((0, 2))))
