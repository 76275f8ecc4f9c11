"""Results are held against the network in float64, and one beyond its tolerance is told from one within."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from srgan_fast.bench import accuracy
from srgan_fast.bench.accuracy import TOLERANCES, Accuracy, compare, compute_reference
from srgan_fast.errors import BackendError
from srgan_fast.models import GeneratorFile, ModelFile, load_generator, model_of
from srgan_fast.network import receptive_radius
from srgan_fast.runtime import tiling


@pytest.fixture
def lr() -> np.ndarray:
    return np.random.default_rng(1).random((1, 3, 19, 23), np.float32)


def test_the_reference_is_the_generator_in_float64(tiny_generator: GeneratorFile, lr: np.ndarray) -> None:
    with torch.inference_mode():
        expected = load_generator(tiny_generator).double()(torch.from_numpy(lr).double()).numpy()
    reference, dtype = compute_reference(model_of(tiny_generator), lr, 1)
    assert dtype == "float64"
    # Folded weights are rounded to float32.
    np.testing.assert_allclose(reference, expected, rtol=0, atol=2e-6 * np.ptp(expected))


def test_a_large_image_is_computed_in_float32_and_in_tiles(
    tiny_file: ModelFile, lr: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact, _ = compute_reference(tiny_file, lr, 1)
    monkeypatch.setattr(accuracy, "LARGEST_FLOAT64_AREA", 19 * 23 - 1)
    tiles = tiling.plan_tiles(19, 23, receptive_radius(tiny_file.network), 8)
    assert len(tiles) > 1
    monkeypatch.setattr(accuracy, "plan_tiles", lambda *_: tiles)
    reference, dtype = compute_reference(tiny_file, lr, 1)
    assert (dtype, reference.dtype) == ("float32", np.float32)
    assert np.abs(reference - exact).max() < 1e-5 * np.ptp(exact)


def test_errors_are_told_over_the_range() -> None:
    reference = np.zeros((1, 3, 4, 5))
    reference[0, 0, 0, 0], reference[0, 2, 3, 4] = -1.0, 3.0
    sr = reference.astype(np.float32)
    sr[0, 1, 2, 2] += 0.5
    found = compare(sr, reference)
    assert found.max_error == pytest.approx(0.5 / 4)
    assert found.psnr_db == pytest.approx(10 * math.log10(16 / (0.25 / 60)))
    assert compare(reference.astype(np.float32), reference) == Accuracy(0.0, math.inf)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_that_is_not_finite_is_wrong(value: float) -> None:
    sr = np.zeros((1, 3, 2, 2), np.float32)
    sr[0, 2, 1, 1] = value
    found = compare(sr, np.random.default_rng(0).random((1, 3, 2, 2)))
    assert all(found.problem(tolerance) == "values that are not finite" for tolerance in TOLERANCES.values())


def test_another_shape_is_an_error() -> None:
    with pytest.raises(BackendError, match=r"shape \(1, 3, 2, 3\), it must have \(1, 3, 2, 2\)"):
        compare(np.zeros((1, 3, 2, 3), np.float32), np.zeros((1, 3, 2, 2)))


@pytest.mark.parametrize(
    ("precision", "found", "message"),
    [
        ("fp32", Accuracy(9e-4, 20), None),
        ("fp32", Accuracy(2e-3, 99), "max error 2.0e-03 is beyond 1e-03 of the range"),
        ("bf16", Accuracy(0.5, 40.1), None),
        ("bf16", Accuracy(0.1, 39.9), "PSNR 39.9 dB is below 40 dB"),
        ("int8", Accuracy(0.5, 30.1), None),
        ("int8", Accuracy(0.1, 29.9), "PSNR 29.9 dB is below 30 dB"),
    ],
)
def test_each_precision_has_its_tolerance(precision: Any, found: Accuracy, message: str | None) -> None:
    assert found.problem(TOLERANCES[precision]) == message
