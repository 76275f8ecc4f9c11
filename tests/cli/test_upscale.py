"""`srgan-fast upscale` writes what was asked for where it was asked for, and says in one line what it did not."""

import importlib.util
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from srgan_fast.data.images import Image, read_image
from srgan_fast.errors import UsageError
from srgan_fast.models import save_generator
from srgan_fast.upscale import Upscaler

_ORIENTATION, _MAKER = 0x112, 0x10F  # of EXIF


def _files(folder: str | Path = "out") -> list[str]:
    """Everything in a folder, hidden files too."""
    place = Path(folder)
    return sorted(str(path.relative_to(place)) for path in place.rglob("*") if path.is_file())


def _expect(path: str | Path, expected: Image) -> None:
    got = read_image(Path(path))
    assert got.pixels.dtype == expected.pixels.dtype
    np.testing.assert_array_equal(got.pixels, expected.pixels)
    if expected.alpha is None:
        assert got.alpha is None
    else:
        assert got.alpha is not None
        np.testing.assert_array_equal(got.alpha, expected.alpha)


# --- one image and many


def test_a_file_becomes_the_file_that_is_named(upscale: Any, picture: Any, upscaler: Upscaler) -> None:
    source = picture("a.png")
    result = upscale("a.png", "-o", "new/b.png")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr.startswith("1 upscaled (0.0 MP in ")
    assert result.stderr.count("\n") == 1
    assert _files() == []
    assert _files("new") == ["b.png"]
    _expect("new/b.png", upscaler.upscale(read_image(source)))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["a.png"], {"a_x4.png": "a.png"}),
        (["in"], {"a_x4.png": "in/a.png", "b_x4.png": "in/b.png"}),
        (["in", "--recursive"], {"a_x4.png": "in/a.png", "b_x4.png": "in/b.png", "deep/a_x4.png": "in/deep/a.png"}),
        (["in/b*"], {"b_x4.png": "in/b.png"}),
        (["deep/**/*.png", "-r"], {"c_x4.png": "deep/er/c.png"}),
        (["a.png", "deep/er", "in/b.png", "./a.png"],
         {"a_x4.png": "a.png", "b_x4.png": "in/b.png", "c_x4.png": "deep/er/c.png"}),
        (["-", "in/b.png"], {"b_x4.png": "in/b.png", "stdin_x4.png": "a.png"}),
    ],
    ids=["a file", "a folder", "folders in folders", "a pattern", "a deep pattern", "several", "stream"],
)  # fmt: skip
def test_inputs_of_all_kinds(
    upscale: Any, picture: Any, upscaler: Upscaler, arguments: list[str], expected: dict[str, str]
) -> None:
    for seed, name in enumerate(("a.png", "in/a.png", "in/b.png", "in/deep/a.png", "deep/er/c.png")):
        picture(name, seed)
    Path("in/b.txt").write_text("no picture")
    result = upscale(*arguments, "-o", "out", given=Path("a.png").read_bytes() if "-" in arguments else None)
    assert result.exit_code == 0, result.stderr
    assert f"{len(expected)} upscaled" in result.stderr
    assert _files() == list(expected)
    for target, source in expected.items():
        _expect(Path("out") / target, upscaler.upscale(read_image(Path(source))))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], ["a_x4.png", "b_x4.jpg"]),
        (["--format", "webp"], ["a_x4.webp", "b_x4.webp"]),
        (["-f", "jpg"], ["a_x4.jpg", "b_x4.jpg"]),
        (["--suffix", "_large"], ["a_large.png", "b_large.jpg"]),
        (["--suffix", ""], ["a.png", "b.jpg"]),
        (["--outscale", "2.5"], ["a_x2.5.png", "b_x2.5.jpg"]),
        (["-s", "2", "--suffix", "!", "-f", "png"], ["a!.png", "b!.png"]),
    ],
    ids=" ".join,
)
def test_names_and_formats_of_results(upscale: Any, picture: Any, options: list[str], expected: list[str]) -> None:
    picture("in/a.png")
    picture("in/b.jpg")
    assert upscale("in", "-o", "out", *options).exit_code == 0
    assert _files() == expected
    magic = {".png": b"\x89PNG", ".jpg": b"\xff\xd8", ".webp": b"RIFF"}
    for name in expected:
        assert Path("out", name).read_bytes().startswith(magic[Path(name).suffix])


