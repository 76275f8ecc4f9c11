"""Large images by rows: the same files as from whole images, in bounded memory, and nothing left of what fails."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import pyvips

from srgan_fast import memory
from srgan_fast.data.image_files import icc
from srgan_fast.data.images import (
    ROW_FORMATS,
    Image,
    ImageFile,
    Metadata,
    RowWriter,
    Text,
    Timing,
    encode,
    encode_image,
)
from srgan_fast.models import ModelFile
from srgan_fast.network.graph import Conv, Network
from srgan_fast.runtime.tiling import Tile
from srgan_fast.upscale import Job, JobResult, OutputOptions, Upscaler, by_rows, one, run_jobs
from tests.peak_memory import with_tests

RNG = np.random.default_rng(9)
PIXELS = RNG.integers(0, 256, (130, 260, 3), np.uint8)
GAMMA = Metadata(icc=icc.make_profile(1.8, icc.SRGB_PRIMARIES, gray=False), density=(300.0, 300.0))


def model(features: int = 64, scale: int = 4, channels: int = 3) -> ModelFile:
    """Two convolutions with random weights."""
    rng = np.random.default_rng(2)

    def conv(name: str, at: int, into: int, out: int, **rest: Any) -> Conv:
        weight = rng.normal(0, 1 / np.sqrt(9 * into), (out, into, 3, 3)).astype(np.float32)
        return Conv(name, (at,), weight, rng.normal(0.2, 0.1, out).astype(np.float32), **rest)

    first = conv("first", 0, channels, features, slope=np.array([0.2], np.float32))
    last = conv("last", 1, features, channels * scale**2, shuffle=scale)
    return ModelFile(Network((first, last), channels=channels), "random", "random", {})


@pytest.fixture(scope="module")
def native() -> Upscaler:
    """On the native engine, which computes the small images of these tests in several strips."""
    return Upscaler(model(), backend="native", threads=2)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory, in which every image is large."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(by_rows, "ROWS_FROM", 0)
    return tmp_path


def _run(source: Path, target: str, upscaler: Any, on_tile: Any = None, stop: Any = None, **options: Any) -> JobResult:
    fmt: Any = Path(target).suffix[1:]
    (result,) = run_jobs([Job(source, Path(target), fmt)], upscaler, OutputOptions(**options), on_tile, stop)
    return result


def _turned(orientation: int) -> bytes:
    exif, file = PIL.Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    PIL.Image.fromarray(PIXELS).save(file, "JPEG", exif=exif.tobytes(), quality=95)
    return file.getvalue()


def _with_holes() -> Image:
    alpha = RNG.integers(0, 256, PIXELS.shape[:2], np.uint8)
    alpha[20:90, 30:200] = 0
    return Image(PIXELS, alpha)


PICTURES: dict[str, bytes] = {
    "colour.png": encode_image(Image(PIXELS, None, Metadata(texts=(Text("Title", "a picture"),))), "png"),
    "gray.png": encode_image(Image(PIXELS[:, :, :1]), "png"),
    "alpha.png": encode_image(_with_holes(), "png"),
    "wide.png": encode_image(Image(PIXELS.astype(np.uint16) * 200 + 7), "png"),
    "gamma.png": encode_image(Image(PIXELS, None, GAMMA), "png"),
    "gray alpha gamma.png": encode_image(
        Image(PIXELS[:, :, :1], PIXELS[:, :, 1].copy(), Metadata(gamma=1.0)), "png"
    ),
    "photo.jpg": encode_image(Image(PIXELS, None, GAMMA), "jpg"),
    "turned.jpg": _turned(6),
    "interlaced.png": bytes(pyvips.Image.new_from_array(PIXELS).pngsave_buffer(interlace=True)),
    "photo.webp": encode_image(Image(PIXELS), "webp"),
    "scan.tif": encode_image(Image(PIXELS, None, GAMMA), "tif"),
}  # fmt: skip


@pytest.mark.parametrize("fmt", ROW_FORMATS)
@pytest.mark.parametrize("name", PICTURES)
def test_files_are_byte_for_byte_those_of_whole_images(
    folder: Path, native: Upscaler, monkeypatch: pytest.MonkeyPatch, name: str, fmt: Any
) -> None:
    Path(name).write_bytes(PICTURES[name])
    monkeypatch.setattr(by_rows, "ROWS_FROM", 1 << 40)
    whole = _run(Path(name), f"whole.{fmt}", native)
    monkeypatch.setattr(by_rows, "ROWS_FROM", 0)
    monkeypatch.setattr(one, "read_file", lambda _: pytest.fail("it was decoded as a whole"))
    parts: list[Tile] = []
    rows = _run(Path(name), f"rows.{fmt}", native, parts.append)
    assert (rows.status, rows.message) == ("done", "")
    assert (rows.lr_size, rows.hr_size, rows.frames, rows.notes) == (
        whole.lr_size, whole.hr_size, whole.frames, whole.notes,
    )  # fmt: skip
    assert rows.seconds > 0
    assert sum(part.area for part in parts) == PIXELS.shape[0] * PIXELS.shape[1]
    assert Path(f"rows.{fmt}").read_bytes() == Path(f"whole.{fmt}").read_bytes()


def test_options_hold_for_rows_too(folder: Path, native: Upscaler, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("a.png").write_bytes(PICTURES["gamma.png"])
    for options in ({"quality": 60}, {"colour": "keep"}):
        monkeypatch.setattr(by_rows, "ROWS_FROM", 0)
        _run(Path("a.png"), "rows.jpg", native, existing="overwrite", **options)
        monkeypatch.setattr(by_rows, "ROWS_FROM", 1 << 40)
        _run(Path("a.png"), "whole.jpg", native, existing="overwrite", **options)
        assert Path("rows.jpg").read_bytes() == Path("whole.jpg").read_bytes()


@pytest.mark.parametrize(
    ("source", "target", "options", "why"),
    [
        ("colour.png", "b.webp", {}, r"since webp is not encoded by rows \(png, jpg, tif are\)"),
        ("colour.png", "b.png", {"outscale": 2.0}, "since the result is resized from 1040x520"),
        ("film.webp", "b.tif", {}, "since the file has several frames"),
        ("picture.gif", "b.png", {}, "since it cannot be decoded by rows"),
        ("alpha.png", "b.png", {"scale": 3}, "since the model cannot process transparent images by rows"),
        ("colour.png", "b.png", {"channels": 1}, "since the model cannot process colour images by rows"),
    ],
)
def test_what_needs_the_whole_image_says_so_where_memory_is_too_little(
    folder: Path, native: Upscaler, monkeypatch: pytest.MonkeyPatch, source: str, target: str, options: Any, why: str
) -> None:
    others = {
        "film.webp": encode(ImageFile((Image(PIXELS), Image(255 - PIXELS)), Timing((50, 50))), "webp").data,
        "picture.gif": encode_image(Image(PIXELS), "gif"),
    }
    Path(source).write_bytes((PICTURES | others)[source])
    upscaler = native
    if "scale" in options or "channels" in options:
        upscaler = Upscaler(model(8, **options), backend="native", threads=1)
        options = {}
    assert _run(Path(source), target, upscaler, **options).status == "done"
    monkeypatch.setattr(memory, "available", lambda: 65 << 20)
    result = _run(Path(source), target, upscaler, existing="overwrite", **options)
    assert result.status == "failed"
    assert re.search(rf"needs 0.1 GiB as a whole, {why}, 0.1 GiB are available", result.message), result.message


def test_memory_of_rows_is_judged_by_what_rows_take(
    folder: Path, native: Upscaler, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("a.png").write_bytes(encode_image(Image(np.zeros((4000, 300, 3), np.uint8)), "png"))
    monkeypatch.setattr(memory, "available", lambda: 72 << 20)
    monkeypatch.setattr(one, "upscale_rows", lambda *_: ())
    assert _run(Path("a.png"), "b.png", native).status == "done"
    monkeypatch.setattr(by_rows, "ROWS_FROM", 1 << 40)
    message = _run(Path("a.png"), "b.png", native, existing="overwrite").message
    assert message.endswith("needs 0.2 GiB, 0.1 GiB are available; cut it into parts")
    monkeypatch.setattr(by_rows, "ROWS_FROM", 0)
    Path("a.jpg").write_bytes(_turned(6))
    monkeypatch.setattr(memory, "available", lambda: 64 << 20)
    assert "an image of 130x260 pixels" in _run(Path("a.jpg"), "b.png", native).message


@pytest.mark.parametrize("name", ["colour.png", "photo.jpg", "scan.tif"])
def test_damage_that_is_found_half_way_leaves_nothing_and_what_was_there_stays(
    folder: Path, native: Upscaler, name: str
) -> None:
    data = PICTURES[name]
    Path(name).write_bytes(data[: len(data) * 4 // 5])
    Path("out").mkdir()
    Path("out/b.png").write_bytes(b"before")
    result = _run(Path(name), "out/b.png", native, existing="overwrite")
    assert result.status == "failed"
    assert result.message.startswith(f"{name}: cannot be read as an image (")
    assert "\n" not in result.message
    assert [(path.name, path.read_bytes()) for path in Path("out").iterdir()] == [("b.png", b"before")]
    assert "encoder" not in [thread.name for thread in threading.enumerate()]


def test_a_stop_half_way_leaves_nothing_and_reports_what_was_done(folder: Path, native: Upscaler) -> None:
    jobs = []
    for i in range(3):
        Path(f"{i}.png").write_bytes(PICTURES["colour.png"])
        jobs.append(Job(Path(f"{i}.png"), Path(f"out/{i}.png"), "png"))
    stop = threading.Event()
    seen: list[Tile] = []

    def in_the_second(tile: Tile) -> None:
        seen.append(tile)
        if sum(part.area for part in seen) > PIXELS.shape[0] * PIXELS.shape[1]:
            stop.set()

    results = list(run_jobs(jobs, native, OutputOptions(), in_the_second, stop))
    assert [result.status for result in results] == ["done"]
    assert [path.name for path in Path("out").iterdir()] == ["0.png"]


def test_failures_of_the_encoder_and_of_memory_are_lines_and_the_rest_go_on(
    folder: Path, native: Upscaler, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = RowWriter.write
    errors: list[BaseException] = [OSError(28, "No space left on device"), MemoryError()]

    def failing(self: RowWriter, rows: Image) -> None:
        if errors and self.written:
            raise errors.pop(0)
        real(self, rows)

    monkeypatch.setattr(RowWriter, "write", failing)
    jobs = []
    for i in range(3):
        Path(f"{i}.png").write_bytes(PICTURES["colour.png"])
        jobs.append(Job(Path(f"{i}.png"), Path(f"out/{i}.tif"), "tif"))
    results = list(run_jobs(jobs, native, OutputOptions()))
    assert [result.status for result in results] == ["failed", "failed", "done"]
    assert results[0].message == "out/0.tif: cannot be written (No space left on device)"
    assert results[1].message.startswith("1.png: not enough memory for an image of 260x130 pixels")
    assert [path.name for path in Path("out").iterdir()] == ["2.tif"]


def test_whether_a_large_result_is_whole_is_found_by_rows(
    folder: Path, native: Upscaler, monkeypatch: pytest.MonkeyPatch
) -> None:
    for fmt in ROW_FORMATS:
        data = encode_image(Image(PIXELS), fmt)
        with monkeypatch.context() as patched:
            patched.setattr(one, "read_file", lambda _: pytest.fail("it was decoded as a whole"))
            Path("a").write_bytes(data)
            assert one.is_whole(Path("a"))
        Path("a").write_bytes(data[: len(data) // 2])
        assert not one.is_whole(Path("a"))


# -- memory, measured in processes of their own ------------------------------------------------------------------------

PEAK = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_by_rows import model
from tests.peak_memory import peak_memory
from srgan_fast.upscale import Job, OutputOptions, Upscaler, run_jobs
source, target, network = Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
upscaler = Upscaler(model(int(network)) if network.isdigit() else network, backend="native", threads=2)
(result,) = run_jobs([Job(source, target, target.suffix[1:])], upscaler, OutputOptions())
print(json.dumps({"status": result.status, "message": result.message, "peak": peak_memory()}))
"""


