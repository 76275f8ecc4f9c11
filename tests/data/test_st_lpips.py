"""ST-LPIPS is the package's, of 8-bit images as they are, and leaves no trace of what the package imports in vain."""

import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from srgan_fast.data import st_lpips as module
from srgan_fast.data.images import read_image
from srgan_fast.data.resize import crop_to_multiple, downscale, resize_bicubic
from srgan_fast.data.st_lpips import MIN_SIDE, available, st_lpips
from srgan_fast.errors import DataError

pytest.importorskip("stlpips_pytorch")


def image(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def test_equal_images_are_at_distance_0_and_others_farther_the_more_they_differ() -> None:
    a = image(40, 50, 3)
    near, far = a // 8 * 8, a // 64 * 64
    assert st_lpips(a, a) == 0
    assert 0 < st_lpips(a, near) < st_lpips(a, far)


def test_gray_is_repeated_to_three_channels() -> None:
    a, b = image(30, 34, 1), image(30, 34, 1, seed=1)
    assert st_lpips(a, b) == pytest.approx(st_lpips(np.repeat(a, 3, axis=2), np.repeat(b, 3, axis=2)), rel=1e-6)


def test_images_below_its_smallest_size_and_of_different_shapes_are_refused() -> None:
    smallest = image(MIN_SIDE, MIN_SIDE + 1, 3)
    assert st_lpips(smallest, 255 - smallest) > 0
    small = image(MIN_SIDE - 1, 40, 3)
    with pytest.raises(DataError, match=f"needs images of {MIN_SIDE} pixels a side, got 40x{MIN_SIDE - 1}"):
        st_lpips(small, small)
    with pytest.raises(DataError, match="images of one shape"):
        st_lpips(image(40, 40, 3), image(40, 41, 3))


def test_what_the_package_imports_without_using_it_is_not_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "stlpips_pytorch"]:
        monkeypatch.delitem(sys.modules, name)
    module._network.cache_clear()
    absent = [name for name in ("IPython", "torchsummary") if find_spec(name) is None]
    assert available()
    st_lpips(image(32, 32, 3), image(32, 32, 3, seed=1))
    assert not set(absent) & sys.modules.keys()


def test_without_the_package_it_is_not_available(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == "stlpips_pytorch" else find_spec(name))
    assert not available()


@pytest.mark.data
def test_bicubic_interpolation_has_the_known_distance_on_set5(data_folder: Path) -> None:
    distances = []
    for path in sorted((data_folder / "test" / "Set5" / "HR").iterdir()):
        hr = crop_to_multiple(read_image(path).pixels.astype(np.uint8), 4)
        distances.append(st_lpips(hr, resize_bicubic(downscale(hr, 4), *hr.shape[:2])))
    assert np.mean(distances) == pytest.approx(0.326, abs=0.002)