@pytest.mark.parametrize(("factor", "size"), [("0.5", (2, 4)), ("1", (5, 7)), ("2.5", (12, 18)), ("6", (30, 42))])
def test_outscale_is_the_final_factor(upscale: Any, picture: Any, factor: str, size: tuple[int, int]) -> None:
    picture("a.png")
    assert upscale("a.png", "-o", "b.png", "--outscale", factor).exit_code == 0
    assert read_image(Path("b.png")).pixels.shape == (*size, 3)


def test_quality_is_that_of_the_file(upscale: Any, picture: Any) -> None:
    picture("a.png", size=(30, 30, 3))
    for quality in ("10", "90"):
        assert upscale("a.png", "-o", f"{quality}.jpg", "--quality", quality).exit_code == 0
    assert Path("10.jpg").stat().st_size < 0.5 * Path("90.jpg").stat().st_size


@pytest.mark.parametrize("tile", ["0", "3", "16"])
def test_tiles_do_not_change_the_result(upscale: Any, picture: Any, upscaler: Upscaler, tile: str) -> None:
    source = picture("a.png", size=(20, 33, 3))
    assert upscale("a.png", "-o", "b.png", "--tile", tile, "--threads", "1").exit_code == 0
    expected = upscaler.upscale(read_image(source)).pixels.astype(int)
    assert np.abs(read_image(Path("b.png")).pixels - expected).max() <= 1


@pytest.mark.parametrize(
    "command", [["upscale", "a.png", "-o", "b.png"], ["evaluate", "--hr", "."]], ids=lambda c: c[0]
)
def test_options_of_the_model_reach_it(run: Any, monkeypatch: pytest.MonkeyPatch, command: list[str]) -> None:
    asked: list[Any] = []

    def refuse(*arguments: Any, **options: Any) -> None:
        assert callable(options.pop("on_build")), "a runtime that is built first tells how far it is"
        asked.append((arguments, options))
        raise UsageError("seen")

    monkeypatch.setattr("srgan_fast.upscale.Upscaler", refuse)
    monkeypatch.setattr("srgan_fast.models.read_model", lambda *arguments: arguments)
    options = ["-m", "a model", "-b", "torch", "--precision", "bf16", "--threads", "3", "--tile", "48"]
    assert run(*command, *options, "--halo", "9", "--key", "params").stderr == "error: seen\n"
    run(*command)
    # Published figures are of the network alone.
    fixed = {"border": "repeat", "strength": 1.0, "sharpness": None} if command[0] == "upscale" else {"border": "zero"}
    given = {"backend": "torch", "precision": "bf16", "threads": 3, "tile": 48, "halo": 9, **fixed}
    left_alone = {"backend": "auto", "precision": "auto", "threads": None, "tile": None, "halo": None, **fixed}
    default = "srgan-x4" if command[0] == "upscale" else "srresnet-x4"  # PSNR is the faithful model's aim
    assert asked == [((("a model", "params"),), given), (((default, None),), left_alone)]


def test_borders_are_repeated_unless_the_network_s_own_zeros_are_asked_for(upscale: Any, picture: Any) -> None:
    picture("a.png", size=(9, 7, 3))
    for border in ("repeat", "zero"):
        assert upscale("a.png", "-o", f"{border}.png", "--border", border).exit_code == 0
    assert upscale("a.png", "-o", "default.png").exit_code == 0
    assert Path("default.png").read_bytes() == Path("repeat.png").read_bytes() != Path("zero.png").read_bytes()


def test_verbose_says_which_runtime_and_why(upscale: Any, picture: Any) -> None:
    picture("a.png")
    result = upscale("a.png", "-o", "b.png", "-v")
    assert result.stderr.splitlines()[0] == "tiny-x4 on onnxruntime (CPU, fp32): asked for"


