"""What describes the pixels, one test for each row of the table in docs/formats.md, seen by Pillow."""

import io
import json
import shutil
import struct
import subprocess
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.ExifTags
import PIL.Image
import PIL.ImageCms
import PIL.ImageOps
import PIL.IptcImagePlugin
import PIL.PngImagePlugin
import pytest
import pyvips
from numpy.typing import NDArray

from srgan_fast.data.images import Encoded, Format, Image, encode, image_size, read_file, read_image, read_rows
from srgan_fast.errors import ImageError

FORMATS: list[Format] = ["png", "jpg", "webp", "tif", "gif", "avif"]
HAVE_DENSITY = ("png", "jpg", "tif")
SRGB = PIL.ImageCms.ImageCmsProfile(PIL.ImageCms.createProfile("sRGB")).tobytes()


def _pixels() -> NDArray[np.uint8]:
    y, x = np.mgrid[:32, :48]
    return np.stack([40 + 2 * y, 30 + 2 * x, 200 - y - x], 2).astype(np.uint8)


def _file(fmt: str, mode: str = "RGB", **options: Any) -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(_pixels()).convert(mode).save(file, fmt, **options)
    return file.getvalue()


def _png_with(*chunks: tuple[bytes, bytes]) -> bytes:
    data = _file("PNG")
    extra = b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    return data[:33] + extra + data[33:]


def _jpeg_with(*segments: tuple[int, bytes]) -> bytes:
    data = _file("JPEG", quality=95)
    return data[:2] + b"".join(struct.pack(">BBH", 255, m, len(d) + 2) + d for m, d in segments) + data[2:]


def _written(data: bytes, fmt: Format) -> tuple[Encoded, PIL.Image.Image]:
    encoded = encode(read_file(data), fmt)
    return encoded, PIL.Image.open(io.BytesIO(encoded.data))


# -- resolution --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("source", ["JPEG", "PNG", "TIFF"])
def test_resolution_is_kept_or_said(source: str, fmt: Format) -> None:
    encoded, got = _written(_file(source, dpi=(300, 150)), fmt)
    if fmt in HAVE_DENSITY:
        assert got.info["dpi"] == pytest.approx((300, 150), rel=1e-4)
        assert encoded.notes == ()
    else:
        assert "resolution (300 dpi)" in encoded.notes
        assert "dpi" not in got.info


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("source", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_nothing_is_invented_for_images_without_descriptions(source: str, fmt: Format) -> None:
    encoded, got = _written(_file(source), fmt)
    assert encoded.notes == ()
    assert "exif" not in got.info
    if fmt == "tif":
        assert got.tag_v2[296] == 1, "no unit"
    else:
        assert "dpi" not in got.info
        assert not got.getexif()
    assert not {"icc_profile", "xmp", "gamma", "srgb", "comment"} & got.info.keys()


def test_resolution_of_a_turned_image_is_turned() -> None:
    exif = PIL.Image.Exif()
    exif[0x112] = 6
    assert _written(_file("JPEG", dpi=(300, 150), exif=exif), "png")[1].info["dpi"] == pytest.approx(
        (150, 300), rel=1e-4
    )


# -- profiles and colour chunks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("fmt", FORMATS)
def test_a_profile_is_kept_byte_for_byte_or_the_pixels_are_converted(fmt: Format) -> None:
    encoded, got = _written(_file("PNG", icc_profile=SRGB), fmt)
    if fmt == "gif":
        assert "profile (converted to sRGB; gif cannot store it)" in encoded.notes
    else:
        assert got.info["icc_profile"] == SRGB
        assert encoded.notes == ()


def test_a_gray_profile_becomes_srgb_on_the_way_to_webp_which_has_no_gray() -> None:
    from srgan_fast.data.image_files import icc

    profile = icc.make_profile(1.0, icc.SRGB_PRIMARIES, gray=True)
    encoded, got = _written(_file("PNG", "L", icc_profile=profile), "webp")
    assert encoded.notes == ("profile (converted to sRGB; webp cannot store it)",)
    assert "icc_profile" not in got.info
    linear = np.asarray(PIL.Image.fromarray(_pixels()).convert("L"), np.float64) / 255
    expected = icc.linear_to_srgb(linear) * 255
    assert np.abs(np.asarray(got.convert("L")) - expected).mean() < 3


def test_a_gray_profile_is_kept_where_there_is_gray() -> None:
    from srgan_fast.data.image_files import icc

    profile = icc.make_profile(1.0, icc.SRGB_PRIMARIES, gray=True)
    fmts: list[Format] = ["png", "jpg", "tif"]
    for fmt in fmts:
        assert _written(_file("PNG", "L", icc_profile=profile), fmt)[1].info["icc_profile"] == profile


P3 = struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)


