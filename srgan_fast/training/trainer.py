"""A training run, from configuration to finished model: puts stages, validation, progress and files together."""

from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from srgan_fast import __version__
from srgan_fast.errors import TrainingError
from srgan_fast.models import PRESETS
from srgan_fast.models.features import FeatureExtractor
from srgan_fast.training import distributed
from srgan_fast.training.averaging import AveragedGenerator
from srgan_fast.training.batches import TrainingBatches
from srgan_fast.training.best import ValidationRecord, candidate, deciding_figure
from srgan_fast.training.checkpoints import RunState, SavedState, first_line
from srgan_fast.training.config import STAGES, StageName, TrainConfig
from srgan_fast.training.curves import curve_step
from srgan_fast.training.execution import Execution, OnNetwork
from srgan_fast.training.figures import NonFiniteLossError
from srgan_fast.training.generators import initial_generator
from srgan_fast.training.interruption import StopRequest
from srgan_fast.training.progress import Observer, TrainingProgress
from srgan_fast.training.provenance import ImageSet, image_set, shared_images
from srgan_fast.training.recipe import build_features, stage_recipe
from srgan_fast.training.run_folder import RunFolder
from srgan_fast.training.stage import Stage
from srgan_fast.training.validation import ValidationSets


@dataclass(frozen=True, slots=True)
class Outcome:
    """Outcome of a run.

    Attributes:
        finished: whether the run is complete; false if it was interrupted and can be resumed.
        model: file of the last averaged generator, if one was written.
        checkpoint: file of the last checkpoint, if there is one.
    """

    finished: bool
    model: Path | None
    checkpoint: Path | None


