"""Reads, writes and resolves our generator files. Needs numpy and safetensors, not torch.

Generators are stored in safetensors files. The sizes follow from the tensors; the metadata holds what tensors do not
show (value ranges, epsilons, output activation), provenance and licence.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from srgan_fast.architectures.srgan import Conventions, GeneratorConfig, infer_config
from srgan_fast.errors import ModelError
from srgan_fast.models.catalogue import downloaded_file, find_entry, similar_name
from srgan_fast.models.presets import PRESETS
from srgan_fast.models.safetensors_file import read_safetensors, write_safetensors
from srgan_fast.models.state_dicts import as_float32
from srgan_fast.network.graph import ColourMap

if TYPE_CHECKING:
    from srgan_fast.models.generator import Generator

Weights = dict[str, NDArray[np.float32]]

FORMAT = "srgan_fast.generator/1"
DEFAULT_MODEL = "srgan-x4"
WEIGHTS_FOLDER = Path(__file__).parent.parent / "weights"

# Gains, offsets and epsilons are far below this, and gains far above its inverse; corrupt metadata may not be.
_LARGEST = 1e6


@dataclass(frozen=True, slots=True)
class GeneratorFile:
    """A generator as data.

    Attributes:
        config: architecture and conventions.
        weights: float32 arrays by the names of `Generator.state_dict()`.
        metadata: preset, provenance, licence and whatever else was recorded, as text.
        name: what to call the model in messages and file names.
    """

    config: GeneratorConfig
    weights: Weights
    metadata: dict[str, str]
    name: str


def shipped_models() -> list[str]:
    """Names of the models that are part of the package."""
    return sorted(path.stem for path in WEIGHTS_FOLDER.glob("*.safetensors"))


def resolve_model(name_or_path: str | Path) -> Path:
    """Path of a shipped or downloaded model, or the given path.

    Raises:
        ModelError: no such file or model, or a model of the catalogue that was not downloaded or was modified; the
            message says what to do.
    """
    if isinstance(name_or_path, str):
        if name_or_path in shipped_models():
            return WEIGHTS_FOLDER / f"{name_or_path}.safetensors"
        if (entry := find_entry(name_or_path)) is not None:
            return downloaded_file(entry)
    path = Path(name_or_path)
    try:
        if path.is_file():
            return path
        what = "is a folder" if path.is_dir() else "is neither a file nor a shipped model"
    except OSError as error:  # a name that is too long, a folder without permission
        what = f"cannot be looked up ({error.strerror})"
    if (meant := similar_name(str(name_or_path))) is not None:
        raise ModelError(f"{name_or_path}: {what}; did you mean {meant}? If so: srgan-fast models get {meant}")
    raise ModelError(
        f"{name_or_path}: {what}; shipped models: {', '.join(shipped_models()) or 'none'}; "
        "others by name: srgan-fast models --available"
    )


def read_generator(name_or_path: str | Path = DEFAULT_MODEL) -> GeneratorFile:
    """Reads and checks a generator file.

    Args:
        name_or_path: name of a shipped model, or a `.safetensors` file of ours.

    Raises:
        ModelError: no such model, a damaged file, another network, or weights that are not finite.
    """
    path = resolve_model(name_or_path)
    if path.suffix.lower() in (".pth", ".pt", ".ckpt", ".bin"):
        raise ModelError(f"{path}: a PyTorch file; convert it first: srgan-fast convert {path} -o model.safetensors")
    return generator_from(path, *read_safetensors(path))


def generator_from(path: Path, metadata: Mapping[str, str], tensors: Mapping[str, NDArray[Any]]) -> GeneratorFile:
    """Builds a generator from the contents of a safetensors file.

    Raises:
        ModelError: it is another network, or damaged.
    """
    if metadata.get("format") != FORMAT:
        found = metadata.get("format", "none")
        raise ModelError(
            f"{path}: not a generator of srgan_fast (format {found!r} instead of {FORMAT!r}); "
            f"if it is another project's: srgan-fast convert {path} -o model.safetensors"
        )
    weights = {name: as_float32(tensor, f"{path}: {name}") for name, tensor in tensors.items()}
    try:
        conventions = _conventions_from_json(metadata["conventions"])
    except (KeyError, TypeError, ValueError, ArithmeticError, RecursionError) as error:
        raise ModelError(f"{path}: its metadata is damaged ({error!r:.200})") from None
    return GeneratorFile(infer_config(weights, conventions, str(path)), weights, dict(metadata), path.stem)


def write_generator(
    weights: Mapping[str, NDArray[Any]],
    conventions: Conventions,
    path: Path,
    metadata: Mapping[str, str] | None = None,
) -> GeneratorFile:
    """Writes a generator file atomically, and returns it as it would be read.

    Args:
        weights: arrays by the names of `Generator.state_dict()`; BatchNorm's batch counters are omitted.
        conventions: properties that the tensors do not show.
        path: target; its suffix must be `.safetensors`.
        metadata: provenance, licence and other metadata.

    Raises:
        ModelError: the weights are not a generator's, the suffix is wrong, or the target cannot be written.
    """
    tensors = {
        name: np.ascontiguousarray(as_float32(array, f"{path}: {name}"))
        for name, array in weights.items()
        if not name.endswith("num_batches_tracked")
    }
    config = infer_config(tensors, conventions, str(path))
    recorded = {**(metadata or {}), "format": FORMAT, "conventions": json.dumps(asdict(conventions))}
    write_safetensors(path, tensors, recorded)
    return GeneratorFile(config, tensors, recorded, path.stem)


def _conventions_from_json(text: str) -> Conventions:
    values = json.loads(text)
    for name in ("lr_map", "hr_map"):
        (r, g, b), (x, y, z) = values[name]["gain"], values[name]["offset"]
        low = 1 / _LARGEST  # so that the map can be inverted
        values[name] = ColourMap(
            (_number(r, low), _number(g, low), _number(b, low)), (_number(x), _number(y), _number(z))
        )
    for name in ("block_eps", "upsample_eps"):
        values[name] = _number(values[name])
        if values[name] < 0:
            raise ValueError(f"{name} is {values[name]}")
    conventions = Conventions(**values)
    if conventions.output not in ("linear", "tanh"):
        raise ValueError(f"output is {conventions.output!r}")
    return conventions


def _number(value: Any, smallest: float = 0.0) -> float:
    number = float(value)
    if not smallest <= abs(number) <= _LARGEST:  # NaN fails, too
        raise ValueError(f"{number} is out of range")
    return number


def load_generator(name_or_path: "str | Path | GeneratorFile" = DEFAULT_MODEL) -> "Generator":
    """Loads a generator as a torch module in eval mode.

    Args:
        name_or_path: name of a shipped model, a `.safetensors` file of ours, or a `GeneratorFile`.

    Raises:
        ModelError: see `read_generator`; or torch is not installed.
    """
    file = name_or_path if isinstance(name_or_path, GeneratorFile) else read_generator(name_or_path)
    try:
        import torch  # noqa: PLC0415 (a heavy extra)
    except ImportError:
        raise ModelError("loading a generator as a torch module needs torch: pip install 'srgan_fast[train]'") from None
    from srgan_fast.models.generator import Generator  # noqa: PLC0415

    generator = Generator(file.config)
    state = {name: torch.from_numpy(array) for name, array in file.weights.items()}
    missing, unexpected = generator.load_state_dict(state, strict=False)
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing or unexpected:
        raise ModelError(f"{file.name}: the file and the network disagree on {', '.join(missing + unexpected)}")
    return generator.eval()


def save_generator(
    generator: "Generator", path: Path, preset: str | None = None, metadata: Mapping[str, str] | None = None
) -> GeneratorFile:
    """Writes a torch generator to a file that `load_generator` reads.

    Args:
        generator: the generator.
        path: target, `.safetensors`.
        preset: name of its preset, stored as metadata.
        metadata: provenance, licence and other metadata.

    Raises:
        ModelError: weights that are not finite, or a target that cannot be written.
    """
    if preset is not None and preset not in PRESETS:
        raise ModelError(f"unknown preset {preset!r}; choose from {', '.join(sorted(PRESETS))}")
    weights = {name: tensor.detach().float().cpu().numpy() for name, tensor in generator.state_dict().items()}
    recorded = {**(metadata or {}), **({"preset": preset} if preset else {})}
    return write_generator(weights, generator.config.conventions, path, recorded)
