"""Converts third-party models to safetensors files, which are fast to read and contain only tensors.

SRGAN generators are converted to our layout, so that they can be trained further; other networks keep their names.
"""

from pathlib import Path

from srgan_fast.architectures.srgan_layouts import layout_of, to_ours
from srgan_fast.errors import ModelError
from srgan_fast.models.checkpoint import write_generator
from srgan_fast.models.model_file import ModelFile, StateFile, model_of, read_state_file
from srgan_fast.models.safetensors_file import write_safetensors

_KEPT_FACTS = ("act_type", "res_scale", "licence", "license")


def convert_file(source: Path, target: Path, key: str | None = None) -> ModelFile:
    """Reads a third-party model and writes it as a safetensors file that `read_model` reads.

    Args:
        source: file written by torch.save (`.pth`, `.pt`, `.ckpt`, `.bin`), or a `.safetensors` file of the same
            tensors.
        target: `.safetensors`.
        key: which of several state dicts to convert.

    Raises:
        ModelError: the file is damaged or unknown, or the target cannot be written; the message says what was found.
    """
    if target.suffix != ".safetensors":
        raise ModelError(f"{target}: model files end in .safetensors")
    found = read_state_file(source, key)
    name = source.name.encode(errors="replace").decode()  # file names need not be Unicode, metadata must
    recorded = {"converted_from": name, **{k: v for k, v in found.metadata.items() if k in _KEPT_FACTS}}
    if layout_of(found.state) is None:
        return _write(found, target, recorded)
    weights, config, layout = to_ours(found.state)
    recorded["layout"] = layout.name
    return model_of(write_generator(weights, config.conventions, target, recorded), target)


def _write(found: StateFile, target: Path, recorded: dict[str, str]) -> ModelFile:
    recorded["architecture"] = found.recognised.description
    write_safetensors(target, found.state, recorded)
    return ModelFile(found.recognised.network, found.recognised.description, target.stem, recorded, target)


__all__ = ["convert_file"]