# --- what an image is stays as it is


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4], ids=["gray", "gray and alpha", "colour", "colour and alpha"])
def test_modes_are_kept(upscale: Any, picture: Any, upscaler: Upscaler, channels: int, dtype: Any) -> None:
    source = picture("a.png", size=(6, 9, channels), dtype=dtype)
    assert upscale("a.png", "-o", "b.png").exit_code == 0
    got = read_image(Path("b.png"))
    assert got.pixels.shape == (24, 36, 1 if channels < 3 else 3)
    assert (got.alpha is not None) == (channels in (2, 4))
    assert got.pixels.dtype == dtype
    _expect("b.png", upscaler.upscale(read_image(source)))
    depth, colour_type = Path("b.png").read_bytes()[24:26]
    assert (depth, colour_type) == (8 * np.dtype(dtype).itemsize, {1: 0, 2: 4, 3: 2, 4: 6}[channels])


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_a_turned_image_comes_out_upright(upscale: Any, folder: Path, upscaler: Upscaler, orientation: int) -> None:
    scene = Pillow.fromarray(np.random.default_rng(0).integers(0, 256, (8, 16, 3), np.uint8))
    exif = Pillow.Exif()
    exif[_ORIENTATION], exif[_MAKER] = orientation, "a camera"
    scene.save("a.jpg", exif=exif)
    scene.save("untagged.jpg")
    assert upscale("a.jpg", "-o", "b.png").exit_code == 0
    with Pillow.open("b.png") as got:
        assert got.size == ((64, 32) if orientation == 3 else (32, 64))
        assert got.getexif().get(_ORIENTATION, 1) == 1, "nobody turns it again"
        assert got.getexif()[_MAKER] == "a camera"
    upright = np.rot90(read_image(Path("untagged.jpg")).pixels, {3: 2, 6: -1, 8: 1}[orientation])
    _expect("b.png", upscaler.upscale(Image(np.ascontiguousarray(upright))))


# --- results that are there already


def test_a_result_that_is_there_is_not_replaced(upscale: Any, picture: Any) -> None:
    picture("in/a.png")
    picture("in/b.png")
    Path("out").mkdir()
    Path("out/a_x4.png").write_bytes(b"mine")
    result = upscale("in", "-o", "out")
    assert result.exit_code == 1
    failed, summary = result.stderr.splitlines()
    assert failed == "failed: out/a_x4.png: exists already; use --overwrite or --skip-existing"
    assert summary.startswith("1 upscaled (")
    assert summary.endswith("; 1 failed: a.png")
    assert Path("out/a_x4.png").read_bytes() == b"mine"
    assert _files() == ["a_x4.png", "b_x4.png"]


def test_skip_existing_leaves_it_and_goes_on(upscale: Any, picture: Any) -> None:
    picture("in/a.png")
    picture("in/b.png")
    Path("out").mkdir()
    mine = Path("in/a.png").read_bytes()
    Path("out/a_x4.png").write_bytes(mine)
    result = upscale("in", "-o", "out", "--skip-existing")
    assert result.exit_code == 0
    assert result.stderr.startswith("1 upscaled (")
    assert result.stderr.endswith("; 1 skipped\n")
    assert Path("out/a_x4.png").read_bytes() == mine
    assert upscale("in", "-o", "out", "--skip-existing").stderr.endswith("; 2 skipped\n")


def test_overwrite_replaces_it(upscale: Any, picture: Any, upscaler: Upscaler) -> None:
    source = picture("a.png")
    Path("b.png").write_bytes(b"old")
    result = upscale("a.png", "-o", "b.png", "--overwrite")
    assert (result.exit_code, result.stderr.count("\n")) == (0, 1)
    _expect("b.png", upscaler.upscale(read_image(source)))


# --- failures


