"""Tiny runs: a few images, a configuration that takes milliseconds a step, and an observer that remembers."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from srgan_fast.data.images import Image, read_image, write_image
from srgan_fast.data.resize import downscale
from srgan_fast.models import discriminator, features
from srgan_fast.training import Outcome, TrainConfig, Trainer
from srgan_fast.training.validation import Scores

Sections = dict[str, dict[str, Any]]
MakeConfig = Callable[..., TrainConfig]


class Recorder:
    """Remembers what it is told, and may interrupt the run as a person would.

    Args:
        interrupt_at: stage and number of finished steps after which SIGTERM is sent.
    """

    def __init__(self, interrupt_at: tuple[str, int] | None = None) -> None:
        self.interrupt_at = interrupt_at
        self.starts: list[tuple[str, int, int]] = []
        self.steps: list[tuple[str, int, dict[str, float]]] = []
        self.validations: list[tuple[str, int, float, float]] = []
        self.scores: list[Scores] = []
        self.notes: list[str] = []
        self.on_step: Callable[[str, int], None] | None = None
        self.on_start: Callable[[str], object] | None = None

    def started(self, stage: str, step: int, steps: int) -> None:
        self.starts.append((stage, step, steps))
        if self.on_start is not None:
            self.on_start(stage)

    def stepped(self, step: int, rate: float, losses: dict[str, float]) -> None:
        stage = self.starts[-1][0]
        self.steps.append((stage, step, losses))
        if self.on_step is not None:
            self.on_step(stage, step)
        if self.interrupt_at == (stage, step):
            os.kill(os.getpid(), signal.SIGTERM)

    def validated(self, step: int, scores: Scores) -> None:
        self.validations.append((self.starts[-1][0], step, scores.psnr_y, scores.ssim_y))
        self.scores.append(scores)

    def noted(self, text: str) -> None:
        self.notes.append(text)


def conduct(config: TrainConfig, recorder: Recorder | None = None, resume: bool = False) -> Outcome:
    return Trainer(config, recorder or Recorder()).run(resume)


@pytest.fixture
def float64() -> Iterator[None]:
    """Everything that is built meanwhile computes in float64."""
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """The same random numbers for every test; and a step that takes a millisecond gains nothing from more threads."""
    torch.manual_seed(0)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory, photo: NDArray[np.uint8]) -> Path:
    """A folder of three images to train on."""
    folder = tmp_path_factory.mktemp("pictures")
    for number, (top, left) in enumerate([(0, 100), (200, 150), (300, 50)]):
        write_image(folder / f"{number}.png", Image(photo[top : top + 80, left : left + 96]))
    return folder


@pytest.fixture(scope="session")
def targets(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Path:
    """What a stronger network might have made of the images, in files of another kind."""
    folder = tmp_path_factory.mktemp("targets")
    for path in pictures.iterdir():
        smoother = read_image(path).pixels // 16 * 16
        write_image(folder / f"{path.stem}.webp", Image(smoother), quality=100)
    return folder


@pytest.fixture(scope="session")
def low_resolution(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Path:
    """The images at a quarter of their size, darker than shrinking would make them."""
    folder = tmp_path_factory.mktemp("low")
    for path in pictures.iterdir():
        write_image(folder / f"{path.stem}x4.png", Image(downscale(read_image(path).pixels, 4) // 2))
    return folder


@pytest.fixture(scope="session")
def originals(tmp_path_factory: pytest.TempPathFactory, photo: NDArray[np.uint8]) -> Path:
    """A folder of one image to validate on."""
    folder = tmp_path_factory.mktemp("originals")
    write_image(folder / "original.png", Image(photo[50:98, 200:252]))
    return folder


def tiny_sections(pictures: Path, output: Path) -> Sections:
    """A run of 3 + 3 steps of a small network, without a download."""
    return {
        "generator": {"channels": 8, "blocks": 2},
        "data": {"train": str(pictures), "crop": 32, "batch": 2},
        "pretrain": {"steps": 3, "learning_rate": 1e-3},
        "gan": {"steps": 3, "discriminator": "patch", "features": {"weights": "random", "cut": "features[:4]"}},
        "run": {"output": str(output), "device": "cpu", "log_every": 1, "ema": 0.5},
    }


@pytest.fixture
def make_config(pictures: Path, tmp_path: Path) -> MakeConfig:
    """The tiny run with other settings, e.g. `make_config(gan={"steps": 0})`."""

    def make(**changes: dict[str, Any]) -> TrainConfig:
        sections = tiny_sections(pictures, tmp_path / "run")
        for section, values in changes.items():
            sections[section] = {**sections[section], **values}
        return TrainConfig.model_validate(sections)

    return make


@pytest.fixture
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Discriminators and VGGs of the usual layers with few channels: quick to train and small to save."""
    monkeypatch.setattr(discriminator, "TRUNK_WIDTHS", (8, 8, 8, 8, 16, 16, 16, 16))
    monkeypatch.setattr(discriminator, "UNET_WIDTH", 8)
    monkeypatch.setattr(features, "_WIDTHS", (8, 8, 8, 16, 16))


def differing(ours: Any, theirs: Any, place: str = "") -> list[str]:
    """Places where two nests of dictionaries, lists and tensors are not equal bit for bit."""
    if isinstance(ours, Tensor):
        return [] if ours.dtype == theirs.dtype and torch.equal(ours, theirs) else [place]
    if isinstance(ours, dict):
        keys = [] if ours.keys() == theirs.keys() else [f"{place}: {sorted(map(str, ours.keys() ^ theirs.keys()))}"]
        return keys + [
            x for key in ours.keys() & theirs.keys() for x in differing(ours[key], theirs[key], f"{place}.{key}")
        ]
    if isinstance(ours, list | tuple):
        pairs = enumerate(zip(ours, theirs, strict=True))
        return [x for number, (a, b) in pairs for x in differing(a, b, f"{place}[{number}]")]
    return [] if ours == theirs else [place]
