"""Blur kernels are their formulas, and blurring is a correlation with mirrored borders."""

import numpy as np
import pytest
from numpy.typing import NDArray

from srgan_fast.data.blur_kernels import (
    SIZES,
    Family,
    _bessel_j1,
    blurred,
    kernel,
    random_blur,
    random_sinc,
    sinc,
)


def spread(weights: NDArray[np.float32], angle: float) -> float:
    """Standard deviation along a direction."""
    at = np.arange(len(weights)) - len(weights) // 2
    along = np.cos(angle) * at[None, :] + np.sin(angle) * at[:, None]
    return float(np.sqrt((weights * along**2).sum()))


@pytest.mark.parametrize("angle", [0.0, 0.7, np.pi / 2, -2.0])
def test_gaussians_have_the_given_widths_along_and_across_their_axis(angle: float) -> None:
    weights = kernel("gaussian", 21, 2.5, 1.2, angle)
    assert weights.sum() == pytest.approx(1, rel=1e-6)
    assert spread(weights, angle) == pytest.approx(2.5, rel=0.01)
    assert spread(weights, angle + np.pi / 2) == pytest.approx(1.2, rel=0.01)


@pytest.mark.parametrize("family", ["generalised", "plateau"])
@pytest.mark.parametrize("exponent", [0.7, 1.0, 2.0])
def test_other_families_are_their_formulas(family: Family, exponent: float) -> None:
    weights = kernel(family, 9, 2.0, 3.0, 0.0, exponent)
    values = np.empty((9, 9))
    for y in range(-4, 5):
        for x in range(-4, 5):
            q = x * x / 4 + y * y / 9
            values[y + 4, x + 4] = np.exp(-0.5 * q**exponent) if family == "generalised" else 1 / (1 + q**exponent)
    np.testing.assert_allclose(weights, values / values.sum(), rtol=1e-5)


def test_bessels_function_has_its_tabulated_values() -> None:
    # Abramowitz and Stegun, table 9.1, and zeros from table 9.5.
    assert _bessel_j1(np.array([0.0, 1.0, 2.0, 5.0, 10.0])) == pytest.approx(
        [0, 0.4400505857, 0.5767248078, -0.3275791376, 0.0434727462], abs=1e-9
    )
    assert _bessel_j1(np.array([3.8317059702, 7.0155866698, 43.0]))[:2] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("cutoff", [np.pi / 3, np.pi / 2])
def test_a_sinc_filter_passes_low_frequencies_and_stops_high_ones(cutoff: float) -> None:
    spectrum = np.abs(np.fft.fft2(sinc(21, cutoff), (96, 96)))
    y, x = np.meshgrid(np.fft.fftfreq(96), np.fft.fftfreq(96), indexing="ij")
    frequency = 2 * np.pi * np.hypot(y, x)
    # Cutting the kernel to 21 pixels lets the spectrum ring.
    passed, stopped = spectrum[frequency < 0.7 * cutoff], spectrum[(frequency > 1.3 * cutoff) & (frequency < np.pi)]
    assert (passed.min(), passed.max()) == pytest.approx((1, 1), abs=0.2)
    assert passed.mean() > 0.9
    assert stopped.max() < 0.2
    assert stopped.mean() < 0.05


@pytest.mark.parametrize("shape", [(5, 30, 3), (24, 24, 3), (33, 50, 1)])
def test_blurring_is_a_correlation_with_mirrored_borders(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    image = rng.uniform(0, 255, shape).astype(np.float32)
    weights = rng.uniform(0, 1, (7, 7)).astype(np.float32)
    weights = (weights + weights[::-1, ::-1]) / 2  # as all kernels are
    padded = np.pad(image, ((3, 3), (3, 3), (0, 0)), mode="reflect").astype(np.float64)
    expected = sum(weights[y, x] * padded[y : y + shape[0], x : x + shape[1]] for y in range(7) for x in range(7))
    np.testing.assert_allclose(blurred(image, weights), expected, rtol=1e-4, atol=1e-2)


def test_random_kernels_have_sum_1_all_sizes_and_the_symmetry_of_a_half_turn() -> None:
    rng = np.random.default_rng(1)
    sides = set()
    for _ in range(60):
        for weights in (random_blur((0.2, 3.0), rng), random_sinc(rng)):
            assert weights.sum() == pytest.approx(1, rel=1e-5)
            np.testing.assert_allclose(weights, weights[::-1, ::-1], rtol=1e-4, atol=1e-6)
            sides.add(len(weights))
    assert sides == set(SIZES)