def _spoil(folder: Path) -> None:
    whole = (folder / "in/a.png").read_bytes()
    (folder / "in/half.png").write_bytes(whole[: len(whole) // 2])
    (folder / "in/none.png").write_bytes(b"")
    (folder / "in/text.jpg").write_bytes(b"not a picture\nat all")


def test_bad_images_do_not_stop_the_rest(upscale: Any, picture: Any, folder: Path, upscaler: Upscaler) -> None:
    sources = [picture(f"in/{name}.png", seed, (12, 12, 3)) for seed, name in enumerate(("a", "i", "z"))]
    _spoil(folder)
    result = upscale("in", "-o", "out")
    assert (result.exit_code, result.stdout) == (1, "")
    *lines, summary = result.stderr.splitlines()
    assert [line.split(" (")[0] for line in lines] == [
        f"failed: in/{name}: cannot be read as an image" for name in ("half.png", "none.png", "text.jpg")
    ]
    assert summary.startswith("3 upscaled (")
    assert summary.endswith("; 3 failed: half.png, none.png, text.jpg")
    assert _files() == ["a_x4.png", "i_x4.png", "z_x4.png"]
    for source in sources:
        _expect(f"out/{source.stem}_x4.png", upscaler.upscale(read_image(source)))


def test_json_says_what_became_of_each_image(upscale: Any, picture: Any, folder: Path) -> None:
    picture("in/a.png")
    picture("in/b.png", size=(6, 11, 3))
    (folder / "in/c.png").write_bytes(b"no")
    (folder / "in/d.exr").write_bytes(b"")
    Path("out").mkdir()
    Path("out/a_x4.png").write_bytes(Path("in/a.png").read_bytes())
    result = upscale("in", "-o", "out", "--skip-existing", "--json")
    assert result.exit_code == 1
    assert result.stderr.startswith("failed: in/c.png: cannot be read as an image")
    assert result.stderr.count("\n") == 1, "the summary is in the JSON"
    found = json.loads(result.stdout)
    assert (found["interrupted"], found["error"], found["left_out"]) == (False, None, {".exr": 1})
    assert (found["done"], found["skipped"], found["failed"]) == (1, 1, 1)
    assert found["seconds"] >= found["images"][1]["seconds"] > 0
    for image in found["images"]:
        del image["seconds"]
    failed = found["images"].pop()
    assert found["images"] == [
        {
            "input": "in/a.png",
            "output": "out/a_x4.png",
            "status": "skipped",
            "message": "out/a_x4.png exists already",
            "input_size": None,
            "output_size": None,
            "frames": None,
            "notes": [],
        },
        {
            "input": "in/b.png",
            "output": "out/b_x4.png",
            "status": "done",
            "message": "",
            "input_size": [11, 6],
            "output_size": [44, 24],
            "frames": 1,
            "notes": [],
        },
    ]
    assert (failed["input"], failed["status"], failed["output_size"]) == ("in/c.png", "failed", None)
    assert failed["message"].startswith("in/c.png: cannot be read as an image")


def test_names_come_out_as_they_are(upscale: Any, picture: Any, folder: Path) -> None:
    name = "[bold]a:smile:[red]" + "long" * 40 + ".png"
    (folder / name).write_bytes(b"no")
    result = upscale(name, "-o", "out")
    failed, summary = result.stderr.splitlines()
    assert failed.startswith(f"failed: {name}: cannot be read")
    assert summary.endswith(f"; 1 failed: {name}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.png", "-o", "out", "--overwrite", "--skip-existing"], "--overwrite and --skip-existing contradict"),
        (["a.png", "-o", "x.png", "--format", "jpg"], "x.png and --format jpg contradict each other"),
        (["a.png", "-o", "out", "--outscale", "0"], "--outscale is 0; it must lie between 0 and 64"),
        (["a.png", "-o", "out", "--outscale", "-2"], "--outscale is -2; it must lie"),
        (["a.png", "-o", "out", "--outscale", "65"], "--outscale is 65; it must lie"),
        (["a.png", "-o", "out", "--outscale", "nan"], "--outscale is nan; it must lie"),
        (["a.png", "-o", "out", "--suffix", "/../x"], "--suffix is '/../x'; it goes into a file name"),
        (["a.png", "-o", "out", "--suffix", "a\\b"], "cannot hold a path"),
        (["a.png", "-o", "out", "--model", "nope"], "nope: is neither a file nor a shipped model; shipped models: "),
        (["a.png", "-o", "out", "--model", "in"], "in: is a folder; shipped models: "),
        (["a.png", "-o", "out", "--model", "a.png"], "a.png: not a readable safetensors file"),
        (["a.png", "-o", "out", "--model", "g.pth"], "g.pth: not a readable PyTorch file"),
        (["a.png", "-o", "out", "--precision", "bf16"], "backend onnxruntime does not compute in bf16"),
        (["empty", "-o", "out"], "no images in empty (use --recursive to search subfolders)"),
        (["a.png", "in/a.png", "-o", "x.png"], "x.png is one image, but there are 2 inputs; give a folder"),
        (["in", "-o", "-"], "- is one image, but there are 2 inputs; give a folder"),
        (["a.png", "-o", "x.bmp"], "x.bmp: cannot write .bmp; use .png, .jpg, .webp, .tif, .gif, .apng or .avif"),
        (["a.png", "-o", "out", "--size", "wide"], "--size is 'wide'; it must be WxH or W in pixels"),
        (["a.png", "-o", "out", "--size", "0x5"], "--size is '0x5'; it must be"),
        (["a.png", "-o", "out", "--size", "20", "-s", "2"], "--size and --outscale contradict each other"),
        (["a.png", "-o", "out", "--size", "20", "--fit"], "--fit needs --size WxH"),
        (
            ["a.png", "-o", "out", "--name", "{x}"],
            "--name is '{x}'; it takes {stem}, {parent}, {type}, {scale} and {ext}",
        ),
    ],
)
def test_what_cannot_be_meant_is_one_line_and_nothing_is_written(
    upscale: Any, picture: Any, arguments: list[str], message: str
) -> None:
    for name in ("a.png", "in/a.png", "in/a.jpg", "empty/deep/a.png"):
        picture(name)
    Path("g.pth").write_bytes(b"")
    before = {name: Path(name).read_bytes() for name in _files(".")}
    result = upscale(*arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: ")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert {name: Path(name).read_bytes() for name in _files(".")} == before
    assert not Path("out").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--tile", "-1"],
        ["--tile", "large"],
        ["--threads", "0"],
        ["--quality", "0"],
        ["--quality", "101"],
        ["--format", "bmp"],
        ["--backend", "abacus"],
        ["--precision", "fp64"],
        ["--outscale", "twice"],
        ["--strength", "1.1"],
        ["--strength", "-0.1"],
        ["--strength", "nan"],
        ["--sharpness", "1.1"],
        ["--nonsense", "1"],
    ],
    ids=" ".join,
)
def test_values_out_of_range_are_usage_errors_that_name_the_option(
    upscale: Any, picture: Any, arguments: list[str]
) -> None:
    picture("a.png")
    result = upscale("a.png", "-o", "out", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert arguments[0] in result.stderr
    assert "Traceback" not in result.stderr
    assert _files(".") == ["a.png"]


@pytest.mark.parametrize("missing", [["a.png"], ["-o", "out"]], ids=["no output", "no input"])
def test_input_and_output_must_be_given(upscale: Any, picture: Any, missing: list[str]) -> None:
    picture("a.png")
    result = upscale(*missing)
    assert result.exit_code == 2
    assert "Missing" in result.stderr


def test_an_output_that_is_a_file_is_named_for_each_image(upscale: Any, picture: Any) -> None:
    picture("in/a.png")
    picture("in/b.png")
    Path("notes").write_text("kept")
    result = upscale("in", "-o", "notes")
    assert result.exit_code == 1
    first, second, summary = result.stderr.splitlines()
    assert first.startswith("failed: notes/a_x4.png: cannot be written (")
    assert second.startswith("failed: notes/b_x4.png: cannot be written (")
    assert summary.startswith("0 upscaled (0.0 MP in ")
    assert summary.endswith("; 2 failed: a.png, b.png")
    assert Path("notes").read_text() == "kept"


@pytest.mark.skipif(os.name != "posix", reason="file names are bytes there only")
def test_a_name_that_is_no_text_does_not_stop_the_rest(upscale: Any, picture: Any, folder: Path) -> None:
    source = picture("in/a.png")
    strange = Path(os.fsdecode(os.fsencode(folder / "in") + b"/\xff.png"))
    try:
        strange.write_bytes(source.read_bytes())
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    result = upscale("in", "-o", "out", "--json")
    assert result.stdout.isascii()
    first, second = json.loads(result.stdout)["images"]
    assert first["status"] == "done"
    assert second["status"] == "done" or "not valid UTF-8" in second["message"]
    assert "Traceback" not in result.stderr


# --- standard streams in this process; see test_processes.py for real pipes


@pytest.mark.parametrize("options", [[], ["--format", "webp"], ["-f", "jpg", "--outscale", "2"]], ids=" ".join)
def test_standard_input_to_a_stream(upscale: Any, picture: Any, upscaler: Upscaler, options: list[str]) -> None:
    data = picture("a.jpg", size=(16, 16, 3)).read_bytes()
    result = upscale("-", "-o", "-", *options, given=data)
    assert (result.exit_code, result.stderr) == (0, "")
    image = read_image(result.stdout_bytes)
    side = 32 if "--outscale" in options else 64
    assert image.pixels.shape == (side, side, 3)
    magic = {"webp": b"RIFF", "jpg": b"\xff\xd8"}.get(options[1] if options else "", b"\x89PNG")
    assert result.stdout_bytes.startswith(magic)


def test_a_file_to_standard_output_keeps_its_format(upscale: Any, picture: Any) -> None:
    picture("a.jpg")
    result = upscale("a.jpg", "-o", "-", "-v")
    assert result.stdout_bytes.startswith(b"\xff\xd8")
    assert "1 upscaled" in result.stderr


def test_bad_standard_input_fails_and_writes_nothing(upscale: Any) -> None:
    result = upscale("-", "-o", "-", given=b"garbage")
    assert (result.exit_code, result.stdout_bytes) == (1, b"")
    failed, summary = result.stderr.splitlines()
    assert failed.startswith("failed: standard input: cannot be read as an image")
    assert summary.endswith("; 1 failed: standard input")


def test_a_model_of_another_scale_names_its_results(run: Any, picture: Any, folder: Path) -> None:
    from srgan_fast.models import Generator, generator_config

    save_generator(Generator(generator_config("paper", scale=2, channels=4, blocks=1)), folder / "x2.safetensors")
    picture("a.png")
    assert run("upscale", "a.png", "-o", "out", "-m", "x2.safetensors", "-b", "torch").exit_code == 0
    assert _files() == ["a_x2.png"]
    assert read_image(Path("out/a_x2.png")).pixels.shape == (10, 14, 3)


# --- JSON, progress, odd inputs


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (["in", "-o", "-", "--json"], 1, "-o - and --json both use standard output"),
        (["in", "-o", "out", "--json", "--model", "nope"], 1, "nope: is neither a file nor a shipped model"),
        (["empty", "-o", "out", "--json"], 1, "no images in empty"),
        (["in", "-o", "out", "--json", "--quality", "0"], 2, "Invalid value for '--quality'"),
        (["in", "--json"], 2, "Missing option '--output'"),
        (["in", "-o", "out", "--json", "--nonsense"], 2, "No such option: --nonsense"),
    ],
)
def test_json_is_one_valid_document_whatever_was_wrong(
    upscale: Any, picture: Any, arguments: list[str], code: int, error: str
) -> None:
    picture("in/a.png")
    Path("empty").mkdir()
    result = upscale(*arguments)
    assert result.exit_code == code
    found = json.loads(result.stdout)
    assert error in found["error"]
    assert found["images"] == []


