"""Pixels come back from every format as they went in, as far as it holds them."""

import io
from typing import Any

import numpy as np
import PIL.Image
import pytest
from numpy.typing import NDArray

from srgan_fast.data.images import FORMAT_OF_SUFFIX, Format, Image, ImageFile, encode, read_file

FORMATS: list[Format] = sorted(set(FORMAT_OF_SUFFIX.values()))
LOSSLESS = ("png", "apng", "tif", "webp", "avif")
# Most steps of 8 bits that a pixel may differ by, at quality 100.
ERROR = {"jpg": 6, "gif": 40}


def _image(channels: int, dtype: Any, alpha: bool) -> Image:
    y, x = np.mgrid[:40, :64]
    planes = [4 * x, 6 * y, 250 - 2 * x - 2 * y][:channels]
    pixels: NDArray[Any] = np.stack(planes, 2).astype(np.uint8).astype(dtype)
    mask: NDArray[Any] = np.where(x < 32, 255, 0).astype(dtype)
    factor = dtype(257 if dtype == np.uint16 else 1)
    return Image(pixels * factor, mask * factor if alpha else None)


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("fmt", FORMATS)
def test_pixels_come_back(fmt: Format, channels: int, dtype: Any, alpha: bool) -> None:
    image = _image(channels, dtype, alpha)
    encoded = encode(ImageFile((image,)), fmt, quality=100)
    again = read_file(encoded.data).frames[0]
    wide = dtype == np.uint16
    said = {
        "the lower 8 of 16 bits": wide and fmt in ("jpg", "webp", "gif"),
        "the lower 4 of 16 bits": wide and fmt == "avif",
    }
    said["transparency (composited on white)"] = alpha and fmt == "jpg"
    assert sorted(encoded.notes) == sorted(note for note, is_so in said.items() if is_so)
    assert again.pixels.dtype == (np.uint16 if wide and fmt in ("png", "apng", "tif", "avif") else np.uint8)
    scale = 257 if again.pixels.dtype == np.uint16 else 1
    visible = image.alpha > 0 if image.alpha is not None else np.ones((40, 64), bool)
    difference = again.rgb() / scale - image.rgb() / (257 if wide else 1)
    assert np.abs(difference[visible]).max() <= ERROR.get(fmt, 0.1 if fmt == "avif" and wide else 0)
    if alpha and fmt != "jpg":
        assert again.alpha is not None
        np.testing.assert_array_equal(again.alpha / scale, image.alpha / (257 if wide else 1))


@pytest.mark.parametrize("fmt", [fmt for fmt in FORMATS if fmt != "apng"])
def test_pillow_reads_what_is_written(fmt: Format) -> None:
    image = _image(3, np.uint8, False)
    with PIL.Image.open(io.BytesIO(encode(ImageFile((image,)), fmt, quality=100).data)) as got:
        assert got.format == {"jpg": "JPEG", "tif": "TIFF"}.get(fmt, fmt.upper())
        assert np.abs(np.asarray(got.convert("RGB")).astype(int) - image.pixels).max() <= ERROR.get(fmt, 1)


def test_a_higher_compression_of_png_is_smaller_and_the_same() -> None:
    image = _image(3, np.uint8, False)
    files = [encode(ImageFile((image,)), "png", compression=level).data for level in (0, 4, 9)]
    assert len(files[0]) > len(files[1]) >= len(files[2])
    for data in files:
        np.testing.assert_array_equal(read_file(data).frames[0].pixels, image.pixels)
