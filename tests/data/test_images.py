"""Pictures of every kind are read and written without loss, or refused with one line that names the file."""

import errno
import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageCms
import pytest
import pyvips
from numpy.typing import NDArray

from srgan_fast.data.images import (
    Format,
    Image,
    encode_image,
    find_images,
    image_size,
    read_image,
    readable_suffixes,
    write_image,
)
from srgan_fast.errors import ImageError

Noise = Callable[..., NDArray[Any]]
ORIENTATION, MAKER = 0x112, 0x10F


def vips(array: NDArray[Any], space: str) -> Any:
    return pyvips.Image.new_from_array(array).copy(interpretation=space)


def pillow(array: NDArray[Any]) -> PIL.Image.Image:
    return PIL.Image.fromarray(array)


def palette(array: NDArray[Any]) -> PIL.Image.Image:
    return pillow(array).quantize(16)


def smooth(height: int = 48, width: int = 64) -> NDArray[np.uint8]:
    """A soft colour gradient that a lossy format keeps within a few steps."""
    y, x = np.mgrid[:height, :width]
    return np.stack([40 + 2 * y, 30 + 2 * x, 200 - y - x], 2).astype(np.uint8)


# -- reading -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(
    ("channels", "spaces"),
    [(1, ("b-w", "grey16")), (2, ("b-w", "grey16")), (3, ("srgb", "rgb16")), (4, ("srgb", "rgb16"))],
)
def test_png_is_read_exactly(tmp_path: Path, noise: Noise, channels: int, spaces: tuple[str, str], dtype: Any) -> None:
    pixels = noise(11, 17, channels, dtype=dtype)
    vips(pixels, spaces[dtype == np.uint16]).write_to_file(str(tmp_path / "a.png"))
    image = read_image(tmp_path / "a.png")
    colours = 1 if channels <= 2 else 3
    assert image.pixels.dtype == dtype
    assert (image.height, image.width, image.is_gray) == (11, 17, colours == 1)
    np.testing.assert_array_equal(image.pixels, pixels[:, :, :colours])
    if channels in (2, 4):
        np.testing.assert_array_equal(image.alpha, pixels[:, :, -1])
    else:
        assert image.alpha is None


def test_one_bit_png_is_black_and_white(tmp_path: Path, noise: Noise) -> None:
    bits = noise(9, 21) > 127
    pillow(bits).save(tmp_path / "a.png")
    assert PIL.Image.open(tmp_path / "a.png").mode == "1"
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").pixels[:, :, 0], bits * 255)


def test_palette_png_becomes_colour(tmp_path: Path, noise: Noise) -> None:
    picture = palette(noise(12, 15, 3))
    picture.save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(image.pixels, np.asarray(picture.convert("RGB")))
    assert image.alpha is None


def test_transparent_palette_entry_becomes_alpha(tmp_path: Path, noise: Noise) -> None:
    picture = palette(noise(12, 15, 3))
    picture.save(tmp_path / "a.png", transparency=3)
    image = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(image.pixels, np.asarray(picture.convert("RGB")))
    np.testing.assert_array_equal(image.alpha, np.where(np.asarray(picture) == 3, 0, 255))


def test_transparent_colour_of_a_png_without_alpha_becomes_alpha(tmp_path: Path, noise: Noise) -> None:
    pixels = noise(6, 6, 3)
    pillow(pixels).save(tmp_path / "a.png", transparency=tuple(int(v) for v in pixels[2, 3]))
    alpha = read_image(tmp_path / "a.png").alpha
    assert alpha is not None
    assert (alpha[2, 3], alpha[0, 0]) == (0, 255)


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3)])
def test_jpeg_is_read_as_gray_or_colour(tmp_path: Path, mode: str, channels: int) -> None:
    picture = pillow(smooth()).convert(mode)
    picture.save(tmp_path / "a.jpg", quality=98, subsampling=0)
    image = read_image(tmp_path / "a.jpg")
    assert image.pixels.shape == (48, 64, channels)
    assert np.abs(image.pixels.squeeze().astype(int) - np.asarray(picture)).max() <= 6


