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
