"""Batches of a run: crops of the training images, with targets or low-resolution images from other folders if given."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from srgan_fast.data.cache import open_cache
from srgan_fast.data.companions import Companions, open_low_resolution, open_targets
from srgan_fast.data.crops import CropSampler
from srgan_fast.data.degradations import Degradations
from srgan_fast.data.second_order import Round, SecondOrder
from srgan_fast.errors import DataError, TrainingError
from srgan_fast.training.config import STAGES, DegradationSection, StageName, TrainConfig
from srgan_fast.training.execution import Execution
from srgan_fast.training.provenance import image_set
from srgan_fast.training.step import Batch
from srgan_fast.training.validation import to_batch


class TrainingBatches:
    """Draws this process's parts of each step's batch.

    Args:
        config: configuration of the run.
        execution: device and processes.
        on_note: called with messages for the user.

    Attributes:
        training_images: the training images.
        images: record of the images of each folder, by its key in the section `data`.

    Raises:
        SrganFastError: a folder cannot be used.
    """

    def __init__(self, config: TrainConfig, execution: Execution, on_note: Callable[[str], None]) -> None:
        self._config, self._execution = config, execution
        data, scale = config.data, config.generator.scale
        cache = open_cache(data.train, on_note=on_note)
        targets = _companions("targets", data.targets, partial(open_targets, cache, on_note=on_note))
        low = _companions("lr", data.lr, partial(open_low_resolution, cache, scale=scale, on_note=on_note))
        degradations = _degradations(data.degradations)
        self._sampler = CropSampler(cache, data.crop, scale, data.batch, config.run.seed, degradations, targets, low)
        self.training_images = cache.images
        folders = {"train": cache, "targets": targets, "lr": low}
        self.images = {name: image_set(found.digests()) for name, found in folders.items() if found is not None}
        on_note(f"{len(cache)} images in {data.train}")
        for line in cache.skipped:
            on_note(f"skipped: {line}")
        if small := self._sampler.too_small:
            on_note(f"{len(small)} images are smaller than a crop and were skipped: {', '.join(small[:3])}")

    def load(self, stage: StageName, step: int) -> list[Batch]:
        """This process's parts of a step's batch, on its device; the stages draw different crops."""
        run, data, execution = self._config.run, self._config.data, self._execution
        size = data.batch // (execution.processes * run.accumulate)
        own_weight = self._config.stage(stage).targets_weight
        weight = data.targets_weight if own_weight is None else own_weight
        parts: list[Batch] = []
        for part in range(run.accumulate):
            # Part p of all processes together is a contiguous range of the batch, for any number of processes.
            start = part * size * execution.processes + execution.rank * size
            seed = (STAGES.index(stage) << 40) + step
            pixels = self._sampler.with_targets(seed, range(start, start + size))
            hr, lr = (to_batch(p, execution.device) for p in pixels[:2])
            if pixels[2] is None:
                parts.append((hr, lr))
            else:
                parts.append((hr, lr, hr.lerp(to_batch(pixels[2], execution.device), weight)))
        return parts


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
