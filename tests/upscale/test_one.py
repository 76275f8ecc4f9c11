"""One image's way: refused before it is computed, computed in the right colours, written whole or not at all."""

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from numpy.typing import NDArray

from srgan_fast import memory
from srgan_fast.data.image_files import icc
from srgan_fast.data.images import Image, ImageFile, Metadata, Timing, encode, encode_image, read_file, read_image
from srgan_fast.upscale import Job, JobResult, OutputOptions, Size, Upscaler, run_jobs
from srgan_fast.upscale.one import is_whole

P3 = (0.3127, 0.3290, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060)


class Identity:
    """An upscaler of factor 1 that changes nothing."""

    scale = 1

    def __init__(self) -> None:
        self.seen: list[Image] = []

    def upscale(self, image: Image, outscale: float | None = None, on_tile: Any = None) -> Image:
        self.seen.append(image)
        return Image(image.pixels.copy(), image.alpha, image.metadata)


def _run(source: Path, target: str, upscaler: Any, **options: Any) -> JobResult:
    fmt: Any = Path(target).suffix[1:]
    (result,) = run_jobs([Job(source, Path(target), fmt)], upscaler, OutputOptions(**options))
    return result


def _noise(path: str, size: tuple[int, ...] = (5, 7, 3)) -> Path:
    Path(path).write_bytes(encode_image(Image(np.random.default_rng(0).integers(0, 256, size, np.uint8)), "png"))
    return Path(path)


# -- refused before it is computed -------------------------------------------------------------------------------------


