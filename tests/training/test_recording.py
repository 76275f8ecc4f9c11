"""The trainer's steps are recorded as CUDA graphs while its feeder copies, and train what they would have trained."""

import logging
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from srgan_fast.training import TrainConfig, Trainer, batches, feeding, stage
from srgan_fast.training.graphs import WARM_UP, CapturedStep
from srgan_fast.training.validation import to_batch

from ..stand_in import StandIn
from .conftest import MakeConfig, Recorder, conduct, differing

STEPS = WARM_UP + 4
DEGRADATIONS = {"noise": (0.0, 5.0), "jpeg": (60, 90)}


def _config(make_config: MakeConfig, output: Path, kernels: str = "reference", device: str = "cpu") -> TrainConfig:
    return make_config(
        data={"degradations": DEGRADATIONS},
        pretrain={"steps": STEPS},
        gan={"steps": STEPS},
        run={"output": str(output), "kernels": kernels, "device": device},
    )


def _state(folder: Path) -> dict[str, Any]:
    newest = sorted((folder / "checkpoints").glob("1-gan-*.pt"))[-1]
    state = torch.load(newest, weights_only=True)
    return {key: state[key] for key in ("networks", "optimisers", "average", "step")}


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    made = StandIn(monkeypatch)
    monkeypatch.setattr(stage, "can_record", lambda device, processes: True)
    monkeypatch.setattr(feeding, "feeding_stream", torch.cuda.Stream)
    loaded = 0

    def copied(images: Any, device: torch.device) -> Tensor:
        nonlocal loaded
        loaded += 1
        # The step that is recorded is under way when the feeder has loaded the next one's crops.
        made.holds_copies = loaded == 2 * (WARM_UP + 1) + 1
        made.copy()
        return to_batch(images, device)

    monkeypatch.setattr(batches, "to_batch", copied)
    return made


@pytest.mark.usefixtures("_narrow")
@pytest.mark.parametrize("kernels", ["reference", "fused"])
def test_a_run_is_recorded_while_its_feeder_copies_and_trains_the_same_bits(
    make_config: MakeConfig, tmp_path: Path, stand_in: StandIn, kernels: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in.awaits_copy = True
    assert conduct(_config(make_config, tmp_path / "recorded", kernels)).finished
    assert stand_in.modes == ["thread_local"] * 2
    assert [graph.replays for graph in stand_in.graphs] == [STEPS - WARM_UP] * 2
    # For each stage a stream of the feeder's and one for what is not replayed, and nothing on the default one.
    assert len(stand_in.streams) == 4
    assert stand_in.copied_on <= set(stand_in.streams)
    assert len(stand_in.copied_on) == 2
    assert stand_in.current() is stand_in.default

    monkeypatch.setattr(stage, "can_record", lambda device, processes: False)
    monkeypatch.setattr(batches, "to_batch", to_batch)
    asked: list[str] = []
    monkeypatch.setattr(stage, "fastest_algorithms", lambda device: (asked.append(device.type), nullcontext())[1])
    assert conduct(_config(make_config, tmp_path / "plain", kernels)).finished
    assert differing(_state(tmp_path / "recorded"), _state(tmp_path / "plain")) == []
    assert asked == ["cpu"] * 2 * STEPS


@pytest.mark.usefixtures("_narrow")
def test_a_recording_that_fails_leaves_the_stream_and_the_run_as_they_were(
    make_config: MakeConfig, tmp_path: Path, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setattr(batches, "to_batch", to_batch)
    original = stage.PretrainStep.compute

    def fetches(self: Any, batches: Any) -> Any:
        figures = original(self, batches)
        figures.values.sum().item()
        return figures

    monkeypatch.setattr(stage.PretrainStep, "compute", fetches)
    with caplog.at_level(logging.WARNING, "srgan_fast.training"):
        assert conduct(_config(make_config, tmp_path / "run")).finished
    (line,) = [message for message in caplog.messages if "cannot be recorded" in message]
    assert "not permitted when stream is capturing" in line
    assert stand_in.current() is stand_in.default
    assert [graph.replays for graph in stand_in.graphs] == [0, STEPS - WARM_UP]


def test_images_go_to_a_gpu_from_pinned_memory_without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setattr(Tensor, "pin_memory", lambda self: (done.append("pinned"), self)[1])

    def to(self: Tensor, *args: Any, non_blocking: bool = False) -> Tensor:
        if isinstance(args[0], torch.device):
            done.append(f"to {args[0].type}, non_blocking={non_blocking}")
        return self.float()

    monkeypatch.setattr(Tensor, "to", to)
    to_batch(np.zeros((1, 4, 4, 3), np.uint8), torch.device("cuda", 0))
    assert done == ["pinned", "to cuda, non_blocking=True"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("kernels", ["reference", "auto"])
def test_a_run_on_a_gpu_is_recorded_while_its_feeder_copies(
    make_config: MakeConfig, tmp_path: Path, kernels: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[CapturedStep] = []

    class Noted(CapturedStep):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            made.append(self)

    monkeypatch.setattr(stage, "CapturedStep", Noted)
    assert Trainer(_config(make_config, tmp_path / "run", kernels, "cuda"), Recorder()).run().finished
    assert [step._recording is not None for step in made] == [True, True]
