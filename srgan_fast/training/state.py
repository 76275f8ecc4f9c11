"""Checkpoints of a run: everything that the next step depends on, written atomically, the last few kept."""

import os
import re
from pathlib import Path
from typing import Any

import torch

from srgan_fast.errors import FileError, TrainingError
from srgan_fast.files import atomic_write

FORMAT = "srgan_fast.training/1"


class CheckpointFolder:
    """The checkpoints of one run, named by stage and step.

    Args:
        folder: of the run; checkpoints lie in `checkpoints` inside it.
        keep: how many.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder = folder / "checkpoints"
        self.keep = keep

    def list(self) -> list[Path]:
        """Complete checkpoints, oldest first."""
        found = [(re.fullmatch(r"(\d+)-\w+-(\d+)\.pt", path.name), path) for path in self.folder.glob("*.pt")]
        return [path for _, path in sorted(((int(m[1]), int(m[2])), path) for m, path in found if m)]

    def save(self, order: int, stage: str, step: int, state: dict[str, Any]) -> Path:
        """Writes a checkpoint and removes the oldest beyond `keep`.

        Args:
            order: number of the stage in the run.
            stage: its name.
            step: number of finished steps in it.
            state: tensors, numbers, text, and dictionaries and lists of them.

        Raises:
            TrainingError: it cannot be written; those that were there stay.
        """
        path = self.folder / f"{order}-{stage}-{step:08d}.pt"
        try:
            with atomic_write(path) as file:
                torch.save({**state, "format": FORMAT, "stage": stage, "step": step}, file)
                file.flush()
                os.fsync(file.fileno())
        except (FileError, RuntimeError) as error:  # torch wraps a full disk into a RuntimeError
            kept = self.list()
            last = f"the last good checkpoint is {kept[-1]}" if kept else "there is no earlier one"
            reason = first_line(error)
            raise TrainingError(f"checkpoint {path.name} could not be saved ({reason}); {last}") from None
        for old in self.list()[: -self.keep]:
            old.unlink(missing_ok=True)
        return path

    def load_latest(self) -> tuple[Path, dict[str, Any]] | None:
        """The newest readable checkpoint; None if there are none at all.

        Raises:
            TrainingError: there are some, but none can be read.
        """
        problems: list[str] = []
        for path in reversed(self.list()):
            try:
                state = torch.load(path, map_location="cpu", weights_only=True)
                if isinstance(state, dict) and state.get("format") == FORMAT:
                    return path, state
                problems.append(f"{path.name} is no checkpoint of ours")
            except Exception as error:  # whatever the reader raises: the file is of no use
                problems.append(f"{path.name} is damaged ({first_line(error)[:80]})")
        if problems:
            raise TrainingError(f"{self.folder}: no checkpoint can be read: {'; '.join(problems)}")
        return None


def first_line(error: BaseException) -> str:
    """What an exception says, in one line; its kind if it says nothing."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__