def test_more_pixels_than_the_limit_are_refused_from_the_header(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from srgan_fast.upscale import one

    monkeypatch.setattr(one, "read_file", lambda _: pytest.fail("it was decoded"))
    result = _run(_noise("a.png", (40, 50, 3)), "b.png", Identity(), max_pixels=1999)
    assert result.message == (
        "a.png: has 0 million pixels, the limit is 0 million; raise it with --max-pixels"
    )  # fmt: skip


def test_the_limit_counts_all_frames(folder: Path) -> None:
    frames = tuple(Image(np.full((10, 10, 3), 20 * i, np.uint8)) for i in range(5))
    Path("a.gif").write_bytes(encode(ImageFile(frames, Timing((50,) * 5)), "gif").data)
    assert "pixels in 5 frames, the limit" in _run(Path("a.gif"), "b.gif", Identity(), max_pixels=499).message
    assert _run(Path("a.gif"), "b.gif", Identity(), max_pixels=500).status == "done"


def test_more_memory_than_there_is_is_refused_before_decoding(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available", lambda: 70 << 20)
    result = _run(_noise("a.png", (1500, 1500, 1)), "b.png", Identity())
    assert result.message == (
        "a.png: an image of 1500x1500 pixels with a result of 1500x1500 needs 0.1 GiB, 0.1 GiB are available; "
        "cut it into parts"
    )
    monkeypatch.setattr(memory, "available", lambda: None)
    assert _run(Path("a.png"), "b.png", Identity()).status == "done"


@pytest.mark.parametrize(("target", "limit"), [("b.webp", 16383), ("b.jpg", 65500)])
def test_results_that_their_format_cannot_hold_are_refused_before_decoding(
    folder: Path, monkeypatch: pytest.MonkeyPatch, target: str, limit: int
) -> None:
    from srgan_fast.upscale import one

    monkeypatch.setattr(one, "read_file", lambda _: pytest.fail("it was decoded"))
    source = _noise("a.png", (1, limit + 1, 1))
    assert f"supports at most {limit} pixels per side" in _run(source, target, Identity()).message


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="FIFOs are Unix'")
def test_encoders_with_a_copy_of_their_own_need_more(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available", lambda: 88 << 20)
    source = _noise("a.png", (1500, 1500, 1))
    assert _run(source, "b.tif", Identity()).status == "done"
    assert "are available" in _run(source, "b.webp", Identity()).message


def test_a_fifo_is_refused_and_not_waited_for(folder: Path) -> None:
    os.mkfifo("a.png")
    results: list[JobResult] = []
    thread = threading.Thread(target=lambda: results.append(_run(Path("a.png"), "b.png", Identity())), daemon=True)
    thread.start()
    thread.join(20)
    assert [result.message for result in results] == ["a.png: is not a regular file"]


def test_devices_and_loops_of_links_are_refused(folder: Path) -> None:
    assert _run(Path(os.devnull), "b.png", Identity()).message == f"{os.devnull}: is not a regular file"
    Path("loop.png").symlink_to("loop.png")
    assert _run(Path("loop.png"), "b.png", Identity()).message.startswith("loop.png: cannot be read (")


@pytest.mark.parametrize("part", ["read_file", "encode", "write_bytes"])
@pytest.mark.parametrize("error", [MemoryError(), ValueError("two\nlines"), OSError(5, "Input/output error")])
def test_a_failure_of_any_kind_is_one_line_and_the_rest_go_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch, part: str, error: Exception
) -> None:
    from srgan_fast.upscale import one

    real, calls = getattr(one, part), []

    def once(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise error
        return real(*arguments)

    jobs = [Job(_noise(f"{name}.png"), Path(f"out/{name}.png"), "png") for name in "ab"]
    monkeypatch.setattr(one, part, once)
    first, second = run_jobs(jobs, Identity(), OutputOptions())  # type: ignore[arg-type]
    assert (first.status, second.status) == ("failed", "done")
    assert "\n" not in first.message
    assert first.message.startswith("a.png: " if part == "read_file" else "out/a.png: ")
    assert [path.name for path in Path("out").iterdir()] == ["b.png"]


# -- whole results and sizes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spoilt", [b"", b"text", "half"], ids=["empty", "text", "half"])
def test_skip_existing_does_again_what_is_not_whole(folder: Path, spoilt: Any) -> None:
    source = _noise("a.png", (60, 60, 3))
    whole = source.read_bytes()
    Path("b.png").write_bytes(whole[: len(whole) // 2] if spoilt == "half" else spoilt)
    assert not is_whole(Path("b.png"))
    assert _run(source, "b.png", Identity(), existing="skip").status == "done"
    assert _run(source, "b.png", Identity(), existing="skip").status == "skipped"


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (Size(30), (30, 15)),
        (Size(30, 40), (30, 40)),
        (Size(30, 40, fit=True), (30, 15)),
        (Size(300, 20, fit=True), (40, 20)),
        (Size(7), (7, 4)),
    ],
)
def test_sizes_in_pixels(folder: Path, upscaler: Upscaler, size: Size, expected: tuple[int, int]) -> None:
    result = _run(_noise("a.png", (10, 20, 4)), "b.png", upscaler, size=size)
    assert result.hr_size == expected
    image = read_image(Path("b.png"))
    assert (image.width, image.height) == expected
    assert image.alpha is not None


def test_every_frame_is_upscaled(folder: Path, upscaler: Upscaler) -> None:
    frames = tuple(Image(np.full((6, 8, 3), 60 * i, np.uint8)) for i in range(3))
    Path("a.webp").write_bytes(encode(ImageFile(frames, Timing((40, 80, 120), 2)), "webp", 100).data)
    result = _run(Path("a.webp"), "b.webp", upscaler, quality=100)
    assert (result.frames, result.hr_size, result.notes) == (3, (32, 24), ())
    film = read_file(Path("b.webp"))
    assert film.timing == Timing((40, 80, 120), 2)
    for frame, source in zip(film.frames, read_file(Path("a.webp")).frames, strict=True):
        np.testing.assert_array_equal(frame.pixels, upscaler.upscale(source).pixels)


def test_frames_that_the_target_cannot_hold_are_not_computed_and_said(folder: Path) -> None:
    frames = tuple(Image(np.full((6, 8, 3), 60 * i, np.uint8)) for i in range(3))
    Path("a.gif").write_bytes(encode(ImageFile(frames, Timing((40, 80, 120))), "gif").data)
    identity = Identity()
    result = _run(Path("a.gif"), "b.jpg", identity)
    assert len(identity.seen) == 1
    assert result.frames == 1
    assert result.notes == ("the 2 frames after the first (jpg holds one)",)


# -- colour ------------------------------------------------------------------------------------------------------------


def _saturated_and_ramp() -> NDArray[np.uint8]:
    """Display P3's corners above ramps of gray and of each channel."""
    pixels = np.zeros((8, 256, 3), np.uint8)
    corners = np.array([[r, g, b] for r in (0, 255) for g in (0, 255) for b in (0, 255)], np.uint8)
    pixels[:4] = corners[np.arange(256) // 32]
    ramp = np.arange(256, dtype=np.uint8)
    pixels[4] = ramp[:, None]
    for channel in range(3):
        pixels[5 + channel, :, channel] = ramp
    return pixels


@pytest.mark.parametrize("gamma", [None, 1.0, 1.8, 2.2])
@pytest.mark.parametrize("colour", ["auto", "keep"])
def test_wide_primaries_and_a_ramp_come_back_within_one_level_and_the_profile_byte_for_byte(
    folder: Path, gamma: float | None, colour: Any
) -> None:
    profile = icc.make_profile(gamma, P3, gray=False)
    pixels = _saturated_and_ramp()
    Path("a.png").write_bytes(encode_image(Image(pixels, None, Metadata(icc=profile)), "png"))
    identity = Identity()
    result = _run(Path("a.png"), "b.png", identity, colour=colour)
    assert result.notes == ()
    with PIL.Image.open("b.png") as got:
        assert np.abs(np.asarray(got).astype(int) - pixels).max() <= 1
        assert got.info["icc_profile"] == profile
    (seen,) = identity.seen
    if colour == "keep" or gamma is None:
        np.testing.assert_array_equal(seen.pixels, pixels)
    else:
        expected = icc.linear_to_srgb((pixels / 255.0) ** gamma) * 65535
        assert np.abs(seen.pixels - expected).max() < 80, "the network sees sRGB's curve and the same primaries"


def test_gray_with_alpha_and_a_linear_gamma_chunk_comes_back(folder: Path) -> None:
    ramp = np.arange(256, dtype=np.uint8)[None, :, None].repeat(3, 0)
    source = Image(ramp, ramp[:, ::-1, 0].copy(), Metadata(gamma=1.0))
    Path("a.png").write_bytes(encode_image(source, "png"))
    identity = Identity()
    assert _run(Path("a.png"), "b.png", identity).status == "done"
    assert identity.seen[0].pixels.dtype == np.uint16
    assert 48000 < identity.seen[0].pixels[0, 128, 0] < 48600, "linear 0.5 is 0.735 in sRGB"
    again = read_image(Path("b.png"))
    assert np.abs(again.pixels.astype(int) - ramp).max() <= 1
    np.testing.assert_array_equal(again.alpha, source.alpha)
    assert again.metadata.gamma == 1.0


def test_a_profile_that_is_a_table_leaves_values_alone_and_says_so(folder: Path) -> None:
    profile = bytearray(icc.make_profile(2.2, P3, gray=False))
    profile = profile.replace(b"rTRC", b"A2B0")
    Path("a.png").write_bytes(encode_image(Image(_saturated_and_ramp(), None, Metadata(icc=bytes(profile))), "png"))
    result = _run(Path("a.png"), "b.png", Identity())
    assert result.notes == ("transfer curve, ignored (its profile is a look-up table)",)
    np.testing.assert_array_equal(read_image(Path("b.png")).pixels, _saturated_and_ramp())


def test_16_bits_of_another_curve_come_back_nearly(folder: Path) -> None:
    ramp = np.arange(0, 65536, 17, dtype=np.uint16)[None, :, None].repeat(3, 2)
    source = Image(ramp, None, Metadata(icc=icc.make_profile(2.2, P3, gray=False)))
    Path("a.png").write_bytes(encode_image(source, "png"))
    _run(Path("a.png"), "b.png", Identity())
    got = read_image(Path("b.png")).pixels.astype(int)
    assert np.abs(got - ramp)[:, 600:].max() <= 4, "above a sixth of the range"
    assert np.abs(got - ramp).max() <= 257, "a level of 8 bits in the deepest shadows"


# -- ending a run ------------------------------------------------------------------------------------------------------


def test_a_stop_drops_the_present_image_and_reports_those_before(folder: Path, upscaler: Upscaler) -> None:
    jobs = [Job(_noise(f"{i}.png"), Path(f"out/{i}.png"), "png") for i in range(4)]
    stop = threading.Event()
    tiles: list[Any] = []

    def at_the_third(tile: Any) -> None:
        tiles.append(tile)
        if len(tiles) == 2:
            stop.set()

    results = list(run_jobs(jobs, upscaler, OutputOptions(), at_the_third, stop))
    assert [result.status for result in results] == ["done", "done"]
    assert sorted(path.name for path in Path("out").iterdir()) == ["0.png", "1.png"]


def test_what_a_killed_run_left_is_removed(folder: Path) -> None:
    Path("out").mkdir()
    from srgan_fast.files import _host

    dead, alive = f"out/.a.png.x.{_host()}-{2**22 + 1}.tmp", f"out/.b.png.x.{_host()}-{os.getpid()}.tmp"
    other, foreign = "out/.c.png.x.00000000-1.tmp", "out/.notes.tmp"
    for name in (dead, alive, other, foreign):
        Path(name).touch()
    _run(_noise("a.png"), "out/d.png", Identity())
    assert sorted(f"out/{path.name}" for path in Path("out").iterdir()) == sorted([alive, other, foreign, "out/d.png"])
    os.utime(other, (0, 0))
    _run(_noise("a.png"), "out/e.png", Identity())
    assert not Path(other).exists()
