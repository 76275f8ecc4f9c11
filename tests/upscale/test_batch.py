"""Many images in one go: each is done whole, or fails alone with a line."""

import io
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from srgan_fast.data.images import Image, ImageFile, encode_image, read_file, read_image, write_image
from srgan_fast.errors import BackendError, ImageError
from srgan_fast.upscale import Job, JobResult, OutputOptions, Upscaler, plan_jobs, run_jobs

DEFAULT = OutputOptions()


def _picture(path: Path, seed: int = 0, size: tuple[int, int] = (5, 7)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image(np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8))
    path.write_bytes(encode_image(image, "jpg" if path.suffix.lower() in (".jpg", ".jpeg") else "png"))
    return path


def _left_over(folder: Path) -> list[Path]:
    return list(folder.rglob("*.tmp"))


# --- many images


def _run(jobs: list[Job], upscaler: Upscaler, on_tile: Any = None, **options: Any) -> list[JobResult]:
    return list(run_jobs(jobs, upscaler, OutputOptions(**options), on_tile))


def test_nothing_to_do_gives_nothing(upscaler: Upscaler) -> None:
    assert _run([], upscaler) == []


def test_results_are_those_of_the_upscaler_in_the_order_of_the_jobs(folder: Path, upscaler: Upscaler) -> None:
    sources = [_picture(folder / f"in/{i}.png", i, (4 + i, 9 - i)) for i in range(6)]
    tiles: list[Any] = []
    results = _run(plan_jobs(["in"], "out", DEFAULT).jobs, upscaler, tiles.append)
    assert [r.job.source for r in results] == [Path(f"in/{i}.png") for i in range(6)]
    assert sum(t.area for t in tiles) == sum((4 + i) * (9 - i) for i in range(6))
    for i, (source, result) in enumerate(zip(sources, results, strict=True)):
        assert (result.status, result.message) == ("done", "")
        assert result.lr_size == (9 - i, 4 + i)
        assert result.hr_size == (4 * (9 - i), 4 * (4 + i))
        assert result.seconds > 0
        assert result.job.target is not None
        expected = upscaler.upscale(read_image(source)).pixels
        np.testing.assert_array_equal(read_image(result.job.target).pixels, expected)


