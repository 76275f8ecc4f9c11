"""A trial run times the trainer itself, on images that it makes."""

from pathlib import Path

import numpy as np
import pytest
import torch

from srgan_fast.data.images import read_image
from srgan_fast.training import trial
from srgan_fast.training.config import TrainConfig
from srgan_fast.training.trial import made_up_images, time_trainer


def test_made_up_images_are_smooth_differ_and_are_the_same_every_time(tmp_path: Path) -> None:
    paths = made_up_images(tmp_path / "a", 2, 64)
    images = [read_image(path).pixels.astype(int) for path in paths]
    assert [image.shape for image in images] == [(64, 64, 3)] * 2
    assert np.ptp(images[0]) > 100
    assert np.abs(np.diff(images[0], axis=0)).mean() < 20
    assert not np.array_equal(*images)
    again = made_up_images(tmp_path / "b", 2, 64)
    assert [path.read_bytes() for path in paths] == [path.read_bytes() for path in again]


def test_the_median_is_of_the_second_half_of_the_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ends = iter([1.0, 4.0, 7.0, 7.5, 8.0, 8.5])
    given: list[TrainConfig] = []

    class Trainer:
        def __init__(self, config: TrainConfig, observer: trial._StepTimes) -> None:
            given.append(config)
            self.observer = observer

        def run(self) -> None:
            self.observer.ends += list(ends)

    monkeypatch.setattr(trial, "Trainer", Trainer)
    found = time_trainer(tmp_path, torch.device("cpu"), batch=4, crop=32, steps=6, blocks=1)
    assert found == {"steps": 6, "step_s": 0.5, "images_per_s": 8.0, "batch": 4, "peak_mb": None}
    (config,) = given
    assert (config.run.kernels, config.run.precision, config.run.graphs) == ("auto", "bf16", True)
    assert (config.gan.steps, config.gan.features.weights, config.data.batch) == (6, "random", 4)
    assert config.data.degradations.noise[1] > 0
