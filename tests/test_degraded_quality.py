"""tools/degraded_quality.py: a table and a sheet for models on degraded photographs, the same for the same seeds."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from srgan_fast.data.images import Image, read_image, write_image
from srgan_fast.data.st_lpips import available

TOOL = Path(__file__).parent.parent / "tools" / "degraded_quality.py"


def _run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, TOOL, *arguments], capture_output=True, text=True, check=False)


@pytest.mark.skipif(not available(), reason="stlpips_pytorch is not installed")
def test_models_are_compared_on_the_same_degraded_images(tmp_path: Path, tiny_model: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for i in range(3):
        pixels = np.random.default_rng(i).integers(0, 256, (70, 66, 3), np.uint8)
        write_image(photos / f"{i}.png", Image(pixels))
    arguments = (photos, "--model", tiny_model, "--most", "2", "--seeds", "2", "--sheet", tmp_path / "sheet.png")
    first, again = _run(*arguments), _run(*arguments)
    assert first.returncode == 0, first.stderr
    assert again.stdout == first.stdout
    lines = first.stdout.splitlines()
    assert lines[0] == "4 degraded images"
    assert [line.split("|")[1].strip() for line in lines[3:]] == ["bicubic", tiny_model.stem]
    assert all(float(cell) > 0 for line in lines[3:] for cell in line.replace("dB", "").split("|")[2:4])
    # nearest neighbour, bicubic, the model and the original of four pairs
    assert read_image(tmp_path / "sheet.png").pixels.shape == (4 * 206 - 6, 4 * 206 - 6, 3)


def test_a_model_that_is_missing_is_named(tmp_path: Path) -> None:
    done = _run(tmp_path, "--model", tmp_path / "none.safetensors")
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "none.safetensors" in done.stderr
