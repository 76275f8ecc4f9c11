"""Samples of every type are converted by type or refused in words; none becomes another picture in silence."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvips
import tifffile
from numpy.typing import NDArray

from srgan_fast.data.images import read_file, read_image, read_rows
from srgan_fast.errors import ImageError

RAMP = np.linspace(0, 255, 64, dtype=np.uint8)[None].repeat(16, 0)


def _tiff(values: NDArray[Any], **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, values, **options)
    return file.getvalue()


@pytest.mark.parametrize("channels", [1, 3])
def test_unsigned_32_bits_become_16_by_the_range_of_their_type(channels: int) -> None:
    values = RAMP if channels == 1 else np.stack([RAMP, 255 - RAMP, RAMP // 2], 2)
    data = _tiff(values.astype(np.uint32) * 16843009, photometric="minisblack" if channels == 1 else "rgb")
    file = read_file(data)
    expected = (values.astype(np.uint16) * 257).reshape(16, 64, channels)
    np.testing.assert_array_equal(file.frames[0].pixels, expected)
    assert file.frames[0].pixels.dtype == np.uint16
    assert file.notes == ("the lower 16 of 32 bits",)


def test_small_numbers_in_32_bits_are_refused_and_not_black() -> None:
    with pytest.raises(ImageError, match="none is above 4095; as an image it would be black"):
        read_image(_tiff(np.full((4, 4), 4095, np.uint32), photometric="minisblack"))


def test_all_black_in_32_bits_is_black() -> None:
    assert (read_image(_tiff(np.zeros((4, 4), np.uint32), photometric="minisblack")).pixels == 0).all()


@pytest.mark.parametrize(("dtype", "bits"), [(np.int8, 8), (np.int16, 16), (np.int32, 32)])
def test_signed_samples_are_refused_with_their_width(dtype: Any, bits: int) -> None:
    with pytest.raises(ImageError, match=f"has signed samples of {bits} bits.*convert them to unsigned 8 or 16 bits"):
        read_image(_tiff(RAMP.astype(dtype), photometric="minisblack"))


def test_floating_point_is_refused_in_clear_words() -> None:
    with pytest.raises(ImageError, match=r"has floating-point or Lab samples.*convert them to 8 or 16 bits RGB first"):
        read_image(_tiff((RAMP / 255).astype(np.float32), photometric="minisblack"))


@pytest.mark.parametrize("dtype", [np.complex64, np.uint64, np.float64])
def test_samples_that_are_no_pictures_are_refused(dtype: Any) -> None:
    with pytest.raises(ImageError):
        read_image(_tiff(RAMP.astype(dtype), photometric="minisblack"))


def test_16_bits_of_cmyk_stay_16(tmp_path: Path) -> None:
    inks = np.zeros((4, 1024, 4), np.uint16)
    inks[..., 3] = np.arange(1024) * 64
    inks[..., 0] = 65535 - np.arange(1024) * 64
    (tmp_path / "a.tif").write_bytes(_tiff(inks, photometric="separated"))
    image = read_image(tmp_path / "a.tif")
    assert image.pixels.dtype == np.uint16
    assert len(np.unique(image.pixels[0, :, 0])) > 600, "8 bits hold 256 values"
    assert image.metadata.icc is None


def test_channels_without_a_meaning_are_refused() -> None:
    data = pyvips.Image.new_from_array(np.zeros((4, 4, 6), np.uint8)).tiffsave_buffer()
    with pytest.raises(ImageError, match="has 6 channels; 1 to 4 can be read"):
        read_image(bytes(data))


@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "zstd"])
@pytest.mark.parametrize("spoilt", ["cut", "flipped", "whole"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_tiles_that_cannot_be_decoded_are_an_error_and_not_black(
    monkeypatch: pytest.MonkeyPatch, compression: str | None, spoilt: str, orientation: int
) -> None:
    from srgan_fast.data.image_files import decode_extra

    monkeypatch.setattr(decode_extra, "is_rare", lambda _: False)  # tifffile has more codecs than libvips
    noise = np.random.default_rng(4).integers(0, 256, (150, 91, 3), np.uint8)
    options: dict[str, Any] = {"extratags": [(274, 3, 1, orientation, True)]} if orientation > 1 else {}
    data = bytearray(_tiff(noise, tile=(32, 48), photometric="rgb", compression=compression, **options))
    if spoilt == "cut":
        del data[len(data) * 2 // 3 :]
    if spoilt == "flipped":
        middle = len(data) // 2
        data[middle : middle + 40] = bytes(40)
    readable = spoilt == "whole" or (spoilt == "flipped" and compression is None)
    if readable and compression != "zstd":
        upright = noise if orientation == 1 else np.rot90(noise, -1)
        assert (read_image(bytes(data)).pixels == upright).mean() > 0.99
        return
    with pytest.raises(ImageError, match="cannot be read as an image"):
        read_image(bytes(data))
    rows = read_rows(bytes(data))
    if rows is not None:
        with pytest.raises(ImageError, match="cannot be read as an image"):
            rows.begin()(rows.height)