def test_cmyk_jpeg_becomes_srgb_and_loses_its_profile(tmp_path: Path) -> None:
    inks = np.zeros((16, 64, 4), np.uint8)
    for n, ink in enumerate(
        [(0, 0, 0, 0), (0, 255, 255, 0), (255, 0, 0, 0), (0, 0, 0, 255)]
    ):  # white, red, cyan, black
        inks[:, 16 * n : 16 * n + 16] = ink
    PIL.Image.fromarray(inks, "CMYK").save(tmp_path / "a.jpg", quality=98)
    image = read_image(tmp_path / "a.jpg")
    assert image.pixels.shape == (16, 64, 3)
    assert image.alpha is None
    assert image.metadata.icc is None
    white, red, cyan, black = (image.pixels[8, 8 + 16 * n].astype(int) for n in range(4))
    assert white.min() > 245
    assert black.max() < 60
    assert red[0] > red[1:].max() + 80
    assert cyan[1:].min() > cyan[0] + 80


@pytest.mark.parametrize("suffix", sorted(readable_suffixes()))
def test_every_suffix_that_is_searched_for_can_be_read(tmp_path: Path, suffix: str) -> None:
    if suffix == ".jxl":
        (tmp_path / "a.jxl").write_bytes(pytest.importorskip("imagecodecs").jpegxl_encode(smooth()))
    else:
        if suffix in (".heic", ".heif"):
            pytest.importorskip("pillow_heif").register_heif_opener()
        pillow(smooth()).save(tmp_path / f"a{suffix}")
    assert read_image(tmp_path / f"a{suffix}").pixels.shape == (48, 64, 3)


TURNED: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.transpose(1, 0, 2),
    6: lambda p: p.transpose(1, 0, 2)[:, ::-1],
    7: lambda p: p.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda p: p.transpose(1, 0, 2)[::-1],
}


# libvips' sequential decoders keep a strip of rows only: what goes wrong with them shows in the larger size.
@pytest.mark.parametrize("size", [(20, 30), (1500, 300)])
@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_images_are_turned_upright(
    tmp_path: Path, noise: Noise, suffix: str, orientation: int, size: tuple[int, int]
) -> None:
    path = tmp_path / f"a{suffix}"
    pixels = noise(*size, 3)
    exif = PIL.Image.Exif()
    exif[ORIENTATION] = orientation
    pillow(pixels).save(path, exif=exif)
    upright = TURNED[orientation](np.asarray(PIL.Image.open(path)))
    image = read_image(path)
    assert image_size(path) == upright.shape[:2] == image.pixels.shape[:2]
    if suffix == ".png":
        np.testing.assert_array_equal(image.pixels, upright)
    else:  # decoders may round differently
        assert np.abs(image.pixels.astype(int) - upright).mean() < 1


@pytest.mark.parametrize("target", ["png", "jpg", "webp"])
@pytest.mark.parametrize("orientation", [3, 6])
def test_written_image_is_not_turned_again(tmp_path: Path, orientation: int, target: Format) -> None:
    exif = PIL.Image.Exif()
    exif[ORIENTATION], exif[MAKER] = orientation, "maker"
    pillow(smooth()).save(tmp_path / "a.jpg", exif=exif)
    upright = read_image(tmp_path / "a.jpg")
    path = tmp_path / f"b.{target}"
    write_image(path, upright)
    again = read_image(path)
    assert again.pixels.shape == upright.pixels.shape
    assert np.abs(again.pixels.astype(int) - upright.pixels).mean() < 2
    written = PIL.Image.open(path).getexif()
    assert written.get(ORIENTATION, 1) == 1
    assert written[MAKER] == "maker"


@pytest.mark.parametrize("source", [".png", ".jpg"])
@pytest.mark.parametrize("target", ["png", "jpg", "webp"])
def test_icc_profile_is_kept_and_the_pixels_are_not_converted(tmp_path: Path, source: str, target: Format) -> None:
    profile = PIL.ImageCms.ImageCmsProfile(PIL.ImageCms.createProfile("sRGB")).tobytes()
    path = tmp_path / f"a{source}"
    pillow(smooth()).save(path, icc_profile=profile, quality=98, subsampling=0)
    image = read_image(path)
    assert image.metadata.icc == profile
    assert np.abs(image.pixels.astype(int) - smooth()).max() <= 6
    encoded = encode_image(image, target)
    assert PIL.Image.open(io.BytesIO(encoded)).info["icc_profile"] == profile


def test_bytes_are_read_like_files(tmp_path: Path, noise: Noise) -> None:
    write_image(tmp_path / "a.png", Image(noise(7, 9, 3)))
    from_bytes = read_image((tmp_path / "a.png").read_bytes())
    np.testing.assert_array_equal(from_bytes.pixels, read_image(tmp_path / "a.png").pixels)