@pytest.mark.parametrize(
    ("kind", "data"),
    [(b"gAMA", struct.pack(">I", 100000)), (b"cHRM", P3), (b"cICP", bytes([12, 13, 0, 1])), (b"sRGB", b"\1")],
    ids=lambda value: value.decode("latin-1") if len(value) == 4 and value.isalpha() else "",
)
def test_colour_chunks_of_png_are_kept(kind: bytes, data: bytes) -> None:
    encoded = encode(read_file(_png_with((kind, data))), "png")
    assert encoded.data.count(kind + data) == 1
    assert encoded.data.index(kind) < encoded.data.index(b"IDAT")
    assert encoded.notes == ()


@pytest.mark.parametrize("fmt", ["jpg", "webp", "tif", "avif"])
def test_colour_chunks_of_png_become_a_profile_elsewhere(fmt: Format) -> None:
    """Held against the same colours in sRGB by LittleCMS."""
    data = _png_with((b"gAMA", struct.pack(">I", 100000)), (b"cHRM", P3))
    encoded, got = _written(data, fmt)
    assert encoded.notes == ()
    profile = PIL.ImageCms.ImageCmsProfile(io.BytesIO(got.info["icc_profile"]))
    patch = PIL.Image.new("RGB", (1, 1), (128, 128, 128))
    shown = PIL.ImageCms.profileToProfile(patch, profile, PIL.ImageCms.createProfile("sRGB"))
    assert np.abs(np.asarray(shown).astype(int) - 188).max() <= 1  # linear 0.5
    primaries = profile.profile.red_primary
    assert primaries is not None
    # The ICC red of Display P3 adapted to D50, as in Apple's profile: X 0.5151, Y 0.2412.
    assert primaries[0][:2] == pytest.approx((0.5151, 0.2412), abs=2e-3)


MASTERING = struct.pack(">8HII", 35400, 14600, 8500, 39850, 6550, 2300, 15635, 16450, 10_000_000, 1)
LIGHT = struct.pack(">II", 10_000_000, 4_000_000)


