"""Checkpoints of a run: everything that the next step depends on, written atomically; the last few are kept.

A file is the output of torch.save, which torch.load reads, followed by its SHA-256: without the checksum, weights with
flipped bits would be loaded and trained on unnoticed.
"""

import hashlib
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NotRequired, TypedDict, cast

import torch
from torch import Tensor

from srgan_fast.errors import FileError, TrainingError
from srgan_fast.files import atomic_write
from srgan_fast.training.config import StageName
from srgan_fast.training.provenance import ImageSet

FORMAT = "srgan_fast.training/1"

_SEAL = b"srgan_fast/sha256"  # marker before the digest, which ends the file
_SEALED = "sealed"  # key of states whose file must have a checksum; older checkpoints have neither
_PIECE = 1 << 20


class StageState(TypedDict):
    """State of the networks and optimisers of a stage.

    Attributes:
        networks: state of each network.
        optimisers: state of each network's optimiser.
        average: state of the averaged generator.
    """

    networks: dict[str, dict[str, Tensor]]
    optimisers: dict[str, dict[str, Any]]
    average: dict[str, Tensor]


class ValidationState(TypedDict):
    """Figures of the validation; older checkpoints lack them.

    Attributes:
        psnr: latest PSNR of luma.
        st_lpips: latest ST-LPIPS.
        best: fields of `best.Best`.
    """

    psnr: NotRequired[float | None]
    st_lpips: NotRequired[float | None]
    best: NotRequired[dict[str, Any] | None]


class RunState(StageState, ValidationState):
    """State of a run.

    Attributes:
        config: configuration, as JSON.
        version: version of srgan_fast.
        pictures: images in the run's folders; older checkpoints lack them.
    """

    config: str
    version: str
    pictures: NotRequired[dict[str, ImageSet]]


class SavedState(RunState):
    """Content of a checkpoint.

    Attributes:
        stage: name of the stage.
        step: number of finished steps of the stage.
    """

    stage: StageName
    step: int


class CheckpointFolder:
    """The checkpoints of one run, named by stage and step.

    Args:
        folder: output folder of the run; checkpoints are in its subfolder `checkpoints`.
        keep: number of checkpoints to keep.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder = folder / "checkpoints"
        self.keep = keep

    def list(self) -> list[Path]:
        """Complete checkpoints, oldest first."""
        found = [(re.fullmatch(r"(\d+)-\w+-(\d+)\.pt", path.name), path) for path in self.folder.glob("*.pt")]
        return [path for _, path in sorted(((int(m[1]), int(m[2])), path) for m, path in found if m)]

    def save(self, order: int, stage: str, step: int, state: Mapping[str, Any]) -> Path:
        """Writes a checkpoint, then removes the oldest ones so that `keep` remain.

        Args:
            order: index of the stage in the run.
            stage: name of the stage.
            step: number of finished steps of the stage.
            state: tensors, numbers, text, and dictionaries and lists of them.

        Raises:
            TrainingError: it cannot be written; existing checkpoints are kept.
        """
        path = self.folder / f"{order}-{stage}-{step:08d}.pt"
        try:
            with atomic_write(path) as file:
                sealed = _Sealed(file)
                torch.save(
                    {**state, "format": FORMAT, "stage": stage, "step": step, _SEALED: True}, cast(BinaryIO, sealed)
                )
                sealed.finish()
                file.flush()
                os.fsync(file.fileno())
        except (FileError, RuntimeError) as error:  # torch wraps a full disk into a RuntimeError
            kept = self.list()
            last = f"the last good checkpoint is {kept[-1]}" if kept else "there is no earlier one"
            reason = first_line(error)
            raise TrainingError(f"checkpoint {path.name} could not be saved ({reason}); {last}") from None
        kept = self.list()
        # Checkpoints after this one are damaged and were skipped on resuming, so they do not count towards `keep`.
        for old in kept[: max(0, kept.index(path) + 1 - self.keep)]:
            old.unlink(missing_ok=True)
        return path

    def load_latest(self, on_problem: Callable[[str], None] | None = None) -> tuple[Path, SavedState] | None:
        """The newest undamaged checkpoint; None if there are no checkpoints.

        Args:
            on_problem: called with one line for each checkpoint that is skipped.

        Raises:
            TrainingError: there are checkpoints, but none can be read.
        """
        problems: list[str] = []
        for path in reversed(self.list()):
            try:
                has_seal = _check_seal(path)
                state = torch.load(path, map_location="cpu", weights_only=True)
                if not isinstance(state, dict) or state.get("format") != FORMAT:
                    problem = "is not a checkpoint of srgan_fast"
                elif state.pop(_SEALED, False) and not has_seal:
                    problem = "is damaged (its checksum is missing)"
                else:
                    if on_problem is not None:
                        for line in problems:
                            on_problem(f"checkpoint {line}; continuing from the previous one")
                    return path, cast(SavedState, state)
            except Exception as error:  # torch.load raises many types; in each case the file is unusable
                problem = f"is damaged ({first_line(error)[:80]})"
            problems.append(f"{path.name} {problem}")
        if problems:
            raise TrainingError(f"{self.folder}: no checkpoint can be read: {'; '.join(problems)}")
        return None


class _Sealed:
    """A file for torch.save that appends a checksum of its content.

    Args:
        file: output file, at its beginning.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._digest = file, hashlib.sha256()

    def write(self, data: Any) -> int:
        """Writes data, as `BinaryIO.write`."""
        self._digest.update(data)
        return self._file.write(data)

    def flush(self) -> None:
        """Flushes, as `BinaryIO.flush`."""
        self._file.flush()

    def finish(self) -> None:
        """Appends the checksum."""
        self._file.write(_SEAL + self._digest.digest())


def _check_seal(path: Path) -> bool:
    """Whether a file has a checksum; if so, verifies it.

    Raises:
        ValueError: the checksum does not match the content.
        OSError: the file cannot be read.
    """
    digest = hashlib.sha256()
    length = len(_SEAL) + digest.digest_size
    with path.open("rb") as file:
        left = max(0, path.stat().st_size - length)
        while left and (piece := file.read(min(left, _PIECE))):
            digest.update(piece)
            left -= len(piece)
        seal = file.read(length)
    if not seal.startswith(_SEAL):
        return False
    if seal[len(_SEAL) :] != digest.digest():
        raise ValueError("its checksum does not match")
    return True


def first_line(error: BaseException) -> str:
    """First line of an exception's message; its type if the message is empty."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__
