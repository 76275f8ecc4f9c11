"""Which file becomes which, and many pictures in one go."""

import io
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from srgan_fast.data.images import Image, encode_image, read_image, write_image
from srgan_fast.errors import BackendError, ImageError, UsageError
from srgan_fast.upscale import Job, JobResult, OutputOptions, Upscaler, plan_jobs, run_jobs

DEFAULT = OutputOptions()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _picture(path: Path, seed: int = 0, size: tuple[int, int] = (5, 7)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image(np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8))
    path.write_bytes(encode_image(image, "jpg" if path.suffix.lower() in (".jpg", ".jpeg") else "png"))
    return path


def _empty(*paths: str) -> None:
    for path in paths:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).touch()


def _plan(inputs: list[str], output: str, recursive: bool = False, **options: Any) -> list[tuple[str, str]]:
    jobs = plan_jobs(inputs, output, OutputOptions(**options), recursive)
    return [("-" if j.source is None else str(j.source), "-" if j.target is None else str(j.target)) for j in jobs]


def _left_over(folder: Path) -> list[Path]:
    return list(folder.rglob("*.tmp"))


# --- which file becomes which


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("a.png", {}, "out/a_x4.png"),
        ("a.JPG", {}, "out/a_x4.JPG"),
        ("a.jpeg", {}, "out/a_x4.jpeg"),
        ("a.webp", {}, "out/a_x4.webp"),
        ("a.tif", {}, "out/a_x4.png"),
        ("a.gif", {}, "out/a_x4.png"),
        ("a", {}, "out/a_x4.png"),
        ("a.b.png", {"suffix": "_x2.5"}, "out/a.b_x2.5.png"),
        ("a.jpeg", {"fmt": "jpg"}, "out/a_x4.jpeg"),
        ("a.jpeg", {"fmt": "png"}, "out/a_x4.png"),
        ("a.png", {"fmt": "webp", "suffix": ""}, "out/a.webp"),
        ("deep/er/a.png", {}, "out/a_x4.png"),
        ("photo[1].png", {}, "out/photo[1]_x4.png"),
    ],
)
def test_a_result_is_named_after_its_picture(folder: Path, name: str, options: Any, expected: str) -> None:
    _empty(name)
    assert _plan([name], "out", **options) == [(name, expected)]


def test_a_folder_gives_its_pictures_in_order(folder: Path) -> None:
    _empty("in/b.png", "in/a.jpg", "in/notes.txt", "in/.hidden.png", "in/deep/c.png")
    assert _plan(["in"], "out") == [("in/a.jpg", "out/a_x4.jpg"), ("in/b.png", "out/b_x4.png")]


def test_recursion_keeps_the_structure(folder: Path) -> None:
    _empty("in/a.png", "in/deep/a.png", "in/deep/er/b.tif")
    assert _plan(["in"], "out", recursive=True) == [
        ("in/a.png", "out/a_x4.png"),
        ("in/deep/a.png", "out/deep/a_x4.png"),
        ("in/deep/er/b.tif", "out/deep/er/b_x4.png"),
    ]


def test_patterns_take_pictures_only(folder: Path) -> None:
    _empty("in/a1.png", "in/a2.png", "in/a3.txt", "in/b.png", "in/a4.png/x.png")
    assert [source for source, _ in _plan(["in/a*"], "out")] == ["in/a1.png", "in/a2.png"]
    assert [source for source, _ in _plan(["in/**/*.png"], "out", recursive=True)] == [
        "in/a1.png", "in/a2.png", "in/a4.png/x.png", "in/b.png",
    ]  # fmt: skip


def test_inputs_of_all_kinds_go_together_and_duplicates_once(folder: Path) -> None:
    _empty("in/a.png", "in/b.png", "c.png")
    plan = _plan(["in/a.png", "in", "c.png", "./c.png", str(folder / "in/b.png"), "-", "-"], "out")
    assert sorted(target for _, target in plan) == ["out/a_x4.png", "out/b_x4.png", "out/c_x4.png", "out/stdin_x4.png"]


@pytest.mark.parametrize("name", ["x.png", "x.JPEG", "new/x.webp"])
def test_one_picture_may_be_given_its_file(folder: Path, name: str) -> None:
    _empty("a.png")
    assert _plan(["a.png"], name) == [("a.png", name)]
    assert _plan(["-"], name) == [("-", name)]


def test_a_folder_with_the_name_of_a_picture_is_a_folder(folder: Path) -> None:
    _empty("a.png")
    Path("x.png").mkdir()
    Path("x.tif").mkdir()
    assert _plan(["a.png"], "x.png") == [("a.png", "x.png/a_x4.png")]
    assert _plan(["a.png"], "x.tif") == [("a.png", "x.tif/a_x4.png")]


