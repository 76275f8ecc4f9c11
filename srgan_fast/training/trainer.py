"""A training run, from configuration to finished model: stages, checkpoints, validation, curves, interruption."""

import json
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Literal, Protocol, TypeVar

import torch
from torch import nn
from torch.optim import Adam

from srgan_fast import __version__
from srgan_fast.data.cache import open_cache
from srgan_fast.data.companions import Companions, open_low_resolution, open_targets
from srgan_fast.data.crops import CropSampler
from srgan_fast.data.degradations import Degradations
from srgan_fast.data.second_order import Round, SecondOrder
from srgan_fast.errors import DataError, ModelError, TrainingError
from srgan_fast.models import PRESETS, GeneratorConfig, generator_config, load_generator, save_generator
from srgan_fast.models.discriminator import build_discriminator
from srgan_fast.models.features import FeatureExtractor
from srgan_fast.models.generator import Generator
from srgan_fast.models.initialisation import start_as_upscaler, why_no_upscaler
from srgan_fast.models.network_generator import (
    NetworkGenerator,
    fresh_generator,
    load_network_generator,
    save_network_generator,
)
from srgan_fast.ops import use_kernels
from srgan_fast.training import distributed
from srgan_fast.training.averaging import AveragedGenerator
from srgan_fast.training.best import Best, candidate, deciding_figure
from srgan_fast.training.config import (
    Betas,
    DegradationSection,
    GanSection,
    GeneratorSection,
    PretrainSection,
    StageName,
    TrainConfig,
)
from srgan_fast.training.curves import Curves, curve_step
from srgan_fast.training.feeding import prefetched
from srgan_fast.training.graphs import CapturedStep, can_record, fastest_algorithms
from srgan_fast.training.memory import keep_freed_memory
from srgan_fast.training.provenance import FOLDERS, image_set, shared_images, what_differs
from srgan_fast.training.recipe import build_features, stage_recipe
from srgan_fast.training.schedule import learning_rate
from srgan_fast.training.state import CheckpointFolder, first_line
from srgan_fast.training.step import Batch, GanStep, NonFiniteLossError, PretrainStep, StepOptions
from srgan_fast.training.validation import Scores, ValidationSets, to_batch

_Network = TypeVar("_Network", bound=nn.Module)


class Observer(Protocol):
    """Receives a run's progress; the command line's observer shows a live line."""

    def started(self, stage: str, step: int, steps: int) -> None:
        """A stage starts or resumes at `step` of `steps`."""

    def stepped(self, step: int, rate: float, losses: dict[str, float]) -> None:
        """Step number `step` was finished; `rate` is the speed in images per second."""

    def validated(self, step: int, scores: Scores) -> None:
        """The averaged generator was measured after `step` steps; called for each validation set."""

    def noted(self, text: str) -> None:
        """A message for the user."""


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


