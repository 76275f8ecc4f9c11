"""Strength: from bicubic interpolation to the network's result, the same for whole images and for rows."""

import math

import numpy as np
import pytest

from srgan_fast import Upscaler
from srgan_fast.data.images import Image
from srgan_fast.data.resize import resize_bicubic
from srgan_fast.errors import UsageError
from srgan_fast.runtime.strength import blend

RNG = np.random.default_rng(4)
PIXELS = RNG.integers(0, 256, (150, 70, 3), np.uint8)  # more than two bands of rows


def upscaler(strength: float) -> Upscaler:
    return Upscaler("srresnet-x4", backend="native", threads=1, strength=strength)


@pytest.fixture(scope="module")
def model_alone() -> np.ndarray:
    return upscaler(1.0)(PIXELS)


def test_zero_is_bicubic_interpolation_and_one_is_the_model(model_alone: np.ndarray) -> None:
    np.testing.assert_array_equal(upscaler(0.0)(PIXELS), resize_bicubic(PIXELS, 600, 280))
    network = Upscaler("srresnet-x4", backend="native", threads=1)
    np.testing.assert_array_equal(network(PIXELS), model_alone)


def test_between_them_every_pixel_is_between_both(model_alone: np.ndarray) -> None:
    expected = 0.3 * model_alone.astype(float) + 0.7 * resize_bicubic(PIXELS, 600, 280).astype(float)
    assert np.abs(upscaler(0.3)(PIXELS) - expected).max() <= 0.5 + 1e-4


def test_sixteen_bits_keep_their_depth() -> None:
    low, high = np.zeros((1, 1, 3), np.uint16), np.full((1, 1, 3), 65535, np.uint16)
    assert blend(high, low, 0.25)[0, 0, 0] == round(65535 / 4)
    assert blend(low, high, 0.25)[0, 0, 0] == round(65535 * 3 / 4)


def test_transparent_images_are_blended_as_a_whole() -> None:
    half = upscaler(0.5)
    assert not half.supports_rows(is_gray=False, has_alpha=True)
    alpha = np.zeros((150, 70), np.uint8)
    alpha[:, 30:] = 255
    result = half.upscale(Image(PIXELS, alpha))
    np.testing.assert_array_equal(result.alpha, upscaler(1.0).upscale(Image(PIXELS, alpha)).alpha)


@pytest.mark.parametrize("strength", [-0.01, 1.5, math.nan, math.inf])
def test_other_strengths_are_refused(strength: float) -> None:
    with pytest.raises(UsageError, match=r"strength is .*; it must be between 0 .* and 1"):
        upscaler(strength)