def test_bad_images_do_not_stop_the_rest(folder: Path, upscaler: Upscaler) -> None:
    for i in (0, 3, 5):
        _picture(folder / f"in/{i}.png", i)
    good = (folder / "in/0.png").read_bytes()
    (folder / "in/1.png").write_bytes(good[: len(good) // 2])
    (folder / "in/2.png").write_bytes(b"not a picture")
    (folder / "in/4.png").write_bytes(b"")
    results = _run(plan_jobs(["in"], "out", DEFAULT).jobs, upscaler)
    assert [r.status for r in results] == ["done", "failed", "failed", "done", "failed", "done"]
    for i in (1, 2, 4):
        assert results[i].message.startswith(f"in/{i}.png: cannot be read as an image")
        assert "\n" not in results[i].message
    assert sorted(p.name for p in (folder / "out").iterdir()) == ["0_x4.png", "3_x4.png", "5_x4.png"]


@pytest.mark.skipif(os.name != "posix", reason="file names are bytes there only")
def test_a_name_that_is_no_text_does_not_stop_the_rest(folder: Path, upscaler: Upscaler) -> None:
    _picture(folder / "in/a.png")
    strange = os.fsencode(folder / "in") + b"/\xff.png"
    try:
        Path(os.fsdecode(strange)).write_bytes((folder / "in/a.png").read_bytes())
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    results = _run(plan_jobs(["in"], "out", DEFAULT).jobs, upscaler)
    assert results[0].status == "done"
    assert len(results) == 2
    assert results[1].status == "done" or "not valid UTF-8" in results[1].message


def test_a_source_that_vanished_fails_alone(folder: Path, upscaler: Upscaler) -> None:
    for name in "abc":
        _picture(folder / f"{name}.png")
    jobs = plan_jobs(["a.png", "b.png", "c.png"], "out", DEFAULT).jobs
    Path("b.png").unlink()
    results = _run(jobs, upscaler)
    assert [(r.status, r.message) for r in results] == [("done", ""), ("failed", "b.png: no such file"), ("done", "")]


@pytest.mark.parametrize("existing", ["error", "skip", "overwrite"])
def test_results_that_are_there_already(folder: Path, upscaler: Upscaler, existing: Any) -> None:
    for name in ("a", "b"):
        _picture(folder / f"in/{name}.png")
    target = folder / "out/a_x4.png"
    target.parent.mkdir()
    old = encode_image(Image(np.zeros((20, 28, 3), np.uint8)), "png")
    target.write_bytes(old)
    first, second = _run(plan_jobs(["in"], "out", DEFAULT).jobs, upscaler, existing=existing)
    assert second.status == "done"
    assert first.status == {"error": "failed", "skip": "skipped", "overwrite": "done"}[existing]
    assert (target.read_bytes() == old) is (existing != "overwrite")
    assert ("use --overwrite or --skip-existing" in first.message) is (existing == "error")


def test_unwritable_targets_fail_alone_and_are_named(folder: Path, upscaler: Upscaler) -> None:
    source = _picture(folder / "a.png")
    (folder / "file").write_bytes(b"")
    (folder / "taken.png").mkdir()
    jobs = [
        Job(source, folder / "file" / "a_x4.png", "png"),
        Job(source, folder / "ok.png", "png"),
        Job(source, folder / "taken.png", "png"),
        Job(source, folder / "also.png", "png"),
    ]
    results = _run(jobs, upscaler, existing="overwrite")
    assert [r.status for r in results] == ["failed", "done", "failed", "done"]
    for failed in (results[0], results[2]):
        assert failed.message.startswith(f"{failed.job.target}: cannot be written")
        assert failed.hr_size is None
    assert _left_over(folder) == []
    assert (folder / "file").read_bytes() == b""


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MemoryError(), "a.png: not enough memory for an image of 7x5 pixels; try a smaller --tile"),
        (ImageError("too large"), "a.png: too large"),
        (BackendError("it failed"), "a.png: it failed"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_image_that_the_model_cannot_take_fails_alone(
    folder: Path, upscaler: Upscaler, monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    _picture(folder / "a.png")
    _picture(folder / "b.png", size=(3, 3))
    real = upscaler.upscale

    def sometimes(image: Image, *rest: Any) -> Image:
        if image.width == 7:
            raise error
        return real(image, *rest)

    monkeypatch.setattr(upscaler, "upscale", sometimes)
    first, second = _run(plan_jobs(["a.png", "b.png"], "out", DEFAULT).jobs, upscaler)
    assert (first.status, first.message, first.lr_size) == ("failed", message, (7, 5))
    assert second.status == "done"


def test_an_image_too_large_to_decode_fails_alone(
    folder: Path, upscaler: Upscaler, monkeypatch: pytest.MonkeyPatch
) -> None:
    from srgan_fast.upscale import one

    def exhausted(source: Path) -> ImageFile:
        if source.name == "a.png":
            raise MemoryError
        return read_file(source)

    _picture(folder / "a.png")
    _picture(folder / "b.png")
    monkeypatch.setattr(one, "read_file", exhausted)
    first, second = _run(plan_jobs(["a.png", "b.png"], "out", DEFAULT).jobs, upscaler)
    assert (first.status, first.message) == ("failed", "a.png: not enough memory to decode it")
    assert second.status == "done"


@pytest.mark.parametrize("picture", [0, 1, 2])
def test_an_interruption_leaves_only_whole_results(folder: Path, upscaler: Upscaler, picture: int) -> None:
    for i in range(4):
        _picture(folder / f"in/{i}.png", i)
    calls = 0

    def interrupt(_: Any) -> None:
        nonlocal calls
        calls += 1
        if calls > picture:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _run(plan_jobs(["in"], "out", DEFAULT).jobs, upscaler, interrupt)
    assert _left_over(folder) == []
    written = sorted(p.name for p in (folder / "out").glob("*")) if (folder / "out").exists() else []
    assert written == [f"{i}_x4.png" for i in range(picture)], "what was computed before is written"
    for name in written:
        assert read_image(folder / "out" / name).pixels.shape == (20, 28, 3)


def test_a_caller_that_stops_early_leaves_only_whole_results(folder: Path, upscaler: Upscaler) -> None:
    for i in range(4):
        _picture(folder / f"in/{i}.png", i)
    results = run_jobs(plan_jobs(["in"], "out", DEFAULT).jobs, upscaler, DEFAULT)
    assert next(results).status == "done"
    results.close()  # type: ignore[attr-defined]
    assert _left_over(folder) == []
    for path in (folder / "out").iterdir():
        read_image(path)


def test_a_failed_overwrite_keeps_what_was_there(
    folder: Path, upscaler: Upscaler, monkeypatch: pytest.MonkeyPatch
) -> None:
    from srgan_fast import files

    _picture(folder / "a.png")
    (folder / "x.png").write_bytes(b"old")

    def full(self: Any, target: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.Path, "replace", full)
    (result,) = _run(plan_jobs(["a.png"], "x.png", DEFAULT).jobs, upscaler, existing="overwrite")
    assert result.message == "x.png: cannot be written (No space left on device)"
    assert (folder / "x.png").read_bytes() == b"old"
    assert _left_over(folder) == []


def _streams(monkeypatch: pytest.MonkeyPatch, given: bytes) -> io.BytesIO:
    taken = io.BytesIO()
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(given)))
    monkeypatch.setattr("sys.stdout", SimpleNamespace(buffer=taken))
    return taken


def test_standard_input_becomes_standard_output(
    folder: Path, upscaler: Upscaler, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = _picture(folder / "a.png").read_bytes()
    taken = _streams(monkeypatch, data)
    (result,) = _run(plan_jobs(["-"], "-", DEFAULT).jobs, upscaler)
    assert result.status == "done"
    expected = upscaler.upscale(read_image(data)).pixels
    np.testing.assert_array_equal(read_image(taken.getvalue()).pixels, expected)


@pytest.mark.parametrize("given", [b"", b"garbage"])
def test_bad_standard_input_fails_and_writes_nothing(
    upscaler: Upscaler, monkeypatch: pytest.MonkeyPatch, given: bytes
) -> None:
    taken = _streams(monkeypatch, given)
    (result,) = _run(plan_jobs(["-"], "-", DEFAULT).jobs, upscaler)
    assert result.status == "failed"
    assert result.message.startswith("standard input: cannot be read as an image")
    assert taken.getvalue() == b""


def test_outscale_and_quality_reach_the_file(folder: Path, upscaler: Upscaler) -> None:
    _picture(folder / "a.jpg", size=(20, 20))
    sizes = []
    for quality in (20, 95):
        (result,) = _run(plan_jobs(["a.jpg"], f"{quality}.jpg", DEFAULT).jobs, upscaler, outscale=2.5, quality=quality)
        assert result.hr_size == (50, 50)
        sizes.append((folder / f"{quality}.jpg").stat().st_size)
        assert read_image(folder / f"{quality}.jpg").pixels.shape == (50, 50, 3)
    assert sizes[0] < sizes[1]


def test_the_alpha_of_a_result_is_flattened_for_jpeg(folder: Path, upscaler: Upscaler) -> None:
    pixels = np.zeros((6, 6, 3), np.uint8)
    write_image(folder / "a.png", Image(pixels, np.zeros((6, 6), np.uint8)))
    (result,) = _run(plan_jobs(["a.png"], "x.jpg", DEFAULT).jobs, upscaler)
    assert result.status == "done"
    assert (read_image(folder / "x.jpg").pixels > 250).all()
