"""Images are extended by repeating their borders, so that flat ones stay flat, and results are cropped."""

from typing import Any

import numpy as np
import pytest

from srgan_fast.errors import UsageError
from srgan_fast.models import ModelFile, shipped_models
from srgan_fast.network.graph import Conv, Network
from srgan_fast.runtime.borders import MARGIN, crop_in_place, extend, inside
from srgan_fast.runtime.tiling import Tile
from srgan_fast.upscale import Upscaler

COLOURS = [
    (10, 200, 90), (245, 245, 245), (0, 0, 0), (255, 255, 255),
    (255, 0, 0), (20, 30, 40), (128, 128, 128), (250, 240, 10),
]  # fmt: skip


# In 8-bit steps: differences between the pixels of a flat image's result, and from its colour. The cards tell of models
# that do worse than others.
FLAT = {"srgan-x4": 2, "photo-x4": 2}
WITHIN = {"photo-x4": 12}


@pytest.fixture(scope="module")
def shipped() -> Upscaler:
    return Upscaler("srresnet-x4", backend="native")


@pytest.mark.parametrize("name", shipped_models())
def test_flat_images_stay_flat_and_keep_their_colour(name: str) -> None:
    upscaler = Upscaler(name, backend="native")
    for colour in COLOURS:
        for size in [(1, 1), (2, 2), (1, 50), (64, 48)]:
            image = np.broadcast_to(np.array(colour, np.uint8), (*size, 3))
            result = upscaler(np.ascontiguousarray(image)).astype(int)
            assert np.ptp(result, axis=(0, 1)).max() <= FLAT.get(name, 1), (colour, size)
            assert np.abs(result - np.array(colour)).max() <= WITHIN.get(name, 2), (colour, size)


def test_without_a_repeated_border_the_edge_of_a_flat_image_changes_colour() -> None:
    image = np.full((64, 48, 3), (250, 240, 10), np.uint8)
    assert np.ptp(Upscaler("srresnet-x4", backend="native", border="zero")(image), axis=(0, 1)).max() > 5


def test_zero_leaves_the_network_alone(shipped: Upscaler) -> None:
    image = np.random.default_rng(0).integers(0, 255, (9, 11, 3), np.uint8, endpoint=True)
    plain = Upscaler("srresnet-x4", backend="native", border="zero")
    floats = plain.run(np.ascontiguousarray(image.transpose(2, 0, 1)[None], np.float32) / np.float32(255))
    assert np.abs(plain(image) - np.rint(np.clip(floats[0], 0, 1) * 255).transpose(1, 2, 0)).max() <= 1
    assert (plain(image) != shipped(image)).any()
    np.testing.assert_array_equal(
        plain.run(floats[:, :, :5, :7].clip(0, 1)), shipped.run(floats[:, :, :5, :7].clip(0, 1))
    )


def test_what_lies_far_from_the_edge_does_not_change(shipped: Upscaler) -> None:
    image = np.random.default_rng(1).integers(0, 255, (100, 90, 3), np.uint8, endpoint=True)
    plain = Upscaler("srresnet-x4", backend="native", border="zero")(image)
    middle = (slice(4 * 40, -4 * 40), slice(4 * 40, -4 * 40))
    # The same values from other Winograd tiles.
    assert np.abs(shipped(image)[middle].astype(int) - plain[middle]).max() <= 1


@pytest.mark.parametrize("tile", [None, 0, 20])
def test_tiles_and_progress_are_of_the_image_itself(tile: int | None) -> None:
    upscaler = Upscaler("srresnet-x4", backend="native", tile=tile)
    tiles: list[Tile] = []
    image = np.zeros((30, 50, 3), np.uint8)
    result = upscaler(image, tiles.append)
    assert result.shape == (120, 200, 3)
    assert result.flags.c_contiguous
    assert sum(tile.area for tile in tiles) == 30 * 50


def one_pixel(unshuffle: int) -> ModelFile:
    """A network that gives back the image, whatever its unshuffle."""
    channels = 3 * unshuffle**2
    weight = np.zeros((channels, channels, 3, 3), np.float32)
    weight[range(channels), range(channels), 1, 1] = 1
    conv = Conv("identity", (0,), weight, np.zeros(channels, np.float32), shuffle=unshuffle)
    return ModelFile(Network((conv,), unshuffle=unshuffle), "", "identity", {})


@pytest.mark.parametrize("border", ["repeat", "zero"])
@pytest.mark.parametrize("size", [(1, 1), (3, 4), (7, 9), (30, 17)], ids=str)
@pytest.mark.parametrize("unshuffle", [1, 2, 4])
def test_any_size_goes_through_a_network_that_unshuffles(unshuffle: int, size: tuple[int, int], border: Any) -> None:
    image = np.random.default_rng(2).integers(0, 255, (*size, 3), np.uint8, endpoint=True)
    upscaler = Upscaler(one_pixel(unshuffle), backend="native", border=border)
    np.testing.assert_array_equal(upscaler(image), image)


def test_extending_repeats_the_border_up_to_a_multiple() -> None:
    image = np.arange(6, dtype=np.uint8).reshape(2, 3, 1)
    extended = extend(image, 2, 4)
    assert extended.shape == (8, 8, 1)
    np.testing.assert_array_equal(extended[2:4, 2:5], image)
    assert (extended[:3, :3] == 0).all()
    assert (extended[3:, 4:] == 5).all()
    assert extend(image, 0) is image


def test_cropping_moves_rows_within_their_memory() -> None:
    pixels = np.arange(7 * 9 * 3, dtype=np.uint16).reshape(7, 9, 3)
    expected = pixels[1:6, 2:8].copy()
    part = crop_in_place(pixels, 1, 2, 5, 6)
    np.testing.assert_array_equal(part, expected)
    assert np.shares_memory(part, pixels)


def test_a_tile_in_the_border_covers_nothing_of_the_image() -> None:
    assert inside(Tile(0, MARGIN, 0, 40, 0, 20, 0, 40), MARGIN, 10, 16).area == 0
    assert inside(Tile(0, 40, 0, 40, 0, 40, 0, 40), MARGIN, 10, 16).area == 160


def test_another_border_is_refused() -> None:
    wrong: Any = "mirror"
    with pytest.raises(UsageError, match="border is 'mirror'; it must be repeat or zero"):
        Upscaler("srresnet-x4", border=wrong)
