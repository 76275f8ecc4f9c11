"""Animations and pages come through whole, with their timing, or what is left behind is said."""

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageSequence
import pytest
import tifffile
from numpy.typing import NDArray

from srgan_fast.data.image_files import icc
from srgan_fast.data.images import Format, Image, ImageFile, Timing, encode, image_header, read_file, read_image

DELAYS = (40, 120, 80, 200)


def _frames(count: int = 4) -> list[NDArray[np.uint8]]:
    """Flat colours with a white square that moves: exact in every format, lossy ones but for a few steps."""
    frames = []
    for i in range(count):
        frame = np.full((24, 32, 3), (40 * i, 200 - 40 * i, 90), np.uint8)
        frame[4:12, 4 * i : 4 * i + 8] = 255
        frames.append(frame)
    return frames


def _animation(fmt: str, loop: int = 3) -> bytes:
    first, *rest = [PIL.Image.fromarray(frame) for frame in _frames()]
    file = io.BytesIO()
    options = {"lossless": True} if fmt == "WEBP" else {}
    first.save(file, fmt, save_all=True, append_images=rest, duration=list(DELAYS), loop=loop, **options)
    return file.getvalue()


def _read_by_pillow(data: bytes) -> tuple[list[NDArray[np.uint8]], list[float], int]:
    with PIL.Image.open(io.BytesIO(data)) as film:
        frames, delays = [], []
        for number in range(getattr(film, "n_frames", 1)):
            film.seek(number)
            film.load()
            delays.append(film.info.get("duration", 0))
            frames.append(np.asarray(film.convert("RGB")))
        return frames, delays, film.info.get("loop", 1)


@pytest.mark.parametrize("fmt", ["GIF", "WEBP", "PNG"])
def test_every_frame_of_an_animation_is_read_with_its_timing(fmt: str) -> None:
    data = _animation(fmt)
    file = read_file(data)
    assert file.timing is not None
    assert file.timing.delays == DELAYS
    # Of GIF, Pillow counts the repetitions after the first showing.
    assert file.timing.loop == _read_by_pillow(data)[2] + (fmt == "GIF")
    assert file.notes == ()
    assert len(file.frames) == 4
    for frame, expected in zip(file.frames, _frames(), strict=True):
        assert np.abs(frame.rgb().astype(int) - expected).max() <= 2  # GIF's palette
    header = image_header(data)
    assert (header.height, header.width, header.frames, header.kind) == (24, 32, 4, "animation")
    assert header.pixels == 4 * 24 * 32


def test_training_and_evaluation_read_the_first_frame_alone() -> None:
    assert read_image(_animation("GIF")).pixels.shape == (24, 32, 3)


@pytest.mark.parametrize("loop", [0, 1, 7])
@pytest.mark.parametrize("fmt", ["gif", "webp", "png", "apng"])
def test_written_animations_keep_frames_timing_and_loops(fmt: Format, loop: int) -> None:
    film = ImageFile(tuple(Image(frame) for frame in _frames()), Timing(DELAYS, loop))
    encoded = encode(film, fmt, quality=100)
    assert encoded.notes == ()
    frames, delays, loops = _read_by_pillow(encoded.data)
    assert tuple(delays) == DELAYS
    # GIF counts repetitions after the first showing, and says nothing where there is none.
    assert loops == loop or fmt == "gif"
    assert [np.abs(a.astype(int) - b).max() <= 4 for a, b in zip(frames, _frames(), strict=True)] == [True] * 4
    again = read_file(encoded.data)
    assert again.timing == Timing(DELAYS, loop)


def test_animated_png_keeps_16_bits(noise: Any) -> None:
    frames = tuple(Image(noise(6, 5, 3, dtype=np.uint16, seed=i)) for i in range(2))
    data = encode(ImageFile(frames, Timing((10, 20))), "png").data
    np.testing.assert_array_equal(read_image(data).pixels, frames[0].pixels)
    assert data[24] == 16


def test_transparent_frames_stay_transparent() -> None:
    hole = np.full((24, 32), 255, np.uint8)
    hole[:8] = 0
    film = ImageFile(tuple(Image(frame, hole) for frame in _frames(2)), Timing((50, 50)))
    fmts: list[Format] = ["gif", "webp", "png"]
    for fmt in fmts:
        for frame in read_file(encode(film, fmt, 100).data).frames:
            assert frame.alpha is not None
            np.testing.assert_array_equal(frame.alpha, hole)


def _pages(*sizes: tuple[int, int]) -> bytes:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for i, size in enumerate(sizes):
            writer.write(np.full((*size, 3), 50 * i, np.uint8), photometric="rgb")
    return file.getvalue()


