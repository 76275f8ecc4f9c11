"""Finds state dicts within a file: training scripts nest them in dictionaries, with prefixes, beside counters."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srgan_fast.errors import ModelError
from srgan_fast.models.torch_file import StoredTensor

# In order of preference, averaged weights first; other keys come after them, in the file's order.
_KEYS = (
    "params_ema", "params-ema", "ema_state_dict", "ema", "params", "state_dict", "model_state_dict",
    "generator_state_dict", "net_g", "netG", "generator", "G", "model", "net", "weights",
)  # fmt: skip
_PREFIXES = (
    "module.", "_orig_mod.", "net_g_ema.", "generator_ema.", "net_g.", "netG.", "generator.", "model_g.", "G.",
    "model.", "net.", "network.",
)  # fmt: skip
_DEEPEST = 4
_COUNTERS = re.compile(r"(.*\.)?(num_batches_tracked|n_averaged|step|_?device_buffer)")


@dataclass(frozen=True, slots=True)
class FoundStateDict:
    """A state dict found in a file.

    Attributes:
        key: path of keys to it, joined by dots; ends with the prefix if only a part of the state dict is used; empty
            for the top level.
        tensors: by name without common prefixes; those of PyTorch files are not read yet.
    """

    key: str
    tensors: dict[str, Any]

    @property
    def is_expected(self) -> bool:
        """Whether training scripts are known to store networks under this key."""
        return not self.key or any(word in _KEYS for word in self.key.split("."))


def find_state_dicts(content: Any) -> list[FoundStateDict]:
    """All state dicts in the contents of a file, in order of preference.

    Args:
        content: mappings, with tensors as `StoredTensor` or arrays.
    """
    found: list[FoundStateDict] = []
    seen: set[int] = set()
    for key, mapping in _walk(content, "", 0, seen):
        tensors = {str(name): value for name, value in mapping.items() if _is_weight(str(name), value)}
        if tensors:
            found += _by_prefix(key, tensors)
    return sorted(found, key=lambda candidate: _rank(candidate.key))


def facts_of(content: Any) -> dict[str, str]:
    """Plain values at the top level of a file, as text: possible metadata of a network."""
    if not isinstance(content, Mapping):
        return {}
    plain = {k: v for k, v in content.items() if isinstance(k, str) and isinstance(v, str | int | float)}
    return {key: str(value) for key, value in plain.items() if len(str(value)) < 1000}


def read_state(candidate: FoundStateDict, what: str) -> dict[str, NDArray[np.float32]]:
    """Reads a candidate's arrays.

    Args:
        candidate: the state dict.
        what: name of the file, for messages.

    Raises:
        ModelError: values that are not finite.
    """
    return {name: as_float32(_array(value), f"{what}: {name}") for name, value in candidate.tensors.items()}


def as_float32(values: NDArray[Any], what: str) -> NDArray[np.float32]:
    """Converts weights to float32.

    Raises:
        ModelError: not floating-point, not finite, or negative variances.
    """
    if values.dtype.kind != "f":
        raise ModelError(f"{what} holds {values.dtype}, not floating-point weights")
    with np.errstate(over="ignore"):  # overflows become infinite and are rejected below
        result = values.astype(np.float32)
    if not np.isfinite(result).all():
        raise ModelError(f"{what} holds values that are not finite; the file is damaged or training diverged")
    if what.endswith("running_var") and (result < 0).any():
        raise ModelError(f"{what} holds negative variances; the file is damaged")
    return result


def _walk(content: Any, key: str, depth: int, seen: set[int]) -> Iterator[tuple[str, Mapping[Any, Any]]]:
    """All nested mappings, each once."""
    if not isinstance(content, Mapping) or depth > _DEEPEST or id(content) in seen:
        return
    seen.add(id(content))
    yield key, content
    for name, value in content.items():
        if isinstance(name, str):
            yield from _walk(value, f"{key}.{name}" if key else name, depth + 1, seen)


def _is_weight(name: str, value: Any) -> bool:
    if isinstance(value, StoredTensor):
        return value.is_float and not _COUNTERS.fullmatch(name)
    return isinstance(value, np.ndarray) and value.dtype.kind == "f" and not _COUNTERS.fullmatch(name)


def _array(value: Any) -> NDArray[Any]:
    return value.array() if isinstance(value, StoredTensor) else value


def _by_prefix(key: str, tensors: dict[str, Any]) -> Iterator[FoundStateDict]:
    """The state dict without its common prefix; if only a part has a prefix, that part as well."""
    while True:
        shared = next((p for p in _PREFIXES if all(name.startswith(p) for name in tensors)), None)
        if shared is None or _belongs_to_names(shared, tensors):
            break
        tensors = {name.removeprefix(shared): value for name, value in tensors.items()}
    yield FoundStateDict(key, tensors)
    for prefix in _PREFIXES:
        part = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        if len(part) > 1 and len(part) < len(tensors) and not _belongs_to_names(prefix, tensors):
            word = prefix.removesuffix(".")
            yield from (FoundStateDict(f"{key}.{word}" if key else word, c.tensors) for c in _by_prefix("", part))


def _belongs_to_names(prefix: str, tensors: dict[str, Any]) -> bool:
    """Whether a prefix is part of the network's own names: the ESRGAN of 2018 uses `model.0`, `model.1`."""
    return any(re.match(r"\d+\.", name.removeprefix(prefix)) for name in tensors if name.startswith(prefix))


def _rank(key: str) -> tuple[int, int]:
    """Sort key: known keys first, then by depth."""
    words = key.split(".")
    known = min((_KEYS.index(word) for word in words if word in _KEYS), default=len(_KEYS))
    ema = any("ema" in word for word in words)
    return (0 if ema else 1, known) if key else (1, -1)


__all__ = ["FoundStateDict", "as_float32", "facts_of", "find_state_dicts", "read_state"]