@pytest.mark.parametrize(
    ("source", "options", "fmt"),
    [("-", {}, "png"), ("-", {"fmt": "webp"}, "webp"), ("a.jpeg", {}, "jpg"), ("a.tif", {}, "png")],
)
def test_standard_output_takes_the_format_of_the_input(folder: Path, source: str, options: Any, fmt: str) -> None:
    _empty("a.jpeg", "a.tif")
    (job,) = plan_jobs([source], "-", OutputOptions(**options))
    assert (job.target, job.fmt) == (None, fmt)


@pytest.mark.parametrize(
    ("inputs", "output", "options", "error", "message"),
    [
        (["missing.png"], "out", {}, ImageError, "missing.png: no such file or folder"),
        (["a.png", "mi*.png"], "out", {}, ImageError, r"mi\*.png: matches no picture"),
        (["empty"], "out", {}, UsageError, r"no pictures in empty \(folders in it: --recursive\)"),
        (["a.png", "b.png"], "x.png", {}, UsageError, "x.png is one picture, but there are 2 inputs; give a folder"),
        (["a.png", "b.png"], "-", {}, UsageError, "- is one picture, but there are 2 inputs"),
        (["a.png"], "x.png", {"fmt": "jpg"}, UsageError, "x.png and --format jpg contradict each other"),
        (["a.png"], "x.tif", {}, UsageError, "x.tif: cannot write .tif; use .png, .jpg or .webp"),
        (["a.png", "b.png"], "x.GIF", {}, UsageError, "cannot write .GIF"),
        (["a.png"], "x.bmp", {}, UsageError, "x.bmp: cannot write .bmp; use .png, .jpg or .webp"),
        (["a.png", "in/a.png"], "out", {}, UsageError, "a.png and in/a.png would both become out/a_x4.png"),
        (["a.png", "a.tif"], "out", {}, UsageError, "a.png and a.tif would both become out/a_x4.png"),
        (["a.png"], ".", {"suffix": ""}, UsageError, "a.png would be overwritten by its own result; give another -o"),
        (["a.png"], "a.png", {}, UsageError, "overwritten by its own result"),
        (["link.png"], "a.png", {}, UsageError, "overwritten by its own result"),
        (["a.png", "a_x4.png"], ".", {}, UsageError, "a_x4.png would be overwritten by the result of a.png"),
        (["a_x4.png", "a.png"], ".", {"existing": "overwrite"}, UsageError, "by the result of a.png"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    folder: Path, inputs: list[str], output: str, options: Any, error: type[Exception], message: str
) -> None:
    _empty("a.png", "b.png", "a.tif", "a_x4.png", "in/a.png", "empty/deep/a.png", "empty/x.txt")
    Path("link.png").symlink_to("a.png")
    with pytest.raises(error, match=message):
        plan_jobs(inputs, output, OutputOptions(**options))


def test_an_empty_folder_beside_others_is_no_mistake(folder: Path) -> None:
    _empty("in/a.png")
    Path("none").mkdir()
    assert _plan(["in", "none"], "out") == [("in/a.png", "out/a_x4.png")]


# --- many pictures


def _run(jobs: list[Job], upscaler: Upscaler, on_tile: Any = None, **options: Any) -> list[JobResult]:
    return list(run_jobs(jobs, upscaler, OutputOptions(**options), on_tile))


def test_nothing_to_do_gives_nothing(upscaler: Upscaler) -> None:
    assert _run([], upscaler) == []


def test_results_are_those_of_the_upscaler_in_the_order_of_the_jobs(folder: Path, upscaler: Upscaler) -> None:
    sources = [_picture(folder / f"in/{i}.png", i, (4 + i, 9 - i)) for i in range(6)]
    tiles: list[Any] = []
    results = _run(plan_jobs(["in"], "out", DEFAULT), upscaler, tiles.append)
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


def test_bad_pictures_do_not_stop_the_rest(folder: Path, upscaler: Upscaler) -> None:
    for i in (0, 3, 5):
        _picture(folder / f"in/{i}.png", i)
    good = (folder / "in/0.png").read_bytes()
    (folder / "in/1.png").write_bytes(good[: len(good) // 2])
    (folder / "in/2.png").write_bytes(b"not a picture")
    (folder / "in/4.png").write_bytes(b"")
    results = _run(plan_jobs(["in"], "out", DEFAULT), upscaler)
    assert [r.status for r in results] == ["done", "failed", "failed", "done", "failed", "done"]
    for i in (1, 2, 4):
        assert results[i].message.startswith(f"in/{i}.png: cannot be read as a picture")
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
    results = _run(plan_jobs(["in"], "out", DEFAULT), upscaler)
    assert results[0].status == "done"
    assert len(results) == 2
    assert results[1].status == "done" or "not valid UTF-8" in results[1].message


def test_a_source_that_vanished_fails_alone(folder: Path, upscaler: Upscaler) -> None:
    for name in "abc":
        _picture(folder / f"{name}.png")
    jobs = plan_jobs(["a.png", "b.png", "c.png"], "out", DEFAULT)
    Path("b.png").unlink()
    results = _run(jobs, upscaler)
    assert [(r.status, r.message) for r in results] == [("done", ""), ("failed", "b.png: no such file"), ("done", "")]


@pytest.mark.parametrize("existing", ["error", "skip", "overwrite"])
def test_results_that_are_there_already(folder: Path, upscaler: Upscaler, existing: Any) -> None:
    for name in ("a", "b"):
        _picture(folder / f"in/{name}.png")
    target = folder / "out/a_x4.png"
    target.parent.mkdir()
    target.write_bytes(b"old")
    first, second = _run(plan_jobs(["in"], "out", DEFAULT), upscaler, existing=existing)
    assert second.status == "done"
    assert first.status == {"error": "failed", "skip": "skipped", "overwrite": "done"}[existing]
    assert (target.read_bytes() == b"old") is (existing != "overwrite")
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
        (MemoryError(), "a.png: not enough memory for a picture of 7x5 pixels; try a smaller --tile"),
        (ImageError("too large"), "a.png: too large"),
        (BackendError("it failed"), "a.png: it failed"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_picture_that_the_model_cannot_take_fails_alone(
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
    first, second = _run(plan_jobs(["a.png", "b.png"], "out", DEFAULT), upscaler)
    assert (first.status, first.message, first.lr_size) == ("failed", message, (7, 5))
    assert second.status == "done"


def test_a_picture_too_large_to_decode_fails_alone(
    folder: Path, upscaler: Upscaler, monkeypatch: pytest.MonkeyPatch
) -> None:
    from srgan_fast.upscale import batch

    def exhausted(source: Path) -> Image:
        if source.name == "a.png":
            raise MemoryError
        return read_image(source)

    _picture(folder / "a.png")
    _picture(folder / "b.png")
    monkeypatch.setattr(batch, "read_image", exhausted)
    first, second = _run(plan_jobs(["a.png", "b.png"], "out", DEFAULT), upscaler)
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
        _run(plan_jobs(["in"], "out", DEFAULT), upscaler, interrupt)
    assert _left_over(folder) == []
    written = sorted(p.name for p in (folder / "out").glob("*")) if (folder / "out").exists() else []
    assert written == [f"{i}_x4.png" for i in range(picture)], "what was computed before is written"
    for name in written:
        assert read_image(folder / "out" / name).pixels.shape == (20, 28, 3)


def test_a_caller_that_stops_early_leaves_only_whole_results(folder: Path, upscaler: Upscaler) -> None:
    for i in range(4):
        _picture(folder / f"in/{i}.png", i)
    results = run_jobs(plan_jobs(["in"], "out", DEFAULT), upscaler, DEFAULT)
    assert next(results).status == "done"
    results.close()  # type: ignore[attr-defined]
    assert _left_over(folder) == []
    for path in (folder / "out").iterdir():
        read_image(path)


def test_a_failed_overwrite_keeps_what_was_there(
    folder: Path, upscaler: Upscaler, monkeypatch: pytest.MonkeyPatch
) -> None:
    from srgan_fast.data import images

    _picture(folder / "a.png")
    (folder / "x.png").write_bytes(b"old")

    def full(self: Any, target: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(images.Path, "replace", full)
    (result,) = _run(plan_jobs(["a.png"], "x.png", DEFAULT), upscaler, existing="overwrite")
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
    (result,) = _run(plan_jobs(["-"], "-", DEFAULT), upscaler)
    assert result.status == "done"
    expected = upscaler.upscale(read_image(data)).pixels
    np.testing.assert_array_equal(read_image(taken.getvalue()).pixels, expected)


@pytest.mark.parametrize("given", [b"", b"garbage"])
def test_bad_standard_input_fails_and_writes_nothing(
    upscaler: Upscaler, monkeypatch: pytest.MonkeyPatch, given: bytes
) -> None:
    taken = _streams(monkeypatch, given)
    (result,) = _run(plan_jobs(["-"], "-", DEFAULT), upscaler)
    assert result.status == "failed"
    assert result.message.startswith("standard input: cannot be read as a picture")
    assert taken.getvalue() == b""


def test_outscale_and_quality_reach_the_file(folder: Path, upscaler: Upscaler) -> None:
    _picture(folder / "a.jpg", size=(20, 20))
    sizes = []
    for quality in (20, 95):
        (result,) = _run(plan_jobs(["a.jpg"], f"{quality}.jpg", DEFAULT), upscaler, outscale=2.5, quality=quality)
        assert result.hr_size == (50, 50)
        sizes.append((folder / f"{quality}.jpg").stat().st_size)
        assert read_image(folder / f"{quality}.jpg").pixels.shape == (50, 50, 3)
    assert sizes[0] < sizes[1]


def test_the_alpha_of_a_result_is_flattened_for_jpeg(folder: Path, upscaler: Upscaler) -> None:
    pixels = np.zeros((6, 6, 3), np.uint8)
    write_image(folder / "a.png", Image(pixels, np.zeros((6, 6), np.uint8)))
    (result,) = _run(plan_jobs(["a.png"], "x.jpg", DEFAULT), upscaler)
    assert result.status == "done"
    assert (read_image(folder / "x.jpg").pixels > 250).all()
