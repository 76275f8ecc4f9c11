"""Shipped models: what is recorded of them is complete and true, and their results have no pattern of their own."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from srgan_fast.data.images import read_image
from srgan_fast.data.metrics import checkerboard, luma
from srgan_fast.data.st_lpips import available
from srgan_fast.evaluation import evaluate
from srgan_fast.models import checkpoint, read_model, shipped_models
from srgan_fast.runtime.upscaler import Upscaler

SAMPLES = Path(__file__).parents[2] / "docs" / "samples"
MODELS = shipped_models()
RECORDED = ("purpose", "psnr_y", "st_lpips", "licence", "attribution", "data", "steps", "hours", "stage")


@pytest.mark.parametrize("name", MODELS)
def test_what_a_user_must_know_is_recorded_and_in_the_card(name: str) -> None:
    metadata = read_model(name).metadata
    assert [key for key in RECORDED if not metadata.get(key)] == []
    card = (checkpoint.WEIGHTS_FOLDER / f"{name}.md").read_text(encoding="utf-8")
    for heading in ("**Terms of use.**", "**Known failures.**"):
        assert heading in card
    assert metadata["licence"].split(";")[0] in card
    for figure in re.findall(r"\d+\.\d+", metadata["psnr_y"] + metadata["st_lpips"]):
        assert figure in card


def test_all_weights_together_take_less_than_15_megabytes() -> None:
    files = list(checkpoint.WEIGHTS_FOLDER.glob("*.safetensors"))
    assert len(files) == len(MODELS)
    assert sum(path.stat().st_size for path in files) < 15e6
    for path in files:
        with safe_open(path, "np") as file:
            assert {file.get_tensor(key).dtype.name for key in file.keys() if "num_batches" not in key} == {"float16"}  # noqa: SIM118


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("sample", ["astronaut.png", "cat.png", "coffee.png", "rocket.jpg"])
def test_results_have_no_checkerboard(name: str, sample: str) -> None:
    upscaler = Upscaler(name, backend="native")
    result = upscaler(read_image(SAMPLES / sample).rgb())
    assert checkerboard(luma(result), upscaler.scale) < 0.7  # srgan-x4 had 2.6 on Set5 and Set14 before its loss on it


@pytest.mark.parametrize("name", MODELS)
def test_a_flat_area_gets_no_texture(name: str) -> None:
    for colour in [(128, 128, 128), (20, 30, 40), (200, 180, 160), (90, 130, 90)]:
        result = Upscaler(name, backend="native")(np.full((40, 40, 3), colour, np.uint8)).astype(int)
        assert np.ptp(result, axis=(0, 1)).max() <= 2
        assert np.abs(result - colour).max() <= 4


@pytest.mark.data
@pytest.mark.parametrize("name", MODELS)
def test_the_recorded_figures_are_those_of_evaluate(name: str) -> None:
    data = Path(os.environ["SRGAN_FAST_DATA"]) / "test"
    upscaler = Upscaler(name, backend="native", border="zero")  # as `srgan-fast evaluate` does
    metadata = read_model(name).metadata
    recorded = re.findall(r"(Set\d+) (\d+\.\d+) dB", metadata["psnr_y"])
    perceptual = dict(re.findall(r"(Set\d+) (\d+\.\d+)", metadata["st_lpips"]))
    assert [which for which, _ in recorded] == ["Set5", "Set14"]
    for which, psnr in recorded[:1]:
        mean = evaluate(upscaler, data / which / "HR", data / which / "LR_x4").mean()
        assert f"{mean.psnr_y:.2f}" == psnr
        if available():
            assert mean.st_lpips == pytest.approx(float(perceptual[which]), abs=6e-4)
