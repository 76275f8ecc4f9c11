"""Whether a run can continue from a checkpoint with its current configuration."""

import json
from pathlib import Path

from srgan_fast.errors import TrainingError
from srgan_fast.training.checkpoints import SavedState
from srgan_fast.training.config import TrainConfig
from srgan_fast.training.provenance import FOLDERS, ImageSets, what_differs

# Keys of `generator` and `data` that a resumed run may change: they have no effect on it, or not on the training.
_MAY_CHANGE = ("init", "start", "checkpointing", "validation")


def check_resumable(path: Path, state: SavedState, config: TrainConfig, images: ImageSets) -> list[str]:
    """Checks that a run may continue from a checkpoint.

    Args:
        path: file of the checkpoint, for messages.
        state: its content.
        config: configuration of the run.
        images: record of the images in the run's folders.

    Returns:
        Differences in images and seed, each as a short text; the run may continue only if the user permits them.

    Raises:
        TrainingError: networks or data settings differ, or the configuration skips the checkpoint's stage.
    """
    before, now = json.loads(state["config"]), json.loads(config.model_dump_json())
    for name, section in (("generator", config.generator), ("data", config.data)):
        # Older checkpoints lack keys, at any depth, that were added later; they were made with the defaults.
        before[name] = json.loads(type(section).model_validate(before[name]).model_dump_json())
        for key, value in now[name].items():
            old = before[name][key]
            if name == "data" and key in FOLDERS and old is not None and value is not None:
                continue  # compared by the images in them
            if value != old and key not in _MAY_CHANGE:
                raise TrainingError(
                    f"{path} was made with {name}.{key} = {old!r}, the configuration says "
                    f"{value!r}; a resumed run must use the same"
                )
    different = what_differs(before, now, state.get("pictures"), images)
    if not config.stage(state["stage"]).steps:
        raise TrainingError(f"{path} is in the {state['stage']} stage, which the configuration skips")
    return different