class _Stopper:
    """Turns SIGINT and SIGTERM into a request to stop, which the training loop checks after each step."""

    def __init__(self) -> None:
        self.requested = False

    def _request(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:  # a second Ctrl-C stops at once
            raise KeyboardInterrupt
        self.requested = True

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Context in which the signals are caught."""
        before = {number: signal.signal(number, self._request) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class Trainer:
    """Executes a run.

    Args:
        config: configuration of the run.
        observer: receiver of the run's progress.

    Raises:
        SrganFastError: data, models or devices of the configuration cannot be used.
    """

    def __init__(self, config: TrainConfig, observer: Observer) -> None:
        self.config, self.observer = config, observer
        self.rank, self.world = distributed.start()
        run, data = config.run, config.data
        parts = self.world * run.accumulate
        if data.batch % parts:
            raise TrainingError(
                f"data.batch is {data.batch}; it must be a multiple of {parts}, the number of processes times run.accumulate"
            )
        if run.threads:
            torch.set_num_threads(run.threads)
        self.device = _device(run.device)
        if self.device.type == "cpu":
            keep_freed_memory()
        self.folder = run.output
        self.checkpoints = CheckpointFolder(self.folder, run.keep)
        torch.manual_seed(run.seed)
        self.generator = self._build_generator()
        distributed.broadcast_module(self.generator)
        distributed.share_batchnorm(self.generator)
        # Loaded before the first stage, which may take days, so that missing weights are reported at once.
        self.features: dict[StageName, FeatureExtractor | None] = {
            "pretrain": self._features(config.pretrain),
            "gan": self._features(config.gan),
        }
        self.average = AveragedGenerator(self.generator, run.ema)
        self.sampler = self._build_sampler()
        self.validation = None
        if data.validation is not None and self.rank == 0:
            self.validation = ValidationSets(data.validation, config.generator.scale)
            self._note_validation(self.validation)
        self.last_psnr: float | None = None
        self.last_st_lpips: float | None = None
        self.best: Best | None = None
        self._stopper = _Stopper()
        self._times: deque[float] = deque(maxlen=21)
        self._model: Path | None = None
        self._checkpoint: Path | None = None

    def _noted(self, text: str) -> None:
        if self.rank == 0:
            self.observer.noted(text)

    def _build_generator(self) -> Generator | NetworkGenerator:
        section = self.config.generator
        generator = _network_generator(section) or _srgan_generator(section)
        generator.recompute = section.checkpointing
        return self._placed(generator).train()

    def _build_sampler(self) -> CropSampler:
        data = self.config.data
        noted = self._noted
        cache, scale = open_cache(data.train, on_note=noted), self.config.generator.scale
        targets = _companions("targets", data.targets, partial(open_targets, cache, on_note=noted))
        low = _companions("lr", data.lr, partial(open_low_resolution, cache, scale=scale, on_note=noted))
        sampler = CropSampler(
            cache,
            data.crop,
            scale,
            data.batch,
            self.config.run.seed,
            _degradations(data.degradations),
            targets,
            low,
        )
        self.training_images = cache.images
        self.images = {"train": image_set(cache.digests())}
        self.images |= {n: image_set(c.digests()) for n, c in (("targets", targets), ("lr", low)) if c is not None}
        noted(f"{len(cache)} images in {data.train}")
        for line in cache.skipped:
            noted(f"skipped: {line}")
        if sampler.too_small:
            first = ", ".join(sampler.too_small[:3])
            noted(f"{len(sampler.too_small)} images are smaller than a crop and were skipped: {first}")
        return sampler

    def _note_validation(self, validation: ValidationSets) -> None:
        # Only the first set is recorded: it selects the best model, and others may change between resumed runs.
        self.images["validation"] = image_set([digest for _, digest in validation.sets[0].images])
        for one in validation.sets:
            if line := shared_images(one.images, self.training_images):
                self._noted(line if not one.name else f"{one.name}: {line}")

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
        # A stage's index names its checkpoints and seeds its crops, so it is the same if the other stage is skipped.
        stages: tuple[tuple[StageName, int], ...] = (
            ("pretrain", self.config.pretrain.steps),
            ("gan", self.config.gan.steps),
        )
        state = self._resume_state(resume, force)
        first = curve_step(state["stage"], state["step"], self.config.pretrain.steps) if state else 0
        with self._stopper.listening(), self._curves(first) as curves:
            for order, (name, steps) in enumerate(stages):
                if not steps:
                    continue
                mine = None
                if state is not None:
                    position = [stage for stage, _ in stages].index(state["stage"])
                    if order < position:
                        continue
                    mine = state if order == position else None
                if not self._stage(order, name, steps, mine, curves):
                    return Outcome(False, self._model, self._checkpoint)
        return Outcome(True, self._model, self._checkpoint)

    def _resume_state(self, resume: bool, force: bool) -> dict[str, Any] | None:
        found = self.checkpoints.load_latest(self._noted) if resume else None
        if not resume and self.checkpoints.list():
            raise TrainingError(
                f"{self.folder} already contains a run; use --resume to continue it, or another run.output"
            )
        if found is None:
            if resume:
                self._noted(f"no checkpoint in {self.folder}, starting from the beginning")
            return None
        path, state = found
        before, now = json.loads(state["config"]), json.loads(self.config.model_dump_json())
        for section in ("generator", "data"):
            # Older checkpoints lack keys, at any depth, that were added later; they were made with the defaults.
            of_section = type(getattr(self.config, section))
            before[section] = json.loads(of_section.model_validate(before[section]).model_dump_json())
            for key, value in now[section].items():
                old = before[section][key]
                if section == "data" and key in FOLDERS and old is not None and value is not None:
                    continue  # compared by the images in them
                if value != old and key not in ("init", "start", "checkpointing", "validation"):
                    raise TrainingError(
                        f"{path} was made with {section}.{key} = {old!r}, the configuration says "
                        f"{value!r}; a resumed run must use the same"
                    )
        self._compare_data(path, what_differs(before, now, state.get("pictures"), self.images), force)
        if state["stage"] == "gan" and not self.config.gan.steps:
            raise TrainingError(f"{path} is in the gan stage, which the configuration skips")
        if state["stage"] == "pretrain" and not self.config.pretrain.steps:
            raise TrainingError(f"{path} is in the pretrain stage, which the configuration skips")
        self._checkpoint = path
        return state

    def _compare_data(self, path: Path, different: list[str], force: bool) -> None:
        if different and not force:
            raise TrainingError(
                f"{path} was made with other data: {'; '.join(different)}. To continue anyway: --resume --force"
            )
        for line in different:
            self._noted(f"continuing although {line}")

    @contextmanager
    def _curves(self, first: int) -> Iterator[Curves | None]:
        if self.rank != 0:
            yield None
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / "config.json").write_text(self.config.model_dump_json(indent=2) + "\n")
        except OSError as error:
            raise TrainingError(f"run.output: {self.folder} cannot be written ({error.strerror})") from None
        with closing(Curves(self.folder, self.config.pretrain.steps, first)) as curves:
            yield curves

    def _stage(
        self, order: int, name: StageName, steps: int, state: dict[str, Any] | None, curves: Curves | None
    ) -> bool:
        """Executes one stage; returns false if it was interrupted."""
        section = self.config.pretrain if name == "pretrain" else self.config.gan
        networks: dict[str, nn.Module] = {"generator": self.generator}
        optimisers = {"generator": _adam(self.generator, section.betas)}
        options = StepOptions(self._autocast(), self.config.run.clip or None)
        step_function: PretrainStep | GanStep
        if isinstance(section, PretrainSection):
            recipe = stage_recipe(section, PRESETS[self.config.generator.preset])
            step_function = PretrainStep(
                self.generator, optimisers["generator"], recipe, options, self.features["pretrain"]
            )
        else:
            if state is None:
                # The adversarial stage starts from the averaged weights, which are the better model.
                self.generator.load_state_dict(self.average.module.state_dict())
            step_function = self._gan_step(section, networks, optimisers, options)
        self.generator.train()
        frozen, freeze_after = False, section.freeze_batchnorm_after
        first = 0
        if state is not None:
            first = self._restore(state, networks, optimisers)
        records = self.config.run.graphs and can_record(self.device, self.world)
        one_step = CapturedStep(step_function) if records else step_function
        if self.rank == 0:
            self.observer.started(name, first, steps)
            if state is not None:  # the run may have been interrupted between writing the checkpoint and the model
                self._save_model(name, first)
        loop = partial(self._save, order, name, networks, optimisers)
        with prefetched(partial(self._batches, order), range(first, steps), self.device) as batches:
            for step, parts in enumerate(batches, start=first):
                rate = learning_rate(section.schedule, section.learning_rate, step, steps)
                for optimiser in optimisers.values():
                    for group in optimiser.param_groups:
                        group["lr"], group["betas"] = rate, section.betas  # a resumed run may change both
                if freeze_after is not None and step >= freeze_after and not frozen:
                    frozen = True
                    freeze_batchnorm(self.generator)
                    if isinstance(one_step, CapturedStep):
                        one_step.forget()
                self._one_step(name, step, one_step, parts, curves, rate)
                done = step + 1
                stopping = distributed.any_process(self._stopper.requested)
                self._validate_and_save(name, done, steps, loop, curves, stopping)
                if stopping and done < steps:
                    return False
        return True

    def _one_step(
        self,
        name: StageName,
        step: int,
        one_step: Callable[[Sequence[Batch], Callable[[], None]], dict[str, float]],
        parts: Sequence[Batch],
        curves: Curves | None,
        rate: float,
    ) -> None:
        try:
            with fastest_algorithms(self.device):
                losses = one_step(parts, partial(self.average.update, self.generator, step))
        except NonFiniteLossError as error:
            last = self._checkpoint or "none yet"
            raise TrainingError(
                f"{name} step {step + 1}: {error}; the run stops. Last good checkpoint: {last}. "
                f"A lower learning rate or run.clip helps; with bf16, try run.precision=fp32"
            ) from None
        if self.rank == 0:
            self.observer.stepped(step + 1, self._rate(), losses)
        if curves is not None and (step + 1) % self.config.run.log_every == 0:
            curves.stepped(name, step + 1, {**losses, "learning_rate": rate})

    def _rate(self) -> float:
        """Images per second over the last steps, including validations and checkpoints in between."""
        self._times.append(time.monotonic())
        spent = self._times[-1] - self._times[0]
        return self.config.data.batch * (len(self._times) - 1) / spent if spent else 0.0

    def _validate_and_save(
        self, name: StageName, done: int, steps: int, save: Any, curves: Curves | None, stopping: bool
    ) -> None:
        run = self.config.run
        if self.validation is not None and (done % run.validate_every == 0 or done == steps):
            self._validate(name, done, self.validation, curves)
        if self.rank == 0 and (done % run.save_every == 0 or done == steps or stopping):
            save(done)

    def _validate(self, name: StageName, done: int, validation: ValidationSets, curves: Curves | None) -> None:
        all_scores = validation(self.average.module)
        for scores in all_scores:
            self.observer.validated(done, scores)
            if curves is not None:
                curves.validated(name, done, scores)
        first = all_scores[0]
        self.last_psnr, self.last_st_lpips = first.psnr_y, first.st_lpips
        section = self.config.pretrain if name == "pretrain" else self.config.gan
        recipe = stage_recipe(section, PRESETS[self.config.generator.preset])
        figure = deciding_figure(recipe, adversarial=name == "gan")
        found = candidate(name, done, first, self.config.data.first_validation, figure)
        if found is not None and (self.best is None or self.best.is_beaten_by(found)):
            self.best = found
            self._write_model(self.folder / f"{name}-best.safetensors", name, done)

    def _save(
        self,
        order: int,
        name: StageName,
        networks: dict[str, nn.Module],
        optimisers: dict[str, Adam],
        done: int,
    ) -> None:
        state = {
            "networks": {key: network.state_dict() for key, network in networks.items()},
            "optimisers": {key: optimiser.state_dict() for key, optimiser in optimisers.items()},
            "average": self.average.module.state_dict(),
            "config": self.config.model_dump_json(),
            "psnr": self.last_psnr,
            "st_lpips": self.last_st_lpips,
            "best": None if self.best is None else self.best.as_state(),
            "version": __version__,
            "pictures": self.images,
        }
        self._checkpoint = self.checkpoints.save(order, name, done, state)
        self._save_model(name, done)

    def _save_model(self, name: StageName, done: int) -> None:
        self._model = self.folder / f"{name}.safetensors"
        self._write_model(self._model, name, done)

    def _write_model(self, path: Path, name: StageName, done: int) -> None:
        metadata = {
            **self.config.run.metadata,
            "stage": name,
            "steps": str(done),
            "batch": f"{self.config.data.batch} crops of {self.config.data.crop}x{self.config.data.crop}",
        }
        if self.last_psnr is not None:
            metadata["validation_psnr_y"] = f"{self.last_psnr:.3f}"
        if self.last_st_lpips is not None:
            metadata["validation_st_lpips"] = f"{self.last_st_lpips:.4f}"
        network = self.average.module
        if isinstance(network, Generator):
            save_generator(network, path, self.config.generator.preset, metadata)
        elif isinstance(network, NetworkGenerator):
            save_network_generator(network, path, metadata)

    def _restore(self, state: dict[str, Any], networks: dict[str, nn.Module], optimisers: dict[str, Adam]) -> int:
        try:
            for key, network in networks.items():
                network.load_state_dict(state["networks"][key])
            for key, optimiser in optimisers.items():
                optimiser.load_state_dict(state["optimisers"][key])
            self.average.module.load_state_dict(state["average"])
        except (KeyError, RuntimeError, ValueError) as error:
            reason = first_line(error)
            raise TrainingError(f"{self._checkpoint}: belongs to other networks ({reason})") from None
        self.last_psnr, self.last_st_lpips = state.get("psnr"), state.get("st_lpips")
        self.best = None if state.get("best") is None else Best(**state["best"])
        return int(state["step"])

    def _gan_step(
        self, section: GanSection, networks: dict[str, nn.Module], optimisers: dict[str, Adam], options: StepOptions
    ) -> GanStep:
        preset = PRESETS[self.config.generator.preset]
        # A separate seed, so that D has the same initial weights with and without a first stage.
        torch.manual_seed(self.config.run.seed + 1)
        discriminator = build_discriminator(self.config.discriminator, self.config.data.crop)
        discriminator = self._placed(discriminator).train()
        distributed.broadcast_module(discriminator)
        distributed.share_batchnorm(discriminator)
        networks["discriminator"] = discriminator
        optimisers["discriminator"] = _adam(discriminator, section.betas)
        return GanStep(
            self.generator,
            discriminator,
            self.features["gan"],
            optimisers["generator"],
            optimisers["discriminator"],
            stage_recipe(section, preset),
            preset.discriminator_map,
            options,
        )

    def _features(self, section: PretrainSection | GanSection) -> FeatureExtractor | None:
        extractor = build_features(section, PRESETS[self.config.generator.preset]) if section.steps else None
        return None if extractor is None else self._placed(extractor)

    def _placed(self, network: _Network) -> _Network:
        """Moves a network to the device, in channels-last layout for the convolutions, and sets its kernels."""
        network.to(self.device)
        network.to(memory_format=torch.channels_last)
        run = self.config.run
        use_kernels(network, run.kernels)
        return network

    def _autocast(self) -> Any:
        if self.config.run.precision == "fp32":
            return nullcontext
        return partial(torch.autocast, self.device.type, torch.bfloat16)

    def _batches(self, order: int, step: int) -> list[Batch]:
        """This process' parts of a step's batch; the stages draw different crops."""
        run, batch = self.config.run, self.config.data.batch
        size = batch // (self.world * run.accumulate)
        section = (self.config.pretrain, self.config.gan)[order]
        own, common = section.targets_weight, self.config.data.targets_weight
        parts: list[Batch] = []
        for part in range(run.accumulate):
            # Part p of all processes together is a contiguous range of the batch, for any number of processes.
            start = part * size * self.world + self.rank * size
            pixels = self.sampler.with_targets((order << 40) + step, range(start, start + size))
            hr, lr = (to_batch(p, self.device) for p in pixels[:2])
            if pixels[2] is None:
                parts.append((hr, lr))
            else:
                target = to_batch(pixels[2], self.device)
                parts.append((hr, lr, hr.lerp(target, common if own is None else own)))
        return parts


def freeze_batchnorm(network: nn.Module) -> None:
    """Makes all BatchNorms of a network in training mode use their running statistics, which then stay constant.

    Their weights and biases are still trained. `network.train()` undoes it.
    """
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()


def _adam(network: nn.Module, betas: Betas) -> Adam:
    # The fused implementation updates the weights in one pass, where the device supports it.
    return Adam(network.parameters(), lr=0.0, betas=betas, fused=True)


def _companions(name: str, folder: Path | None, open_folder: Callable[[Path], Companions]) -> Companions | None:
    if folder is None:
        return None
    try:
        return open_folder(folder)
    except DataError as error:
        raise TrainingError(f"data.{name}: {error}") from None


def _degradations(section: DegradationSection) -> Degradations:
    second = section.second_order
    if second is None:
        return Degradations(section.blur, section.noise, section.jpeg)
    first, other = (Round(**each.model_dump()) for each in (second.first, second.second))
    return Degradations(second_order=SecondOrder(first, other, second.final_sinc_probability))


def _network_generator(section: GeneratorSection) -> NetworkGenerator | None:
    """A generator that is trained from its list of convolutions; None for `srgan`."""
    settings = section.settings()
    if settings is None:
        return None
    fresh = fresh_generator(section.architecture, settings)
    if not section.init:
        return fresh
    wanted = f"{fresh.description}, x{fresh.scale}"
    try:
        generator = load_network_generator(section.init)
    except ModelError as error:
        raise TrainingError(f"generator.init: {error}; the configuration requires {wanted}") from None
    if not generator.computes_like(fresh):
        found = f"{generator.description}, x{generator.scale}"
        but = "with other activations, biases or value ranges than" if found == wanted else f"which is not {wanted}, as"
        raise TrainingError(f"generator.init: {section.init} is {found}, {but} the configuration requires")
    return generator


def _srgan_generator(section: GeneratorSection) -> Generator:
    blocks = section.blocks or 0
    wanted = generator_config(section.preset, scale=section.scale, channels=section.channels, blocks=blocks)
    if not section.init:
        return _fresh_generator(wanted, section.start)
    generator = load_generator(section.init)
    if differing := _differing(generator.config, wanted):
        raise TrainingError(f"generator.init: {section.init} has {differing}")
    return generator


def _fresh_generator(config: GeneratorConfig, start: Literal["auto", "upscaler", "random"]) -> Generator:
    generator = Generator(config)
    problem = why_no_upscaler(config)
    if start == "upscaler" and problem:
        raise TrainingError(f"generator.start is upscaler, which this network does not support: {problem}; use random")
    if start != "random" and not problem:
        start_as_upscaler(generator)
    return generator


def _differing(found: GeneratorConfig, wanted: GeneratorConfig) -> str:
    """Differences between two architectures as text; empty if there are none."""
    pairs = {
        field.name: (getattr(found, field.name), getattr(wanted, field.name))
        for field in fields(GeneratorConfig)
        if field.name != "conventions"
    }
    differing = [f"{name} = {a!r} where the configuration requires {b!r}" for name, (a, b) in pairs.items() if a != b]
    if found.conventions != wanted.conventions:
        differing.append("the value ranges or BatchNorm epsilons of another preset")
    return ", ".join(differing)


def _device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise TrainingError("run.device is cuda, but PyTorch finds no CUDA device")
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", distributed.local_rank() % torch.cuda.device_count())
    torch.cuda.set_device(device)
    return device
