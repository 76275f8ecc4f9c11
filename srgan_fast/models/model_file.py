"""Reads any supported model, by name or path, as a network.

Nothing after this depends on the architecture.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from srgan_fast.architectures import Recognised, recognise
from srgan_fast.architectures.srgan import describe, network_of
from srgan_fast.architectures.unsupported import name_unsupported
from srgan_fast.errors import ModelError
from srgan_fast.models.catalogue import find_entry
from srgan_fast.models.checkpoint import DEFAULT_MODEL, FORMAT, GeneratorFile, generator_from, resolve_model
from srgan_fast.models.graphs import read_ncnn, read_onnx
from srgan_fast.models.safetensors_file import read_safetensors
from srgan_fast.models.state_dicts import FoundStateDict, facts_of, find_state_dicts, read_state
from srgan_fast.models.torch_file import read_torch_file
from srgan_fast.network.analysis import scale_of
from srgan_fast.network.graph import Network

TORCH_SUFFIXES = frozenset({".pth", ".pt", ".ckpt", ".bin", ".pkl"})
_SHOWN = 6


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model as read from a file.

    Attributes:
        network: its network.
        architecture: architecture and sizes, in words.
        name: name for messages and file names.
        metadata: provenance, licence and other metadata.
        path: path of the file; None for a network that was not read from one.
        key: key of the state dict within the file, if it contains several or a nested one.
    """

    network: Network
    architecture: str
    name: str
    metadata: Mapping[str, str]
    path: Path | None = None
    key: str = ""

    @property
    def scale(self) -> int:
        """Upscaling factor."""
        return scale_of(self.network)

    @property
    def channels(self) -> int:
        """Channels of its images: 1, 3 or 4."""
        return self.network.channels


@dataclass(frozen=True, slots=True)
class StateFile:
    """A state dict of a file, and the network recognised in it.

    Attributes:
        recognised: network and architecture.
        state: float32 arrays by the file's own names without prefixes.
        metadata: stored beside them.
        key: see `ModelFile`.
    """

    recognised: Recognised
    state: dict[str, NDArray[np.float32]]
    metadata: dict[str, str]
    key: str


def read_model(name_or_path: str | Path = DEFAULT_MODEL, key: str | None = None) -> ModelFile:
    """Reads a model.

    Args:
        name_or_path: name of a shipped or downloaded model (`catalogue.py`); any `.safetensors` file; a file written by
            torch.save (`.pth`, `.pt`, `.ckpt`), read without executing code; ncnn's `.param` with its `.bin` beside it;
            or `.onnx`.
        key: which of several state dicts in the file to use, such as `params` or `state_dict.generator`.

    Raises:
        ModelError: no such model, not downloaded, a damaged file, an unsupported network, weights that are not finite,
            or several networks to choose from.
    """
    path = resolve_model(name_or_path)
    if (kind := _graph_kind(path)) is not None:
        return _read_graph(path, kind, key)
    found = _read(path, key)
    if isinstance(found, GeneratorFile):
        return model_of(found, path)
    recognised = found.recognised
    metadata = {**found.metadata, **_known_facts(name_or_path)}
    return ModelFile(recognised.network, recognised.description, path.stem, metadata, path, found.key)


def _known_facts(name: str | Path) -> dict[str, str]:
    """Metadata from the catalogue for a model requested by name."""
    if (entry := find_entry(name)) is None:
        return {}
    return {"licence": entry.licence, "author": entry.author, "homepage": entry.homepage}


def read_state_file(path: Path, key: str | None = None) -> StateFile:
    """Reads a third-party model with its arrays, to write it in another format.

    Raises:
        ModelError: see `read_model`; or it is already a generator of ours.
    """
    if not path.is_file():
        raise ModelError(f"{path}: no such file")
    if (kind := _graph_kind(path)) is not None:
        raise ModelError(
            f"{path}: an {kind} graph has no state dict to keep; it runs as it is, but is neither converted nor trained"
        )
    found = _read(path, key)
    if isinstance(found, GeneratorFile):
        raise ModelError(f"{path}: is an SRGAN generator of ours already")
    return found


