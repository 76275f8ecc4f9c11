"""Kinds that libvips does not read come through other libraries, and without those the message says what to install."""

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from srgan_fast.data.images import find_images, image_header, image_size, read_file, read_image
from srgan_fast.errors import ImageError


def _smooth() -> Any:
    y, x = np.mgrid[:24, :32]
    return np.stack([8 * y, 7 * x, 200 - y - x], 2).astype(np.uint8)


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "RGBA"])
@pytest.mark.parametrize("suffix", ["bmp", "ppm", "tga"])
def test_bmp_ppm_and_tga_are_read_exactly(tmp_path: Path, suffix: str, mode: str) -> None:
    if (suffix, mode) in {("tga", "1"), ("ppm", "RGBA"), ("ppm", "P")}:
        mode = "RGB"
    image = PIL.Image.fromarray(_smooth()).convert(mode)
    image.save(tmp_path / f"a.{suffix}")
    got = read_image(tmp_path / f"a.{suffix}")
    assert image_size(tmp_path / f"a.{suffix}") == (24, 32)
    assert got.is_gray == (mode in ("L", "1"))
    with PIL.Image.open(tmp_path / f"a.{suffix}") as again:
        np.testing.assert_array_equal(got.rgb(), np.asarray(again.convert("RGB")))
    assert (got.alpha is not None) == (mode == "RGBA" and suffix == "tga")


def test_pgm_of_16_bits_stays_16(tmp_path: Path) -> None:
    values = np.arange(0, 65536, 64, dtype=">u2").reshape(32, 32)
    (tmp_path / "a.pgm").write_bytes(b"P5 32 32 65535\n" + values.tobytes())
    np.testing.assert_array_equal(read_image(tmp_path / "a.pgm").pixels[:, :, 0], values)


@pytest.mark.parametrize("codec", ["zstd", "lzma", "jpegxl"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tiff_codecs_that_libvips_lacks_are_decoded(tmp_path: Path, codec: str, dtype: Any) -> None:
    tifffile = pytest.importorskip("tifffile")
    pixels = _smooth().astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", compression=codec)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").pixels, pixels)
    assert image_size(tmp_path / "a.tif") == (24, 32)


