"""The native engine's precisions on photographs, with the weights that are shipped."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from srgan_fast import _engine
from srgan_fast.data.images import find_images, read_image
from srgan_fast.evaluation import evaluate
from srgan_fast.models import read_generator
from srgan_fast.upscale import Upscaler

from .conftest import Exact

needs_bf16 = pytest.mark.skipif("avx512_bf16" not in _engine.isas(), reason="this processor does not multiply bfloat16")
pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def by_precision() -> Any:
    made: dict[str, Upscaler] = {}

    def make(precision: Any) -> Upscaler:
        if precision not in made:
            made[precision] = Upscaler(backend="native", precision=precision)
        return made[precision]

    return make


def _floats(path: Path) -> np.ndarray:
    return np.ascontiguousarray(read_image(path).rgb().transpose(2, 0, 1)[None], np.float32) / np.float32(255)


@pytest.mark.parametrize("isa", _engine.isas())
def test_fp32_is_within_2e_5_of_float64_on_a_photograph(
    data_folder: Path, exact: Exact, monkeypatch: pytest.MonkeyPatch, isa: str
) -> None:
    file = read_generator()
    lr = _floats(find_images(data_folder / "test/Set5/LR_x4", recursive=False)[1])[:, :, 8:72, 3:70]
    if "expected" not in _CACHE:
        _CACHE["expected"] = exact(file, lr)
    expected = _CACHE["expected"]
    monkeypatch.setenv("SRGAN_FAST_ISA", isa)
    got = Upscaler(backend="native").run(lr)
    assert np.abs(got - expected).max() <= 2e-5 * np.ptp(expected)


_CACHE: dict[str, np.ndarray] = {}


@needs_bf16
def test_bf16_is_52_db_from_fp32_on_set5(data_folder: Path, by_precision: Any) -> None:
    squares, count = 0.0, 0
    for path in find_images(data_folder / "test/Set5/LR_x4", recursive=False):
        lr = _floats(path)
        difference = by_precision("bf16").run(lr).astype(np.float64) - by_precision("fp32").run(lr)
        squares, count = squares + float((difference**2).sum()), count + difference.size
    assert squares > 0, "bf16 was asked for, but the result is that of fp32"
    assert 10 * np.log10(count / squares) >= 52


@needs_bf16
@pytest.mark.parametrize("name", ["Set5", "Set14"])
def test_bf16_loses_less_than_002_db_against_the_originals(data_folder: Path, by_precision: Any, name: str) -> None:
    folder = data_folder / "test" / name
    fp32, bf16 = (evaluate(by_precision(p), folder / "HR", folder / "LR_x4").mean() for p in ("fp32", "bf16"))
    assert fp32.psnr_y - bf16.psnr_y < 0.02
