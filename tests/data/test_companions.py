"""Pictures beside originals belong to them by name and size, or training does not begin."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from srgan_fast.data.cache import PixelCache, open_cache
from srgan_fast.data.companions import Companions, open_low_resolution, open_targets
from srgan_fast.data.crops import CropSampler, turn
from srgan_fast.data.degradations import Degradations
from srgan_fast.data.images import Image, write_image
from srgan_fast.data.resize import downscale
from srgan_fast.errors import DataError

Noise = Callable[..., NDArray[Any]]
NAMES = ("a", "deep/b", "deep/c.d")


def fill(folder: Path, pictures: dict[str, NDArray[np.uint8]]) -> Path:
    for name, pixels in pictures.items():
        write_image(folder / name, Image(pixels), quality=100)  # lossless in WebP, too
    return folder


@pytest.fixture
def maps(tmp_path: Path) -> Path:
    return tmp_path / "maps"


@pytest.fixture
def originals(tmp_path: Path, noise: Noise, maps: Path) -> PixelCache:
    """Three images of 40x48, 48x40 and 40x40 pixels."""
    sizes = ((40, 48), (48, 40), (40, 40))
    pictures = {f"{n}.png": noise(*size, 3, seed=i) for i, (n, size) in enumerate(zip(NAMES, sizes, strict=True))}
    return open_cache(fill(tmp_path / "originals", pictures), maps)


def inverted(originals: PixelCache, suffix: str = ".png") -> dict[str, NDArray[np.uint8]]:
    """Targets that tell their original."""
    return {image.path.removesuffix(".png") + suffix: 255 - originals[i] for i, image in enumerate(originals.images)}


def shrunk(originals: PixelCache, ending: str = ".png") -> dict[str, NDArray[np.uint8]]:
    return {
        image.path.removesuffix(".png") + ending: downscale(originals[i], 4) for i, image in enumerate(originals.images)
    }


def test_targets_are_found_by_path(originals: PixelCache, tmp_path: Path, maps: Path) -> None:
    found = open_targets(originals, fill(tmp_path / "targets", inverted(originals)), maps)
    assert len(found) == len(originals) == 3
    for index in range(3):
        np.testing.assert_array_equal(found[index], 255 - originals[index])
        assert not found[index].flags.writeable


def test_another_suffix_is_the_same_name(originals: PixelCache, tmp_path: Path, maps: Path) -> None:
    found = open_targets(originals, fill(tmp_path / "targets", inverted(originals, ".webp")), maps)
    for index in range(3):
        np.testing.assert_array_equal(found[index], 255 - originals[index])


def test_the_same_suffix_goes_before_others_and_more_images_are_no_harm(
    originals: PixelCache, tmp_path: Path, maps: Path, noise: Noise
) -> None:
    pictures = inverted(originals)
    more = {"a.jpg": noise(5, 5, 3), "other.png": noise(9, 9, 3)}
    found = open_targets(originals, fill(tmp_path / "targets", {**more, **pictures}), maps)
    np.testing.assert_array_equal(found[0], 255 - originals[0])


@pytest.mark.parametrize("ending", [".png", "x4.png", "x4.webp"])
def test_low_resolution_images_may_carry_their_scale_in_the_name(
    originals: PixelCache, tmp_path: Path, maps: Path, ending: str
) -> None:
    found = open_low_resolution(originals, fill(tmp_path / "lr", shrunk(originals, ending)), 4, maps)
    assert [found[i].shape for i in range(3)] == [(10, 12, 3), (12, 10, 3), (10, 10, 3)]
    if ending.endswith("png"):
        np.testing.assert_array_equal(found[1], downscale(originals[1], 4))


def refused(open_folder: Callable[[], Companions]) -> str:
    with pytest.raises(DataError) as error:
        open_folder()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_missing_images_are_counted_and_the_first_is_named(originals: PixelCache, tmp_path: Path, maps: Path) -> None:
    pictures = inverted(originals)
    del pictures["deep/b.png"], pictures["deep/c.d.png"]
    folder = fill(tmp_path / "targets", pictures)
    expected = f"{folder}: 2 of 3 originals have no image of the same name; first: deep/b.png"
    assert refused(lambda: open_targets(originals, folder, maps)) == expected
    assert refused(lambda: open_low_resolution(originals, folder, 4, maps)) == expected


def test_names_of_other_folders_or_scales_do_not_count(originals: PixelCache, tmp_path: Path, maps: Path) -> None:
    flat = {Path(name).name: pixels for name, pixels in inverted(originals).items()}
    assert "2 of 3 originals have no image" in refused(
        lambda: open_targets(originals, fill(tmp_path / "flat", flat), maps)
    )
    lr = fill(tmp_path / "lr", shrunk(originals, "x2.png"))
    assert "3 of 3 originals have no image" in refused(lambda: open_low_resolution(originals, lr, 4, maps))


def test_images_of_other_sizes_are_counted_and_the_first_is_named(
    originals: PixelCache, tmp_path: Path, maps: Path
) -> None:
    pictures = inverted(originals)
    pictures["deep/b.png"] = pictures["deep/b.png"].transpose(1, 0, 2)
    folder = fill(tmp_path / "targets", pictures)
    assert refused(lambda: open_targets(originals, folder, maps)) == (
        f"{folder}: 1 of 3 images do not have the original's size; first: deep/b.png has 48x40, its original 40x48"
    )


def test_low_resolution_images_must_be_the_original_over_the_scale(
    originals: PixelCache, tmp_path: Path, maps: Path
) -> None:
    folder = fill(tmp_path / "lr", shrunk(originals))
    assert refused(lambda: open_low_resolution(originals, folder, 2, maps)) == (
        f"{folder}: 3 of 3 images do not have 1/2 of the original's size; first: a.png has 12x10, its original 48x40"
    )


def test_an_original_that_is_no_multiple_of_the_scale_has_no_low_resolution_image(
    tmp_path: Path, maps: Path, noise: Noise
) -> None:
    originals = open_cache(fill(tmp_path / "originals", {"a.png": noise(42, 40, 3)}), maps)
    lr = fill(tmp_path / "lr", {"a.png": noise(10, 10, 3)})
    assert "1 of 1 images do not have 1/4" in refused(lambda: open_low_resolution(originals, lr, 4, maps))


def test_images_that_cannot_be_read_are_counted_and_the_first_is_named(
    originals: PixelCache, tmp_path: Path, maps: Path
) -> None:
    folder = fill(tmp_path / "targets", inverted(originals))
    (folder / "deep" / "b.png").write_bytes(b"\x89PNG no more")
    text = refused(lambda: open_targets(originals, folder, maps))
    assert text.startswith(f"1 of 3 images cannot be read; first: {folder / 'deep' / 'b.png'}: ")


def test_names_that_differ_only_in_their_suffix_are_refused(
    originals: PixelCache, tmp_path: Path, maps: Path, noise: Noise
) -> None:
    pictures = inverted(originals)
    jpg = {"a.jpg": pictures["a.png"], "a.webp": pictures.pop("a.png")}
    text = refused(lambda: open_targets(originals, fill(tmp_path / "targets", {**pictures, **jpg}), maps))
    assert "the names of 1 of 3 originals match several images" in text
    assert text.endswith("first: a.png")
    # Two originals, and a single image that is the one's by its suffix.
    both = open_cache(fill(tmp_path / "both", {"a.png": noise(8, 8, 3), "a.webp": noise(8, 8, 3)}), maps)
    one = fill(tmp_path / "one", {"a.png": noise(8, 8, 3)})
    assert refused(lambda: open_targets(both, one, maps)).endswith("first: a.webp")


def test_no_folder_and_an_empty_one(originals: PixelCache, tmp_path: Path, maps: Path) -> None:
    assert refused(lambda: open_targets(originals, tmp_path / "none", maps)) == f"{tmp_path / 'none'}: no such folder"
    (tmp_path / "empty").mkdir()
    text = refused(lambda: open_targets(originals, tmp_path / "empty", maps))
    assert text == f"{tmp_path / 'empty'}: contains no images"


def test_a_changed_target_is_read_anew(originals: PixelCache, tmp_path: Path, maps: Path) -> None:
    folder = fill(tmp_path / "targets", inverted(originals))
    open_targets(originals, folder, maps)
    fill(folder, {"a.png": originals[0] // 2})
    found = open_targets(originals, folder, maps)
    np.testing.assert_array_equal(found[0], originals[0] // 2)
    np.testing.assert_array_equal(found[1], 255 - originals[1])


def test_folders_do_not_throw_each_others_maps_away(originals: PixelCache, tmp_path: Path, maps: Path) -> None:
    for name in ("one", "two"):
        open_targets(originals, fill(tmp_path / name, inverted(originals)), maps)
    assert len(list(maps.glob("*.bin"))) == 3


# -- crops -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def samplers(originals: PixelCache, tmp_path: Path, maps: Path) -> dict[str, CropSampler]:
    """Crops of 16x16 with targets, with given low-resolution images, and with both."""
    targets = open_targets(originals, fill(tmp_path / "targets", inverted(originals)), maps)
    low = open_low_resolution(originals, fill(tmp_path / "lr", shrunk(originals)), 4, maps)

    def sampler(**folders: Companions) -> CropSampler:
        return CropSampler(originals, crop=16, batch=8, seed=2, **folders)  # type: ignore[arg-type]

    return {"targets": sampler(targets=targets), "lr": sampler(low=low), "both": sampler(targets=targets, low=low)}


def test_targets_are_cut_and_turned_as_their_originals(samplers: dict[str, CropSampler]) -> None:
    for name in ("targets", "both"):
        for number in range(20):
            hr, _, targets = samplers[name].with_targets(number)
            np.testing.assert_array_equal(targets, 255 - hr)


def test_given_low_resolution_images_are_what_shrinking_would_give(samplers: dict[str, CropSampler]) -> None:
    # Of images that were shrunk by this package, so that all three samplers must draw the same pairs.
    for number in range(20):
        pairs = {name: sampler(number) for name, sampler in samplers.items()}
        for name in ("lr", "both"):
            np.testing.assert_array_equal(pairs[name][0], pairs["targets"][0])
            np.testing.assert_array_equal(pairs[name][1], pairs["targets"][1])


def test_given_low_resolution_images_are_used_to_the_bit(tmp_path: Path, maps: Path) -> None:
    # Pixel (y, x) of the low-resolution image holds y and x, and so does each of the 4x4 pixels above it.
    y, x = np.mgrid[:12, :14]
    low = np.stack([y, x, 0 * x], 2).astype(np.uint8)
    originals = open_cache(fill(tmp_path / "hr", {"a.png": low.repeat(4, 0).repeat(4, 1)}), maps)
    pictures = open_low_resolution(originals, fill(tmp_path / "lr", {"a.png": low}), 4, maps)
    sampler = CropSampler(originals, crop=16, batch=1500, low=pictures)
    hr, lr = sampler(0)
    np.testing.assert_array_equal(hr, lr.repeat(4, 1).repeat(4, 2))
    corners = {tuple(pair.reshape(-1, 3).min(0)[:2].tolist()) for pair in lr}
    assert corners == {(top, left) for top in range(9) for left in range(11)}  # every place is reached


def test_crops_with_targets_start_on_the_grid_of_the_image_that_they_were_made_of(tmp_path: Path, maps: Path) -> None:
    y, x = np.mgrid[:64, :72]
    originals = open_cache(fill(tmp_path / "hr", {"a.png": np.stack([y, x, 0 * x], 2).astype(np.uint8)}), maps)
    targets = open_targets(originals, tmp_path / "hr", maps)
    hr, lr = CropSampler(originals, crop=32, batch=1500, targets=targets)(0)
    corners = {tuple(crop.reshape(-1, 3).min(0)[:2].tolist()) for crop in hr}
    assert corners == {(top, left) for top in range(0, 33, 4) for left in range(0, 41, 4)}
    whole = {
        turn(downscale(originals[0], 4)[t : t + 8, w : w + 8], s).tobytes()
        for t in range(9)
        for w in range(11)
        for s in range(8)
    }
    assert {crop.tobytes() for crop in lr} <= whole


def test_parts_of_a_batch_with_targets_join_to_the_whole(samplers: dict[str, CropSampler]) -> None:
    whole = samplers["both"].with_targets(4)
    parts = [samplers["both"].with_targets(4, part) for part in (range(3), range(3, 8))]
    for n in range(3):
        np.testing.assert_array_equal(np.concatenate([part[n] for part in parts]), whole[n])


def test_there_are_no_targets_without_a_folder_of_them(samplers: dict[str, CropSampler]) -> None:
    assert samplers["lr"].with_targets(0)[2] is None


def test_targets_go_with_degradations_and_low_resolution_images_do_not(
    originals: PixelCache, tmp_path: Path, maps: Path
) -> None:
    spoil = Degradations(blur=(0.5, 2.0), noise=(1, 9), jpeg=(30, 95))
    targets = open_targets(originals, fill(tmp_path / "targets", inverted(originals)), maps)
    hr, lr, found = CropSampler(originals, crop=16, degradations=spoil, targets=targets).with_targets(0)
    np.testing.assert_array_equal(found, 255 - hr)
    clean = CropSampler(originals, crop=16, targets=targets)(0)
    np.testing.assert_array_equal(hr, clean[0])
    assert (lr != clean[1]).any()
    low = open_low_resolution(originals, fill(tmp_path / "lr", shrunk(originals)), 4, maps)
    with pytest.raises(DataError, match="given low-resolution images are not degraded"):
        CropSampler(originals, crop=16, degradations=spoil, low=low)
