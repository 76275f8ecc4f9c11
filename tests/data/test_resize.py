"""The resize is MATLAB's: to the bit on the usual test sets, and against its definition everywhere else."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from srgan_fast.data.images import read_image
from srgan_fast.data.resize import Edges, crop_to_multiple, downscale, downscale_region, resize_bicubic
from srgan_fast.doctor.reference import resize
from srgan_fast.errors import ImageError

DTYPES = ("uint8", "uint16", "float32")


def assert_nearest(got: NDArray[Any], exact: NDArray[np.float64]) -> None:
    """Every pixel is the representable value nearest to the exact one; ties may go either way."""
    if got.dtype == np.float32:
        np.testing.assert_allclose(got, exact, rtol=1e-6, atol=1e-6)
    else:
        error = np.abs(got - np.clip(exact, 0, np.iinfo(got.dtype).max))
        assert error.max() <= 0.5 + 1e-7


def picture(shape: tuple[int, ...], dtype: str, seed: int = 0) -> NDArray[Any]:
    """Noise over the whole range with plenty of its ends, so that the kernel's overshoot saturates."""
    rng = np.random.default_rng(seed)
    if dtype == "float32":
        return rng.normal(0, 1, shape).astype(np.float32)
    top = np.iinfo(dtype).max
    return np.clip(rng.integers(-top // 2, top + top // 2, shape), 0, top).astype(dtype)


@pytest.mark.data
@pytest.mark.parametrize("name", ["Set5", "Set14"])
def test_published_low_resolution_images_are_reproduced_to_the_bit(data_folder: Path, name: str) -> None:
    originals = sorted((data_folder / "test" / name / "HR").iterdir())
    assert len(originals) == int(name.removeprefix("Set"))
    for path in originals:
        hr = crop_to_multiple(read_image(path).pixels, 4)
        lr = read_image(data_folder / "test" / name / "LR_x4" / path.name).pixels
        np.testing.assert_array_equal(downscale(hr, 4), lr, err_msg=path.name)


sides = st.integers(1, 40)


@settings(max_examples=150, deadline=None)
@given(sides, sides, st.integers(1, 4), sides, sides, st.sampled_from(DTYPES), st.sampled_from(["mirror", "replicate"]))
def test_any_size_agrees_with_the_definition(
    height: int, width: int, channels: int, rows: int, columns: int, dtype: str, edges: Edges
) -> None:
    image = picture((height, width, channels), dtype, seed=height * 41 + width)
    got = resize_bicubic(image, rows, columns, edges)
    assert got.shape == (rows, columns, channels)
    assert got.dtype == image.dtype
    # The axis that shrinks most goes first, rows if equal; what lies between the two is rounded to the image's dtype.
    # At scale 1 an axis is left as it is, so each can be proven alone.
    first, second = (0, 1) if rows / height <= columns / width else (1, 0)
    size = [height, width]
    size[first] = (rows, columns)[first]
    between = resize_bicubic(image, size[0], size[1], edges)
    assert_nearest(between, resize(image, first, size[first], edges))
    assert_nearest(got, resize(between, second, (rows, columns)[second], edges))


@pytest.mark.parametrize("edges", ["mirror", "replicate"])
@pytest.mark.parametrize("factor", [0.25, 0.5, 1, 2, 4])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_ties_round_up_and_overshoot_saturates(dtype: str, factor: float, edges: Edges) -> None:
    # Powers of two have weights that float64 holds exactly, so nothing blurs the ties.
    image = picture((256, 192, 3), dtype)
    top = np.iinfo(dtype).max
    expected: NDArray[Any] = image
    exact = []
    for axis in (0, 1):
        exact.append(resize(expected, axis, int(image.shape[axis] * factor), edges))
        expected = np.clip(np.floor(exact[-1] + 0.5), 0, top)
    if factor != 1:
        assert any((value % 1 == 0.5).any() for value in exact)
        assert any((value < 0).any() and (value > top).any() for value in exact)
    np.testing.assert_array_equal(resize_bicubic(image, int(256 * factor), int(192 * factor), edges), expected)


def test_float_images_are_not_clamped() -> None:
    step = np.repeat(np.array([[0, 1]], np.float32), 8, axis=1)
    got = resize_bicubic(step, 1, 64)
    assert got.min() < -0.01
    assert got.max() > 1.01


@pytest.mark.parametrize("dtype", DTYPES)
def test_constant_images_stay_constant(dtype: str) -> None:
    image = np.full((13, 17, 3), 201, dtype)
    for size in ((1, 1), (5, 40), (99, 3)):
        np.testing.assert_allclose(resize_bicubic(image, *size), 201, rtol=1e-6)


def test_edges_change_two_pixels_at_each_border_only() -> None:
    image = picture((64, 64, 1), "uint8")
    mirrored, repeated = (resize_bicubic(image, 16, 16, edges) for edges in ("mirror", "replicate"))
    np.testing.assert_array_equal(mirrored[2:-2, 2:-2], repeated[2:-2, 2:-2])
    assert (mirrored != repeated).any()


def test_rank_two_equals_one_channel() -> None:
    image = picture((21, 34), "uint16")
    np.testing.assert_array_equal(resize_bicubic(image, 9, 50), resize_bicubic(image[:, :, None], 9, 50)[:, :, 0])


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([2, 3, 4]), st.data())
def test_region_at_multiples_of_the_scale_equals_that_part_of_the_whole(scale: int, data: st.DataObject) -> None:
    rows, columns = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 12))
    top, left = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, columns - 1))
    height, width = data.draw(st.integers(1, rows - top)), data.draw(st.integers(1, columns - left))
    image = picture((rows * scale, columns * scale, 3), data.draw(st.sampled_from(DTYPES)))
    region = downscale_region(image, top * scale, left * scale, height * scale, width * scale, scale)
    np.testing.assert_array_equal(region, downscale(image, scale)[top : top + height, left : left + width])


