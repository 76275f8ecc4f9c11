"""JPEG XL: size and colour from its header, metadata from its boxes, and headers that our own bits make up."""

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from numpy.typing import NDArray

from srgan_fast.data.image_files import icc, jxl
from srgan_fast.data.images import encode, image_header, image_size, read_file, read_image
from srgan_fast.errors import ImageError

imagecodecs = pytest.importorskip("imagecodecs")


def _smooth(height: int = 64, width: int = 96) -> NDArray[np.uint8]:
    y, x = np.mgrid[:height, :width]
    return np.stack([40 + 2 * y % 200, 30 + 2 * x % 190, 200 - (y + x) % 160], 2).astype(np.uint8)


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", len(content) + 8, kind) + content


def _container(codestream: bytes, *more: tuple[bytes, bytes], parts: int = 1) -> bytes:
    head = b"\0\0\0\x0cJXL \r\n\x87\n" + _box(b"ftyp", b"jxl \0\0\0\0jxl ")
    if parts == 1:
        body = _box(b"jxlc", codestream)
    else:
        step = -(-len(codestream) // parts)
        pieces = [codestream[i : i + step] for i in range(0, len(codestream), step)]
        last = len(pieces) - 1
        body = b"".join(
            _box(b"jxlp", struct.pack(">I", i | (i == last) << 31) + piece) for i, piece in enumerate(pieces)
        )
    return head + b"".join(_box(*box) for box in more) + body


class _Writer:
    """Fields of a codestream, least significant bit first."""

    def __init__(self) -> None:
        self.bits: list[int] = []

    def u(self, value: int, count: int) -> "_Writer":
        self.bits += [value >> i & 1 for i in range(count)]
        return self

    def enum(self, value: int) -> "_Writer":
        if value < 2:
            return self.u(value, 2)
        return self.u(2, 2).u(value - 2, 4) if value < 18 else self.u(3, 2).u(value - 18, 6)

    def data(self) -> bytes:
        value = sum(bit << i for i, bit in enumerate(self.bits))
        return b"\xff\x0a" + value.to_bytes(-(-len(self.bits) // 8), "little")


def _sized() -> _Writer:
    return _Writer().u(1, 1).u(7, 5).u(4, 3)  # 64 rows, 3:2


def _header(orientation: int = 1, colour: _Writer | None = None, animated: bool = False, depth: int = 0) -> bytes:
    """A header for a frame of 96x64 in XYB; sRGB by default."""
    writer = _sized().u(0, 1).u(1, 1).u(orientation - 1, 3).u(0, 2).u(animated, 1)
    if animated:
        writer.u(0, 7)
    writer.u(1, 1).u(0, 6) if depth == 32 else writer.u(0, 3)
    writer.u(1, 1).u(0, 2).u(1, 1)  # buffers of 16 bits, no extra channels, XYB
    writer.bits += colour.bits if colour else [1]
    return writer.u(1, 1).u(0, 2).u(1, 1).data()  # default tone mapping, no extensions, default transform


def _frame() -> bytes:
    data = bytes(imagecodecs.jpegxl_encode(_smooth(), distance=0.5, usecontainer=False))
    assert data[:4] == _sized().u(1, 1).u(1, 1).data(), "all defaults"
    return data[4:]


def _colour(white: int = 1, primaries: int = 1, transfer: int = 13, gamma: float = 0.0) -> _Writer:
    writer = _Writer().u(0, 1).u(0, 1).enum(0).enum(white).enum(primaries)
    if gamma:
        writer.u(1, 1).u(round(gamma * 1e7), 24)
    else:
        writer.u(0, 1).enum(transfer)
    return writer.enum(1)


@pytest.mark.parametrize("shape", [(64, 96), (1, 1), (63, 95), (7, 3000), (256, 256), (64, 80), (90, 160), (300, 150)])
@pytest.mark.parametrize("options", [{"lossless": True}, {"distance": 1.0}, {"lossless": True, "usecontainer": True}])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_the_size_is_read_without_pixels(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, shape: tuple[int, int], options: dict[str, Any], channels: int
) -> None:
    pixels = np.zeros((*shape, channels), np.uint8)[:, :, 0 if channels == 1 else slice(None)]
    (tmp_path / "a.jxl").write_bytes(imagecodecs.jpegxl_encode(pixels, **options))

    def decoded(*_: Any) -> Any:
        raise AssertionError("pixels were decoded")

    monkeypatch.setattr(imagecodecs, "jpegxl_decode", decoded)
    assert image_size(tmp_path / "a.jxl") == shape
    with pytest.raises(ImageError, match="pixels"):
        read_image(tmp_path / "a.jxl", max_pixels=shape[0] * shape[1] - 1)


def test_a_size_beyond_the_limit_is_refused_before_its_pixels() -> None:
    """A header of 2^30 by 2^30 pixels, which no decoder should begin."""
    bomb = _Writer().u(0, 1).u(3, 2).u(2**30 - 1, 30).u(1, 3).u(3, 2).data() + bytes(20)
    header = image_header(bomb)
    assert (header.height, header.width) == (2**30, 2**30)
    with pytest.raises(ImageError, match=str(2**30)):
        read_image(bomb)


@pytest.mark.parametrize("parts", [1, 2, 5])
def test_containers_in_one_part_and_several_are_read(parts: int) -> None:
    pixels = _smooth()
    data = _container(bytes(imagecodecs.jpegxl_encode(pixels, lossless=True, usecontainer=False)), parts=parts)
    assert image_header(data).pixels == 64 * 96
    np.testing.assert_array_equal(read_image(data).pixels, pixels)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_the_codestream_is_applied_once(orientation: int) -> None:
    exif = PIL.Image.Exif()
    exif[0x112] = orientation
    codestream = _header(orientation) + _frame()
    block = exif.tobytes().removeprefix(b"Exif\0\0")
    data = _container(codestream, (b"Exif", bytes(4) + block))
    file = io.BytesIO()
    PIL.Image.fromarray(_smooth()).save(file, "PNG", exif=exif)
    expected = read_image(file.getvalue()).pixels
    for source in (codestream, data):
        image = read_image(source)
        assert image.pixels.shape == expected.shape
        assert np.abs(image.pixels.astype(int) - expected).mean() < 2
        header = image_header(source)
        assert (header.height, header.width) == expected.shape[:2]
    assert PIL.Image.open(io.BytesIO(encode(read_file(data), "png").data)).getexif().get(0x112, 1) == 1


@pytest.mark.parametrize("packed", [False, True])
def test_exif_and_xmp_are_kept(packed: bool) -> None:
    exif = PIL.Image.Exif()
    exif[0x10F] = "a camera"
    packet = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>'
    found = [(b"Exif", bytes(4) + exif.tobytes().removeprefix(b"Exif\0\0")), (b"xml ", packet)]
    if packed:
        found = [(b"brob", kind + bytes(imagecodecs.brotli_encode(data))) for kind, data in found]
    file = read_file(_container(_header() + _frame(), *found, (b"jumb", b"x"), (b"jhgm", b"x")))
    metadata = file.frames[0].metadata
    assert metadata.exif is not None
    assert b"a camera" in metadata.exif
    assert metadata.xmp == packet
    assert file.notes == ("content credentials", "gain map (HDR)")


def test_damaged_metadata_are_said() -> None:
    file = read_file(_container(_header() + _frame(), (b"Exif", b"\0\0\0\0II*"), (b"brob", b"xml \xff\xff")))
    assert file.notes == ("EXIF (it is damaged)", "xml box (it is damaged)")


@pytest.mark.parametrize(
    ("colour", "cicp"),
    [
        (_colour(primaries=11), (12, 13, 0, 1)), (_colour(white=11, primaries=11), (11, 13, 0, 1)),
        (_colour(primaries=9, transfer=16), (9, 16, 0, 1)), (_colour(primaries=9, transfer=18), (9, 18, 0, 1)),
        (_colour(transfer=8), (1, 8, 0, 1)), (_colour(), None), (_colour(transfer=1), None),
    ],
)  # fmt: skip
def test_colour_in_numbers_is_kept(colour: _Writer, cicp: tuple[int, ...] | None) -> None:
    file = read_file(_header(colour=colour) + _frame())
    assert file.frames[0].metadata.cicp == cicp
    assert file.notes == ()
    assert encode(file, "png").data.count(b"cICP") == (cicp is not None)


def test_pixels_are_what_the_header_says() -> None:
    """The same frame decoded to sRGB, to linear light and to a gamma."""
    plain = _smooth() / 255
    linear = read_image(_header(colour=_colour(transfer=8)) + _frame())
    assert np.abs(linear.pixels / 255 - icc.srgb_to_linear(plain)).mean() < 0.004
    gamma = read_image(_header(colour=_colour(gamma=0.5)) + _frame())
    assert np.abs(gamma.pixels / 255 - icc.srgb_to_linear(plain) ** 0.5).mean() < 0.004
    assert gamma.metadata.gamma == pytest.approx(0.5)
    assert gamma.metadata.chromaticities is None


def test_a_colour_with_primaries_of_its_own_becomes_chromaticities() -> None:
    colour = _Writer().u(0, 1).u(0, 1).enum(0).enum(1).enum(2)
    for value in (640000, 330000, 210000, 710000, 150000, 60000):
        packed = 2 * value
        selector, offset, count = next(
            (i, low, bits) for i, (low, bits) in
            reversed(list(enumerate([(0, 19), (524288, 19), (1048576, 20), (2097152, 21)]))) if packed >= low
        )  # fmt: skip
        colour.u(selector, 2).u(packed - offset, count)
    colour.u(0, 1).enum(13).enum(1)
    metadata = jxl.read_header(io.BytesIO(_header(colour=colour))).metadata
    assert metadata.chromaticities == pytest.approx((0.3127, 0.329, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06))


@pytest.mark.parametrize("bits", [1, 4, 7, 8, 9, 10, 12, 16])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_white_of_any_depth_is_white(bits: int, channels: int) -> None:
    dtype = np.uint8 if bits <= 8 else np.uint16
    pixels = np.zeros((9, 8, channels), dtype)
    pixels[4:] = (1 << bits) - 1
    pixels = pixels[:, :, 0] if channels == 1 else pixels
    image = read_image(imagecodecs.jpegxl_encode(pixels, lossless=True, bitspersample=bits))
    assert image.pixels.dtype == dtype
    assert (image.pixels[:4] == 0).all()
    assert (image.pixels[4:] == np.iinfo(dtype).max).all()


def _of_jpeg(pixels: NDArray[np.uint8], profile: bytes, **options: Any) -> tuple[bytes, bytes]:
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, "JPEG", quality=95, subsampling=0, icc_profile=profile, **options)
    return file.getvalue(), bytes(imagecodecs.jpegxl_encode_jpeg(file.getvalue(), usecontainer=True))


def test_a_jpeg_stored_in_jpeg_xl_comes_out_with_all_that_it_had() -> None:
    exif = PIL.Image.Exif()
    exif[0x10F], exif[0x112] = "a camera", 6
    profile = icc.make_profile(1.8, icc.SRGB_PRIMARIES, gray=False)
    original, data = _of_jpeg(_smooth(), profile, exif=exif, dpi=(300, 300), comment="a comment")
    expected, found = read_file(original), read_file(data)
    assert found.notes == expected.notes == ()
    assert found.frames[0].metadata == expected.frames[0].metadata
    assert found.frames[0].metadata.icc == profile
    np.testing.assert_array_equal(found.frames[0].pixels, expected.frames[0].pixels)
    assert image_header(data) == image_header(original)


def _codestream(data: bytes) -> bytes:
    at, parts = 0, b""
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + length if length else len(data)
        if kind in (b"jxlc", b"jxlp"):
            parts += data[at + 8 + 4 * (kind == b"jxlp") : end]
        at = end
    return parts


def test_a_profile_without_the_jpeg_is_said() -> None:
    _, data = _of_jpeg(_smooth(), icc.make_profile(1.8, icc.SRGB_PRIMARIES, gray=False))
    file = read_file(_codestream(data))
    assert file.notes == ("profile of the JPEG XL (it is taken as sRGB)",)
    assert np.abs(file.frames[0].pixels.astype(int) - _smooth()).mean() < 2


def test_pixels_of_a_lossy_image_with_a_profile_are_converted_to_srgb() -> None:
    """Such a file is made of a header with a profile, set to XYB, and another file's frame."""
    _, data = _of_jpeg(_smooth(), icc.make_profile(1.8, icc.SRGB_PRIMARIES, gray=False))
    codestream = bytearray(_codestream(data))
    place = 16 + 9 + 2 + 3 + 1 + 2  # size, all_default and extra_fields, depth, buffers, extra channels
    codestream[place // 8] |= 1 << place % 8
    frame, made = _frame(), None
    for cut in range(20, 300):  # where the profile's code ends is known to decoders only
        try:
            imagecodecs.jpegxl_decode(bytes(codestream[:cut]) + frame)
        except RuntimeError:
            continue
        made = bytes(codestream[:cut]) + frame
        break
    assert made is not None
    file = read_file(made)
    assert file.notes == ("profile of the JPEG XL (converted to sRGB)",)
    assert file.frames[0].pixels.dtype == np.uint16
    assert np.abs(file.frames[0].pixels / 257 - _smooth()).mean() < 2


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (_header(animated=True), "is an animated JPEG XL; convert it to APNG first"),
        (_header(depth=32), "has floating-point samples"),
        (b"\xff\x0a\x00", "its header is cut off"),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + _box(b"ftyp", b"jxl "), "it has no codestream"),
        (
            _sized().u(0, 2).u(0, 3).u(1, 1).u(1, 2).u(0, 1).enum(4).u(0, 3).u(0, 2).u(0, 2).u(1, 1).u(1, 1).data(),
            "is a CMYK JPEG XL; convert it to RGB first",
        ),
    ],
)
def test_what_cannot_be_read_is_refused_by_its_header(data: bytes, message: str) -> None:
    for read in (image_header, read_image):
        with pytest.raises(ImageError, match=message) as caught:
            read(data)
        assert "\n" not in str(caught.value)


