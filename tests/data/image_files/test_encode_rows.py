"""What is written from rows is byte for byte what is written from the whole image; failures end encoder and file."""

import io
import threading
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

from srgan_fast.data.image_files import icc
from srgan_fast.data.images import ROW_FORMATS, Image, ImageFile, Metadata, RowWriter, Text, encode, read_image
from srgan_fast.errors import ImageError

FULL = Metadata(
    icc=icc.make_profile(2.2, icc.SRGB_PRIMARIES, gray=False),
    exif=b"II*\0\x08\0\0\0\0\0\0\0\0\0",
    xmp=b"<x:xmpmeta/>",
    iptc=b"\x1c\x02\x05\0\x03abc",
    density=(300.0, 150.0),
    texts=(Text("Comment", "one"), Text("Title", "two")),
    gamma=0.45455,
    srgb_intent=0,
)


def _image(height: int, width: int, channels: int, alpha: bool, dtype: Any, metadata: Metadata) -> Image:
    rng = np.random.default_rng(height + width)
    white = np.iinfo(dtype).max
    pixels = rng.integers(0, white, (height, width, channels), dtype, endpoint=True)
    return Image(pixels, rng.integers(0, white, (height, width), dtype) if alpha else None, metadata)


def _write(image: Image, fmt: Any, step: int, file: Any = None, **options: Any) -> tuple[bytes, tuple[str, ...]]:
    file = file or io.BytesIO()
    like = Image(image.pixels[:1, :1], None if image.alpha is None else image.alpha[:1, :1], image.metadata)
    with RowWriter(file, fmt, image.height, image.width, like, **options) as writer:
        for first in range(0, image.height, step):
            part = slice(first, first + step)
            writer.write(Image(image.pixels[part], None if image.alpha is None else image.alpha[part]))
        notes = writer.finish()
    return file.getvalue(), notes


@pytest.mark.parametrize("metadata", [Metadata(), FULL], ids=["bare", "described"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(("channels", "alpha"), [(1, False), (1, True), (3, False), (3, True)])
@pytest.mark.parametrize("fmt", ROW_FORMATS)
def test_bytes_and_words_are_those_of_the_whole(
    fmt: Any, channels: int, alpha: bool, dtype: Any, metadata: Metadata
) -> None:
    image = _image(203, 117, channels, alpha, dtype, metadata)
    whole = encode(ImageFile((image,)), fmt)
    for step in (1, 50, 203):
        data, notes = _write(image, fmt, step)
        assert data == whole.data
        assert notes == whole.notes


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (17, 1), (16, 9)])
@pytest.mark.parametrize("fmt", ROW_FORMATS)
def test_small_and_odd_sizes(fmt: Any, size: tuple[int, int]) -> None:
    image = _image(*size, 3, False, np.uint8, Metadata())
    assert _write(image, fmt, 5)[0] == encode(ImageFile((image,)), fmt).data


@pytest.mark.parametrize("alpha", [False, True])
def test_many_rows_at_once_are_given_in_pieces(monkeypatch: pytest.MonkeyPatch, alpha: bool) -> None:
    from srgan_fast.data.image_files import encode_rows

    monkeypatch.setattr(encode_rows, "_WHOLE_STRIP", 10_000)
    monkeypatch.setattr(encode_rows, "_PIECE", 3_000)
    image = _image(100, 117, 3, alpha, np.uint8, Metadata())
    assert _write(image, "png", 60)[0] == encode(ImageFile((image,)), "png").data


def test_quality_and_compression_are_kept() -> None:
    image = _image(64, 64, 3, False, np.uint8, Metadata())
    assert _write(image, "jpg", 64, quality=60)[0] == encode(ImageFile((image,)), "jpg", 60).data
    assert _write(image, "png", 64, compression=9)[0] == encode(ImageFile((image,)), "png", compression=9).data


def test_opaque_alpha_loses_nothing_in_jpeg() -> None:
    image = _image(40, 40, 3, True, np.uint8, Metadata())
    opaque = Image(image.pixels, np.full((40, 40), 255, np.uint8))
    assert _write(opaque, "jpg", 7)[1] == ()
    assert _write(image, "jpg", 7)[1] == ("transparency (composited on white)",)


def test_files_beyond_4_gb_are_bigtiff(monkeypatch: pytest.MonkeyPatch) -> None:
    from srgan_fast.data.image_files import encode as module

    image = _image(40, 50, 3, False, np.uint8, Metadata())
    assert _write(image, "tif", 8)[0][2] == 42
    monkeypatch.setattr(module, "_BIG_TIFF", 5999)
    data = _write(image, "tif", 8)[0]
    assert data[2] == 43
    np.testing.assert_array_equal(read_image(data).pixels, image.pixels)


def test_sizes_that_a_format_cannot_hold_are_refused_at_once() -> None:
    with pytest.raises(ImageError, match="jpg supports at most 65500 pixels per side"):
        RowWriter(io.BytesIO(), "jpg", 1, 65501, _image(1, 1, 3, False, np.uint8, Metadata()))


class _Full(io.BytesIO):
    """A disk with room for some bytes."""

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > 20_000:
            raise OSError(28, "No space left on device")
        return super().write(data)


@pytest.mark.parametrize("fmt", ROW_FORMATS)
def test_a_full_disk_is_raised_where_rows_are_written(fmt: Any) -> None:
    image = _image(900, 300, 3, False, np.uint8, Metadata())
    with pytest.raises(OSError, match="No space left on device"):
        _write(image, fmt, 10, _Full())
    assert "encoder" not in [thread.name for thread in threading.enumerate()]


@pytest.mark.parametrize("fmt", ROW_FORMATS)
@pytest.mark.parametrize("rows", [0, 1, 450])
def test_who_leaves_in_the_middle_leaves_no_thread_behind(fmt: Any, rows: int) -> None:
    image = _image(900, 300, 3, False, np.uint8, Metadata())
    with suppress(KeyError), RowWriter(io.BytesIO(), fmt, 900, 300, image) as writer:
        if rows:
            writer.write(Image(image.pixels[:rows]))
        raise KeyError
    assert "encoder" not in [thread.name for thread in threading.enumerate()]


def test_missing_rows_are_a_mistake() -> None:
    image = _image(9, 3, 3, False, np.uint8, Metadata())
    with RowWriter(io.BytesIO(), "png", 9, 3, image) as writer:
        writer.write(Image(image.pixels[:4]))
        with pytest.raises(ValueError, match="4 rows of 9"):
            writer.finish()