@pytest.mark.parametrize("fmt", FORMATS)
def test_hdr_display_and_light_levels_are_kept_beside_cicp_or_said(fmt: Format) -> None:
    source = _png_with((b"cICP", bytes([9, 16, 0, 1])), (b"mDCV", MASTERING), (b"cLLI", LIGHT))
    encoded = encode(read_file(source), fmt)
    if fmt == "png":
        kinds = dict(_chunks(encoded.data))
        assert (kinds[b"mDCV"], kinds[b"cLLI"]) == (MASTERING, LIGHT)
        assert list(kinds).index(b"cICP") < list(kinds).index(b"mDCV") < list(kinds).index(b"IDAT")
        assert encoded.notes == ()
    else:
        assert "HDR display and light levels (mDCV and cLLI)" in encoded.notes


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Chunks of a PNG with their checksums verified."""
    at = 8
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", data, at + 8 + length)[0] == zlib.crc32(kind + body)
        yield kind, body
        at += 12 + length


@pytest.mark.parametrize(
    ("kind", "data", "note"),
    [
        (b"tIME", struct.pack(">H5B", 2026, 1, 2, 3, 4, 5), "time of last modification (tIME chunk)"),
        (b"sBIT", b"\5\6\5", "significant bits (sBIT chunk)"),
        (b"bKGD", bytes(6), "background (bKGD chunk)"),
        (b"sPLT", b"name\0\x08" + bytes(6), "suggested palette (sPLT chunk)"),
        (b"oFFs", bytes(9), "position on a page (oFFs chunk)"),
        (b"sCAL", b"\x011\x002", "physical size of the subject (sCAL chunk)"),
        (b"pCAL", b"a\0" + bytes(8) + b"\0\0m", "physical values of samples (pCAL chunk)"),
        (b"sTER", b"\0", "stereo pair (sTER chunk)"),
        (b"dSIG", bytes(4), "signature (dSIG chunk)"),
        (b"caBX", bytes(9), "content credentials (caBX chunk)"),
        (b"prVt", b"x", "prVt chunk"),
        (b"pHYs", struct.pack(">IIB", 1, 2, 0), "shape of its pixels (2:1 instead of square)"),
        (b"mDCV", b"short", "mDCV chunk (it is damaged)"),
        (b"zTXt", b"a\0\0packed", "zTXt chunk (it is damaged)"),
        (b"iCCP", b"a\0\0packed", "profile (it is damaged)"),
    ],
)
def test_every_other_chunk_of_a_png_is_said(kind: bytes, data: bytes, note: str) -> None:
    file = read_file(_png_with((kind, data)))
    assert file.notes == (note,)
    assert kind not in encode(file, "png").data


def test_a_histogram_of_a_palette_is_said() -> None:
    data = _file("PNG", "P")
    at = data.index(b"IDAT") - 4
    chunk = b"hIST" + bytes(2 * (data.index(b"IDAT") - data.index(b"PLTE") - 12) // 3)
    extra = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    assert read_file(data[:at] + extra + data[at:]).notes == ("histogram (hIST chunk)",)


def test_offsets_of_pixels_in_a_screenshot_are_no_loss() -> None:
    assert read_file(_png_with((b"iDOT", bytes(28)))).notes == ()


def test_colours_that_need_cicp_are_said_where_there_is_none() -> None:
    encoded = encode(read_file(_png_with((b"cICP", bytes([9, 16, 0, 1])))), "jpg")
    assert encoded.notes == ("cICP chunk (primaries 9, transfer curve 16)",)


# -- EXIF --------------------------------------------------------------------------------------------------------------


def _exif_with_thumbnail(orientation: int, order: str = "<") -> bytes:
    """A camera's name, the size, and a thumbnail of two halves, black above white, as the sensor lies."""
    half = np.zeros((16, 24, 3), np.uint8)
    half[8:] = 255
    file = io.BytesIO()
    PIL.Image.fromarray(half).save(file, "JPEG", quality=95)
    small = file.getvalue()

    def entry(tag: int, kind: int, count: int, value: int) -> bytes:
        number = struct.pack(f"{order}HH", value, 0) if kind == 3 else struct.pack(f"{order}I", value)
        return struct.pack(f"{order}HHI", tag, kind, count) + number

    first = [entry(0x10F, 2, 9, 100), entry(0x112, 3, 1, orientation), entry(0x8769, 4, 1, 112)]
    body = struct.pack(f"{order}H", 3) + b"".join(first) + struct.pack(f"{order}I", 142)
    sub = struct.pack(f"{order}H", 2) + entry(0xA002, 3, 1, 48) + entry(0xA003, 3, 1, 32) + bytes(4)
    second = struct.pack(f"{order}H", 3) + entry(0x103, 3, 1, 6) + entry(0x201, 4, 1, 184)
    second += entry(0x202, 4, 1, len(small)) + bytes(4)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    parts = {0: head + body, 100: b"a camera\0", 112: sub, 142: second, 184: small}
    block = bytearray(184 + len(small))
    for at, data in parts.items():
        block[at : at + len(data)] = data
    return bytes(block)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("fmt", ["png", "jpg", "webp", "avif"])
def test_exif_is_kept_upright_and_with_the_size_of_the_result(fmt: Format, order: str) -> None:
    data = _jpeg_with((0xE1, b"Exif\0\0" + _exif_with_thumbnail(6, order)))
    encoded, got = _written(data, fmt)
    assert encoded.notes == ()
    assert got.size == (32, 48)
    exif = got.getexif()
    assert exif.get(0x112, 1) == 1
    assert exif[0x10F] == "a camera"
    inner = exif.get_ifd(0x8769)
    assert (inner[0xA002], inner[0xA003]) == (32, 48)