class Trainer:
    """Executes a run.

    Args:
        config: configuration of the run.
        observer: receiver of the run's progress.
        on_network: called with each network before it is trained or used; for tools that watch or change the weights.

    Attributes:
        rank: rank of this process.
        generator: the trained generator.
        average: its average over the steps, which is validated and saved.
        batches: source of the training batches.
        validation: validation sets; None without validation, and in all processes except the first.

    Raises:
        SrganFastError: data, models or devices of the configuration cannot be used.
    """

    def __init__(self, config: TrainConfig, observer: Observer, on_network: OnNetwork | None = None) -> None:
        self._config = config
        self._execution = Execution.start(config.run, config.data.batch, on_network)
        self.rank = self._execution.rank
        self._progress = TrainingProgress(config, observer if self.rank == 0 else None)
        self._folder = RunFolder(config, self._progress.noted)
        torch.manual_seed(config.run.seed)
        self.generator = self._execution.place_for_training(initial_generator(config.generator))
        # Loaded before the first stage, which may take days, so that missing weights are reported at once.
        self._features = {stage: self._load_features(stage) for stage in STAGES}
        self.average = AveragedGenerator(self.generator, config.run.ema)
        self.batches = TrainingBatches(config, self._execution, self._progress.noted)
        self._images: dict[str, ImageSet] = dict(self.batches.images)
        self.validation = self._open_validation() if self.rank == 0 else None
        self._validated = ValidationRecord()
        self._stop = StopRequest()

    def _load_features(self, name: StageName) -> FeatureExtractor | None:
        section = self._config.stage(name)
        extractor = build_features(section, PRESETS[self._config.generator.preset]) if section.steps else None
        return None if extractor is None else self._execution.place(extractor)

    def _open_validation(self) -> ValidationSets | None:
        folders = self._config.data.validation
        if folders is None:
            return None
        validation = ValidationSets(folders, self._config.generator.scale)
        # Only the first set is recorded: it selects the best model, and others may change between resumed runs.
        self._images["validation"] = image_set([digest for _, digest in validation.sets[0].images])
        for one in validation.sets:
            if line := shared_images(one.images, self.batches.training_images):
                self._progress.noted(f"{one.name}: {line}" if one.name else line)
        return validation

    def run(self, resume: bool = False, force: bool = False) -> Outcome:
        """Executes the stages that have steps.

        Args:
            resume: whether to continue from the newest checkpoint in the output folder; without checkpoints, the run
                starts from the beginning.
            force: whether to resume even if images or seed differ from the checkpoint's.

        Raises:
            TrainingError: the output folder contains another run, the checkpoint does not match the configuration, a
                loss or gradient is not finite, or a checkpoint could not be written.
        """
        if not resume:
            self._folder.check_is_new()
        state = self._folder.state_to_resume(self._images, force) if resume else None
        first = curve_step(state["stage"], state["step"], self._config.pretrain.steps) if state else 0
        with self._stop.listening():
            if self.rank == 0:
                self._folder.write_config()
            with self._progress.recording(first):
                finished = self._run_stages(state)
        return Outcome(finished, self._folder.model, self._folder.checkpoint)

    def _run_stages(self, state: SavedState | None) -> bool:
        """Executes the stages from a checkpoint's on; returns false if the run was interrupted."""
        done = STAGES.index(state["stage"]) if state is not None else 0
        for name in STAGES[done:]:
            of_stage = state if state is not None and state["stage"] == name else None
            if self._config.stage(name).steps and not self._run_stage(name, of_stage):
                return False
        return True

    def _run_stage(self, name: StageName, state: SavedState | None) -> bool:
        """Executes one stage; returns false if it was interrupted."""
        if name == "gan" and state is None:
            # The adversarial stage starts from the averaged weights, which are the better model.
            self.generator.load_state_dict(self.average.module.state_dict())
        stage = Stage(name, self._config, self.generator, self._features[name], self.average, self._execution)
        done = 0 if state is None else self._restore(stage, state)
        self._progress.started(name, done)
        if self.rank == 0 and state is not None:
            # The run may have been interrupted between writing the checkpoint and the model.
            self._save_model(name, done)
        try:
            with closing(stage.run(done, partial(self.batches.load, name))) as steps:
                for step in steps:
                    done = step.number
                    self._progress.stepped(name, step)
                    stopping = distributed.any_process(self._stop.received)
                    self._validate_and_save(stage, done, stopping)
                    if stopping and done < stage.section.steps:
                        return False
        except NonFiniteLossError as error:
            raise TrainingError(
                f"{name} step {done + 1}: {error}; the run stops. Last good checkpoint: "
                f"{self._folder.checkpoint or 'none yet'}. A lower learning rate or run.clip helps; with bf16, try "
                f"run.precision=fp32"
            ) from None
        return True

    def _restore(self, stage: Stage, state: SavedState) -> int:
        """Restores networks and figures; returns the number of finished steps."""
        try:
            stage.restore(state)
        except (KeyError, RuntimeError, ValueError) as error:
            reason = first_line(error)
            raise TrainingError(f"{self._folder.checkpoint}: belongs to other networks ({reason})") from None
        self._validated = ValidationRecord.from_state(state)
        return state["step"]

    def _validate_and_save(self, stage: Stage, done: int, stopping: bool) -> None:
        run, last = self._config.run, done == stage.section.steps
        if self.validation is not None and (done % run.validate_every == 0 or last):
            self._validate(stage.name, done, self.validation)
        if self.rank == 0 and (done % run.save_every == 0 or last or stopping):
            state: RunState = {
                **stage.state(),
                "config": self._config.model_dump_json(),
                **self._validated.state(),
                "version": __version__,
                "pictures": self._images,
            }
            self._folder.save_checkpoint(stage.name, done, state)
            self._save_model(stage.name, done)

    def _validate(self, name: StageName, done: int, validation: ValidationSets) -> None:
        all_scores = validation(self.average.module)
        for scores in all_scores:
            self._progress.validated(name, done, scores)
        recipe = stage_recipe(self._config.stage(name), PRESETS[self._config.generator.preset])
        figure = deciding_figure(recipe, adversarial=name == "gan")
        found = candidate(name, done, all_scores[0], self._config.data.first_validation, figure)
        if self._validated.add(all_scores[0], found):
            self._save_model(name, done, best=True)

    def _save_model(self, name: StageName, done: int, best: bool = False) -> None:
        self._folder.save_model(self.average.module, name, done, self._validated.metadata(), best)