def test_region_between_the_grid_equals_the_whole_of_a_shifted_image() -> None:
    image = picture((80, 80, 3), "uint8")
    shifted = downscale(np.ascontiguousarray(image[3:, 2:][:76, :76]), 4)
    region = downscale_region(image, 3 + 16, 2 + 16, 40, 40, 4)
    np.testing.assert_array_equal(region, shifted[4:14, 4:14])


def _misaligned(image: NDArray[Any]) -> NDArray[Any]:
    return np.frombuffer(b"\0" + image.tobytes(), image.dtype, offset=1).reshape(image.shape)


VIEWS: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "row-sliced": lambda image: image[2:-3],
    "column-sliced": lambda image: image[:, 3:-2],
    "every second row": lambda image: image[::2],
    "every second column": lambda image: image[:, ::2],
    "rows flipped": lambda image: image[::-1],
    "columns flipped": lambda image: image[:, ::-1],
    "channels flipped": lambda image: image[:, :, ::-1],
    "first three channels": lambda image: image[:, :, :3],
    "last channel": lambda image: image[:, :, 3:],
    "axes swapped": lambda image: image.transpose(1, 0, 2),
    "planes": lambda image: np.ascontiguousarray(image.transpose(2, 0, 1)).transpose(1, 2, 0),
    "Fortran order": np.asfortranarray,
    "broadcast": lambda image: np.broadcast_to(image[:1], image.shape),
    "one row flipped": lambda image: image[5:6][::-1],
    "one column": lambda image: image[:, 5:6],
    "read-only": lambda image: np.frombuffer(image.tobytes(), image.dtype).reshape(image.shape),
    "not aligned": _misaligned,
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_views_give_what_their_copies_give_and_stay_untouched(dtype: str, view: str) -> None:
    image = picture((24, 28, 4), dtype)
    seen = VIEWS[view](image)
    copy = np.array(seen, order="C")
    np.testing.assert_array_equal(resize_bicubic(seen, 7, 33), resize_bicubic(copy, 7, 33))
    np.testing.assert_array_equal(seen, copy)


@pytest.mark.parametrize("dtype", ["float64", "float16", "int16", "int64", "bool", ">u2", ">f4", "complex64", "object"])
def test_other_dtypes_are_refused_by_name(dtype: str) -> None:
    with pytest.raises(TypeError, match=r"uint8, uint16 or float32, got (float|int|bool|>|complex|object)"):
        resize_bicubic(np.zeros((8, 8, 3), dtype), 4, 4)


@pytest.mark.parametrize("shape", [(), (8,), (8, 8, 0), (8, 8, 5), (1, 8, 8, 3), (0, 8, 3), (8, 0, 3), (0, 8)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="image"):
        resize_bicubic(np.zeros(shape, np.uint8), 4, 4)


@pytest.mark.parametrize("size", [(0, 4), (4, 0), (-1, 4), (4, 2**24 + 1), (2**40, 4)])
def test_sizes_out_of_range_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="output size must be between 1 and 16777216"):
        resize_bicubic(np.zeros((8, 8, 3), np.uint8), *size)


def test_result_beyond_memory_is_a_memory_error() -> None:
    with pytest.raises(MemoryError):
        resize_bicubic(np.zeros((8, 8, 3), np.uint8), 2**24, 2**24)


def test_unknown_edges_are_refused() -> None:
    with pytest.raises(ValueError, match="edges must be 'mirror' or 'replicate', got 'wrap'"):
        resize_bicubic(np.zeros((8, 8, 3), np.uint8), 4, 4, "wrap")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "region",
    [
        (-1, 0, 8, 8),
        (0, -1, 8, 8),
        (0, 0, 20, 8),
        (0, 0, 8, 20),
        (9, 0, 8, 8),
        (0, 9, 8, 8),
        (0, 0, 0, 8),
        (0, 0, 8, -4),
        (2**62, 0, 8, 8),
        (0, 0, 2**62, 8),
        (0, 0, 6, 8),
        (0, 0, 8, 2),
    ],
)
def test_regions_outside_the_image_or_off_the_grid_are_refused(region: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match=r"does not lie inside an image of shape \(16, 16, 3\)|does not divide by 4"):
        downscale_region(np.zeros((16, 16, 3), np.uint8), *region, 4)


@pytest.mark.parametrize("shape", [(15, 16, 3), (16, 15, 3), (3, 3)])
def test_downscale_names_the_size_that_does_not_divide(shape: tuple[int, ...]) -> None:
    with pytest.raises(ImageError, match=f"{shape[1]}x{shape[0]} pixels does not divide by 4"):
        downscale(np.zeros(shape, np.uint8), 4)


@pytest.mark.parametrize(("size", "kept"), [((16, 16), (16, 16)), ((19, 17), (16, 16)), ((3, 9), (0, 8))])
def test_crop_to_multiple_leaves_the_last_rows_and_columns_out(size: tuple[int, int], kept: tuple[int, int]) -> None:
    image = picture((*size, 3), "uint8")
    cropped = crop_to_multiple(image, 4)
    np.testing.assert_array_equal(cropped, image[: kept[0], : kept[1]])
    assert np.shares_memory(cropped, image) or cropped.size == 0


def test_threads_do_not_disturb_each_other() -> None:
    images = [picture((60 + n, 90 - n, 3), "uint8", n) for n in range(32)]
    expected = [resize_bicubic(image, 31, 47) for image in images]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(4):
            results = pool.map(lambda image: resize_bicubic(image, 31, 47), images)
            for got, wanted in zip(results, expected, strict=True):
                np.testing.assert_array_equal(got, wanted)