def _png() -> bytes:
    return encode_image(Image(np.random.default_rng(0).integers(0, 256, (300, 200, 3), np.uint8)), "png")


def _jpeg() -> bytes:
    return encode_image(Image(np.random.default_rng(0).integers(0, 256, (300, 200, 3), np.uint8)), "jpg")


def _floats() -> bytes:
    return bytes(vips(np.zeros((4, 4, 3), np.float32), "scrgb").tiffsave_buffer())


UNREADABLE: dict[str, Callable[[], bytes]] = {
    "empty.png": lambda: b"",
    "empty.jpg": lambda: b"",
    "text.png": lambda: b"not a picture\nat all\n",
    "zeros.jpg": lambda: bytes(1000),
    "header.png": lambda: _png()[:20],
    "header.jpg": lambda: _jpeg()[:30],
    "half.png": lambda: _png()[: len(_png()) // 2],
    "half.jpg": lambda: _jpeg()[: len(_jpeg()) // 2],
    "damaged.png": lambda: _png()[:5000] + bytes(1000) + _png()[6000:],
    "floats.tif": _floats,
}


def _one_line(caught: pytest.ExceptionInfo[ImageError], name: str) -> None:
    text = str(caught.value)
    assert text.startswith(f"{name}: ")
    assert "\n" not in text


@pytest.mark.parametrize("name", UNREADABLE)
def test_unreadable_file_is_named_in_one_line(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(UNREADABLE[name]())
    with pytest.raises(ImageError) as caught:
        read_image(path)
    _one_line(caught, str(path))
    with pytest.raises(ImageError) as caught:
        read_image(path.read_bytes())
    _one_line(caught, "standard input")


def test_turned_and_truncated_file_is_refused(tmp_path: Path, noise: Noise) -> None:
    exif = PIL.Image.Exif()
    exif[ORIENTATION] = 6
    pillow(noise(400, 300, 3)).save(tmp_path / "a.jpg", exif=exif)
    (tmp_path / "a.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:40000])
    with pytest.raises(ImageError, match=r"a\.jpg: cannot be read as an image"):
        read_image(tmp_path / "a.jpg")


def test_missing_file_and_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"gone\.png: no such file$"):
        read_image(tmp_path / "gone.png")
    with pytest.raises(ImageError, match=r"is a folder, not an image$"):
        read_image(tmp_path)


def test_size_of_an_unreadable_file_is_refused(tmp_path: Path) -> None:
    for name, data in {"text.png": b"not a picture", "empty.jpg": b""}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ImageError) as caught:
            image_size(tmp_path / name)
        _one_line(caught, str(tmp_path / name))
    with pytest.raises(ImageError, match=r"gone\.png"):
        image_size(tmp_path / "gone.png")


# -- writing -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_png_keeps_everything(tmp_path: Path, noise: Noise, channels: int, alpha: bool, dtype: Any) -> None:
    image = Image(noise(13, 8, channels, dtype=dtype), noise(13, 8, dtype=dtype, seed=1) if alpha else None)
    write_image(tmp_path / "a.PNG", image)
    again = read_image(tmp_path / "a.PNG")
    np.testing.assert_array_equal(again.pixels, image.pixels)
    assert again.pixels.dtype == dtype
    assert (again.alpha is None) == (image.alpha is None)
    if image.alpha is not None and again.alpha is not None:
        np.testing.assert_array_equal(again.alpha, image.alpha)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1)])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_thin_images_are_written_and_read(tmp_path: Path, noise: Noise, suffix: str, size: tuple[int, int]) -> None:
    write_image(tmp_path / f"a{suffix}", Image(noise(*size, 3)))
    assert read_image(tmp_path / f"a{suffix}").pixels.shape == (*size, 3)