@pytest.mark.parametrize("sizes", [((8, 9), (8, 9)), ((8, 9), (5, 4), (8, 9))], ids=["one size", "several"])
def test_every_page_of_a_tiff_is_read_and_written(sizes: tuple[tuple[int, int], ...]) -> None:
    file = read_file(_pages(*sizes))
    assert file.timing is None
    assert [frame.pixels.shape[:2] for frame in file.frames] == list(sizes)
    assert image_header(_pages(*sizes)).frames == len(sizes)
    encoded = encode(file, "tif")
    assert encoded.notes == ()
    with tifffile.TiffFile(io.BytesIO(encoded.data)) as written:
        for i, (page, size) in enumerate(zip(written.pages, sizes, strict=True)):
            np.testing.assert_array_equal(page.asarray(), np.full((*size, 3), 50 * i, np.uint8))


@pytest.mark.parametrize("order", [1, -1], ids=["8 then 16", "16 then 8"])
@pytest.mark.parametrize("sizes", [((8, 9), (8, 9)), ((8, 9), (5, 4))], ids=["one size", "several"])
def test_pages_of_8_and_16_bits_beside_each_other_keep_their_brightness(
    sizes: tuple[tuple[int, int], ...], order: int
) -> None:
    pages = [np.full((*sizes[0], 3), 200, np.uint8), np.full((*sizes[1], 3), 100 * 257, np.uint16)][::order]
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for page in pages:
            writer.write(page, photometric="rgb")
    encoded = encode(read_file(file.getvalue()), "tif")
    with tifffile.TiffFile(io.BytesIO(encoded.data)) as written:
        shares = [float(page.asarray().mean()) / np.iinfo(page.dtype).max for page in written.pages]
    assert shares == pytest.approx([200 / 255, 100 / 255][::order])


@pytest.mark.parametrize("sizes", [((8, 9), (8, 9)), ((8, 9), (5, 4))], ids=["one size", "several"])
def test_every_page_keeps_its_profile_and_what_describes_it(sizes: tuple[tuple[int, int], ...]) -> None:
    xmp, iptc = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>', b"\x1c\x02\x78\x00\x05hello"
    profiles = [icc.make_profile(gamma, icc.SRGB_PRIMARIES, False) for gamma in (1.8, 2.2)]
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for size, profile in zip(sizes, profiles, strict=True):
            writer.write(
                np.zeros((*size, 3), np.uint8), photometric="rgb", iccprofile=profile, metadata=None,
                description="a scan", extratags=[(700, 1, len(xmp), xmp, True), (33723, 1, len(iptc), iptc, True)],
            )  # fmt: skip
    encoded = encode(read_file(file.getvalue()), "tif")
    assert encoded.notes == ()
    with tifffile.TiffFile(io.BytesIO(encoded.data)) as written:
        assert [page.iccprofile for page in written.pages] == profiles
        for page in written.pages:
            assert page.description == "a scan"
            assert bytes(page.tags[700].value) == xmp
            assert bytes(page.tags[33723].value) == iptc


def test_smaller_copies_of_a_page_are_no_pages() -> None:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(np.zeros((16, 16, 3), np.uint8), photometric="rgb")
        writer.write(np.zeros((8, 8, 3), np.uint8), photometric="rgb", subfiletype=1)
    assert len(read_file(file.getvalue()).frames) == 1


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
def test_pages_of_all_kinds_of_tiff_are_counted(big: bool, order: Any) -> None:
    file = io.BytesIO()
    with tifffile.TiffWriter(file, bigtiff=big, byteorder=order) as writer:
        for _ in range(3):
            writer.write(np.zeros((8, 8), np.uint8), photometric="minisblack")
    assert image_header(file.getvalue()).frames == 3


@pytest.mark.parametrize("fmt", ["jpg", "avif", "png", "webp", "gif"])
def test_pages_that_a_format_cannot_hold_are_said(fmt: Format) -> None:
    file = read_file(_pages((16, 16), (16, 16), (16, 16)))
    assert encode(file, fmt).notes == (f"the 2 pages after the first ({fmt} holds one)",)


@pytest.mark.parametrize("fmt", ["jpg", "avif"])
def test_frames_that_a_format_cannot_hold_are_said(fmt: Format) -> None:
    assert encode(read_file(_animation("WEBP")), fmt).notes[0] == f"the 3 frames after the first ({fmt} holds one)"


def test_frames_become_pages_and_their_timing_is_said() -> None:
    encoded = encode(read_file(_animation("GIF")), "tif")
    assert "timing of the frames (they are stored as pages)" in encoded.notes
    assert image_header(encoded.data).frames == 4


def test_without_pillow_an_animated_png_says_that_frames_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    data = _animation("PNG")
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    file = read_file(data)
    assert len(file.frames) == 1
    assert file.notes == ("the frames after the first (they need Pillow: pip install 'srgan_fast[formats]')",)


@pytest.mark.parametrize("fmt", ["GIF", "WEBP", "PNG"])
def test_animations_cut_in_half_are_refused(tmp_path: Path, fmt: str) -> None:
    from srgan_fast.errors import ImageError

    data = _animation(fmt)
    (tmp_path / "a").write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(ImageError, match="cannot be read as an image"):
        read_file(tmp_path / "a")