def test_damaged_files_are_images_or_our_error_in_one_line() -> None:
    _, stored = _of_jpeg(_smooth(), icc.make_profile(1.8, icc.SRGB_PRIMARIES, gray=False), exif=PIL.Image.Exif())
    plain = _header(6, _colour(primaries=11)) + _frame()
    exif = PIL.Image.Exif()
    exif[0x10F] = "a camera"
    boxed = _container(plain, (b"Exif", bytes(4) + exif.tobytes()[6:]), (b"xml ", b"<x/>"), parts=3)
    rng = np.random.default_rng(0)
    messages: list[str] = []
    for i in range(300):
        data = bytearray((stored, plain, boxed)[i % 3])
        for at in rng.integers(0, min(len(data), 400), 2):
            data[at] = rng.integers(0, 256)
        try:
            if image_header(bytes(data)).pixels < 10**6:
                read_file(bytes(data))
        except ImageError as error:
            messages.append(str(error))
    assert 0 < len(messages) < 300
    assert not any("\n" in message for message in messages)


def test_a_box_longer_than_any_file_ends_the_search() -> None:
    far = struct.pack(">I4sQ", 1, b"free", 2**64 - 1)
    with pytest.raises(ImageError, match="it has no codestream"):
        image_header(_container(b"")[:32] + far)
