"""Training rows of the GPU report are those of the training benchmark, and ours is the trainer's own step."""

from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from srgan_fast.bench.gpu import steps
from srgan_fast.bench.gpu.comparison import WAYS
from srgan_fast.bench.gpu.steps import STEP_ROWS, WARM_UP_STEPS, step_call
from srgan_fast.bench.training import rows
from srgan_fast.bench.training.rows import ROWS, Work, make_trainee
from srgan_fast.models import generator_config
from srgan_fast.training.averaging import AveragedGenerator
from srgan_fast.training.config import RunSection
from srgan_fast.training.graphs import WARM_UP


def test_every_row_is_one_of_the_benchmark_of_training() -> None:
    for precision, rows_of in STEP_ROWS.items():
        assert rows_of.keys() <= WAYS.keys()
        for way, row in rows_of.items():
            assert replace(row, captured=False, compiled=False, tf32=False) == ROWS[row.name]
            assert row.precision == precision
            assert row.tf32 == (precision == "fp32")
            assert row.compiled == (way == "compiled")
            assert row.captured == (way in ("ours", "ours, own GEMMs", "recorded", "compiled"))
            assert row.kernels == ("fused" if way.startswith("ours") else "reference")
            assert row.loop == ("common" if way == "common loop" else "lean")


def test_a_step_is_warmed_up_until_its_graph_is_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[bool] = []
    step = SimpleNamespace(step=lambda: taken.append(torch.backends.cudnn.allow_tf32))
    monkeypatch.setattr(steps, "make_trainee", lambda *work, averaged: step)
    before = torch.backends.cudnn.allow_tf32
    step_call("bf16", "recorded", 2, 32, torch.device("cpu"))()
    assert len(taken) == WARM_UP_STEPS + 1 > WARM_UP + 1
    assert not any(taken)
    assert torch.backends.cudnn.allow_tf32 == before


@pytest.mark.parametrize(("precision", "tf32"), [("bf16", False), ("fp32", True)])
def test_convolutions_use_tf32_only_where_the_name_says_so(
    monkeypatch: pytest.MonkeyPatch, precision: str, tf32: bool
) -> None:
    before = torch.backends.cudnn.allow_tf32
    seen: list[bool] = []

    def make(*work: Any, averaged: bool) -> Any:
        seen.append(torch.backends.cudnn.allow_tf32)
        return SimpleNamespace(step=lambda: seen.append(torch.backends.cudnn.allow_tf32))

    monkeypatch.setattr(steps, "make_trainee", make)
    step_call(precision, "eager", 2, 32, torch.device("cpu"))
    assert set(seen) == {tf32}
    assert torch.backends.cudnn.allow_tf32 == before


def test_a_lean_step_on_a_gpu_is_the_trainers_own_with_its_average(monkeypatch: pytest.MonkeyPatch) -> None:
    averaged: list[int] = []
    monkeypatch.setattr(AveragedGenerator, "update", lambda self, generator, step: averaged.append(step))
    monkeypatch.setattr(rows, "generator_config", partial(generator_config, blocks=1, channels=8))
    trainee = make_trainee(ROWS["stock-lean"], Work("pretrain", 1, 16, "features[:18]", 1), averaged=True)
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
        [(trainee := make_trainee(replace(ROWS[name], compiled=how), work)).step(), trainee.step()]
        for how in (False, True)
    ]
    assert compiled == ["Generator", "PatchDiscriminator", "FeatureExtractor"]
    for plain, ours in zip(*losses, strict=True):
        assert ours == pytest.approx(plain, rel=1e-4)