def test_webp_is_lossless_at_quality_100_only(tmp_path: Path, noise: Noise) -> None:
    image = Image(noise(20, 20, 3), np.full((20, 20), 255, np.uint8) - noise(20, 20) // 2)
    lossless, lossy = (read_image(encode_image(image, "webp", quality)) for quality in (100, 80))
    np.testing.assert_array_equal(lossless.pixels, image.pixels)
    np.testing.assert_array_equal(lossless.alpha, image.alpha)
    assert (lossy.pixels != image.pixels).any()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("fmt", ["jpg", "webp"])
def test_sixteen_bits_are_rounded_to_eight_where_the_format_has_no_more(fmt: Format, channels: int) -> None:
    pixels = np.broadcast_to(smooth()[:, :, :channels].astype(np.uint16) * 257, (48, 64, channels)) + np.uint16(100)
    image = read_image(encode_image(Image(pixels), fmt, 100))
    assert image.pixels.dtype == np.uint8
    assert np.abs(image.pixels[:, :, :channels].astype(int) - smooth()[:, :, :channels]).max() <= 4


def test_rounding_to_eight_bits_is_to_the_nearest_step() -> None:
    values = np.arange(0, 65536, 13, dtype=np.uint16)[None, :, None]
    got = read_image(encode_image(Image(np.repeat(values, 3, axis=2)), "webp", 100)).pixels
    np.testing.assert_array_equal(got[0, :, 0], np.rint(values[0, :, 0] / 257))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_lays_transparency_on_white(channels: int, dtype: Any) -> None:
    alpha = np.zeros((32, 32), dtype)
    alpha[:, 16:] = np.iinfo(dtype).max
    image = read_image(encode_image(Image(np.zeros((32, 32, channels), dtype), alpha), "jpg", 100))
    assert image.alpha is None
    assert image.is_gray == (channels == 1)
    assert image.pixels[:, :8].min() > 250
    assert image.pixels[:, 24:].max() < 5


@pytest.mark.parametrize(("fmt", "limit"), [("webp", 16383), ("jpg", 65500)])
def test_sizes_that_a_format_cannot_hold_are_refused_with_a_way_out(fmt: Format, limit: int) -> None:
    for shape in ((1, limit + 1, 1), (limit + 1, 1, 1)):
        with pytest.raises(ImageError, match=rf"{fmt} supports at most {limit} pixels per side.*use --format png"):
            encode_image(Image(np.zeros(shape, np.uint8)), fmt)
        assert read_image(encode_image(Image(np.zeros(shape, np.uint8)), "png")).pixels.shape == shape
    held = Image(np.zeros((1, limit, 1), np.uint8))
    assert read_image(encode_image(held, fmt)).width == limit


@pytest.mark.parametrize("name", ["a.bmp", "a", "a.jxl", "a.png.bak"])
def test_suffixes_that_cannot_be_written_are_refused(tmp_path: Path, noise: Noise, name: str) -> None:
    with pytest.raises(ImageError, match=r"cannot write .*; use \.png, \.jpg, \.webp, \.tif, \.gif, \.apng or \.avif"):
        write_image(tmp_path / name, Image(noise(4, 4, 3)))
    assert not list(tmp_path.iterdir())


def test_full_disk_is_reported_and_leaves_the_old_image(
    tmp_path: Path, noise: Noise, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    opened = os.fdopen

    def full(descriptor: int, *args: Any) -> Any:
        file = opened(descriptor, *args)

        class Full(io.BufferedWriter):
            def write(self, data: Any, /) -> int:
                super().write(bytes(data)[:10])
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        return Full(file.detach())

    monkeypatch.setattr(os, "fdopen", full)
    with pytest.raises(ImageError, match=r"a\.png: cannot be written \(No space left on device\)"):
        write_image(path, Image(noise(4, 4, 3)))
    monkeypatch.undo()
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"old"]


def test_folder_that_cannot_be_written_is_reported(tmp_path: Path, noise: Noise) -> None:
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "file" / "a.png", tmp_path / "file" / "deeper" / "a.png"):
        with pytest.raises(ImageError, match=r"a\.png: cannot be written \("):
            write_image(path, Image(noise(4, 4, 3)))


def test_target_that_is_a_folder_is_reported(tmp_path: Path, noise: Noise) -> None:
    (tmp_path / "a.png").mkdir()
    with pytest.raises(ImageError, match=r"a\.png: cannot be written \(Is a directory\)"):
        write_image(tmp_path / "a.png", Image(noise(4, 4, 3)))
    assert list(tmp_path.iterdir()) == [tmp_path / "a.png"]


# -- find_images -------------------------------------------------------------------------------------------------------


