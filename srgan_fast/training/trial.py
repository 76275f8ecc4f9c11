"""A trial run on synthetic images that times the trainer's steps, including data, averaging and CUDA graphs."""

import statistics
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from srgan_fast.data.images import Image, write_image
from srgan_fast.training.config import TrainConfig
from srgan_fast.training.progress import SilentObserver
from srgan_fast.training.trainer import Trainer

STEPS = 30
_IMAGES = 8
_COUNTED = 0.5  # share of the steps that is timed, at the end: before it, algorithms are chosen and steps recorded


class _StepTimes(SilentObserver):
    """Records the time at which each step finished."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def stepped(self, step: int, rate: float, losses: dict[str, float]) -> None:
        """See `Observer`."""
        self.ends.append(time.perf_counter())


def made_up_images(folder: Path, count: int = _IMAGES, side: int = 384) -> list[Path]:
    """Writes square images of smooth noise as PNG files; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    random, paths = np.random.default_rng(0), []
    for number in range(count):
        coarse = torch.from_numpy(random.random((1, 3, side // 8, side // 8), np.float32))
        smooth = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic").clamp(0, 1)
        path = folder / f"{number}.png"
        write_image(path, Image((smooth[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)))
        paths.append(path)
    return paths


def time_trainer(
    folder: Path, device: torch.device, batch: int, crop: int, steps: int = STEPS, blocks: int = 16
) -> dict[str, Any]:
    """Times adversarial training in bf16 with `kernels=auto` and the preset `paper`.

    Args:
        folder: folder for the images and the run.
        device: `cpu` or the current CUDA device.
        batch: batch size.
        crop: side of the high-resolution crops.
        steps: number of steps; the median is taken over the second half.
        blocks: number of residual blocks of the generator.

    Returns:
        `steps`, `batch`, median seconds per step (`step_s`), `images_per_s`, and the maximum device memory that PyTorch
        reserved (`peak_mb`, 10^6 bytes; None on a CPU).
    """
    made_up_images(folder / "images")
    sections = {
        "generator": {"blocks": blocks},
        "data": {"train": folder / "images", "batch": batch, "crop": crop, "degradations": {"noise": (1, 5)}},
        "gan": {"steps": steps, "features": {"weights": "random"}},
        "run": {"output": folder / "run", "device": device.type, "precision": "bf16"},
    }
    watcher = _StepTimes()
    Trainer(TrainConfig.model_validate(sections), watcher).run()
    counted = watcher.ends[-max(2, round(steps * _COUNTED)) :]
    taken = [after - before for before, after in pairwise(counted)]
    peak = torch.cuda.max_memory_reserved() / 1e6 if device.type == "cuda" else None
    seconds = statistics.median(taken)
    return {"steps": steps, "step_s": seconds, "images_per_s": batch / seconds, "batch": batch, "peak_mb": peak}
