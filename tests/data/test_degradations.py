"""Blur, noise and JPEG do what their ranges say, and nothing where they are left out."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from srgan_fast.data.cache import CachedImage, PixelCache
from srgan_fast.data.crops import CropSampler
from srgan_fast.data.degradations import Degradations

Noise = Callable[..., NDArray[Any]]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_nothing_is_spoiled_by_default(noise: Noise, rng: np.random.Generator) -> None:
    image = noise(20, 30, 3)
    none = Degradations()
    assert not none.blurs
    np.testing.assert_array_equal(none.add_noise_and_jpeg(image, rng), image)
    np.testing.assert_array_equal(none.blur_original(image, rng), image)


@pytest.mark.parametrize("sigma", [0.8, 2.0, 3.5])
def test_blur_is_a_gaussian_of_the_given_width(sigma: float, rng: np.random.Generator) -> None:
    edge = np.zeros((64, 64, 3), np.uint8)
    edge[:, 32:] = 255
    line = Degradations(blur=(sigma, sigma)).blur_original(edge, rng)[32, :, 0].astype(float)
    spread = np.diff(line) / 255  # the derivative of a blurred edge is the kernel
    at = np.arange(63) - 31
    assert spread.sum() == pytest.approx(1)
    assert np.sqrt((spread * at**2).sum()) == pytest.approx(sigma, rel=0.05)


def test_noise_has_the_given_strength(rng: np.random.Generator) -> None:
    gray = np.full((200, 200, 3), 128, np.uint8)
    spoiled = Degradations(noise=(6, 6)).add_noise_and_jpeg(gray, rng)
    assert spoiled.dtype == np.uint8
    assert spoiled.mean() == pytest.approx(128, abs=0.1)
    assert spoiled.std() == pytest.approx(6, rel=0.02)


def test_noise_saturates(rng: np.random.Generator) -> None:
    ends = np.concatenate([np.zeros((50, 50, 3), np.uint8), np.full((50, 50, 3), 255, np.uint8)])
    spoiled = Degradations(noise=(10, 10)).add_noise_and_jpeg(ends, rng)
    assert spoiled[:50].max() < 100
    assert spoiled[50:].min() > 150


def test_jpeg_spoils_more_at_lower_quality(photo: NDArray[np.uint8], rng: np.random.Generator) -> None:
    image = photo[100:164, 200:264]
    errors = [
        np.abs(Degradations(jpeg=(quality, quality)).add_noise_and_jpeg(image, rng).astype(int) - image).mean()
        for quality in (100, 80, 30)
    ]
    assert 0 < errors[0] < errors[1] < errors[2]


def test_blurred_crop_near_a_border_equals_the_blurred_images(noise: Noise) -> None:
    """What is blurred is a part of the image; it must be large enough that the crop cannot tell."""
    image = noise(200, 210, 3)
    cache = PixelCache(image.reshape(-1), [CachedImage("a.png", 0, 200, 210)], [])
    strong = Degradations(blur=(2.0, 2.0))
    blurred = strong.blur_original(image, np.random.default_rng(0))
    whole = PixelCache(blurred.reshape(-1), cache.images, [])
    spoiled, expected = CropSampler(cache, 32, degradations=strong), CropSampler(whole, 32)
    for number in range(4):
        np.testing.assert_array_equal(spoiled(number)[1], expected(number)[1])
