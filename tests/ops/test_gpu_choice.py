"""What was measured on a GPU decides what `auto` uses there; what was not is left to the built-in choice."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from srgan_fast.errors import FileError
from srgan_fast.ops import check_cases, coverage, cuda, gpu_choice, self_test_cache, switch
from srgan_fast.ops.gpu_choice import BUILT_IN, GpuChoice, choice_of, store_choice
from srgan_fast.ops.self_test_cache import SelfTestKey
from srgan_fast.runtime import cuda_backend, registry

DEVICE = torch.device("cuda", 0)
KEY = SelfTestKey("a GPU", "uuid", "9.0", 132, "580.1", "2.11.0+cu130", "abc", "def", "91000", "")
CHOICE = GpuChoice("reference", "fused", "fused", "own", "torch")


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[SelfTestKey | None]:
    """The GPU's key, which a test may replace."""
    made: list[SelfTestKey | None] = [KEY]
    monkeypatch.setenv("SRGAN_FAST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(gpu_choice, "_read", {})
    monkeypatch.setattr(self_test_cache, "describe", lambda index, checks: made[0])
    return made


def new_process() -> GpuChoice:
    gpu_choice._read.clear()
    return choice_of(DEVICE)


def test_a_choice_is_read_by_later_processes_and_by_this_one() -> None:
    assert choice_of(DEVICE) == BUILT_IN
    path = store_choice(DEVICE, CHOICE)
    assert path is not None
    assert choice_of(DEVICE) == CHOICE == new_process()
    assert json.loads(path.read_text())["schema"] == gpu_choice.SCHEMA


@pytest.mark.parametrize("part", SelfTestKey.__slots__)
def test_a_choice_holds_until_anything_changes_that_the_self_test_depends_on(
    known: list[SelfTestKey | None], part: str
) -> None:
    store_choice(DEVICE, CHOICE)
    known[0] = replace(KEY, **{part: 78 if part == "multiprocessors" else "another"})
    assert new_process() == BUILT_IN


@pytest.mark.parametrize(
    "damage",
    [
        lambda found: "{",
        lambda found: "[]",
        lambda found: json.dumps(found | {"schema": "another/1"}),
        lambda found: json.dumps(found | {"choice": None}),
        lambda found: json.dumps(found | {"choice": found["choice"] | {"gemm": "magic"}}),
        lambda found: json.dumps(found | {"choice": found["choice"] | {"upscaling": ["torch"]}}),
        lambda found: json.dumps(found | {"gpu": asdict(replace(KEY, driver="590"))}),
    ],
)
def test_a_damaged_or_foreign_file_is_no_choice(damage: Callable[[dict[str, Any]], str]) -> None:
    path = store_choice(DEVICE, CHOICE)
    assert path is not None
    path.write_text(damage(json.loads(path.read_text())))
    assert new_process() == BUILT_IN


def test_a_choice_does_not_replace_the_self_tests_result(tmp_path: Path) -> None:
    self_test_cache.store(KEY)
    store_choice(DEVICE, CHOICE)
    assert self_test_cache.is_cached(KEY)
    assert new_process() == CHOICE


def test_a_gpu_that_the_driver_does_not_identify_has_no_choice(known: list[SelfTestKey | None]) -> None:
    known[0] = None
    assert store_choice(DEVICE, CHOICE) is None
    assert choice_of(DEVICE) == BUILT_IN


def test_a_cache_that_cannot_be_written_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SRGAN_FAST_CACHE", str(tmp_path / "file"))
    with pytest.raises(FileError):
        store_choice(DEVICE, CHOICE)
    assert new_process() == BUILT_IN


# --- who reads it


class Given:
    """A tensor on a GPU, as far as the switch looks."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.device, self.dtype = DEVICE, dtype


def fuses(monkeypatch: pytest.MonkeyPatch, choice: GpuChoice, dtype: torch.dtype, recorded: bool) -> bool:
    monkeypatch.setattr(switch, "choice_of", lambda device: choice)
    monkeypatch.setattr(switch, "_problem_of", lambda x: None)
    monkeypatch.setattr(switch, "_said", set())
    x = cast(torch.Tensor, Given(dtype))
    if not recorded:
        return switch.choose_fused("auto", x)
    with switch.recorded_steps():
        return switch.choose_fused("auto", x)


@pytest.mark.parametrize(
    ("choice", "dtype", "recorded", "expected"),
    [
        (BUILT_IN, torch.bfloat16, True, True),
        (BUILT_IN, torch.bfloat16, False, False),
        (GpuChoice(training_16bit="reference"), torch.bfloat16, True, False),
        (GpuChoice(training_16bit="reference"), torch.float32, True, True),
        (GpuChoice(training_fp32="reference"), torch.float32, True, False),
        (GpuChoice(training_fp32="reference"), torch.float16, True, True),
        (GpuChoice(unrecorded="fused"), torch.bfloat16, False, True),
        (GpuChoice(unrecorded="fused", training_16bit="reference"), torch.bfloat16, True, False),
    ],
)
def test_training_takes_the_kernels_that_were_faster(
    monkeypatch: pytest.MonkeyPatch, choice: GpuChoice, dtype: torch.dtype, recorded: bool, expected: bool
) -> None:
    assert fuses(monkeypatch, choice, dtype, recorded) == expected


def test_training_says_once_that_ours_were_slower(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fuses(monkeypatch, GpuChoice(training_16bit="reference"), torch.bfloat16, recorded=True)
    assert [record.getMessage() for record in caplog.records] == [
        "fused kernels were slower than PyTorch's on this GPU (srgan-fast bench gpu); using plain PyTorch "
        "(kernels='fused' forces them)"
    ]


@pytest.mark.parametrize(("upscaling", "backend"), [(None, "cuda"), ("cuda", "cuda"), ("torch", "torch")])
def test_upscaling_takes_the_backend_that_was_faster(
    monkeypatch: pytest.MonkeyPatch, upscaling: Any, backend: str
) -> None:
    monkeypatch.setattr(registry, "_cuda_device", lambda: True)
    monkeypatch.setattr(registry, "_why_not", lambda entry: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(cuda_backend, "choice_of", lambda device: GpuChoice(upscaling=upscaling))
    assert registry.choose_backend("auto", "fp16")[0] == backend
    assert registry.choose_backend("cuda", "fp16")[0] == "cuda"


def self_tested(monkeypatch: pytest.MonkeyPatch, gemm: Any) -> tuple[list[str], list[str]]:
    """What two first uses by processes select, and what their self-tests depend on."""
    selected: list[str] = []
    asked: list[str] = []
    monkeypatch.setattr(cuda, "_found", {})
    monkeypatch.setattr(cuda, "why_not_on_cuda", lambda: None)
    monkeypatch.setattr(cuda, "_self_test", lambda index, float32: None)
    monkeypatch.setattr(cuda.gpu_choice, "choice_of", lambda device: GpuChoice(gemm=gemm))
    monkeypatch.setattr(self_test_cache, "describe", lambda index, checks: asked.append(checks))
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setattr(torch.ops.srgan_fast, "conv_products", selected.append, raising=False)
    for _ in range(3):
        assert cuda.problem_of(DEVICE) is None
    return selected, asked


def test_own_gemms_are_selected_once_and_have_a_self_test_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    selected, asked = self_tested(monkeypatch, "own")
    assert selected == ["own"], "once, so that it does not override what a caller selects later"
    others = [self_tested(monkeypatch, gemm) for gemm in ("faster", None)]
    assert [found[0] for found in others] == [[], []]
    assert {text for found in others for text in found[1]}.isdisjoint(asked)


@pytest.mark.skipif(not hasattr(torch.ops.srgan_fast, "kernel_plan"), reason="no CUDA kernels built")
@pytest.mark.parametrize("own", [False, True])
def test_the_self_test_covers_what_either_choice_of_gemms_selects(own: bool) -> None:
    gpu = coverage.Gpu(28, 99 * 1024)
    training = [*check_cases.CHECKS, *coverage.training_cases(gpu, check_cases.CHECKS, own)]
    layers = coverage.inference_cases(gpu, ())
    rows = coverage.coverage_of(gpu, training, layers, own)
    assert all(row.tested == row.variants for row in rows)
    assert {row.kernel for row in rows} >= {"forward", "dgrad", "wgrad", "head", "conv", "tail"}
    assert any(row.plan == "library" for row in rows) == (not own)
    fixed = coverage.coverage_of(gpu, check_cases.CHECKS, (), own)
    assert any(row.tested < row.variants for row in fixed), "what is not tested is counted as such"