def _graph_kind(path: Path) -> Literal["ncnn", "ONNX"] | None:
    """Format of a file that holds a graph; None for state dicts."""
    suffix = path.suffix.lower()
    if suffix == ".param" or (suffix == ".bin" and path.with_suffix(".param").is_file()):
        return "ncnn"
    return "ONNX" if suffix == ".onnx" else None


def _read_graph(path: Path, kind: Literal["ncnn", "ONNX"], key: str | None) -> ModelFile:
    if key is not None:
        raise ModelError(f"{path}: an {kind} graph is one network; there is no key {key!r} in it")
    network = read_onnx(path) if kind == "ONNX" else read_ncnn(path.with_suffix(".param"))
    description = f"{kind} graph x{scale_of(network)}, {len(network.convs)} convolutions"
    return ModelFile(network, description, path.stem, {}, path)


def _read(path: Path, key: str | None) -> GeneratorFile | StateFile:
    if path.suffix.lower() in TORCH_SUFFIXES:
        content = read_torch_file(path)
        return _choose(path, content, facts_of(content), key)
    metadata, tensors = read_safetensors(path)
    if metadata.get("format") == FORMAT:
        return generator_from(path, metadata, tensors)
    return _choose(path, tensors, metadata, key)


def model_of(file: GeneratorFile, path: Path | None = None) -> ModelFile:
    """A generator of ours as a `ModelFile`.

    Raises:
        ModelError: weights exceed float32's range after folding BatchNorm.
    """
    try:
        network = network_of(file.config, file.weights)
    except ModelError as error:
        raise ModelError(f"{path or file.name}: {error}") from None
    return ModelFile(network, describe(file.config), file.name, file.metadata, path)


def _choose(path: Path, content: Any, facts: dict[str, str], key: str | None) -> StateFile:
    """The state dict of a key, or else the first one that is a network, in order of preference."""
    candidates = find_state_dicts(content)
    if not candidates:
        raise ModelError(f"{path}: contains no state dict but {_describe(content)}")
    if key is not None:
        chosen = [c for c in candidates if c.key == key] or [c for c in candidates if c.key.split(".")[-1] == key]
        if not chosen:
            keys = ", ".join(sorted({c.key for c in candidates if c.key})[:_SHOWN]) or "none: it is a single state dict"
            raise ModelError(f"{path}: contains no state dict with key {key!r}; found {keys}")
        candidates = chosen
    refused: list[str] = []
    fitting: list[StateFile] = []
    for candidate in candidates:
        try:
            found = _understood(path, candidate, facts)
        except ModelError as error:
            refused.append(str(error))
            continue
        if candidate.is_expected or key is not None:
            return found
        fitting.append(found)
    if len(fitting) > 1:
        keys = ", ".join(found.key for found in fitting[:_SHOWN])
        raise ModelError(f"{path}: contains several networks, {keys}; choose one by its key (--key {fitting[0].key})")
    if fitting:
        return fitting[0]
    # A name of an unsupported network (SwinIR, a discriminator) is more helpful than "unknown network".
    raise ModelError(next((text for text in refused if "unknown network" not in text), refused[0]))


def _understood(path: Path, candidate: FoundStateDict, facts: dict[str, str]) -> StateFile:
    place = f"{path} ({candidate.key})" if candidate.key else str(path)
    unsupported = name_unsupported(candidate.tensors)  # before reading gigabytes
    state = {} if unsupported else read_state(candidate, place)
    try:
        recognised = recognise(state or dict.fromkeys(candidate.tensors, np.zeros(0, np.float32)), facts)
    except ModelError as error:
        raise ModelError(f"{place}: {error}") from None
    return StateFile(recognised, state, facts, candidate.key)


def _describe(content: Any) -> str:
    if isinstance(content, Mapping):
        return f"a dictionary with {', '.join(map(str, list(content)[:_SHOWN])) or 'nothing'}"
    what = getattr(content, "what", None)
    if what is not None:
        return (
            f"an object of {str(what)[:80]}, which would need that code to run; save the state dict alone: "
            f"torch.save(model.state_dict(), ...)"
        )
    return f"a {type(content).__name__.removeprefix('Stored').lower()}"


__all__ = ["ModelFile", "StateFile", "model_of", "read_model", "read_state_file"]
