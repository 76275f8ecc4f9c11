"""Training rows of the GPU report: one that fails says why, and the others are measured without it."""

import json
import runpy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from srgan_fast.bench.gpu import steps
from srgan_fast.bench.gpu.steps import GENERATOR_ROWS, STEP_ROWS, StepRow, time_generators, time_steps
from srgan_fast.bench.training import rows
from srgan_fast.bench.training.rows import ROWS, Work, make_trainee
from srgan_fast.models import generator_config
from srgan_fast.training.averaging import AveragedGenerator
from srgan_fast.training.config import RunSection

CUDA = torch.device("cuda", 0)
TOOL = runpy.run_path(str(Path(__file__).parents[2] / "tools" / "gpu_report.py"))


class Row(StepRow):
    """A stand-in whose step is what a test says."""

    def __init__(self, step: Callable[[], dict[str, float]] | None, **how: bool) -> None:
        super().__init__("stock", **how)
        object.__setattr__(self, "play", step)

    def make(self, *work: Any) -> Any:
        play: Any = self.play  # type: ignore[attr-defined]
        if play is None:
            raise RuntimeError("\nno compiler here\nat line 1")
        return SimpleNamespace(step=play)


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: None)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 1_000_000)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 3_500_000)


def at_the(number: int) -> Callable[[], dict[str, float]]:
    """A step that fails the nth time."""
    taken: list[None] = []

    def step() -> dict[str, float]:
        taken.append(None)
        if len(taken) == number:
            raise RuntimeError(f"step {number} failed")
        return {"loss": float(len(taken))}

    return step


def test_rows_that_fail_anywhere_say_why_and_the_others_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    last = 1 + steps.WARM_UP_STEPS + steps.ROUNDS + 1
    played = {
        "right": Row(at_the(0)),
        "compiled": Row(None),
        "first": Row(at_the(1)),
        "warming up": Row(at_the(3)),
        "round": Row(at_the(9)),
        "weighed": Row(at_the(last)),
        "captured": Row(at_the(last), captured=True),
    }
    monkeypatch.setattr(steps, "STEP_ROWS", played)
    found = time_steps(2, 32, CUDA)
    assert json.loads(json.dumps(found)) == found
    assert {name: row["reason"] for name, row in found.items()} == {
        "right": None,
        "compiled": "RuntimeError: no compiler here",
        "first": "RuntimeError: step 1 failed",
        "warming up": "RuntimeError: step 3 failed",
        "round": "RuntimeError: step 9 failed",
        "weighed": f"RuntimeError: step {last} failed",
        "captured": None,
    }
    right = found["right"]
    assert (right["status"], right["losses"], right["peak_mb"]) == ("ok", {"loss": 1.0}, 2.5)
    assert right["load_s"] >= 0
    assert 0 <= right["step"]["least"] <= right["step"]["median"] <= right["step"]["most"]
    assert found["captured"]["peak_mb"] is None
    for name in ("compiled", "first", "warming up", "round", "weighed"):
        assert (found[name]["status"], found[name]["step"]) == ("failed", None)
    assert not TOOL["all_right"]({"problems": [], "steps, batch 2": found})
    assert TOOL["all_right"]({"problems": [], "steps, batch 2": {"right": right}})
    assert "steps, batch 2 compiled: RuntimeError: no compiler here" in TOOL["summary"](
        {"problems": [], "steps, batch 2": found}
    )


def test_a_generator_that_fails_says_why_and_the_others_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    played = {"compiled": Row(None), "right": Row(at_the(0))}
    monkeypatch.setattr(steps, "GENERATOR_ROWS", played)
    monkeypatch.setattr(steps, "_time_generator", lambda trainee: steps.GeneratorResult())
    found = time_generators(2, 32, CUDA)
    assert [(name, row["status"], row["reason"]) for name, row in found.items()] == [
        ("compiled", "failed", "RuntimeError: no compiler here"),
        ("right", "ok", None),
    ]


def test_every_row_is_one_of_the_benchmark_of_training() -> None:
    for name, row in {**STEP_ROWS, **GENERATOR_ROWS}.items():
        assert row.row in ROWS
        assert ("compiled" in name, "captured" in name, "tf32" in name) == (row.compiled, row.captured, row.tf32)
        assert not row.captured or ROWS[row.row].loop == "lean"


@pytest.mark.parametrize("tf32", [False, True])
def test_convolutions_use_tf32_only_where_the_name_says_so(tf32: bool) -> None:
    before = torch.backends.cudnn.allow_tf32
    with StepRow("stock", tf32=tf32).context():
        assert torch.backends.cudnn.allow_tf32 == tf32
    assert torch.backends.cudnn.allow_tf32 == before


def test_a_lean_step_on_a_gpu_is_the_trainers_own_with_its_average(monkeypatch: pytest.MonkeyPatch) -> None:
    averaged: list[int] = []
    monkeypatch.setattr(AveragedGenerator, "update", lambda self, generator, step: averaged.append(step))
    monkeypatch.setattr(rows, "generator_config", partial(generator_config, blocks=1, channels=8))
    row = StepRow("stock-lean")
    trainee = row.make("pretrain", 1, 16, torch.device("cpu"))
    trainee.step(), trainee.step()
    assert averaged == [0, 1]
    assert RunSection().ema == rows.EMA


@pytest.mark.parametrize("name", ["stock", "stock-lean"])
def test_compiled_networks_train_as_the_others(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Without a code generator, which would take a minute: what is traced and differentiated is the same.
    compile_ = torch.nn.Module.compile
    compiled: list[str] = []

    def quickly(network: torch.nn.Module, **options: Any) -> None:
        compiled.append(type(network).__name__)
        compile_(network, backend="aot_eager", **options)

    monkeypatch.setattr(torch.nn.Module, "compile", quickly)
    monkeypatch.setattr(rows, "generator_config", partial(generator_config, blocks=1))
    work = Work("gan", 2, 32, "features[:4]", 1)
    losses = [
        [(trainee := make_trainee(ROWS[name], work, compiled=how)).step(), trainee.step()] for how in (False, True)
    ]
    assert compiled == ["Generator", "PatchDiscriminator", "FeatureExtractor"]
    for plain, ours in zip(*losses, strict=True):
        assert ours == pytest.approx(plain, rel=1e-4)
