"""Second-order degradations: each part does what it says with its probability, and a pair depends on its seed alone."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from srgan_fast.data.cache import CachedImage, PixelCache
from srgan_fast.data.crops import CropSampler, turn
from srgan_fast.data.degradations import Degradations
from srgan_fast.data.second_order import Resampling, Round, SecondOrder, resample, shot_noise

NOTHING = Round(
    blur=(1.0, 1.0),
    blur_probability=0,
    sinc_probability=0,
    resize=(0.5, 2.0),
    shrink_probability=0,
    enlarge_probability=0,
    noise=(10.0, 10.0),
    noise_probability=0,
    poisson=(1.0, 1.0),
    poisson_probability=0,
    gray_probability=0,
    jpeg=(50, 50),
    jpeg_probability=0,
)
EVERYTHING = Round(
    blur=(0.2, 3.0),
    blur_probability=0.9,
    sinc_probability=0.2,
    resize=(0.15, 1.5),
    shrink_probability=0.6,
    enlarge_probability=0.2,
    noise=(1.0, 30.0),
    noise_probability=0.5,
    poisson=(0.05, 3.0),
    poisson_probability=0.4,
    gray_probability=0.4,
    jpeg=(30, 95),
    jpeg_probability=0.9,
)
HARD = SecondOrder(EVERYTHING, EVERYTHING, 0.8)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def of(first: dict[str, Any] | None = None, second: dict[str, Any] | None = None, sinc: float = 0.0) -> SecondOrder:
    return SecondOrder(replace(NOTHING, **(first or {})), replace(NOTHING, **(second or {})), sinc)


def smooth(height: int, width: int) -> NDArray[np.uint8]:
    y, x = np.mgrid[:height, :width]
    waves = 128 + 60 * np.sin(x / 9) + 50 * np.cos(y / 11)
    return np.repeat(waves[:, :, None], 3, 2).astype(np.uint8)


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [(12, 12), (24, 60), (132, 96)])
def test_the_low_resolution_image_has_its_size_whatever_happens(scale: int, size: tuple[int, int]) -> None:
    image = smooth(*size)
    for seed in range(10):
        low = HARD.degraded(image, scale, np.random.default_rng(seed))
        assert (low.shape, low.dtype) == ((size[0] // scale, size[1] // scale, 3), np.uint8)


def test_with_no_probability_at_all_it_is_a_plain_resize(rng: np.random.Generator) -> None:
    image = smooth(96, 64)
    low = of().degraded(image, 4, rng)
    mean = image.reshape(24, 4, 16, 4, 3).mean(axis=(1, 3))
    assert np.abs(low - mean).max() < 4


def shift(image: NDArray[Any], plain: NDArray[Any]) -> float:
    """How far an image lies from another one, in pixels, by its difference along the gradient; blur does not count."""
    difference, inner = (image - plain).astype(float), (slice(3, -3), slice(3, -3))
    moved = []
    for axis in (0, 1):
        slope = np.gradient(plain.astype(float), axis=axis)
        moved.append((difference * slope)[inner].sum() / (slope**2)[inner].sum())
    return float(np.hypot(*moved))


def test_resizes_in_between_keep_everything_in_its_place() -> None:
    image = smooth(96, 128)
    plain = resample(image.astype(np.float32), 24, 32, "area")
    rounds = {"shrink_probability": 0.5, "enlarge_probability": 0.5, "resize": (0.5, 1.5)}
    shifts = [shift(of(rounds, rounds).degraded(image, 4, np.random.default_rng(seed)), plain) for seed in range(20)]
    assert max(shifts) < 0.08
    half = smooth(98, 130)[2:, 2:].astype(np.float32)  # half a pixel along both axes would be seen
    assert shift(resample(half, 24, 32, "area"), plain) == pytest.approx(0.5 * np.sqrt(2), abs=0.1)


@pytest.mark.parametrize(
    ("first", "sinc"),
    [
        ({"blur_probability": 1.0, "blur": (3.0, 3.0)}, 0.0),
        ({"blur_probability": 1.0, "sinc_probability": 1.0}, 0.0),
        ({"noise_probability": 1.0}, 0.0),
        ({"poisson_probability": 1.0}, 0.0),
        ({"jpeg_probability": 1.0, "jpeg": (10, 10)}, 0.0),
        ({"shrink_probability": 1.0, "resize": (0.15, 1.0)}, 0.0),
        ({}, 1.0),
    ],
)
@pytest.mark.parametrize("which", ["first", "second"])
def test_each_part_changes_the_image(which: str, first: dict[str, Any], sinc: float, photo: NDArray[np.uint8]) -> None:
    image = photo[100:196, 200:296]
    plain = of().degraded(image, 4, np.random.default_rng(3)).astype(int)
    how = of(first, None, sinc) if which == "first" else of(None, first, sinc)
    changed = [np.abs(how.degraded(image, 4, np.random.default_rng(seed)) - plain).mean() for seed in range(3)]
    assert min(changed) > 0.3


def test_probabilities_are_how_often_something_happens() -> None:
    flat = np.full((32, 32, 3), 120, np.uint8)
    noisy = [
        bool(of({"noise_probability": 0.3}).degraded(flat, 4, np.random.default_rng(seed)).std() > 0.5)
        for seed in range(200)
    ]
    assert np.mean(noisy) == pytest.approx(0.3, abs=0.1)


def test_noise_has_the_given_strength_and_may_be_gray(rng: np.random.Generator) -> None:
    flat = np.full((400, 400, 3), 128, np.uint8)
    colour = of(None, {"noise_probability": 1.0}).degraded(flat, 1, rng).astype(float)
    assert colour.std() == pytest.approx(10, rel=0.02)
    assert np.abs(colour[..., 0] - colour[..., 1]).mean() > 5
    gray = of(None, {"noise_probability": 1.0, "gray_probability": 1.0}).degraded(flat, 1, rng)
    assert gray.std() > 9
    assert (gray[..., 0] == gray[..., 1]).all()


@pytest.mark.parametrize("gray", [False, True])
def test_shot_noise_is_stronger_where_it_is_brighter_and_leaves_the_mean(gray: bool, rng: np.random.Generator) -> None:
    ramp = np.repeat(np.arange(256, dtype=np.float32)[None, :], 400, 0)  # 256 values: 256 photons at full brightness
    noise = shot_noise(np.repeat(ramp[:, :, None], 3, 2), gray, rng)
    assert noise.shape == (400, 256, 1 if gray else 3)
    assert np.abs(noise.mean()) < 0.2
    for level in (40, 120, 240):
        expected = 255 / 256 * np.sqrt(level * 256 / 255)  # of a count, in its steps
        assert noise[:, level - 10 : level + 10].std() == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("kind", ["area", "bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(7, 31), (20, 20), (45, 13), (1, 1)])
def test_resampling_is_that_of_pytorch(kind: Resampling, size: tuple[int, int], rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    image = rng.uniform(0, 255, (20, 26, 3)).astype(np.float32)
    if kind == "area":  # PyTorch's reads whole pixels only, so that it agrees where sizes divide
        size = {(7, 31): (10, 13), (20, 20): (20, 26), (45, 13): (5, 2), (1, 1): (1, 1)}[size]
    batch = torch.from_numpy(image).permute(2, 0, 1)[None]
    options = {} if kind == "area" else {"align_corners": False}
    expected = torch.nn.functional.interpolate(batch, size=size, mode=kind, **options)[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(resample(image, *size, kind), expected, rtol=1e-4, atol=2e-2)


def test_area_means_keep_the_mean_at_any_size(rng: np.random.Generator) -> None:
    image = rng.uniform(0, 255, (23, 31, 3)).astype(np.float32)
    for size in ((7, 9), (10, 31), (23, 12), (40, 50)):
        assert resample(image, *size, "area").mean() == pytest.approx(image.mean(), rel=1e-5)


def sampler(picture: NDArray[np.uint8], crop: int = 32, seed: int = 0, batch: int = 6) -> CropSampler:
    cache = PixelCache(picture.reshape(-1), [CachedImage("a.png", 0, *picture.shape[:2])], [])
    return CropSampler(cache, crop, 4, batch, seed, Degradations(second_order=HARD))


def test_a_pair_depends_on_seed_and_number_alone(photo: NDArray[np.uint8]) -> None:
    picture = np.ascontiguousarray(photo[:200, :240])
    whole, again = sampler(picture)(5), sampler(picture)
    for part in (range(4, 6), range(0, 1), range(1, 4)):  # as other processes and accumulated parts ask
        hr, lr = again(5, part)
        np.testing.assert_array_equal(hr, whole[0][part.start : part.stop])
        np.testing.assert_array_equal(lr, whole[1][part.start : part.stop])
    assert not np.array_equal(sampler(picture)(6)[1], whole[1])
    assert not np.array_equal(sampler(picture, seed=1)(5)[1], whole[1])


@pytest.mark.parametrize("size", [(32, 32), (33, 35), (70, 200), (200, 240)])
def test_low_resolution_crops_lie_where_their_originals_do(size: tuple[int, int]) -> None:
    picture = smooth(*size)
    cache = PixelCache(picture.reshape(-1), [CachedImage("a.png", 0, *size)], [])
    gentle = {"shrink_probability": 0.5, "enlarge_probability": 0.5, "resize": (0.7, 1.3)}
    draw = CropSampler(cache, 32, 4, 8, 0, Degradations(second_order=of(gentle, gentle)))
    hr, lr = draw(0)
    expected = np.stack([resample(image.astype(np.float32), 8, 8, "area") for image in hr])
    assert np.abs(lr - expected).mean() < 4
    assert np.abs(lr - np.stack([turn(image, 2) for image in expected])).mean() > 8
