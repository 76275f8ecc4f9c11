"""The one door to model files: a name, a file of ours, or other people's, in; a network out.

From here on nobody asks which architecture it was.
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
from srgan_fast.models.state_dicts import Candidate, facts_of, find_candidates, read_state
from srgan_fast.models.torch_file import read_torch_file
from srgan_fast.network.analysis import scale_of
from srgan_fast.network.graph import Network

TORCH_SUFFIXES = frozenset({".pth", ".pt", ".ckpt", ".bin", ".pkl"})
_SHOWN = 6


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model as it was read.

    Attributes:
        network: what it computes.
        architecture: with its sizes, in words.
        name: what to call it in messages and file names.
        metadata: provenance, licence and whatever else was recorded, as text.
        path: of the file; None for a network that was made here.
        key: of the state dict in the file, where it held several or one that was nested.
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
        """Of images: 1, 3 or 4."""
        return self.network.channels


@dataclass(frozen=True, slots=True)
class StateFile:
    """The state dict of a file, and what it was understood as.

    Attributes:
        recognised: network and architecture.
        state: float32 arrays under the file's own names, prefixes left out.
        metadata: recorded beside them.
        key: see `ModelFile`.
    """

    recognised: Recognised
    state: dict[str, NDArray[np.float32]]
    metadata: dict[str, str]
    key: str


def read_model(name_or_path: str | Path = DEFAULT_MODEL, key: str | None = None) -> ModelFile:
    """Reads a model.

    Args:
        name_or_path: the name of a shipped model, or of a downloaded one (`catalogue.py`); a `.safetensors` file, ours
            or not; what torch.save made (`.pth`, `.pt`, `.ckpt`), in which nothing is executed; ncnn's `.param` with
            its `.bin` beside it; or `.onnx`.
        key: which of several state dicts in the file to take, as `params` or `state_dict.generator`.

    Raises:
        ModelError: no such model, one that was not downloaded, a damaged file, a network that does not run here,
            weights that are not finite, or several networks to choose from.
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
    """What the catalogue knows about a model that was asked for by its name."""
    if (entry := find_entry(name)) is None:
        return {}
    return {"licence": entry.licence, "author": entry.author, "homepage": entry.homepage}


def read_state_file(path: Path, key: str | None = None) -> StateFile:
    """Reads other people's model with its arrays, to keep it in another format.

    Raises:
        ModelError: see `read_model`; or it is a generator of ours.
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
    """The format of a file that holds a graph, not a state dict."""
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
    """A generator of ours as a model.

    Raises:
        ModelError: weights that leave float32's range when BatchNorm is folded into them.
    """
    try:
        network = network_of(file.config, file.weights)
    except ModelError as error:
        raise ModelError(f"{path or file.name}: {error}") from None
    return ModelFile(network, describe(file.config), file.name, file.metadata, path)


def _choose(path: Path, content: Any, facts: dict[str, str], key: str | None) -> StateFile:
    """The state dict that is meant: by its key, else the first that is a network, in the order of preference."""
    candidates = find_candidates(content)
    if not candidates:
        raise ModelError(f"{path}: holds no state dict but {_describe(content)}")
    if key is not None:
        chosen = [c for c in candidates if c.key == key] or [c for c in candidates if c.key.split(".")[-1] == key]
        if not chosen:
            keys = ", ".join(sorted({c.key for c in candidates if c.key})[:_SHOWN]) or "none: it is a single state dict"
            raise ModelError(f"{path}: holds no state dict under the key {key!r}; there are {keys}")
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
        raise ModelError(f"{path}: holds several networks, {keys}; say which by its key (--key {fitting[0].key})")
    if fitting:
        return fitting[0]
    # What is named (a SwinIR, a discriminator) says more than what is unknown.
    raise ModelError(next((text for text in refused if "unknown network" not in text), refused[0]))


def _understood(path: Path, candidate: Candidate, facts: dict[str, str]) -> StateFile:
    place = f"{path} ({candidate.key})" if candidate.key else str(path)
    unsupported = name_unsupported(candidate.tensors)  # before gigabytes are read
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