def _peak(source: str, target: str, network: str, timeout: float) -> int:
    """Most bytes that were resident in a process that upscales a file.

    Args:
        source: the image.
        target: the result.
        network: number of features of a network of two convolutions, or name of a bundled model.
        timeout: seconds.
    """
    code = [sys.executable, "-c", PEAK, str(Path(__file__).parent), source, target, network]
    said = subprocess.run(code, capture_output=True, text=True, check=True, timeout=timeout, env=with_tests())
    found = json.loads(said.stdout.splitlines()[-1])
    assert (found["status"], found["message"]) == ("done", "")
    return int(found["peak"])


def _make(path: str, height: int, width: int, strip: int = 100) -> None:
    """An image of waves, written by rows."""
    like = Image(np.zeros((1, 1, 3), np.uint8))
    across = np.arange(width)
    with Path(path).open("w+b") as file, RowWriter(file, Path(path).suffix[1:], height, width, like) as writer:  # type: ignore[arg-type]
        for first in range(0, height, strip):
            down = np.arange(first, min(first + strip, height))[:, None]
            waves = [(across // 7 + down // step) % 256 for step in (3, 5, 11)]
            writer.write(Image(np.stack(waves, 2).astype(np.uint8)))
        writer.finish()


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_a_large_image_takes_less_memory_than_its_result(tmp_path: Path, suffix: str) -> None:
    sizes = {"small": (200, 2000), "large": (3000, 2000)}
    peaks = {}
    for name, size in sizes.items():
        _make(f"{tmp_path}/{name}.{suffix}", *size)
        peaks[name] = _peak(f"{tmp_path}/{name}.{suffix}", f"{tmp_path}/{name}_x4.{suffix}", "4", 300)
    result = 3000 * 2000 * 16 * 3
    assert result == 288_000_000
    # The small image is computed as a whole: its result is 19 MB. The large one adds the rows of strips.
    assert peaks["large"] - peaks["small"] < 60e6
    image = pyvips.Image.new_from_file(f"{tmp_path}/large_x4.{suffix}")
    assert (image.width, image.height) == (8000, 12000)


def _peak_of_the_bundled_model(folder: Path, suffix: str, width: int, height: int) -> float:
    """Most gigabytes that were resident; the result has 16 times as many pixels as the image and is removed."""
    source, target = folder / f"in.{suffix}", folder / f"out.{suffix}"
    _make(str(source), height, width)
    peak = _peak(str(source), str(target), "srresnet-x4", 7200)
    image = pyvips.Image.new_from_file(str(target), access="sequential")
    assert (image.width, image.height) == (4 * width, 4 * height)
    target.unlink()
    sys.stderr.write(f"{width}x{height} {suffix}: {peak / 1e9:.3f} GB\n")
    return peak / 1e9


def test_20000_columns_take_less_than_one_and_a_half_gb(tmp_path: Path) -> None:
    assert _peak_of_the_bundled_model(tmp_path, "png", 20_000, 80) < 1.5


@pytest.mark.fuzz
def test_20000_by_512_pixels_take_less_than_one_and_a_half_gb(tmp_path: Path) -> None:
    assert _peak_of_the_bundled_model(tmp_path, "png", 20_000, 512) < 1.5


@pytest.mark.fuzz
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_4000_by_4000_pixels_take_less_than_450_mb(tmp_path: Path, suffix: str) -> None:
    assert _peak_of_the_bundled_model(tmp_path, suffix, 4000, 4000) < 0.45


@pytest.mark.fuzz
def test_80000_by_80000_pixels_take_less_than_one_and_a_half_gb(tmp_path: Path) -> None:
    side = int(os.environ.get("SRGAN_FAST_HUGE_SIDE", "20000"))
    needed = side * side * 16 * 3 // 2
    if shutil.disk_usage(tmp_path).free < needed:
        pytest.skip(f"needs {needed / 1e9:.0f} GB of disk")
    source, target = f"{tmp_path}/huge.tif", f"{tmp_path}/huge_x4.tif"
    try:
        _make(source, side, side)
        peak = _peak(source, target, "4", 7200)
        sys.stderr.write(f"peak {peak / 1e9:.3f} GB, {Path(target).stat().st_size / 1e9:.2f} GB written\n")
        assert peak < 1.5e9
        with Path(target).open("rb") as file:
            assert file.read(4) == (b"II+\0" if side * side * 48 > 3 << 30 else b"II*\0"), "BigTIFF beyond 4 GB"
        image = pyvips.Image.new_from_file(target, access="sequential")
        assert (image.width, image.height, image.bands) == (4 * side, 4 * side, 3)
    finally:
        for path in (source, target):
            Path(path).unlink(missing_ok=True)
