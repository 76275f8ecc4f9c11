"""An image by rows comes out as the whole one does, to the last bit, whatever its kind, its size and the network."""

from typing import Any

import numpy as np
import pytest

from srgan_fast import memory
from srgan_fast.data.images import Image, NextRows, RowSource
from srgan_fast.errors import BackendError, ImageError
from srgan_fast.models import ModelFile
from srgan_fast.network.graph import Conv, Network
from srgan_fast.runtime.borders import extend, extended_index
from srgan_fast.runtime.rows import Window
from srgan_fast.runtime.tiling import Tile
from srgan_fast.upscale import Upscaler


def _network(channels: int = 3, scale: int = 4, unshuffle: int = 1, features: int = 64) -> ModelFile:
    rng = np.random.default_rng(5)
    shapes = [
        (channels * unshuffle**2, features),
        (features, features),
        (features, channels * (scale * unshuffle) ** 2),
    ]
    convs = []
    for i, (into, out) in enumerate(shapes):
        weight = rng.normal(0, 1 / np.sqrt(9 * into), (out, into, 3, 3)).astype(np.float32)
        slope = np.array([0.2], np.float32) if i < 2 else None
        bias = rng.normal(0.2, 0.1, out).astype(np.float32)
        shuffle = scale * unshuffle if i == 2 else 1
        convs.append(Conv(f"conv {i}", (i,), weight, bias, slope, shuffle=shuffle))
    return ModelFile(Network(tuple(convs), channels=channels, unshuffle=unshuffle), "random", "random", {})


