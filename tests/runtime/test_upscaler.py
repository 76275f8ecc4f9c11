"""Arrays and images of every kind through a model."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import srgan_fast
from srgan_fast.data.images import Image, Metadata
from srgan_fast.data.resize import resize_bicubic
from srgan_fast.errors import BackendError, ImageError, ModelError, UsageError
from srgan_fast.models import ModelFile
from srgan_fast.network.graph import Conv, Network
from srgan_fast.runtime import usable_backends
from srgan_fast.runtime.transparency import fill_transparent
from srgan_fast.upscale import Upscaler

DTYPES = [np.uint8, np.uint16]


@pytest.fixture(scope="module")
def upscaler(tiny_model: Path) -> Upscaler:
    """The network alone; repeated borders have tests of their own."""
    return Upscaler(tiny_model, backend="onnxruntime", border="zero")


def _random(height: int, width: int, dtype: Any = np.uint8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, (height, width, 3), dtype, endpoint=True)


def test_the_package_offers_it() -> None:
    assert srgan_fast.Upscaler is Upscaler


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [(1, 1), (1, 17), (13, 1), (7, 11), (40, 30)])
def test_pixels_are_the_rounded_and_clamped_float_result(upscaler: Upscaler, size: tuple[int, int], dtype: Any) -> None:
    image = _random(*size, dtype)
    white = np.iinfo(dtype).max
    floats = upscaler.run((image.transpose(2, 0, 1)[None] / np.float32(white)).astype(np.float32))
    result = upscaler(image)
    assert result.dtype == dtype
    assert result.shape == (4 * size[0], 4 * size[1], 3)
    np.testing.assert_array_equal(result, np.rint(np.clip(floats[0].transpose(1, 2, 0), 0, 1) * white).astype(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [-1e30, -0.001, 0.0, 0.5, 1.0, 1.001, 1e30, np.inf])
def test_overshoot_is_clamped_and_never_wraps(
    upscaler: Upscaler, monkeypatch: pytest.MonkeyPatch, dtype: Any, value: float
) -> None:
    size = (1, 3, 8, 8)
    monkeypatch.setattr(upscaler.backend, "run", lambda lr: np.full(size, value, np.float32))
    result = upscaler(_random(2, 2, dtype))
    assert (result == np.rint(min(max(value, 0.0), 1.0) * np.iinfo(dtype).max)).all()


def test_16_bits_are_not_reduced_to_8(upscaler: Upscaler) -> None:
    assert len(np.unique(upscaler(_random(8, 8, np.uint16)))) > 256


@pytest.mark.parametrize(
    "view",
    [
        lambda a: a[::-1, ::-1],
        lambda a: a[:, :, ::-1],
        lambda a: a[::2, 1::3],
        lambda a: a.transpose(1, 0, 2),
        np.asfortranarray,
    ],
    ids=["turned", "BGR", "strided", "transposed", "Fortran"],
)
@pytest.mark.parametrize("name", sorted(usable_backends()))
def test_any_memory_layout_gives_the_same(name: str, view: Any, tiny_model: Path) -> None:
    upscaler = _upscaler(tiny_model, name)
    image = view(_random(14, 15))
    np.testing.assert_array_equal(upscaler(image), upscaler(image.copy(order="C")))


_UPSCALERS: dict[str, Upscaler] = {}


def _upscaler(model: Path, name: str) -> Upscaler:
    if name not in _UPSCALERS:
        _UPSCALERS[name] = Upscaler(model, backend=name, border="zero")
    return _UPSCALERS[name]


@pytest.mark.parametrize("tile", [None, 0, 1, 5, 16, 100])
def test_tile_size_does_not_show(upscaler: Upscaler, tiny_model: Path, photo: np.ndarray, tile: int | None) -> None:
    image = photo[100:119, 200:223]
    tiled = Upscaler(tiny_model, backend="onnxruntime", tile=tile, border="zero")
    finished = []
    result = tiled(image, finished.append)
    assert sum(t.area for t in finished) == 19 * 23
    assert np.abs(result.astype(int) - upscaler(image)).max() <= 1
    floats = (image.transpose(2, 0, 1)[None] / np.float32(255)).astype(np.float32)
    assert np.abs(tiled.run(floats) - upscaler.run(floats)).max() <= 1e-5


@pytest.mark.parametrize("name", sorted(usable_backends()))
def test_runtimes_give_the_same_image(name: str, upscaler: Upscaler, tiny_model: Path, photo: np.ndarray) -> None:
    image = photo[50:130, 180:270]
    difference = np.abs(_upscaler(tiny_model, name)(image).astype(int) - upscaler(image))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.001


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4, 3), np.float32), "pixels must be uint8 or uint16, got float32"),
        (np.zeros((4, 4, 3), np.int32), "got int32"),
        (np.zeros((4, 4, 3), bool), "got bool"),
        (np.zeros((4, 4, 3), ">u2"), "got >u2"),
        (np.zeros((4, 4), np.uint8), r"shape \(H, W, 3\) .* got \(4, 4\)"),
        (np.zeros((4, 4, 1), np.uint8), r"got \(4, 4, 1\)"),
        (np.zeros((4, 4, 4), np.uint8), r"got \(4, 4, 4\)"),
        (np.zeros((1, 4, 4, 3), np.uint8), r"got \(1, 4, 4, 3\)"),
        (np.zeros((0, 4, 3), np.uint8), r"got \(0, 4, 3\)"),
        (np.zeros((4, 0, 3), np.uint8), r"got \(4, 0, 3\)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_pixels_of_another_kind_are_refused(upscaler: Upscaler, image: np.ndarray, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        upscaler(image)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((1, 3, 4, 4)), "must be float32, got float64"),
        (np.zeros((1, 3, 4, 4), np.uint8), "must be float32, got uint8"),
        (np.zeros((3, 4, 4), np.float32), r"got \(3, 4, 4\)"),
        (np.zeros((1, 4, 4, 3), np.float32), r"got \(1, 4, 4, 3\)"),
        (np.zeros((0, 3, 4, 4), np.float32), r"got \(0, 3, 4, 4\)"),
        (np.zeros((1, 3, 4, 0), np.float32), r"got \(1, 3, 4, 0\)"),
        (np.full((1, 3, 4, 4), np.nan, np.float32), "not finite"),
        (np.full((1, 3, 4, 4), -np.inf, np.float32), "not finite"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_float_images_of_another_kind_are_refused(upscaler: Upscaler, x: np.ndarray, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        upscaler.run(x)


def test_a_batch_is_its_images(upscaler: Upscaler) -> None:
    batch = np.random.default_rng(4).random((3, 3, 6, 9), np.float32)
    together = upscaler.run(batch)
    for image, expected in zip(batch, together, strict=True):
        np.testing.assert_array_equal(upscaler.run(image[None])[0], expected)
    np.testing.assert_array_equal(upscaler.run(batch[::-1]), together[::-1])


def _with_memory(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr("srgan_fast.memory.available", lambda: size)


def test_more_pixels_than_memory_are_refused_before_any_work(
    upscaler: Upscaler, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = _random(64, 64)  # 64 * 64 * 3 bytes, and 16 times that
    monkeypatch.setattr(upscaler.backend, "run", lambda lr: pytest.fail("it was run"))
    _with_memory(monkeypatch, 64 * 64 * 3 * 17 - 4096)
    with pytest.raises(ImageError, match=r"64x64 pixels at x4 needs 0\.0 GiB, 0\.0 GiB are available"):
        upscaler(image)
    with pytest.raises(ImageError, match="cut it into parts"):
        upscaler.upscale(Image(image))
    with pytest.raises(ImageError, match="cut it into parts"):
        upscaler.run(np.zeros((2, 3, 64, 64), np.float32))


def test_a_large_outscale_counts_into_the_memory_that_is_needed(
    upscaler: Upscaler, monkeypatch: pytest.MonkeyPatch
) -> None:
    _with_memory(monkeypatch, 16 * 16 * 3 * 100)
    assert upscaler.upscale(Image(_random(16, 16))).pixels.shape == (64, 64, 3)
    with pytest.raises(ImageError, match="at x40"):
        upscaler.upscale(Image(_random(16, 16)), 40)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gray_stays_gray(upscaler: Upscaler, dtype: Any) -> None:
    gray = _random(9, 12, dtype)[:, :, :1]
    result = upscaler.upscale(Image(gray))
    colour = upscaler(np.repeat(gray, 3, axis=2))
    assert result.is_gray
    assert result.pixels.dtype == dtype
    assert result.pixels.shape == (36, 48, 1)
    np.testing.assert_array_equal(result.pixels[..., 0], np.rint(colour.mean(axis=2)).astype(dtype))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", DTYPES)
def test_alpha_is_enlarged_by_bicubic_interpolation(upscaler: Upscaler, dtype: Any, channels: int) -> None:
    alpha = _random(8, 10, dtype, seed=1)[:, :, 0]
    alpha[0, :4] = 0
    result = upscaler.upscale(Image(_random(8, 10, dtype)[:, :, :channels], alpha))
    assert result.alpha is not None
    assert result.pixels.shape == (32, 40, channels)
    np.testing.assert_array_equal(result.alpha, resize_bicubic(alpha, 32, 40))


def test_an_opaque_alpha_stays_opaque_and_changes_no_colour(upscaler: Upscaler) -> None:
    pixels = _random(8, 8)
    result = upscaler.upscale(Image(pixels, np.full((8, 8), 255, np.uint8)))
    assert result.alpha is not None
    assert (result.alpha == 255).all()
    np.testing.assert_array_equal(result.pixels, upscaler(pixels))


def test_hidden_colours_do_not_bleed_into_visible_ones(upscaler: Upscaler, photo: np.ndarray) -> None:
    pixels = photo[100:140, 200:240].copy()
    alpha = np.zeros((40, 40), np.uint8)
    alpha[10:30, 12:28] = 255
    results = []
    for hidden in ((255, 0, 255), (0, 0, 0), (3, 200, 90)):
        pixels[alpha == 0] = hidden
        results.append(upscaler.upscale(Image(pixels.copy(), alpha)).pixels)
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


def test_transparent_neighbours_get_the_mean_colour_of_visible_ones() -> None:
    rgb = np.full((5, 20, 3), (255, 0, 255), np.uint8)
    rgb[:, :2] = (10, 20, 30)
    rgb[:, 1] = (30, 40, 50)
    alpha = np.zeros((5, 20), np.uint8)
    alpha[:, :2] = (255, 1)
    filled = fill_transparent(rgb, alpha, reach=3)
    assert filled.dtype == np.uint8
    np.testing.assert_array_equal(filled[:, :2], rgb[:, :2])
    assert (filled[:, 2:5] == (30, 40, 50)).all(), "within reach: the nearest visible colour"
    assert (filled[:, 5:] == (20, 30, 40)).all(), "beyond: the mean of the visible part"


@pytest.mark.parametrize("value", [0, 1, 255])
def test_where_all_or_nothing_is_visible_there_is_nothing_to_fill(value: int) -> None:
    rgb = _random(4, 4)
    assert fill_transparent(rgb, np.full((4, 4), value, np.uint8)) is rgb


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("outscale", "size"),
    [(0.5, (8, 10)), (1, (16, 21)), (2, (32, 42)), (3.7, (59, 78)), (4, (64, 84)), (6, (96, 126))],
)
def test_outscale_gives_the_final_size(upscaler: Upscaler, outscale: float, size: tuple[int, int], dtype: Any) -> None:
    pixels = _random(16, 21, dtype)
    result = upscaler.upscale(Image(pixels, pixels[:, :, 0].copy()), outscale)
    assert result.pixels.shape == (*size, 3)
    assert result.alpha is not None
    assert result.alpha.shape == size
    expected = upscaler.upscale(Image(pixels, pixels[:, :, 0].copy())).pixels
    np.testing.assert_array_equal(result.pixels, expected if outscale == 4 else resize_bicubic(expected, *size))


@pytest.mark.parametrize("outscale", [0.0, -2.0, float("nan"), float("inf")])
def test_an_outscale_that_is_no_factor_is_refused(upscaler: Upscaler, outscale: float) -> None:
    with pytest.raises(ImageError, match=r"outscale is .* it must be a number above 0"):
        upscaler.upscale(Image(_random(4, 4)), outscale)


def test_an_outscale_that_leaves_nothing_is_refused(upscaler: Upscaler) -> None:
    with pytest.raises(ImageError, match=r"outscale 0\.1 leaves nothing of an image of 3x200 pixels"):
        upscaler.upscale(Image(_random(200, 3)), 0.1)


def test_metadata_is_kept_and_the_input_left_alone(upscaler: Upscaler) -> None:
    pixels, alpha = _random(6, 6), _random(6, 6, seed=2)[:, :, 0]
    alpha[:3] = 0
    kept = pixels.copy(), alpha.copy()
    metadata = Metadata(icc=b"profile", exif=b"exif")
    assert upscaler.upscale(Image(pixels, alpha, metadata), 2).metadata == metadata
    np.testing.assert_array_equal(pixels, kept[0])
    np.testing.assert_array_equal(alpha, kept[1])


@pytest.mark.parametrize("name", sorted(usable_backends()))
def test_threads_may_share_one_upscaler(name: str, tiny_model: Path) -> None:
    upscaler = _upscaler(tiny_model, name)
    images = [_random(9 + i % 3, 12 - i % 2, seed=i) for i in range(12)]
    expected = [upscaler(image) for image in images]
    with ThreadPoolExecutor(4) as pool:
        for got, right in zip(pool.map(upscaler, images), expected, strict=True):
            np.testing.assert_array_equal(got, right)


def test_a_failing_runtime_says_what_to_try(upscaler: Upscaler, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(lr: Any) -> Any:
        raise RuntimeError("\nbad allocation\n at file.cpp:1")

    monkeypatch.setattr(upscaler.backend, "run", fail)
    with pytest.raises(
        BackendError, match=r"onnxruntime failed on 5x4 pixels \(bad allocation\); .* smaller tile"
    ) as e:
        upscaler(_random(4, 5))
    assert isinstance(e.value.__cause__, RuntimeError)


def test_construction_refuses_what_cannot_work(tiny_model: Path) -> None:
    with pytest.raises(ModelError, match="shipped models:"):
        Upscaler("no-such-model")
    with pytest.raises(BackendError, match="unknown backend"):
        Upscaler(tiny_model, backend="abacus")
    with pytest.raises(BackendError, match="threads is 0"):
        Upscaler(tiny_model, threads=0)
    with pytest.raises(UsageError, match="tile is -3"):
        Upscaler(tiny_model, tile=-3)


def test_what_it_is_can_be_asked(upscaler: Upscaler) -> None:
    assert upscaler.model == "tiny-x4"
    assert upscaler.scale == 4
    assert len(upscaler.network.convs) == 9
    assert upscaler.backend.name == "onnxruntime"


def _identity(gain: float, offset: float = 0.0) -> ModelFile:
    weight = np.zeros((3, 3, 3, 3), np.float32)
    weight[range(3), range(3), 1, 1] = gain
    conv = Conv("identity", (0,), weight, np.full(3, offset, np.float32))
    again = replace(conv, name="again", inputs=(1,))
    return ModelFile(Network((conv, again) if gain > 1e20 else (conv,)), "", "a.pth", {})


@pytest.mark.parametrize("name", sorted(usable_backends()))
def test_a_model_whose_finite_weights_overflow_is_refused_when_it_is_loaded(name: str) -> None:
    with pytest.raises(ModelError, match=r"^a\.pth: its result is not finite in fp32"):
        Upscaler(_identity(1e38), backend=name)


@pytest.mark.parametrize("offset", [0.0, 0.5])
def test_a_model_that_gives_the_same_everywhere_is_refused_when_it_is_loaded(offset: float) -> None:
    with pytest.raises(ModelError, match=r"^a\.pth: its result is the same everywhere"):
        Upscaler(_identity(0.0, offset), backend="native")
    assert Upscaler(_identity(1.0, offset), backend="native").scale == 1