@pytest.fixture
def mixed_folder(tmp_path: Path) -> Path:
    for name in ("b.PNG", "a.jpeg", "sub/c.tif", "sub/.hidden.png", ".hidden/d.png", ".a.png.x1.tmp", "notes.txt", "e"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def test_images_are_found_sorted_and_hidden_ones_left_out(mixed_folder: Path) -> None:
    names = [str(p.relative_to(mixed_folder)) for p in find_images(mixed_folder)]
    assert names == ["a.jpeg", "b.PNG", "sub/c.tif"]


def test_subfolders_are_searched_only_when_asked(mixed_folder: Path) -> None:
    assert [p.name for p in find_images(mixed_folder, recursive=False)] == ["a.jpeg", "b.PNG"]


def test_what_is_no_folder_is_refused(mixed_folder: Path) -> None:
    for path in (mixed_folder / "gone", mixed_folder / "b.PNG"):
        with pytest.raises(ImageError, match="no such folder"):
            find_images(path)


def test_folder_that_cannot_be_listed_is_named(mixed_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = os.scandir

    def refuse(path: Any) -> Any:
        if str(path).endswith("sub"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(ImageError, match=r"sub: cannot be listed \(Permission denied\)"):
        find_images(mixed_folder)


# -- what cannot be decoded --------------------------------------------------------------------------------------------


def _tiff(compression: str) -> bytes:
    return bytes(vips(np.tile(smooth(), (4, 4, 1)), "srgb").tiffsave_buffer(compression=compression))


def _with_codec(number: int) -> bytes:
    """An uncompressed TIFF whose tag claims another codec."""
    data = _tiff("none")
    tag = struct.pack("<HHI", 259, 3, 1)
    assert data.count(tag) == 1
    at = data.index(tag) + len(tag)
    return data[:at] + struct.pack("<H", number) + data[at + 2 :]


UNDECODABLE: dict[str, Callable[[], bytes]] = {
    "zstd": lambda: _with_codec(50000),
    "lzma": lambda: _with_codec(34925),
    "jpegxl": lambda: _with_codec(50002),
    "lzw cut in half": lambda: _tiff("lzw")[: len(_tiff("lzw")) // 2],
    "deflate cut in half": lambda: _cut_pixels(_tiff("deflate")),
    "lzw damaged": lambda: _tiff("lzw")[:100] + bytes(200) + _tiff("lzw")[300:],
}


def _cut_pixels(data: bytes) -> bytes:
    """A TIFF whose directory is whole and whose pixels are zeros from the middle on."""
    return data[: len(data) // 4] + bytes(len(data) // 2) + data[len(data) // 4 * 3 :]


@pytest.mark.parametrize("kind", UNDECODABLE)
def test_an_undecodable_tiff_is_refused_and_never_black(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(UNDECODABLE[kind]())
    with pytest.raises(ImageError, match=r"a\.tif: cannot be read as an image \(") as caught:
        read_image(path)
    _one_line(caught, str(path))


def test_the_message_is_that_of_this_file_and_not_of_the_one_before(tmp_path: Path) -> None:
    (tmp_path / "first.tif").write_bytes(UNDECODABLE["zstd"]())
    (tmp_path / "second.png").write_bytes(_png()[: len(_png()) // 2])
    messages = []
    for order in (["second.png"], ["first.tif", "second.png"]):
        for name in order:
            with pytest.raises(ImageError) as caught:
                read_image(tmp_path / name)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    # A tolerant reader elsewhere in the process leaves its complaints in libvips' buffer.
    pyvips.Image.new_from_file(str(tmp_path / "first.tif"), fail_on="none").copy_memory()
    with pytest.raises(ImageError) as caught:
        read_image(tmp_path / "second.png")
    assert str(caught.value) == messages[0]


def test_a_small_file_with_too_many_pixels_is_refused_by_its_header(tmp_path: Path) -> None:
    size = struct.pack(">IIBBBBB", 30000, 30000, 8, 0, 0, 0, 0)
    head = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + size
    head += struct.pack(">I", zlib.crc32(b"IHDR" + size))
    rows = zlib.compress(bytes(30001 * 100), 9)
    head += struct.pack(">I", len(rows)) + b"IDAT" + rows + struct.pack(">I", zlib.crc32(b"IDAT" + rows))
    (tmp_path / "bomb.png").write_bytes(head)
    with pytest.raises(ImageError, match=r"bomb\.png: has 30000x30000 pixels, the limit is 500 million"):
        read_image(tmp_path / "bomb.png")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".gif", ".avif"])
def test_a_file_that_was_changed_is_not_read_as_it_was(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    for level in (10, 200, 90):
        write_image(path, Image(np.full((24, 16, 3), level, np.uint8)), quality=100)
        for _ in range(2):
            assert abs(int(read_image(path).pixels[5, 5, 1]) - level) < 8