def _image(height: int, width: int, channels: int = 3, alpha: str = "", dtype: Any = np.uint8) -> Image:
    rng = np.random.default_rng(height * 1000 + width)
    white = np.iinfo(dtype).max
    pixels = rng.integers(0, white, (height, width, channels), dtype, endpoint=True)
    if not alpha:
        return Image(pixels)
    values = rng.integers(1, white, (height, width), dtype, endpoint=True)
    if alpha == "holes":
        values[rng.random((height, width)) < 0.3] = 0
        values[height // 4 : height - height // 4, width // 5 :] = 0  # further than what is filled from beside it
    elif alpha == "nothing":
        values[:] = 0
    return Image(pixels, values)


def _source(image: Image) -> RowSource:
    def begin() -> NextRows:
        at = 0

        def following(rows: int) -> Image:
            nonlocal at
            at += rows
            part = slice(at - rows, at)
            assert at <= image.height, "no row is asked for twice, none beyond the last"
            return Image(image.pixels[part], None if image.alpha is None else image.alpha[part], image.metadata)

        return following

    return RowSource(
        image.height, image.width, image.pixels.dtype, image.is_gray, image.alpha is not None, image.metadata, begin
    )


def _by_rows(upscaler: Upscaler, image: Image, on_tile: Any = None) -> Image:
    parts: list[Image] = []
    upscaler.upscale_rows(_source(image), parts.append, on_tile)
    alphas = [part.alpha for part in parts if part.alpha is not None]
    return Image(np.concatenate([part.pixels for part in parts]), np.concatenate(alphas) if alphas else None)


def _expect_the_same(upscaler: Upscaler, image: Image) -> None:
    whole, rows = upscaler.upscale(image), _by_rows(upscaler, image)
    np.testing.assert_array_equal(rows.pixels, whole.pixels)
    assert rows.pixels.dtype == whole.pixels.dtype
    if image.alpha is None:
        assert rows.alpha is None
    else:
        np.testing.assert_array_equal(rows.alpha, whole.alpha)


@pytest.mark.parametrize("size", [(1, 1), (2, 40), (40, 1), (13, 7), (90, 33), (130, 290)])
@pytest.mark.parametrize("border", ["repeat", "zero"])
@pytest.mark.parametrize("unshuffle", [1, 2, 4])
def test_any_size_and_border(size: tuple[int, int], border: Any, unshuffle: int) -> None:
    upscaler = Upscaler(_network(unshuffle=unshuffle, scale=2), backend="native", threads=1, border=border)
    _expect_the_same(upscaler, _image(*size))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("alpha", ["", "visible", "holes", "nothing"])
@pytest.mark.parametrize(("network", "picture"), [(1, 1), (3, 1), (3, 3), (4, 1), (4, 3)])
@pytest.mark.parametrize("tile", [None, 32])
def test_any_kind_of_image(network: int, picture: int, alpha: str, dtype: Any, tile: int | None) -> None:
    upscaler = Upscaler(_network(network), backend="native", threads=1, tile=tile)
    _expect_the_same(upscaler, _image(100, 300, picture, alpha, dtype))


@pytest.mark.parametrize("scale", [1, 2, 8])
def test_alpha_at_other_factors(scale: int) -> None:
    _expect_the_same(Upscaler(_network(3, scale), backend="native", threads=1), _image(100, 300, 3, "holes"))


@pytest.mark.parametrize("scale", [1, 2, 4, 8])
@pytest.mark.parametrize(("channels", "dtype"), [(3, np.uint8), (1, np.uint16)])
def test_results_blended_with_interpolation(scale: int, channels: int, dtype: Any) -> None:
    half = Upscaler(_network(3, scale), backend="native", threads=1, strength=0.5)
    _expect_the_same(half, _image(100, 300, channels, dtype=dtype))


@pytest.mark.parametrize("backend", ["onnxruntime", "torch"])
@pytest.mark.parametrize("tile", [None, 0, 19])
def test_backends_without_rows_compute_bands_of_tiles(backend: str, tile: int | None) -> None:
    pytest.importorskip(backend)
    _expect_the_same(Upscaler(_network(), backend=backend, threads=1, tile=tile), _image(75, 40))


def test_where_memory_is_scarce_tiles_bound_it(monkeypatch: pytest.MonkeyPatch) -> None:
    upscaler = Upscaler(_network(), backend="native", threads=1)
    image = _image(200, 300)
    monkeypatch.setattr(memory, "available", lambda: 4 << 20)
    monkeypatch.setattr(upscaler.backend, "upscale_rows", lambda *_: pytest.fail("it took memory that was not there"))
    rows = _by_rows(upscaler, image)
    monkeypatch.undo()
    assert np.abs(rows.pixels.astype(int) - upscaler.upscale(image).pixels).max() <= 1


def test_bands_for_which_there_is_no_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    upscaler = Upscaler(_network(), backend="native", threads=1, tile=50)
    monkeypatch.setattr(memory, "available", lambda: 100_000)
    with pytest.raises(ImageError, match=r"a band of tiles across 300 pixels needs 0.0 GiB.*give a smaller tile"):
        _by_rows(upscaler, _image(200, 300))


def test_what_cannot_be_the_same_is_not_taken() -> None:
    thrice = Upscaler(_network(scale=3), backend="native", threads=1)
    assert (thrice.supports_rows(False, False), thrice.supports_rows(False, True)) == (True, False)
    gray = Upscaler(_network(1), backend="native", threads=1)
    assert (gray.supports_rows(True, True), gray.supports_rows(False, False)) == (True, False)
    with pytest.raises(ImageError, match=r"random at x3 cannot process such an image by rows; use .upscale\(\)"):
        _by_rows(thrice, _image(8, 8, 3, "visible"))


@pytest.mark.parametrize("tile", [None, 30])
def test_finished_parts_cover_the_image_once_from_top_to_bottom(tile: int | None) -> None:
    upscaler = Upscaler(_network(), backend="native", threads=1, tile=tile)
    parts: list[Tile] = []
    _by_rows(upscaler, _image(100, 300), parts.append)
    assert sum(part.area for part in parts) == 100 * 300
    assert [part.bottom for part in parts[:-1]] == [part.top for part in parts[1:]]
    assert len(parts) > 1


class _Enough(Exception):  # noqa: N818 (no error: a test wants to stop)
    pass


@pytest.mark.parametrize("where", ["write", "on_tile", "read"])
@pytest.mark.parametrize("tile", [None, 30])
def test_what_the_callers_functions_raise_ends_it_and_the_upscaler_works_on(where: str, tile: int | None) -> None:
    upscaler = Upscaler(_network(), backend="native", threads=2, tile=tile)
    image = _image(100, 300)
    seen: list[int] = []

    def count(at: str) -> None:
        if at == where:
            seen.append(1)
            if len(seen) == 2:
                raise _Enough

    source = _source(image)

    def begin() -> NextRows:
        following = source.begin()

        def counted(rows: int) -> Image:
            count("read")
            return following(rows)

        return counted

    counting = RowSource(100, 300, source.dtype, False, False, source.metadata, begin)
    with pytest.raises(_Enough):
        upscaler.upscale_rows(counting, lambda _: count("write"), lambda _: count("on_tile"))
    assert len(seen) == 2
    _expect_the_same(upscaler, image)


def test_a_failing_backend_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    upscaler = Upscaler(_network(), backend="native", threads=1)

    def fail(*_: Any) -> None:
        raise ValueError("out of luck")

    monkeypatch.setattr(upscaler.backend, "upscale_rows", fail)
    with pytest.raises(BackendError, match=r"native failed on 27x26 pixels \(out of luck\)"):
        _by_rows(upscaler, _image(20, 21))


def test_what_it_says_it_takes_grows_with_the_width_only() -> None:
    backend: Any = Upscaler(_network(), backend="native", threads=1).backend
    dtype = np.dtype(np.uint8)
    assert backend.rows_memory(9000, 500, dtype) <= 1.02 * backend.rows_memory(3000, 500, dtype)
    assert backend.rows_memory(500, 500, dtype) > backend.working_memory(500, 500)


@pytest.mark.parametrize(("size", "margin", "multiple"), [(1, 0, 4), (5, 0, 4), (8, 0, 4), (5, 12, 1), (5, 12, 4)])
def test_rows_of_the_extended_image_are_those_of_extend(size: int, margin: int, multiple: int) -> None:
    image = np.arange(size, dtype=np.uint16).reshape(size, 1, 1)
    np.testing.assert_array_equal(extended_index(size, margin, multiple), extend(image, margin, multiple)[:, 0, 0])


def test_a_window_keeps_what_some_reader_needs_and_no_more() -> None:
    image = _image(100, 3)
    window = Window(_source(image).begin(), readers=2, slack=2)
    for first in range(0, 90, 5):
        np.testing.assert_array_equal(window.rows(first, first + 10).pixels, image.pixels[first : first + 10])
    np.testing.assert_array_equal(window.rows(0, 100, 1).pixels, image.pixels)
    window.rows(98, 100, 1)
    np.testing.assert_array_equal(window.rows(96, 99).pixels, image.pixels[96:99])
    assert sum(strip.height for strip in window._strips) < 20
