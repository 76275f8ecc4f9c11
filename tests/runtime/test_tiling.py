"""Tiles cover an image once, and a tiled image is the image."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from srgan_fast.errors import UsageError
from srgan_fast.models import GeneratorConfig, model_of
from srgan_fast.network import receptive_radius
from srgan_fast.runtime import create_backend
from srgan_fast.runtime.protocol import Backend
from srgan_fast.runtime.tiling import DEFAULT_REGION_AREA, choose_halo, plan_tiles

sides = st.integers(1, 70)


@settings(max_examples=150, deadline=None)
@given(height=sides, width=sides, halo=st.integers(0, 45), tile=st.none() | st.integers(0, 80))
def test_every_pixel_belongs_to_one_tile(height: int, width: int, halo: int, tile: int | None) -> None:
    hits = np.zeros((height, width), int)
    for t in plan_tiles(height, width, halo, tile):
        hits[t.top : t.bottom, t.left : t.right] += 1
        assert t.area == (t.bottom - t.top) * (t.right - t.left) > 0
    assert (hits == 1).all()


@settings(max_examples=150, deadline=None)
@given(height=sides, width=sides, halo=st.integers(0, 45), tile=st.integers(1, 80))
def test_regions_reach_the_halo_or_the_border(height: int, width: int, halo: int, tile: int) -> None:
    for t in plan_tiles(height, width, halo, tile):
        assert t.bottom - t.top <= tile
        assert t.right - t.left <= tile
        assert t.region_top == max(0, t.top - halo)
        assert t.region_bottom == min(height, t.bottom + halo)
        assert t.region_left == max(0, t.left - halo)
        assert t.region_right == min(width, t.right + halo)


@settings(max_examples=100, deadline=None)
@given(size=st.integers(1, 500), tile=st.integers(1, 80))
def test_tiles_are_few_and_of_nearly_equal_size(size: int, tile: int) -> None:
    lengths = [t.right - t.left for t in plan_tiles(1, size, 3, tile)]
    assert len(lengths) == -(-size // tile)
    assert max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize("size", [(448, 448), (1, 20_000), (300, 500)])
def test_a_small_image_is_one_piece(size: tuple[int, int]) -> None:
    assert len(plan_tiles(*size, 40)) == 1


@pytest.mark.parametrize("halo", [0, 12, 40])
@pytest.mark.parametrize("size", [(449, 449), (2000, 3000), (10, 100_000)])
def test_the_default_bounds_every_region(size: tuple[int, int], halo: int) -> None:
    tiles = plan_tiles(*size, halo)
    assert len(tiles) > 1
    assert all(
        (t.region_bottom - t.region_top) * (t.region_right - t.region_left) <= DEFAULT_REGION_AREA for t in tiles
    )


def test_the_default_keeps_tiles_usable_below_a_huge_halo() -> None:
    assert all(t.bottom - t.top >= 16 for t in plan_tiles(1000, 1000, 400))


def test_tile_zero_is_one_piece_of_any_size() -> None:
    (tile,) = plan_tiles(5000, 5000, 40, 0)
    assert tile.area == 5000 * 5000


def test_negative_tile_is_refused() -> None:
    with pytest.raises(UsageError, match="tile is -1"):
        plan_tiles(4, 4, 1, -1)


def _tiled(backend: Backend, lr: np.ndarray, scale: int, halo: int, tile: int) -> np.ndarray:
    _, _, height, width = lr.shape
    result = np.empty((1, 3, height * scale, width * scale), np.float32)
    for t in plan_tiles(height, width, halo, tile):
        region = lr[:, :, t.region_top : t.region_bottom, t.region_left : t.region_right]
        sr = backend.run(np.ascontiguousarray(region))
        top, left = (t.top - t.region_top) * scale, (t.left - t.region_left) * scale
        core = sr[:, :, top : top + (t.bottom - t.top) * scale, left : left + (t.right - t.left) * scale]
        result[:, :, t.top * scale : t.bottom * scale, t.left * scale : t.right * scale] = core
    return result


ARCHITECTURES = [(scale, blocks) for scale in (2, 4) for blocks in (0, 1, 2)]


@pytest.mark.parametrize(("scale", "blocks"), ARCHITECTURES)
@pytest.mark.parametrize(
    ("size", "tiles"), [((19, 26), (1, 7, 10, 16)), ((1, 41), (1, 9)), ((43, 47), (20, 40))], ids=str
)
def test_tiled_equals_untiled(
    scale: int, blocks: int, size: tuple[int, int], tiles: tuple[int, ...], file_of: Any
) -> None:
    config = GeneratorConfig(scale=scale, channels=4, blocks=blocks)
    backend = create_backend(model_of(file_of(config)), "onnxruntime", threads=1)
    lr = np.random.default_rng(1).random((1, 3, *size), np.float32)
    whole = backend.run(lr)
    radius = receptive_radius(model_of(file_of(config)).network)
    for tile in tiles:
        assert np.abs(_tiled(backend, lr, scale, radius, tile) - whole).max() <= 1e-5, f"tile {tile}"


@pytest.mark.parametrize(("scale", "blocks"), ARCHITECTURES)
def test_a_halo_one_pixel_less_than_the_receptive_radius_shows(scale: int, blocks: int, file_of: Any) -> None:
    config = GeneratorConfig(scale=scale, channels=4, blocks=blocks)
    file = file_of(config)
    # Positive weights and no slopes near zero: what lies at the edge of the field of view arrives undiminished.
    for array in file.weights.values():
        if array.ndim == 4:
            array[...] = np.abs(array) * 3
    backend = create_backend(model_of(file), "onnxruntime", threads=1)
    radius = receptive_radius(model_of(file).network)
    lr = np.random.default_rng(2).random((1, 3, 3, 2 * radius + 9), np.float32)
    whole = backend.run(lr)
    peak = np.abs(whole).max()
    missed = {halo: np.abs(_tiled(backend, lr, scale, halo, 1) - whole).max() / peak for halo in (radius - 1, radius)}
    assert missed[radius] <= 1e-6
    assert missed[radius - 1] > 20 * max(missed[radius], 1e-7), "the receptive radius could be smaller"


@pytest.mark.parametrize(("radius", "asked", "halo"), [
    (40, None, 40), (64, None, 64), (65, None, 32), (349, None, 32), (349, 100, 100), (349, 1000, 349), (40, 0, 0),
])  # fmt: skip
def test_the_halo_is_exact_unless_that_is_absurd_or_another_is_asked_for(
    radius: int, asked: int | None, halo: int
) -> None:
    assert choose_halo(radius, asked) == halo


def test_a_negative_halo_is_refused() -> None:
    with pytest.raises(UsageError, match="halo is -1; it must be a number of pixels"):
        choose_halo(40, -1)


@pytest.mark.parametrize("multiple", [2, 4])
@pytest.mark.parametrize("tile", [None, 5, 9])
def test_regions_begin_and_end_at_multiples_of_a_pixel_unshuffle(multiple: int, tile: int | None) -> None:
    height, width, halo = 48, 400, 5
    tiles = plan_tiles(height, width, halo, tile, multiple)
    for t in tiles:
        for edge in (t.region_top, t.region_bottom, t.region_left, t.region_right):
            assert edge % multiple == 0
        assert t.region_top <= max(0, t.top - halo)
        assert t.region_right >= min(width, t.right + halo)
    assert sum(t.area for t in tiles) == height * width
