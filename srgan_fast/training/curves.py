"""A run's curves and sample images for TensorBoard; the second stage continues the first one's step axis."""

from collections.abc import Mapping
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from srgan_fast.training.config import StageName
from srgan_fast.training.validation import Scores


def curve_step(stage: StageName, step: int, pretrain_steps: int) -> int:
    """Position of a stage's step on the common step axis."""
    return step if stage == "pretrain" else pretrain_steps + step


class Curves:
    """Writes the curves of a run.

    Args:
        folder: output folder of the run.
        pretrain_steps: number of steps of the first stage.
        first: step on the common axis at which the run starts or resumes. Later points, which an interrupted run
            wrote after its last checkpoint, are discarded.
    """

    def __init__(self, folder: Path, pretrain_steps: int, first: int) -> None:
        self._pretrain_steps = pretrain_steps
        self._writer = SummaryWriter(str(folder), purge_step=first + 1)

    def stepped(self, stage: StageName, step: int, figures: Mapping[str, float]) -> None:
        """Writes losses and learning rate of a step."""
        at = curve_step(stage, step, self._pretrain_steps)
        for key, value in figures.items():
            self._writer.add_scalar(f"{stage}/{key}", value, at)

    def validated(self, stage: StageName, step: int, scores: Scores) -> None:
        """Writes figures and sample images of a validation set, with its name as a suffix if it has one."""
        at = curve_step(stage, step, self._pretrain_steps)
        for key, value in scores.figures().items():
            self._writer.add_scalar(f"{stage}/{key}" + (f"/{scores.name}" if scores.name else ""), value, at)
        before = f"{scores.name} " if scores.name else ""
        for number, sample in enumerate(scores.samples):
            tag = f"{stage}/{before}sample{number}: nearest, ours, original"
            self._writer.add_image(tag, sample, at, dataformats="HWC")

    def close(self) -> None:
        """Flushes and closes the event file."""
        self._writer.close()
