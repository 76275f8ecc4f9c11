"""The input is a photograph, or noise that is always the same."""

from pathlib import Path

import numpy as np
import pytest

from srgan_fast.bench.workload import ImageSize, lr_image
from srgan_fast.data.images import Image, write_image
from srgan_fast.errors import ImageError


@pytest.mark.parametrize(
    "size", [ImageSize(1, 1), ImageSize(7, 40), ImageSize(40, 7), ImageSize(128, 128), ImageSize(150, 133)], ids=str
)
def test_the_input_has_the_size_and_the_values_of_8_bits(size: ImageSize) -> None:
    lr, what = lr_image(size)
    assert (lr.shape, lr.dtype, lr.flags.c_contiguous) == ((1, 3, *size), np.float32, True)
    np.testing.assert_array_equal(lr, np.rint(lr * 255).astype(np.float32) / np.float32(255))
    assert what.startswith("astronaut.png, the middle ")
    assert what.endswith(f"resized to {size}")


def test_the_middle_of_a_given_image_is_taken(tmp_path: Path) -> None:
    pixels = np.zeros((10, 30, 3), np.uint8)
    pixels[:, 10:20] = (255, 0, 51)
    write_image(tmp_path / "a.png", Image(pixels))
    lr, what = lr_image(ImageSize(10, 10), tmp_path / "a.png")
    np.testing.assert_allclose(lr[0, :, 4, 4], (1, 0, 0.2))
    np.testing.assert_allclose(lr.mean(axis=(0, 2, 3)), (1, 0, 0.2), rtol=1e-6)
    assert what == "a.png, the middle 10x10 resized to 10x10"


def test_without_samples_the_input_is_noise_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("srgan_fast.data.calibration.samples_folder", lambda: None)
    first, what = lr_image(ImageSize(9, 8))
    np.testing.assert_array_equal(first, lr_image(ImageSize(9, 8))[0])
    assert first.std() > 0.2
    assert what.startswith("noise of seed 0")


def test_an_image_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no such file"):
        lr_image(ImageSize(8, 8), tmp_path / "none.png")
