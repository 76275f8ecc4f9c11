"""Training pairs: drawn evenly, the same for the same seed, and each low-resolution crop is the one of its original."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from srgan_fast.data.cache import CachedImage, PixelCache
from srgan_fast.data.crops import CropSampler, turn
from srgan_fast.data.degradations import Degradations
from srgan_fast.data.resize import downscale, downscale_region
from srgan_fast.errors import DataError

Noise = Callable[..., NDArray[Any]]


def cache_of(*pictures: NDArray[np.uint8]) -> PixelCache:
    """A map of images that were never files."""
    images, offset = [], 0
    for n, picture in enumerate(pictures):
        images.append(CachedImage(f"{n}.png", offset, picture.shape[0], picture.shape[1]))
        offset += picture.size
    return PixelCache(np.concatenate([p.reshape(-1) for p in pictures]), images, [])


def mapped(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Red tells the row, green the column, blue is noise: a crop tells where it was cut and how it was turned."""
    y, x = np.mgrid[:height, :width]
    return np.stack([y, x, np.random.default_rng(seed).integers(0, 256, (height, width))], 2).astype(np.uint8)


def found(hr: NDArray[np.uint8]) -> tuple[int, int, int]:
    """Top, left and symmetry of a crop of a `mapped` image."""
    for symmetry in range(8):
        # Swapping the axes takes back after the flips what it did before them.
        upright = hr.transpose(1, 0, 2) if symmetry & 4 else hr
        upright = upright[::-1] if symmetry & 1 else upright
        upright = upright[:, ::-1] if symmetry & 2 else upright
        top, left = int(upright[0, 0, 0]), int(upright[0, 0, 1])
        if int(upright[-1, -1, 0]) - top == len(hr) - 1 and int(upright[0, -1, 1]) - left == len(hr) - 1:
            return top, left, symmetry
    raise AssertionError("not a crop of a mapped picture")


@pytest.fixture(scope="module")
def batches() -> list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """40 batches of 32x32 crops of one image of 64x72 pixels."""
    sampler = CropSampler(cache_of(mapped(64, 72)), crop=32, seed=3)
    return [sampler(number) for number in range(40)]


def test_batches_are_uint8_of_the_documented_shapes(noise: Noise) -> None:
    hr, lr = CropSampler(cache_of(noise(50, 60, 3)), crop=24, scale=3, batch=5)(0)
    assert hr.shape == (5, 24, 24, 3)
    assert lr.shape == (5, 8, 8, 3)
    assert hr.dtype == lr.dtype == np.uint8


def test_batch_depends_on_seed_and_number_alone(noise: Noise) -> None:
    cache = cache_of(noise(80, 90, 3), noise(70, 60, 3))
    settings = {"crop": 32, "batch": 4, "degradations": Degradations(blur=(0, 2), noise=(0, 9), jpeg=(30, 95))}
    one, other = CropSampler(cache, seed=5, **settings), CropSampler(cache, seed=5, **settings)  # type: ignore[arg-type]
    forward = [one(number) for number in range(3)]
    backward = [other(number) for number in (2, 1, 0)][::-1]
    for (hr, lr), (hr_again, lr_again) in zip(forward, backward, strict=True):
        np.testing.assert_array_equal(hr, hr_again)
        np.testing.assert_array_equal(lr, lr_again)
    assert (forward[0][0] != forward[1][0]).any()
    assert (CropSampler(cache, seed=6, **settings)(0)[0] != forward[0][0]).any()  # type: ignore[arg-type]


def test_parts_of_a_batch_join_to_the_whole(noise: Noise) -> None:
    sampler = CropSampler(cache_of(noise(80, 90, 3)), crop=32, batch=7)
    whole = sampler(4)
    for split in ([range(3), range(3, 7)], [range(n, n + 1) for n in range(7)], [range(7), range(7, 7)]):
        parts = [sampler(4, part) for part in split]
        for n in (0, 1):
            np.testing.assert_array_equal(np.concatenate([part[n] for part in parts]), whole[n])


def test_strided_parts_are_the_pairs_they_name(noise: Noise) -> None:
    sampler = CropSampler(cache_of(noise(80, 90, 3)), crop=32, batch=6)
    hr, lr = sampler(0)
    odd = sampler(0, range(1, 6, 2))
    np.testing.assert_array_equal(odd[0], hr[1::2])
    np.testing.assert_array_equal(odd[1], lr[1::2])