def test_all_pages_with_such_a_codec_are_decoded() -> None:
    tifffile = pytest.importorskip("tifffile")
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for i in range(3):
            writer.write(_smooth() // (i + 1), photometric="rgb", compression="zstd")
    frames = read_file(file.getvalue()).frames
    assert [int(frame.pixels.max()) for frame in frames] == [217, 108, 72]


@pytest.mark.parametrize("codec", ["zstd", "lzma", "jpegxl"])
def test_any_page_may_have_such_a_codec_and_keeps_what_describes_it(tmp_path: Path, codec: str) -> None:
    tifffile = pytest.importorskip("tifffile")
    tiles: dict[str, Any] = {"tile": (16, 16)}
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for i, (compression, options) in enumerate(
            [("zlib", {}), (codec, {}), ("lzw", {"subfiletype": 1}), ("zlib", tiles), (codec, tiles)]
        ):
            writer.write(
                _smooth() // (i + 1), photometric="rgb", compression=compression, resolution=(100 * (i + 1),) * 2,
                resolutionunit="INCH", extratags=[(274, 3, 1, 3, True)], metadata=None, **options,
            )  # fmt: skip
    file = read_file(tmp_path / "a.tif")
    assert len(file.frames) == 4, "the reduced copy is no page"
    for frame, i in zip(file.frames, (0, 1, 3, 4), strict=True):
        np.testing.assert_array_equal(frame.pixels, (_smooth() // (i + 1))[::-1, ::-1])
        assert frame.metadata.density == pytest.approx((100 * (i + 1),) * 2)
    header = image_header(tmp_path / "a.tif")
    assert (header.frames, header.pixels) == (4, 4 * 24 * 32)


def test_a_page_that_no_library_decodes_is_refused() -> None:
    tifffile = pytest.importorskip("tifffile")
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(_smooth(), photometric="rgb", compression="zlib")
        writer.write(_smooth(), photometric="rgb", compression="zstd")
    data = bytearray(file.getvalue())
    at = data.index(b"\x28\xb5\x2f\xfd")  # the first bytes of a ZSTD frame
    data[at : at + 8] = bytes(8)
    with pytest.raises(ImageError, match="cannot be read as an image") as caught:
        read_file(bytes(data))
    assert "\n" not in str(caught.value)
    np.testing.assert_array_equal(read_image(bytes(data)).pixels, _smooth())


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_jpeg_xl_is_read(dtype: Any) -> None:
    imagecodecs = pytest.importorskip("imagecodecs")
    pixels = _smooth().astype(dtype)
    np.testing.assert_array_equal(read_image(imagecodecs.jpegxl_encode(pixels, lossless=True)).pixels, pixels)


def test_heic_is_read_upright_with_its_descriptions(tmp_path: Path) -> None:
    pytest.importorskip("pillow_heif").register_heif_opener()
    exif = PIL.Image.Exif()
    exif[0x10F] = "a camera"
    PIL.Image.fromarray(_smooth()).save(tmp_path / "a.heic", quality=95, exif=exif)
    image = read_image(tmp_path / "a.heic")
    assert np.abs(image.pixels.astype(int) - _smooth()).mean() < 3
    assert image.metadata.exif is not None
    assert b"a camera" in image.metadata.exif
    assert image_size(tmp_path / "a.heic") == (24, 32)


@pytest.mark.parametrize(
    ("data", "module", "message"),
    [
        (b"BM" + bytes(60), "PIL.Image", "this format needs Pillow: pip install 'srgan_fast[formats]'"),
        (b"\xff\x0a" + bytes(60), "imagecodecs", "JPEG XL needs imagecodecs: pip install 'srgan_fast[formats]'"),
        (b"\0\0\0\x18ftypheic" + bytes(60), "pillow_heif", "HEIC needs pillow-heif: pip install"),
    ],
    ids=["bmp", "jxl", "heic"],
)
def test_without_the_library_the_message_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, data: bytes, module: str, message: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImageError) as caught:
        read_image(data)
    assert message in str(caught.value)


@pytest.mark.parametrize("data", [b"BM" + bytes(60), b"\xff\x0a" + bytes(60), b"P6 9 9 255\n\1\2"])
def test_damaged_files_of_these_kinds_are_one_line(data: bytes) -> None:
    with pytest.raises(ImageError, match="cannot be read as an image") as caught:
        read_image(data)
    assert "\n" not in str(caught.value)


def test_folders_count_what_cannot_be_read_by_suffix(tmp_path: Path) -> None:
    from collections import Counter

    for name in ("a.png", "b.exr", "c.EXR", "d.psd", "e.txt", ".f.exr"):
        (tmp_path / name).touch()
    left_out: Counter[str] = Counter()
    assert [path.name for path in find_images(tmp_path, left_out=left_out)] == ["a.png"]
    assert left_out == {".exr": 2, ".psd": 1}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_tiff_with_such_a_codec_is_upright_and_keeps_what_describes_it(orientation: int) -> None:
    tifffile = pytest.importorskip("tifffile")

    def written(compression: str) -> Any:
        file = io.BytesIO()
        xmp, iptc = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>', b"\x1c\x02\x78\x00\x05hello"
        tifffile.imwrite(
            file, _smooth(), photometric="rgb", compression=compression, metadata=None, description="a scan",
            resolution=(300, 150), resolutionunit="INCH",
            extratags=[
                (274, 3, 1, orientation, True), (700, 1, len(xmp), xmp, True), (33723, 1, len(iptc), iptc, True),
            ],
        )  # fmt: skip
        return read_file(file.getvalue()).frames[0]

    got, expected = written("zstd"), written("zlib")  # the latter by libvips
    np.testing.assert_array_equal(got.pixels, expected.pixels)
    assert got.metadata.density == pytest.approx(expected.metadata.density)
    assert got.metadata.texts == expected.metadata.texts
    assert got.metadata.iptc == expected.metadata.iptc
    assert (got.metadata.xmp or b"").rstrip(b"\0") == (expected.metadata.xmp or b"").rstrip(b"\0") != b""


def test_alpha_that_such_a_tiff_is_multiplied_with_is_taken_out() -> None:
    tifffile = pytest.importorskip("tifffile")
    alpha = np.full((24, 32, 1), 128, np.uint8)
    file = io.BytesIO()
    multiplied = np.rint(_smooth() * (128 / 255)).astype(np.uint8)
    tifffile.imwrite(
        file, np.dstack([multiplied, alpha]), photometric="rgb", compression="zstd", extrasamples=["assocalpha"]
    )  # fmt: skip
    assert np.abs(read_image(file.getvalue()).pixels.astype(int) - _smooth()).max() <= 1


@pytest.mark.parametrize("bits", [10, 12])
def test_white_of_a_heic_of_10_or_12_bits_is_white(monkeypatch: pytest.MonkeyPatch, bits: int) -> None:
    heif = pytest.importorskip("pillow_heif")
    monkeypatch.setattr(heif.options, "SAVE_HDR_TO_12_BIT", bits == 12)
    file = io.BytesIO()
    heif.from_bytes("RGB;16", (32, 24), np.full((24, 32, 3), 65535, np.uint16).tobytes()).save(file, quality=-1)
    assert read_image(file.getvalue()).pixels.min() == 65535


def test_the_size_of_a_heic_is_read_without_its_pixels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    heif.from_pillow(PIL.Image.fromarray(_smooth())).save(tmp_path / "a.heic")

    def decoded(self: Any) -> Any:
        raise AssertionError("pixels were decoded")

    monkeypatch.setattr(heif.HeifImage, "data", property(decoded))
    assert image_size(tmp_path / "a.heic") == (24, 32)


def test_colour_that_a_heic_tells_in_numbers_is_kept() -> None:
    heif = pytest.importorskip("pillow_heif")

    def metadata(primaries: int, transfer: int) -> Any:
        file = io.BytesIO()
        numbers = {"color_primaries": primaries, "transfer_characteristics": transfer, "matrix_coefficients": 6}
        heif.from_pillow(PIL.Image.fromarray(_smooth())).save(file, full_range_flag=1, **numbers)
        return read_image(file.getvalue()).metadata

    assert metadata(12, 13).cicp == (12, 13, 0, 1)
    assert metadata(9, 16).cicp == (9, 16, 0, 1)
    assert metadata(1, 13).cicp is None
