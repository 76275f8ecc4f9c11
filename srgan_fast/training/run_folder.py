"""The output folder of a run: its configuration, checkpoints and models."""

from collections.abc import Callable
from pathlib import Path

from torch import nn

from srgan_fast.errors import TrainingError
from srgan_fast.models import save_generator
from srgan_fast.models.generator import Generator
from srgan_fast.models.network_generator import NetworkGenerator, save_network_generator
from srgan_fast.training.checkpoints import CheckpointFolder, RunState, SavedState
from srgan_fast.training.config import STAGES, StageName, TrainConfig
from srgan_fast.training.provenance import ImageSets
from srgan_fast.training.resuming import check_resumable


class RunFolder:
    """Reads and writes the files of a run.

    Args:
        config: configuration of the run.
        on_note: called with messages for the user.

    Attributes:
        checkpoint: file of the newest checkpoint that was written or loaded, if there is one.
        model: file of the last averaged generator, if one was written.
    """

    def __init__(self, config: TrainConfig, on_note: Callable[[str], None]) -> None:
        self._config, self._noted = config, on_note
        self._path = config.run.output
        self._checkpoints = CheckpointFolder(self._path, config.run.keep)
        self.checkpoint: Path | None = None
        self.model: Path | None = None

    def state_to_resume(self, images: ImageSets, force: bool) -> SavedState | None:
        """Content of the newest checkpoint; None if there is none.

        Args:
            images: record of the images in the run's folders.
            force: whether images and seed may differ from the checkpoint's.

        Raises:
            TrainingError: no checkpoint can be read, or the newest does not match the configuration.
        """
        found = self._checkpoints.load_latest(self._noted)
        if found is None:
            self._noted(f"no checkpoint in {self._path}, starting from the beginning")
            return None
        path, state = found
        different = check_resumable(path, state, self._config, images)
        if different and not force:
            raise TrainingError(
                f"{path} was made with other data: {'; '.join(different)}. To continue anyway: --resume --force"
            )
        for line in different:
            self._noted(f"continuing although {line}")
        self.checkpoint = path
        return state

    def check_is_new(self) -> None:
        """Checks that the folder contains no run.

        Raises:
            TrainingError: it contains checkpoints.
        """
        if self._checkpoints.list():
            raise TrainingError(
                f"{self._path} already contains a run; use --resume to continue it, or another run.output"
            )

    def write_config(self) -> None:
        """Creates the folder, and writes the configuration to `config.json`.

        Raises:
            TrainingError: the folder cannot be written.
        """
        try:
            self._path.mkdir(parents=True, exist_ok=True)
            (self._path / "config.json").write_text(self._config.model_dump_json(indent=2) + "\n")
        except OSError as error:
            raise TrainingError(f"run.output: {self._path} cannot be written ({error.strerror})") from None

    def save_checkpoint(self, stage: StageName, step: int, state: RunState) -> None:
        """Writes a checkpoint after `step` steps of a stage.

        Raises:
            TrainingError: it cannot be written; existing checkpoints are kept.
        """
        self.checkpoint = self._checkpoints.save(STAGES.index(stage), stage, step, state)

    def save_model(
        self, network: nn.Module, stage: StageName, step: int, figures: dict[str, str], best: bool = False
    ) -> None:
        """Writes a generator as a model file.

        Args:
            network: generator; `Generator` or `NetworkGenerator`.
            stage: name of the stage.
            step: number of finished steps of the stage.
            figures: additional metadata, the latest figures of the validation.
            best: whether to write it as the stage's best model; otherwise as its last one.
        """
        data = self._config.data
        metadata = {
            **self._config.run.metadata,
            "stage": stage,
            "steps": str(step),
            "batch": f"{data.batch} crops of {data.crop}x{data.crop}",
            **figures,
        }
        path = self._path / (f"{stage}-best.safetensors" if best else f"{stage}.safetensors")
        if not best:
            self.model = path
        if isinstance(network, Generator):
            save_generator(network, path, self._config.generator.preset, metadata)
        elif isinstance(network, NetworkGenerator):
            save_network_generator(network, path, metadata)
