"""Colour that an AVIF tells in numbers: kept where the format can, else converted or said."""

import io
import struct
from typing import Any

import numpy as np
import PIL.features
import PIL.Image
import PIL.ImageCms
import pytest
from numpy.typing import NDArray

from srgan_fast.data.image_files.boxes import read_colour
from srgan_fast.data.image_files.image import Metadata
from srgan_fast.data.images import Format, encode, read_file

BT2020, P3, PQ, SRGB_CURVE = 9, 12, 16, 13


def _pixels() -> NDArray[np.uint8]:
    y, x = np.mgrid[:32, :48]
    return np.stack([40 + 2 * y, 30 + 2 * x, 200 - y - x], 2).astype(np.uint8)


def _avif(primaries: int = 1, transfer: int = SRGB_CURVE, full_range: bool = True, **options: Any) -> bytes:
    if not PIL.features.check("avif"):
        pytest.skip("Pillow without AVIF")
    file = io.BytesIO()
    PIL.Image.fromarray(_pixels()).save(file, "AVIF", quality=95, subsampling="4:4:4", **options)
    data = bytearray(file.getvalue())
    at = data.index(b"colrnclx") + 8
    data[at : at + 4] = struct.pack(">HH", primaries, transfer)
    data[at + 6] = full_range << 7
    return bytes(data)


@pytest.mark.parametrize(("primaries", "transfer"), [(P3, SRGB_CURVE), (BT2020, PQ), (BT2020, 18), (1, 8), (22, 1)])
def test_colour_of_an_avif_is_kept_in_a_png(primaries: int, transfer: int) -> None:
    file = read_file(_avif(primaries, transfer))
    assert np.abs(file.frames[0].pixels.astype(int) - _pixels()).max() <= 5
    encoded = encode(file, "png")
    assert encoded.notes == file.notes == ()
    assert encoded.data.count(b"cICP" + bytes([primaries, transfer, 0, 1])) == 1


@pytest.mark.parametrize(("primaries", "transfer"), [(1, 13), (1, 1), (2, 2), (1, 6)])
def test_srgb_of_an_avif_needs_no_chunk(primaries: int, transfer: int) -> None:
    assert read_file(_avif(primaries, transfer)).frames[0].metadata == Metadata()


@pytest.mark.parametrize("fmt", ["jpg", "webp", "tif", "avif"])
def test_primaries_of_an_avif_become_a_profile_elsewhere(fmt: Format) -> None:
    encoded = encode(read_file(_avif(P3)), fmt)
    assert encoded.notes == ()
    profile = PIL.Image.open(io.BytesIO(encoded.data)).info["icc_profile"]
    red = PIL.ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile.red_primary
    assert red is not None
    # Display P3's red adapted to D50, as in Apple's profile.
    assert red[0][:2] == pytest.approx((0.5151, 0.2412), abs=2e-3)


def test_gif_gets_pixels_of_an_avif_converted_to_srgb() -> None:
    encoded = encode(read_file(_avif(P3)), "gif")
    assert "profile (converted to sRGB; gif cannot store it)" in encoded.notes


@pytest.mark.parametrize("fmt", ["jpg", "avif"])
def test_hdr_of_an_avif_is_said_where_no_profile_can_tell_it(fmt: Format) -> None:
    assert encode(read_file(_avif(BT2020, PQ)), fmt).notes == ("cICP chunk (primaries 9, transfer curve 16)",)


def test_a_profile_of_an_avif_comes_before_numbers() -> None:
    profile = PIL.ImageCms.ImageCmsProfile(PIL.ImageCms.createProfile("sRGB")).tobytes()
    metadata = read_file(_avif(P3, icc_profile=profile)).frames[0].metadata
    assert metadata.icc == profile
    assert metadata.cicp is None


def test_limited_range_of_an_avif_is_stretched() -> None:
    """The values of a file that is called limited are those of the full range, stretched by 255/219."""
    full = read_file(_avif()).frames[0].pixels.astype(float)
    inner = (full > 60).all(axis=2) & (full < 190).all(axis=2)
    limited = read_file(_avif(full_range=False)).frames[0].pixels.astype(float)
    luma = full[inner] @ [0.299, 0.587, 0.114]
    assert np.abs(limited[inner] @ [0.299, 0.587, 0.114] - (luma - 16) * 255 / 219).max() < 2


def _box(kind: bytes, *content: bytes, long: bool = False) -> bytes:
    body = b"".join(content)
    if long:
        return struct.pack(">I4sQ", 1, kind, len(body) + 16) + body
    return struct.pack(">I4s", len(body) + 8, kind) + body


@pytest.mark.parametrize("long", [False, True])
@pytest.mark.parametrize("wide", [False, True])
def test_only_properties_of_the_primary_image_count(wide: bool, long: bool) -> None:
    version, flags, item = (b"\1", b"\0\0\1", ">I") if wide else (b"\0", b"\0\0\0", ">H")
    colour = [_box(b"colr", b"nclx" + struct.pack(">HHHB", *values, 0, 128)) for values in ((9, 18), (12, 13))]
    mastering = struct.pack(">8HII", 8500, 39850, 6550, 2300, 35400, 14600, 15635, 16450, 10_000_000, 1)
    more = [_box(b"mdcv", mastering), _box(b"clli", struct.pack(">HH", 1000, 400)), _box(b"pasp", b"\0\0\0\1\0\0\0\2")]
    numbers = struct.pack(">HHHH", 0x8002, 3, 4, 5) if wide else b"\x82\3\4\5"
    other = struct.pack(">H", 0x8001) if wide else b"\x81"
    associations = struct.pack(item, 1) + b"\1" + other + struct.pack(item, 2) + b"\4" + numbers
    meta = _box(
        b"meta", bytes(4),
        _box(b"pitm", version, bytes(3), struct.pack(item, 2)),
        _box(
            b"iprp", _box(b"ipco", *colour, *more),
            _box(b"ipma", version, flags, struct.pack(">I", 2), associations),
        ),
        long=long,
    )  # fmt: skip
    metadata, notes = read_colour(io.BytesIO(_box(b"ftyp", b"avif" + bytes(4)) + meta), Metadata())
    assert metadata.cicp == (12, 13, 0, 1)
    expected = struct.pack(">8HII", 35400, 14600, 8500, 39850, 6550, 2300, 15635, 16450, 10_000_000, 1)
    assert metadata.mastering_display == expected
    assert metadata.light_levels == struct.pack(">II", 10_000_000, 4_000_000)
    assert notes == ["shape of its pixels (1:2 instead of square)"]


def test_damaged_boxes_never_raise() -> None:
    data = _avif(P3)
    end = data.index(b"mdat")
    rng = np.random.default_rng(0)
    for _ in range(500):
        damaged = bytearray(data[:end])
        for at in rng.integers(0, end, 3):
            damaged[at] = rng.integers(0, 256)
        read_colour(io.BytesIO(bytes(damaged)), Metadata())
