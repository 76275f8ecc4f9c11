"""Rows of a file are those of the whole image, with the same words about it; damage is found by both or by neither."""

import io
from typing import Any

import numpy as np
import PIL.Image
import pytest
import pyvips
import tifffile

from srgan_fast.data.image_files import icc
from srgan_fast.data.images import (
    Image,
    ImageFile,
    Metadata,
    RowSource,
    Text,
    Timing,
    encode,
    encode_image,
    read_file,
    read_image,
    read_rows,
)
from srgan_fast.errors import ImageError

RNG = np.random.default_rng(3)
COLOURS = RNG.integers(0, 256, (150, 91, 3), np.uint8)
# Photographs' rows differ little, which decoders of JPEG need.
SMOOTH = (np.add.outer(np.arange(150) * 0.7, np.arange(91))[..., None] + [0, 20, 40]).astype(np.uint8)
METADATA = Metadata(
    icc=icc.make_profile(2.2, icc.SRGB_PRIMARIES, gray=False), density=(300.0, 300.0), texts=(Text("Comment", "words"),)
)


def _pil(image: Any, fmt: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, fmt, **options)
    return file.getvalue()


def _tiff(values: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, values, photometric="rgb" if values.ndim == 3 else "minisblack", **options)
    return file.getvalue()


def _png(pixels: Any, **options: Any) -> bytes:
    return bytes(pyvips.Image.new_from_array(pixels).pngsave_buffer(**options))


def _exif(orientation: int) -> bytes:
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


PICTURES: dict[str, bytes] = {
    "png": encode_image(Image(COLOURS, None, METADATA), "png"),
    "png with alpha": encode_image(Image(COLOURS, COLOURS[:, :, 0].copy()), "png"),
    "png, gray with alpha": encode_image(Image(COLOURS[:, :, :1], COLOURS[:, :, 1].copy()), "png"),
    "png of 16 bits": encode_image(Image(COLOURS.astype(np.uint16) * 250), "png"),
    "png of one bit": _pil(PIL.Image.fromarray(COLOURS).convert("1"), "PNG"),
    "png with a palette": _pil(PIL.Image.fromarray(SMOOTH).quantize(40), "PNG", transparency=3),
    "interlaced png": _png(COLOURS, interlace=True),
    "jpg": encode_image(Image(SMOOTH, None, METADATA), "jpg"),
    "gray jpg": encode_image(Image(SMOOTH[:, :, :1]), "jpg"),
    "progressive jpg": _pil(PIL.Image.fromarray(SMOOTH), "JPEG", progressive=True),
    "cmyk jpg": _pil(PIL.Image.fromarray(SMOOTH).convert("CMYK"), "JPEG"),
    "webp": encode_image(Image(COLOURS), "webp", 80),
    "tif": encode_image(Image(COLOURS, COLOURS[:, :, 2].copy(), METADATA), "tif"),
    "tif in tiles": _tiff(COLOURS, tile=(32, 48), compression="zlib"),
    "tif in one strip": _tiff(COLOURS, rowsperstrip=150, compression="zlib"),
    "tif in planes": _tiff(COLOURS.transpose(2, 0, 1).copy(), planarconfig="separate"),
    "tif of 16 bits": _tiff(COLOURS.astype(np.uint16) * 250, byteorder=">"),
    "jpeg in tif": _tiff(SMOOTH, compression="jpeg", tile=(64, 64)),
    **{
        f"turned {i}": _pil(PIL.Image.fromarray(SMOOTH), "JPEG", exif=_exif(i)) for i in range(2, 9)
    },
}  # fmt: skip


def _all_rows(source: RowSource, step: int) -> Image:
    following, parts = source.begin(), []
    for first in range(0, source.height, step):
        parts.append(following(min(step, source.height - first)))
        assert parts[-1].pixels.shape[1] == source.width
    alphas = [part.alpha for part in parts if part.alpha is not None]
    pixels = np.concatenate([part.pixels for part in parts])
    return Image(pixels, np.concatenate(alphas) if alphas else None, parts[0].metadata)