def test_pairs_match_to_the_bit(batches: list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]) -> None:
    image = mapped(64, 72)
    whole = downscale(image, 4)
    aligned = 0
    for hr, lr in (pair for batch in batches for pair in zip(*batch, strict=True)):
        top, left, symmetry = found(hr)
        np.testing.assert_array_equal(hr, turn(image[top : top + 32, left : left + 32], symmetry))
        np.testing.assert_array_equal(lr, turn(downscale_region(image, top, left, 32, 32, 4), symmetry))
        if top % 4 == left % 4 == 0:
            aligned += 1
            part = whole[top // 4 : top // 4 + 8, left // 4 : left // 4 + 8]
            np.testing.assert_array_equal(lr, turn(part, symmetry))
    assert aligned > 10


def test_pairs_of_a_smooth_image_are_downscaled_crops() -> None:
    y, x = np.mgrid[:90, :100]
    image = np.stack([2 * y, 2 * x, y + x], 2).astype(np.uint8)
    hr, lr = CropSampler(cache_of(image), crop=32)(0)
    for original, small in zip(hr, lr, strict=True):
        inner = (slice(2, -2), slice(2, -2))  # context that the crop alone lacks reaches two pixels
        assert np.abs(small[inner].astype(int) - downscale(original, 4)[inner]).max() <= 1


def test_all_places_and_symmetries_are_reached(batches: list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]) -> None:
    tops, lefts, symmetries = zip(*(found(hr) for batch in batches for hr in batch[0]), strict=True)
    assert set(tops) == set(range(64 - 32 + 1))
    assert set(lefts) == set(range(72 - 32 + 1))
    counts = np.bincount(symmetries, minlength=8)
    assert np.abs(counts - 80).max() < 45  # 640 draws, 5 sigma


def test_symmetries_are_the_eight_of_the_square() -> None:
    square = mapped(5, 5)
    turned = {turn(square, symmetry).tobytes() for symmetry in range(8)}
    rotations = [np.rot90(square, quarter) for quarter in range(4)]
    assert turned == {image.tobytes() for r in rotations for image in (r, r[:, ::-1])}


def test_images_are_drawn_by_the_number_of_places_in_them() -> None:
    shades = {10: (64, 64), 20: (96, 64), 30: (32, 32), 40: (200, 150), 50: (31, 500)}
    places = np.array([max(0, (h - 31) * (w - 31)) for h, w in shades.values()])
    sampler = CropSampler(cache_of(*(np.full((*size, 3), s, np.uint8) for s, size in shades.items())), crop=32)
    drawn = np.concatenate([sampler(number)[0][:, 0, 0, 0] for number in range(250)])
    counts = np.array([(drawn == shade).sum() for shade in shades])
    expected = places / places.sum() * drawn.size
    assert counts.sum() == drawn.size == 4000
    assert (np.abs(counts - expected) <= 5 * np.sqrt(expected)).all()


def test_too_small_images_are_left_out_and_named(noise: Noise) -> None:
    sampler = CropSampler(cache_of(noise(32, 31, 3), noise(32, 32, 3), noise(8, 100, 3)), crop=32)
    assert sampler.too_small == ["0.png", "2.png"]
    hr, _ = sampler(0)
    assert {tuple(sorted(np.unique(crop))) for crop in hr} == {tuple(np.unique(noise(32, 32, 3)))}


def test_only_too_small_images_are_refused(noise: Noise) -> None:
    with pytest.raises(DataError, match="every image is smaller than a crop of 96x96"):
        CropSampler(cache_of(noise(95, 300, 3), noise(300, 95, 3)))


@pytest.mark.parametrize("crop", [0, 2, 94, 97, -4])
def test_crops_off_the_scale_are_refused(noise: Noise, crop: int) -> None:
    with pytest.raises(DataError, match=f"crop is {crop} pixels; it must be a multiple of the scale 4"):
        CropSampler(cache_of(noise(128, 128, 3)), crop=crop)


def test_empty_batches_are_refused(noise: Noise) -> None:
    with pytest.raises(DataError, match="batch is 0"):
        CropSampler(cache_of(noise(128, 128, 3)), batch=0)


def test_images_in_a_file_are_never_written_to(noise: Noise, tmp_path: Path) -> None:
    noise(70, 80, 3).tofile(tmp_path / "pixels.bin")
    pixels = np.memmap(tmp_path / "pixels.bin", np.uint8, "r")
    cache = PixelCache(pixels, [CachedImage("a.png", 0, 70, 80)], [])
    hr, _ = CropSampler(cache, crop=32)(0)
    hr[:] = 0
    np.testing.assert_array_equal(cache[0], noise(70, 80, 3))


def test_feeder_makes_twenty_batches_a_second_on_one_core(noise: Noise) -> None:
    sampler = CropSampler(cache_of(*(noise(321, 481, 3, seed=n) for n in range(8))), crop=96, batch=16)
    sampler(0)
    start = time.process_time()  # of all threads, so other programs and further cores do not count
    for number in range(20):
        sampler(number)
    assert 20 / (time.process_time() - start) >= 20
