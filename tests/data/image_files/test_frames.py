"""Animations and pages come through whole, with their timing, or what is left behind is said."""

import io
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageSequence
import pytest
import tifffile
from numpy.typing import NDArray

from srgan_fast.data.image_files import apng, icc
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
    assert data[24] == 16
    for got, frame in zip(read_file(data).frames, frames, strict=True):
        np.testing.assert_array_equal(got.pixels, frame.pixels)


def test_gray_animated_png_of_16_bits_stays_gray_with_its_values(noise: Any) -> None:
    frames = tuple(Image(noise(6, 5, 1, dtype=np.uint16, seed=i)) for i in range(2))
    read = read_file(encode(ImageFile(frames, Timing((10, 20))), "png").data)
    for got, frame in zip(read.frames, frames, strict=True):
        np.testing.assert_array_equal(got.pixels, frame.pixels)


@pytest.mark.parametrize("spoil", ["outside", "missing", "flipped"])
def test_frames_of_an_animated_png_that_are_damaged_are_refused(spoil: str) -> None:
    from srgan_fast.errors import ImageError

    data = bytearray(_animation("PNG"))
    last = data.rindex(b"fcTL")
    if spoil == "outside":
        data[last + 8 : last + 12] = b"\0\0\1\0"
    elif spoil == "missing":
        end = data.index(b"fdAT", last)
        data[end : end + 4] = b"teXt"
    else:
        place = data.index(b"fdAT", last) + 14
        data[place] ^= 255
    with pytest.raises(ImageError, match="cannot be read as an image"):
        read_file(bytes(data))


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


def test_an_animated_png_needs_no_other_library(monkeypatch: pytest.MonkeyPatch) -> None:
    data = _animation("PNG")
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    file = read_file(data)
    assert (len(file.frames), file.notes) == (4, ())


@pytest.mark.parametrize("blend", [0, 1])
@pytest.mark.parametrize(
    ("mode", "dispose"), [("RGB", 0), ("P", 0), *((mode, dispose) for mode in ("RGBA", "LA") for dispose in (0, 1))]
)
def test_frames_of_an_animated_png_are_drawn_as_pillow_draws_them(mode: str, dispose: int, blend: int) -> None:
    rng = np.random.default_rng(5)
    pixels = rng.integers(0, 256, (12, 16, 4), np.uint8)
    pixels[:, :, 3] = rng.integers(0, 2, (12, 16), np.uint8) * 255  # Pillow is wrong where alpha is between
    images = []
    for i in range(4):
        if i:  # only a part changes, so that it is stored as one
            pixels[2:8, i : i + 5] = rng.permutation(pixels[2:8, i : i + 5], axis=0)
        whole = PIL.Image.fromarray(pixels.copy())
        images.append(whole.convert(mode) if mode != "P" else whole.convert("RGB").quantize(16))
    file = io.BytesIO()
    images[0].save(
        file, "PNG", save_all=True, append_images=images[1:], duration=[10, 20, 30, 40], disposal=dispose, blend=blend
    )  # fmt: skip
    read = read_file(file.getvalue())
    with PIL.Image.open(io.BytesIO(file.getvalue())) as film:
        assert len(read.frames) == film.n_frames
        for number, frame in enumerate(read.frames):
            film.seek(number)
            expected = np.asarray(film.convert("RGBA"))
            alpha = np.full(expected.shape[:2], 255) if frame.alpha is None else frame.alpha
            np.testing.assert_array_equal(alpha, expected[:, :, 3])
            seen = alpha > 0
            np.testing.assert_array_equal(frame.rgb()[seen], expected[:, :, :3][seen])


@pytest.mark.parametrize("blend", [0, 1])
def test_what_a_frame_covered_comes_back_after_it_where_the_file_says_so(blend: int) -> None:
    def part(side: int, value: int, dispose: int) -> apng.Part:
        file = encode(ImageFile((Image(np.full((side, side, 1), value, np.uint8)),)), "png").data
        return apng.Part(file, 0, 0, 10, dispose, blend)

    # Keep; restore what was before; clear.
    frames = apng.draw([part(2, 50, 0), part(1, 90, 2), part(1, 70, 1), part(1, 60, 2)], 2, 2, read_image)
    assert [frame.pixels[:, :, 0].tolist() for frame in frames] == [
        [[50, 50], [50, 50]], [[90, 50], [50, 50]], [[70, 50], [50, 50]], [[60, 50], [50, 50]],
    ]  # fmt: skip
    # The first frame has nothing before it, and is cleared; so is what a frame covered that says "clear".
    for first in (1, 2):
        _, after = apng.draw([part(2, 50, first), part(1, 90, 0)], 2, 2, read_image)
        assert after.alpha is not None
        assert after.alpha.tolist() == [[255, 0], [0, 0]]


def test_half_transparent_frames_are_drawn_over_those_before() -> None:
    over = Image(np.full((1, 1, 3), 200, np.uint8), np.full((1, 1), 128, np.uint8))
    half = encode(ImageFile((over, over), Timing((10, 10))), "png").data
    half = half.replace(struct.pack(">HHBB", 10, 1000, 0, 0), struct.pack(">HHBB", 10, 1000, 0, 1))
    parts, _ = apng.split(half)
    frames = apng.draw(parts, 1, 1, read_image)
    assert [int(frame.alpha[0, 0]) for frame in frames if frame.alpha is not None] == [128, 192]  # 1 - (1 - a)^2
    assert [int(frame.pixels[0, 0, 0]) for frame in frames] == [200, 200]


@pytest.mark.parametrize("fmt", ["GIF", "WEBP", "PNG"])
def test_animations_cut_in_half_are_refused(tmp_path: Path, fmt: str) -> None:
    from srgan_fast.errors import ImageError

    data = _animation(fmt)
    (tmp_path / "a").write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(ImageError, match="cannot be read as an image"):
        read_file(tmp_path / "a")