def test_odd_inputs_are_a_line_each_and_the_rest_go_on(upscale: Any, picture: Any) -> None:
    picture("in/a.png")
    Path("in/loop.png").symlink_to("loop.png")
    Path("in/b.exr").touch()
    result = upscale("in", "missing.png", "-o", "out", "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert [(image["input"], image["status"]) for image in found["images"]] == [
        ("missing.png", "failed"), ("in/a.png", "done"), ("in/loop.png", "failed"),
    ]  # fmt: skip
    assert found["left_out"] == {".exr": 1}
    assert "left out: 1 .exr" in upscale("in", "-o", "out2").stderr


@pytest.mark.parametrize(("kind", "lines"), [("none", 0), ("json", 2), ("lines", 0)])
def test_progress_without_a_terminal(upscale: Any, picture: Any, kind: str, lines: int) -> None:
    picture("in/a.png")
    picture("in/b.png")
    *said, summary = upscale("in", "-o", "out", "--progress", kind).stderr.splitlines()
    assert len(said) == lines
    assert summary.startswith("2 upscaled")
    if lines:
        assert [json.loads(line)["pictures"] for line in said] == [1, 2]
        assert json.loads(said[-1])["of_pixels"] == json.loads(said[-1])["pixels"] == 70


def test_lines_of_progress_come_every_some_seconds(upscale: Any, picture: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("srgan_fast.cli.upscale_progress.LINE_EVERY", 0.0)
    picture("in/a.png")
    said = upscale("in", "-o", "out").stderr.splitlines()
    assert said[0].startswith(("0 of 1 images, ", "1 of 1 images, "))


def test_what_is_not_kept_is_a_note_in_text_and_json(upscale: Any) -> None:
    Pillow.fromarray(np.zeros((6, 6, 3), np.uint8)).save("a.jpg", comment=b"a comment")
    assert upscale("a.jpg", "-o", "b.webp").stderr.startswith("note: a.jpg: dropped or converted: comments (Comment)\n")
    found = json.loads(upscale("a.jpg", "-o", "c.webp", "--json").stdout)
    assert found["images"][0]["notes"] == ["comments (Comment)"]


def test_a_small_tile_is_warned_about(upscale: Any, picture: Any) -> None:
    picture("a.png")
    assert "128 is a good size" in upscale("a.png", "-o", "b.png", "--tile", "1").stderr


def test_compression_is_that_of_png(upscale: Any, picture: Any) -> None:
    picture("a.png", size=(40, 40, 3))
    sizes = []
    for level in ("0", "9"):
        assert upscale("a.png", "-o", f"{level}.png", "--compression", level).exit_code == 0
        sizes.append(Path(f"{level}.png").stat().st_size)
    assert sizes[1] < sizes[0]


# --- manifest and dry run


def test_a_manifest_is_resumed_and_not_begun_twice(upscale: Any, picture: Any) -> None:
    picture("in/a.png")
    assert upscale("in", "-o", "out", "--manifest", "m.jsonl").exit_code == 0
    refused = upscale("in", "-o", "out", "--manifest", "m.jsonl")
    assert "m.jsonl: contains results of an earlier run; continue with --resume" in refused.stderr
    picture("in/b.png")
    result = upscale("in", "-o", "out", "--manifest", "m.jsonl", "--resume")
    assert (result.exit_code, _files()) == (0, ["a_x4.png", "b_x4.png"])
    assert result.stderr.endswith("; 1 skipped\n")
    again = upscale("in", "-o", "out", "--manifest", "m.jsonl", "--resume", "--outscale", "2", "--suffix", "_x4")
    assert again.stderr.startswith("2 upscaled"), "other options give other results"
    for option in (["--border", "zero"], ["--strength", "0.5"]):
        again = upscale("in", "-o", "out", "--manifest", "m.jsonl", "--resume", *option)
        assert again.stderr.startswith("2 upscaled"), option
    assert "--resume needs --manifest FILE" in upscale("in", "-o", "out", "--resume").stderr


def test_a_dry_run_looks_into_shards_and_begins_no_manifest(upscale: Any, picture: Any) -> None:
    source = picture("a.png")
    with tarfile.open("s.tar", "w") as archive:
        archive.add(source, "a.png")
    result = upscale("s.tar", "-o", "out", "--dry-run", "--manifest", "m.jsonl")
    assert result.stderr.startswith("s.tar/a.png (7x5) -> out/s/a_x4.png (28x20), about ")
    assert sorted(path.name for path in Path().iterdir()) == ["a.png", "s.tar"]


def test_workers_change_nothing_about_results(upscale: Any, picture: Any) -> None:
    for i in range(5):
        picture(f"in/{i}.png", i)
    found = []
    for workers in ("1", "3"):
        result = upscale("in", "-o", workers, "--workers", workers, "--backend", "native", "--json")
        assert result.exit_code == 0
        found.append([Path(image["output"]).read_bytes() for image in json.loads(result.stdout)["images"]])
    assert found[0] == found[1]


def test_a_cluster_needs_a_manifest_and_no_standard_streams(upscale: Any, picture: Any) -> None:
    picture("a.png")
    lacking = upscale("a.png", "-o", "out", "--engine", "ray", "--json")
    assert lacking.stderr == "error: --engine ray needs --manifest FILE, on storage that all workers share\n"
    assert json.loads(lacking.stdout)["error"].startswith("--engine ray needs --manifest")
    if importlib.util.find_spec("ray"):
        streamed = upscale("-", "-o", "b.png", "--engine", "ray", "--manifest", "m.jsonl", "--json")
        assert "standard input and output belong to one process" in json.loads(streamed.stdout)["error"]


def test_a_dry_run_says_what_would_be_done_and_does_nothing(upscale: Any, picture: Any) -> None:
    picture("in/a.png")
    picture("in/b.png", size=(6, 11, 3))
    Path("in/c.png").write_bytes(b"no")
    Path("out").mkdir()
    Path("out/b_x4.png").touch()
    result = upscale("in", "-o", "out", "--dry-run")
    assert result.exit_code == 0
    first, *failing, summary = result.stderr.splitlines()
    assert first.startswith("in/a.png (7x5) -> out/a_x4.png (28x20), about 0.0 MB, ")
    assert [line.split(" (")[0] for line in failing] == [
        "would fail: out/b_x4.png: exists already; use --overwrite or --skip-existing",
        "would fail: in/c.png: cannot be read as an image",
    ]
    assert summary.startswith("1 to upscale, about ")
    assert summary.endswith("; 2 would fail")
    assert _files() == ["b_x4.png"]
    found = json.loads(upscale("in", "-o", "out", "--dry-run", "--json").stdout)
    assert found["dry_run"] is True
    assert found["images"][0]["bytes"] == round(28 * 20 * 1.42)


def test_a_dry_run_says_what_would_be_skipped(upscale: Any, picture: Any) -> None:
    picture("in/a.png")
    manifest = ["--manifest", "m.jsonl"]
    assert upscale("in", "-o", "out", *manifest).exit_code == 0
    picture("in/b.png")
    picture("in/c.png")
    Path("out/b_x4.png").touch()  # not whole: would be done again
    written = Path("m.jsonl").read_bytes()
    lines = upscale("in", "-o", "out", "--skip-existing", "--dry-run").stderr.splitlines()
    assert lines[0] == "would skip: out/a_x4.png exists already"
    assert [line.split(" (")[0] for line in lines[1:3]] == ["in/b.png", "in/c.png"]
    assert lines[3].startswith("2 to upscale, about ")
    assert lines[3].endswith("; 1 would be skipped")
    lines = upscale("in", "-o", "out", *manifest, "--resume", "--dry-run").stderr.splitlines()
    assert lines[0] == "would skip: out/a_x4.png is done according to the manifest"
    assert lines[1].startswith("would fail: out/b_x4.png: exists already")
    assert lines[3].endswith("; 1 would be skipped; 1 would fail")
    found = json.loads(upscale("in", "-o", "out", *manifest, "--resume", "--dry-run", "--json").stdout)
    assert [bool(entry["skipped"]) for entry in found["images"]] == [True, False, False]
    assert Path("m.jsonl").read_bytes() == written


def test_a_dry_run_tells_what_is_left_out_and_does_not_read_standard_input(upscale: Any, picture: Any) -> None:
    picture("in/a.png")
    picture("in/a_x4.png")
    Path("in/b.psd").touch()
    result = upscale("in", "-o", "in", "--dry-run", "--overwrite")
    assert result.stderr.splitlines()[-1].endswith("; 1 ignored as results of earlier runs; left out: 1 .psd")
    first, last = upscale("-", "-o", "b.png", "--dry-run").stderr.splitlines()
    assert first == "standard input -> b.png, of a size that is known when it is read"
    assert last.startswith("1 to upscale")


def test_strength_goes_from_interpolation_to_the_model(upscale: Any, picture: Any) -> None:
    picture("a.png")
    for strength in ("0", "0.5", "1"):
        assert upscale("a.png", "-o", f"{strength}.png", "--strength", strength).exit_code == 0
    none, half, whole = (read_image(Path(f"{strength}.png")).pixels.astype(int) for strength in ("0", "0.5", "1"))
    assert (none != whole).any()
    assert np.abs(2 * half - none - whole).max() <= 1