@pytest.mark.parametrize(
    ("orientation", "black_side"), [(1, "top"), (3, "bottom"), (6, "right"), (8, "left"), (5, "left"), (2, "top")]
)
def test_the_thumbnail_is_turned_like_the_image(orientation: int, black_side: str) -> None:
    data = _jpeg_with((0xE1, b"Exif\0\0" + _exif_with_thumbnail(orientation)))
    block = encode(read_file(data), "png").data
    exif = PIL.Image.open(io.BytesIO(block)).getexif()
    small = exif.get_ifd(PIL.ExifTags.IFD.IFD1)
    raw = PIL.Image.open(io.BytesIO(block)).info["exif"].removeprefix(b"Exif\0\0")
    thumbnail = np.asarray(PIL.Image.open(io.BytesIO(raw[small[0x201] : small[0x201] + small[0x202]])).convert("L"))
    rows, columns = thumbnail.shape
    sides = {
        "top": thumbnail[: rows // 3],
        "bottom": thumbnail[-rows // 3 :],
        "left": thumbnail[:, : columns // 3],
        "right": thumbnail[:, -columns // 3 :],
    }
    assert min(sides, key=lambda side: sides[side].mean()) == black_side
    assert thumbnail.shape == ((24, 16) if orientation >= 5 else (16, 24))


@pytest.mark.parametrize("fmt", ["tif", "gif"])
def test_exif_is_said_where_it_is_not_kept(fmt: Format) -> None:
    assert "EXIF" in encode(read_file(_jpeg_with((0xE1, b"Exif\0\0" + _exif_with_thumbnail(1)))), fmt).notes


def test_damaged_exif_is_dropped_and_said() -> None:
    file = read_file(_jpeg_with((0xE1, b"Exif\0\0II*\0\xff\xff\xff\xff")))
    assert file.notes == ("EXIF (it is damaged)",)
    assert file.frames[0].metadata.exif is None


# -- XMP, IPTC, comments -----------------------------------------------------------------------------------------------

XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6" tiff:Make="a camera"/>'
    b"</rdf:RDF></x:xmpmeta>"
)


def _with_xmp() -> bytes:
    return _jpeg_with((0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP))


@pytest.mark.parametrize("fmt", FORMATS)
def test_xmp_is_kept_with_orientation_1_or_said(fmt: Format) -> None:
    encoded, got = _written(_with_xmp(), fmt)
    if fmt == "gif":
        assert "XMP" in encoded.notes
        return
    assert encoded.notes == ()
    packet = got.info.get("xmp") or got.info.get("XML:com.adobe.xmp")
    if fmt == "tif":
        packet = got.tag_v2[700]
    packet = packet.encode() if isinstance(packet, str) else bytes(packet)
    assert packet == XMP.replace(b'Orientation="6"', b'Orientation="1"')


IPTC = b"\x1c\x02\x78\x00\x09a caption\x1c\x02\x19\x00\x04tree"


@pytest.mark.parametrize("fmt", FORMATS)
def test_iptc_is_kept_or_said(fmt: Format) -> None:
    resource = b"8BIM" + struct.pack(">HHI", 0x0404, 0, len(IPTC)) + IPTC + b"\0" * (len(IPTC) % 2)
    other = b"8BIM" + struct.pack(">HHI", 0x0425, 0, 16) + bytes(16)
    encoded, got = _written(_jpeg_with((0xED, b"Photoshop 3.0\0" + other + resource)), fmt)
    if fmt in ("jpg", "tif"):
        found = PIL.IptcImagePlugin.getiptcinfo(got)  # type: ignore[arg-type]
        assert found is not None
        assert (found[(2, 120)], found[(2, 25)]) == (b"a caption", b"tree")
        assert encoded.notes == ()
    else:
        assert "IPTC" in encoded.notes


@pytest.mark.parametrize("fmt", FORMATS)
def test_comments_of_jpeg_are_kept_or_said(fmt: Format) -> None:
    encoded, got = _written(_file("JPEG", comment="Grüße".encode()), fmt)
    kept: dict[str, Any] = {
        "png": lambda: got.info["Comment"],
        "jpg": lambda: str(got.info["comment"], "utf-8"),
        "tif": lambda: got.tag_v2[270],
    }
    if fmt in kept:
        text = kept[fmt]()
        assert text in ("Grüße", "Grüße".encode().decode("latin-1"))  # Pillow takes TIFF's for Latin-1
        assert encoded.notes == ()
    else:
        assert "comments (Comment)" in encoded.notes


@pytest.mark.parametrize("fmt", FORMATS)
def test_texts_of_png_are_kept_or_said(fmt: Format) -> None:
    info = PIL.PngImagePlugin.PngInfo()
    info.add_text("parameters", "a tree, steps: 20")
    info.add_itxt("Title", "Grüße", zip=True)
    info.add_text("Author", "packed", zip=True)
    info.add_itxt("Place", "字")
    encoded, got = _written(_file("PNG", pnginfo=info), fmt)
    if fmt == "png":
        texts = {k: str(v) for k, v in got.info.items() if k in ("parameters", "Title", "Author", "Place")}
        assert texts == {"parameters": "a tree, steps: 20", "Title": "Grüße", "Author": "packed", "Place": "字"}
        assert encoded.notes == ()
    elif fmt == "jpg":
        found = [read.text for read in read_file(encoded.data).frames[0].metadata.texts]
        assert found == ["parameters: a tree, steps: 20", "Title: Grüße", "Author: packed", "Place: 字"]
    elif fmt == "tif":
        assert got.tag_v2[270] == "a tree, steps: 20"
        assert encoded.notes == ("comments after the first",)
    else:
        assert encoded.notes == ("comments (parameters, Title, Author, Place)",)


def test_a_gain_map_is_said_and_nothing_points_to_it() -> None:
    packet = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" '
        b'hdrgm:Version="1.0"><Container:Directory><rdf:Seq>GainMap</rdf:Seq></Container:Directory>'
        b"</rdf:Description></x:xmpmeta>"
    )
    data = _jpeg_with((0xE1, b"http://ns.adobe.com/xap/1.0/\0" + packet), (0xE2, b"MPF\0" + bytes(20)))
    file = read_file(data + _file("JPEG"))
    assert file.notes == ("further images in the file (MPF)", "gain map (HDR)")
    written = encode(file, "jpg").data
    assert b"hdrgm:Version" not in written
    assert b"Container:Directory" not in written
    assert b"MPF\0" not in written


@pytest.mark.skipif(not pyvips.type_find("VipsOperation", "uhdrsave"), reason="libvips without Ultra HDR")
def test_the_gain_map_of_a_real_ultra_hdr_picture_is_said() -> None:
    y, x = np.mgrid[:64, :96]
    light = np.stack([x / 24, y / 16, (x + y) / 160], 2).astype(np.float32)
    data = bytes(pyvips.Image.new_from_array(light).copy(interpretation="scrgb").uhdrsave_buffer())
    file = read_file(data)
    assert "gain map (HDR)" in file.notes
    assert file.frames[0].pixels.shape == (64, 96, 3)
    assert file.frames[0].pixels.dtype == np.uint8
    written = encode(file, "jpg").data
    assert b"hdrgm" not in written
    assert pyvips.Image.new_from_buffer(written, "").get("vips-loader") == "jpegload_buffer"
    with pytest.raises(ImageError, match="cannot be read as an image"):
        read_file(data[: len(data) // 3])


def test_descriptions_too_long_for_a_jpeg_are_said_and_the_rest_is_written() -> None:
    info = PIL.PngImagePlugin.PngInfo()
    info.add_text("Long", "x" * 70000)
    info.add_text("Comment", "short")
    encoded = encode(read_file(_file("PNG", pnginfo=info)), "jpg")
    assert encoded.notes == ("comment 'Long' of 70006 bytes",)
    assert PIL.Image.open(io.BytesIO(encoded.data)).info["comment"] == b"short"


def test_a_long_profile_is_split_over_segments() -> None:
    from srgan_fast.data.images import ImageFile, Metadata

    profile = SRGB + bytes(150_000)
    data = encode(ImageFile((Image(_pixels(), None, Metadata(icc=profile)),)), "jpg").data
    assert PIL.Image.open(io.BytesIO(data)).info["icc_profile"] == profile


def test_descriptions_of_a_thousand_damaged_files_never_raise_anything_of_their_own() -> None:
    rng = np.random.default_rng(0)
    info = PIL.PngImagePlugin.PngInfo()
    info.add_itxt("Title", "Grüße", zip=True)
    sources = [
        _file("PNG", pnginfo=info, dpi=(300, 300), icc_profile=SRGB),
        _jpeg_with((0xE1, b"Exif\0\0" + _exif_with_thumbnail(6)), (0xED, b"Photoshop 3.0\x008BIM\4\4\0\0\0\0\0\0")),
        _file("TIFF", dpi=(300, 300)),
        _file("GIF"),
        _file("WEBP", exif=_exif_with_thumbnail(6)),
    ]
    for i in range(1000):
        data = bytearray(sources[i % len(sources)])
        for at in rng.integers(0, min(len(data), 1200), 4):
            data[at] = rng.integers(0, 256)
        try:
            file = read_file(bytes(data))
        except ImageError:
            continue
        if max(file.frames[0].pixels.shape) < 1000:
            encode(file, FORMATS[i % 4])


# -- other tools -------------------------------------------------------------------------------------------------------


def _described() -> bytes:
    """A JPEG with everything that can be kept."""
    resource = b"8BIM" + struct.pack(">HHI", 0x0404, 0, len(IPTC)) + IPTC + b"\0" * (len(IPTC) % 2)
    file = io.BytesIO()
    PIL.Image.fromarray(_pixels()).save(file, "JPEG", dpi=(300, 150), icc_profile=SRGB, comment=b"a comment")
    segments = [
        (0xE1, b"Exif\0\0" + _exif_with_thumbnail(6)),
        (0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP),
        (0xED, b"Photoshop 3.0\0" + resource),
    ]
    more = b"".join(struct.pack(">BBH", 255, m, len(d) + 2) + d for m, d in segments)
    return file.getvalue()[:20] + more + file.getvalue()[20:]


def _by_exiftool(path: Path) -> dict[str, Any]:
    command = ["exiftool", "-json", "-G1", "-n", "-validate", "-warning", "-error", "-a", "-all", str(path)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    (found,) = json.loads(said)
    return dict(found)


@pytest.mark.skipif(shutil.which("exiftool") is None, reason="exiftool is not installed")
@pytest.mark.parametrize("fmt", ["png", "jpg", "webp", "tif", "avif"])
def test_exiftool_finds_what_was_kept_and_no_fault(tmp_path: Path, fmt: Format) -> None:
    encoded = encode(read_file(_described()), fmt)
    (tmp_path / f"a.{fmt}").write_bytes(encoded.data)
    found = _by_exiftool(tmp_path / f"a.{fmt}")
    assert "ExifTool:Error" not in found
    assert found["XMP-tiff:Orientation"] == 1
    assert found["XMP-tiff:Make"] == "a camera"
    assert any(key.startswith("ICC") for key in found)
    if fmt != "tif":
        assert found["IFD0:Make"] == "a camera"
        assert found["IFD0:Orientation"] == 1
        assert (found["ExifIFD:ExifImageWidth"], found["ExifIFD:ExifImageHeight"]) == (32, 48)
    if fmt in ("jpg", "tif"):
        assert found["IPTC:Caption-Abstract"] == "a caption"
    density = {
        "png": ("PNG-pHYs:PixelsPerUnitX", 150 / 0.0254),
        "jpg": ("JFIF:XResolution", 150),
        "tif": ("IFD0:XResolution", 150),
    }
    if fmt in density:
        key, value = density[fmt]
        assert found[key] == pytest.approx(value, rel=1e-3), "turned with the image"
    else:
        assert "resolution (150 dpi)" in encoded.notes


def _second_edition(*more: tuple[bytes, bytes]) -> bytes:
    """A PNG with the metadata chunks of the specification's second edition; later ones pngcheck calls illegal."""
    return _png_with(
        *more, (b"gAMA", struct.pack(">I", 45455)), (b"cHRM", P3), (b"sRGB", b"\0"),
        (b"pHYs", struct.pack(">IIB", 11811, 5906, 1)), (b"eXIf", _exif_with_thumbnail(1)),
        (b"tEXt", b"Title\0a tree"), (b"iTXt", b"Place\0\0\0\0\0" + "字".encode()), (b"bKGD", bytes(6)),
    )  # fmt: skip


def _third_edition() -> bytes:
    return _second_edition((b"cICP", bytes([9, 16, 0, 1])), (b"mDCV", MASTERING), (b"cLLI", LIGHT))


@pytest.mark.skipif(shutil.which("pngcheck") is None, reason="pngcheck is not installed")
@pytest.mark.parametrize("source", [_described, _second_edition])
def test_pngcheck_finds_no_fault(tmp_path: Path, source: Callable[[], bytes]) -> None:
    (tmp_path / "a.png").write_bytes(encode(read_file(source()), "png").data)
    subprocess.run(["pngcheck", "-q", str(tmp_path / "a.png")], check=True)


@pytest.mark.parametrize("source", [_described, _second_edition, _third_edition])
def test_chunks_of_a_written_png_are_in_order_whole_and_single(source: Callable[[], bytes]) -> None:
    """What pngcheck checks, where it is not installed."""
    data = encode(read_file(source()), "png").data
    kinds = [kind for kind, _ in _chunks(data)]
    assert kinds[0] == b"IHDR"
    assert kinds[-1] == b"IEND"
    singles = [kind for kind in kinds if kind not in (b"IDAT", b"tEXt", b"iTXt", b"zTXt")]
    assert len(singles) == len(set(singles))
    before = {b"cICP", b"mDCV", b"cLLI", b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"pHYs"}
    assert all(kinds.index(kind) < kinds.index(b"IDAT") for kind in before & set(kinds))
    with PIL.Image.open(io.BytesIO(data)) as image:
        image.verify()


def _with_raw_profile(kind: str, data: bytes) -> bytes:
    """A PNG with a profile in hexadecimal digits, as ImageMagick writes it."""
    text = PIL.PngImagePlugin.PngInfo()
    text.add_text(f"Raw profile type {kind}", f"\n{kind}\n{len(data):8d}\n{data.hex()}\n", zip=True)
    file = io.BytesIO()
    PIL.Image.new("RGB", (5, 4)).save(file, "PNG", pnginfo=text)
    return file.getvalue()


def test_profiles_in_hexadecimal_digits_of_a_png_are_kept() -> None:
    exif = PIL.Image.Exif()
    exif[0x10F] = "a camera"
    found = read_image(_with_raw_profile("exif", exif.tobytes())).metadata
    assert found.exif is not None
    assert b"a camera" in found.exif
    packet = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>'
    assert read_image(_with_raw_profile("xmp", packet)).metadata.xmp == packet
    in_jpeg = b"http://ns.adobe.com/xap/1.0/\0" + packet
    assert read_image(_with_raw_profile("APP1", in_jpeg)).metadata.xmp == packet
    records = b"\x1c\x02\x78\x00\x05hello"
    resource = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(records)) + records
    for kind in ("iptc", "8bim"):
        assert read_image(_with_raw_profile(kind, resource)).metadata.iptc == records
    assert read_image(_with_raw_profile("exif", b"")).metadata.exif is None


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["exif", "APP1", "after the pixels"])
def test_an_orientation_that_only_a_text_of_a_png_or_its_end_has_is_applied(
    tmp_path: Path, kind: str, orientation: int
) -> None:
    exif = PIL.Image.Exif()
    exif[0x112] = orientation
    file = io.BytesIO()
    text = PIL.PngImagePlugin.PngInfo()
    if kind == "after the pixels":
        PIL.Image.fromarray(_pixels()).save(file, "PNG")
        chunk = b"eXIf" + exif.tobytes().removeprefix(b"Exif\0\0")
        at = file.getvalue().index(b"IEND") - 4
        extra = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        data = file.getvalue()[:at] + extra + file.getvalue()[at:]
    else:
        block = exif.tobytes()
        text.add_text(f"Raw profile type {kind}", f"\n{kind}\n{len(block):8d}\n{block.hex()}\n", zip=True)
        PIL.Image.fromarray(_pixels()).save(file, "PNG", pnginfo=text)
        data = file.getvalue()
    upright = PIL.ImageOps.exif_transpose(PIL.Image.open(io.BytesIO(_file("PNG", exif=exif))))
    image = read_image(data)
    np.testing.assert_array_equal(image.pixels, np.asarray(upright))
    encoded = encode(read_file(data), "png").data
    assert PIL.Image.open(io.BytesIO(encoded)).getexif().get(0x112, 1) == 1
    (tmp_path / "a.png").write_bytes(data)
    assert image_size(tmp_path / "a.png") == image.pixels.shape[:2]
    rows = read_rows(tmp_path / "a.png")
    assert rows is not None
    np.testing.assert_array_equal(rows.begin()(rows.height).pixels, image.pixels)


@pytest.mark.parametrize("fmt", ["PNG", "WEBP"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_frames_of_an_animation_are_turned_as_its_header_says(tmp_path: Path, fmt: str, orientation: int) -> None:
    exif = PIL.Image.Exif()
    exif[0x112] = orientation
    frames = [PIL.Image.fromarray(_pixels() // (i + 1)) for i in range(2)]
    options: dict[str, Any] = {"save_all": True, "append_images": frames[1:], "exif": exif, "lossless": True}
    frames[0].save(tmp_path / "a", fmt, **options)
    file = read_file(tmp_path / "a")
    assert len(file.frames) == 2
    for frame, stored in zip(file.frames, frames, strict=True):
        expected = np.rot90(np.asarray(stored), {1: 0, 3: 2, 6: -1}[orientation])
        np.testing.assert_array_equal(frame.pixels, expected)
    assert image_size(tmp_path / "a") == file.frames[0].pixels.shape[:2]


RESOLUTION = b"8BIM" + struct.pack(">HHIIHHIHH", 0x03ED, 0, 16, 300 << 16, 1, 1, 150 << 16, 1, 1)


def test_resolution_that_only_photoshop_tells_is_kept() -> None:
    bare = _jpeg_with((0xED, b"Photoshop 3.0\0" + RESOLUTION))
    at = bare.index(b"\xff\xe0")
    without_jfif = bare[:at] + bare[at + 18 :]
    assert b"JFIF" not in without_jfif
    tiff = _file("TIFF", tiffinfo={34377: RESOLUTION})
    for data in (without_jfif, bare, tiff, _with_raw_profile("8bim", RESOLUTION)):
        encoded, got = _written(data, "png")
        assert got.info["dpi"] == pytest.approx((300, 150), rel=1e-4)
        assert encoded.notes == ()


def test_resolution_of_jfif_and_of_exif_comes_before_photoshops() -> None:
    other = (0xED, b"Photoshop 3.0\0" + RESOLUTION)
    data = _file("JPEG", dpi=(72, 72))
    segment = struct.pack(">BBH", 255, other[0], len(other[1]) + 2) + other[1]
    assert read_image(data[:20] + segment + data[20:]).metadata.density == (72, 72)
    exif = PIL.Image.Exif()
    exif[0x11A] = exif[0x11B] = 96.0
    exif[0x128] = 2
    assert read_image(_jpeg_with((0xE1, exif.tobytes()), other)).metadata.density is None, "it stays in EXIF"


def test_resolution_of_exif_is_kept_in_a_tiff_which_loses_exif() -> None:
    exif = PIL.Image.Exif()
    exif[0x11A], exif[0x11B], exif[0x128] = 100.0, 50.0, 3
    encoded, got = _written(_jpeg_with((0xE1, exif.tobytes())), "tif")
    assert encoded.notes == ("EXIF",)
    assert got.info["dpi"] == pytest.approx((254, 127), rel=1e-4)


def test_other_segments_of_a_jpeg_are_said() -> None:
    segments = [(0xEB, b"JP\0\1" + bytes(20)), (0xEB, b"JP\0\2"), (0xE0, b"JFXX\0\x10"), (0xEC, b"Ducky"), (0xE4, b"x")]
    notes = read_file(_jpeg_with(*segments)).notes
    assert notes == ("content credentials (APP11 segment)", "APP0 segment", "APP4 segment")


def test_pixels_of_a_jpeg_that_are_not_square_are_said() -> None:
    data = bytearray(_file("JPEG"))
    data[13:18] = struct.pack(">BHH", 0, 2, 1)
    assert read_file(bytes(data)).notes == ("shape of its pixels (1:2 instead of square)",)


def test_an_extension_of_xmp_is_said() -> None:
    file = io.BytesIO()
    PIL.Image.new("RGB", (5, 4)).save(file, "JPEG")
    more = b"http://ns.adobe.com/xmp/extension/\0" + b"A" * 32 + struct.pack(">II", 4, 0) + b"more"
    segment = b"\xff\xe1" + struct.pack(">H", len(more) + 2) + more
    data = file.getvalue()
    assert read_file(data[:2] + 2 * segment + data[2:]).notes == ("the extension of its XMP",)