@pytest.mark.parametrize("step", [1, 7, 64, 1000])
@pytest.mark.parametrize("name", PICTURES)
def test_rows_are_those_of_the_whole_image(name: str, step: int) -> None:
    whole = read_file(PICTURES[name])
    (frame,) = whole.frames
    source = read_rows(PICTURES[name])
    assert source is not None
    assert (source.height, source.width, source.dtype) == (frame.height, frame.width, frame.pixels.dtype)
    assert (source.is_gray, source.has_alpha) == (frame.is_gray, frame.alpha is not None)
    assert source.metadata == frame.metadata
    assert source.notes == whole.notes
    for _ in range(2):  # each begin starts at the top
        got = _all_rows(source, step)
        np.testing.assert_array_equal(got.pixels, frame.pixels)
        assert (got.alpha is None) == (frame.alpha is None)
        if frame.alpha is not None:
            np.testing.assert_array_equal(got.alpha, frame.alpha)


def test_what_decoders_hold_of_an_image_is_told() -> None:
    def held(name: str) -> int:
        source = read_rows(PICTURES[name])
        assert source is not None
        return source.held

    area = 150 * 91
    assert [held(name) for name in ("png", "jpg", "tif", "tif in tiles")] == [0] * 4
    assert held("interlaced png") == 3 * area
    assert held("progressive jpg") == 6 * area
    assert held("webp") == 4 * area
    assert held("turned 6") == 3 * area


@pytest.mark.parametrize(
    "data",
    [
        encode(ImageFile((Image(COLOURS), Image(255 - COLOURS)), Timing((50, 50))), "webp").data,
        encode(ImageFile((Image(COLOURS), Image(255 - COLOURS)), Timing((50, 50))), "apng").data,
        encode(ImageFile((Image(COLOURS), Image(255 - COLOURS))), "tif").data,
        encode_image(Image(SMOOTH), "gif"),
        _tiff(COLOURS.astype(np.uint32) * 16843009),
        _tiff(COLOURS, compression="zstd"),
        _tiff(COLOURS, compression="zstd", tile=(32, 32)),
        _pil(PIL.Image.fromarray(SMOOTH), "BMP"),
        b"no picture",
    ],
    ids=["webp of two", "apng", "two pages", "gif", "32 bits", "zstd", "tiles of zstd", "bmp", "text"],
)
def test_other_files_are_left_to_those_who_read_them_whole(data: bytes) -> None:
    assert read_rows(data) is None


def test_samples_without_black_and_white_are_refused_as_ever() -> None:
    with pytest.raises(ImageError, match="has floating-point or Lab samples"):
        read_rows(_tiff(COLOURS.astype(np.float32)))


def _reads(data: bytes, by_rows: bool) -> bool:
    try:
        if not by_rows or (source := read_rows(data)) is None:
            read_image(data)
        else:
            _all_rows(source, 50)
    except ImageError as error:
        message = str(error)
    else:
        return True
    assert message.startswith("standard input: cannot be read as an image (")
    assert "\n" not in message
    return False


@pytest.mark.parametrize("name", ["png", "interlaced png", "jpg", "progressive jpg", "webp", "tif", "tif in tiles"])
def test_damage_is_found_by_rows_where_it_is_found_in_the_whole(name: str) -> None:
    data = PICTURES[name]
    rng = np.random.default_rng(1)
    found = 0
    for cut in [*range(len(data) - 12, len(data)), *rng.integers(50, len(data), 40)]:
        assert _reads(data[:cut], True) == _reads(data[:cut], False), f"cut to {cut} bytes"
        found += not _reads(data[:cut], True)
    for at in rng.integers(50, len(data), 40):
        spoilt = bytearray(data)
        spoilt[at] ^= 1 << rng.integers(8)
        assert _reads(bytes(spoilt), True) == _reads(bytes(spoilt), False), f"a bit of byte {at}"
    assert found > 30
