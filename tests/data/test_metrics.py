"""PSNR, SSIM and luma agree with independent definitions."""

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from srgan_fast.data.metrics import blockiness, checkerboard, luma, psnr, ssim


def noise(*shape: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def distorted(image: NDArray[np.uint8], strength: float) -> NDArray[np.float64]:
    spoiled = image + np.random.default_rng(1).normal(0, strength, image.shape)
    return np.clip(np.rint(spoiled), 0, 255)


def test_luma_is_the_rounded_y_of_rgb2ycbcr() -> None:
    image = noise(400, 400, 3)
    red, green, blue = (image[:, :, c].astype(np.int64) for c in range(3))
    thousandths = 65481 * red + 128553 * green + 24966 * blue  # of 255 steps, from 16
    rest = thousandths % 255_000
    exact = 16 + thousandths // 255_000 + (rest >= 127_500)
    tied = rest == 127_500
    got = luma(image)
    assert got.dtype == np.float64
    np.testing.assert_array_equal(got[~tied], exact[~tied])
    assert np.abs(got - exact).max() <= 1


@pytest.mark.parametrize(
    ("colour", "y"), [((0, 0, 0), 16), ((255, 255, 255), 235), ((255, 0, 0), 81), ((0, 255, 0), 145), ((0, 0, 255), 41)]
)
def test_luma_of_known_colours(colour: tuple[int, int, int], y: int) -> None:
    assert luma(np.full((1, 1, 3), colour, np.uint8)) == y


def test_luma_of_gray_is_gray() -> None:
    gray = noise(20, 30, 1)
    np.testing.assert_array_equal(luma(gray), gray[:, :, 0])


def test_psnr_of_equal_images_is_infinite() -> None:
    assert psnr(noise(8, 8, 3), noise(8, 8, 3)) == math.inf


@pytest.mark.parametrize("step", [1, 10, 255])
def test_psnr_of_a_constant_difference_is_known(step: int) -> None:
    # In uint8, where the difference must not wrap around.
    a, b = np.zeros((7, 9, 3), np.uint8), np.full((7, 9, 3), step, np.uint8)
    assert psnr(a, b) == psnr(b, a) == pytest.approx(20 * math.log10(255 / step))


@pytest.mark.parametrize("strength", [0.0, 1.0, 20.0, 100.0])
@pytest.mark.parametrize("kind", ["photo", "noise"])
def test_ssim_agrees_with_scikit_image(photo: NDArray[np.uint8], kind: str, strength: float) -> None:
    truth = photo[150:280, 170:291, 1] if kind == "photo" else noise(61, 83)
    other = distorted(truth, strength)
    settings: dict[str, Any] = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    expected = structural_similarity(truth.astype(np.float64), other, data_range=255, **settings)
    assert ssim(truth.astype(np.float64), other) == pytest.approx(expected, abs=1e-9)


def test_ssim_of_one_window_is_one_place() -> None:
    a, b = noise(11, 11).astype(np.float64), noise(11, 11, seed=1).astype(np.float64)
    assert ssim(a, a) == pytest.approx(1)
    assert -1 <= ssim(a, b) < 0.5
    assert ssim(a, b) == pytest.approx(ssim(b, a))


@pytest.mark.parametrize("period", [8, 32])
def test_blockiness_is_the_step_between_blocks(period: int) -> None:
    levels = 100 + 10.0 * (np.add.outer(np.arange(9), np.arange(9)) % 2)  # neighbouring blocks differ by 10
    blocks = np.kron(levels, np.ones((period, period)))
    assert blockiness(blocks, period) == pytest.approx(10)
    assert blockiness(np.roll(blocks, 3, (0, 1)), period) < 0  # the steps are at other places


def test_noise_and_ramps_have_no_blockiness_and_no_checkerboard() -> None:
    rng = np.random.default_rng(1)
    noise = rng.normal(128, 10, (400, 400))
    ramp = np.add.outer(np.arange(400.0), np.arange(400.0)) / 4
    assert abs(blockiness(noise, 32)) < 0.3
    assert abs(blockiness(ramp, 32)) < 1e-9
    assert checkerboard(noise, 4) < 0.3


@pytest.mark.parametrize("period", [2, 3, 4])
def test_checkerboard_is_the_rms_of_the_repeated_pattern(period: int) -> None:
    rng = np.random.default_rng(2)
    pattern = rng.normal(0, 1, (period, period))
    image = 100 + np.tile(pattern, (40, 50))[: 40 * period - 1]  # an incomplete last period does not count
    assert checkerboard(image, period) == pytest.approx(pattern.std())
