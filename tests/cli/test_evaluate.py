"""`srgan-fast evaluate` prints the figures of `srgan_fast.evaluation`, as a table or as JSON."""

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from srgan_fast.data.images import Image, read_image, write_image
from srgan_fast.data.resize import downscale
from srgan_fast.data.st_lpips import available
from srgan_fast.evaluation import Evaluation
from srgan_fast.evaluation import evaluate as evaluate_folder
from srgan_fast.upscale import Upscaler

FIGURES = ["psnr_y", "psnr_rgb", "ssim_y", "bicubic_psnr_y", "bicubic_ssim_y"]
if available():
    FIGURES += ["st_lpips", "bicubic_st_lpips"]


@pytest.fixture
def evaluate(run: Any, tiny_model: Path) -> Any:
    """Calls `srgan-fast evaluate` with the small model on ONNX Runtime."""

    def call(*arguments: Any) -> Any:
        return run("evaluate", "--model", tiny_model, "--backend", "onnxruntime", *arguments)

    return call


@pytest.fixture(scope="session")
def set5(data_folder: Path) -> Path:
    """Absolute, for a test that changes the directory."""
    return (data_folder / "test" / "Set5").resolve()


@pytest.fixture
def originals(picture: Any) -> Path:
    """Two originals; sides that are no multiple of 4 are cut."""
    picture("hr/a.png", 1, (32, 41, 3))
    picture("hr/b.png", 2, (27, 24, 3))
    return Path("hr")


@pytest.fixture
def upscaler(tiny_model: Path) -> Upscaler:
    """The network alone, as it is evaluated."""
    return Upscaler(tiny_model, backend="onnxruntime", border="zero")


@pytest.fixture
def expected(originals: Path, upscaler: Upscaler) -> Evaluation:
    return evaluate_folder(upscaler, originals)


def test_json_has_the_mean_and_each_image(evaluate: Any, expected: Evaluation) -> None:
    result = evaluate("--hr", "hr", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    found = json.loads(result.stdout)
    assert list(found) == ["mean", "images"]
    assert list(found["mean"]) == FIGURES
    assert [list(image) for image in found["images"]] == [["name", *FIGURES]] * 2
    assert [image["name"] for image in found["images"]] == ["a.png", "b.png"]
    for got, scores in zip(found["images"], expected.images, strict=True):
        figures = {name: value for name, value in asdict(scores).items() if value is not None}
        assert got == pytest.approx(figures)
    for name in FIGURES:
        assert found["mean"][name] == pytest.approx(sum(image[name] for image in found["images"]) / 2)
        assert math.isfinite(found["mean"][name])


def test_the_table_has_the_same_figures(evaluate: Any, expected: Evaluation) -> None:
    result = evaluate("--hr", "hr")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "tiny-x4 on hr, x4" in result.stdout
    lines = [line.replace("│", "|").split("|") for line in result.stdout.splitlines()]
    rows = {cells[1].strip(): [cell.strip() for cell in cells[2:-1]] for cells in lines if len(cells) > 3}
    assert list(rows) == ["a.png", "b.png", "mean"]
    for scores in (*expected.images, expected.mean()):
        psnr_y, psnr_rgb, ssim_y, bicubic_psnr_y, bicubic_ssim_y, *perceptual = rows[scores.name]
        shown = (scores.st_lpips, scores.bicubic_st_lpips) if available() else ()
        assert perceptual == ["-" if value is None else f"{value:.3f}" for value in shown]
        assert (psnr_y, psnr_rgb, ssim_y) == (
            f"{scores.psnr_y:.2f}", f"{scores.psnr_rgb:.2f}", f"{scores.ssim_y:.4f}",
        )  # fmt: skip
        assert (bicubic_psnr_y, bicubic_ssim_y) == (f"{scores.bicubic_psnr_y:.2f}", f"{scores.bicubic_ssim_y:.4f}")


def test_given_low_resolution_images_are_the_ones_that_are_measured(
    evaluate: Any, originals: Path, upscaler: Upscaler
) -> None:
    Path("lr").mkdir()
    for path in originals.iterdir():
        pixels = read_image(path).pixels
        height, width = (side // 4 * 4 for side in pixels.shape[:2])
        small = downscale(pixels[:height, :width].astype(np.uint8), 4)
        write_image(Path("lr") / f"{path.stem}x4.png", Image(255 - small))  # negatives, so that it shows
    made = json.loads(evaluate("--hr", "hr", "--json").stdout)
    given = json.loads(evaluate("--hr", "hr", "--lr", "lr", "--json").stdout)
    assert given["mean"]["bicubic_psnr_y"] < made["mean"]["bicubic_psnr_y"] - 0.5
    assert given["mean"] == pytest.approx(evaluate_folder(upscaler, originals, Path("lr")).as_json()["mean"])


def test_an_infinite_psnr_is_null_in_json(evaluate: Any, folder: Path) -> None:
    write_image(folder / "hr/flat.png", Image(np.full((24, 24, 3), 128, np.uint8)))
    result = evaluate("--hr", "hr", "--json")
    found = json.loads(result.stdout, parse_constant=lambda text: pytest.fail(f"{text} is no JSON"))
    assert found["images"][0]["bicubic_psnr_y"] is None
    assert found["mean"]["bicubic_psnr_y"] is None
    assert found["mean"]["bicubic_ssim_y"] == pytest.approx(1)
    assert " inf " in evaluate("--hr", "hr").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--hr", "missing"], "missing: no such folder"),
        (["--hr", "hr/a.png"], "hr/a.png: no such folder"),
        (["--hr", "empty"], "empty: holds no images"),
        (["--hr", "hr", "--lr", "missing"], "missing: no such folder"),
        (["--hr", "hr", "--lr", "empty"], "hr/a.png: no low-resolution version in empty (looked for a, ax4, a_x4)"),
        (["--hr", "hr", "--lr", "hr"], "hr/a.png: 41x32 pixels are not 4 times the 41x32"),
        (["--hr", "small"], "small/a.png: too small to be measured"),
        (["--hr", "wide"], "wide/a.png: has 16 bits"),
        (["--hr", "bad"], "bad/a.png: cannot be read as an image"),
        (["--hr", "hr", "--model", "nope"], "nope: is neither a file nor a shipped model"),
    ],
)
def test_what_cannot_be_measured_is_one_line(
    evaluate: Any, originals: Path, picture: Any, arguments: list[str], message: str
) -> None:
    Path("empty").mkdir()
    Path("bad").mkdir()
    Path("bad/a.png").write_bytes(b"no")
    picture("small/a.png")
    picture("wide/a.png", size=(32, 32, 3), dtype=np.uint16)
    result = evaluate(*arguments, "--json")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: ")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_the_folder_of_originals_must_be_given(evaluate: Any) -> None:
    result = evaluate("--json")
    assert result.exit_code == 2
    assert "--hr" in result.stderr


@pytest.mark.data
def test_the_shipped_model_is_better_than_bicubic(run: Any, set5: Path) -> None:
    result = run("evaluate", "--hr", set5 / "HR", "--lr", set5 / "LR_x4", "--json")
    mean = json.loads(result.stdout)["mean"]
    assert mean["bicubic_psnr_y"] == pytest.approx(28.42, abs=0.02)
    assert mean["psnr_y"] > mean["bicubic_psnr_y"]
    assert mean["ssim_y"] > mean["bicubic_ssim_y"]
