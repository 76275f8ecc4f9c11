"""Reads and writes safetensors files: metadata and arrays.

Ours carry a digest of their arrays, which is compared when a file is read: weights with a flipped bit would show as
slightly wrong images at most. It is not about metadata, which other programs may add to.
"""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, deserialize, safe_open
from safetensors.numpy import save

from srgan_fast.errors import FileError, ModelError
from srgan_fast.files import atomic_write

_DTYPES = {
    "F64": "f8", "F32": "f4", "F16": "f2", "I64": "i8", "I32": "i4", "I16": "i2", "I8": "i1",
    "U64": "u8", "U32": "u4", "U16": "u2", "U8": "u1", "BOOL": "?",
}  # fmt: skip


_DIGEST = "sha256_of_tensors"  # key of metadata


def read_safetensors(path: Path) -> tuple[dict[str, str], dict[str, NDArray[Any]]]:
    """Metadata, without our digest, and arrays by name; bfloat16 as float32.

    Raises:
        ModelError: a damaged file, arrays that do not match the file's digest, or dtypes that NumPy does not support,
            such as 8-bit floats.
    """
    try:
        with safe_open(path, framework="numpy") as file:  # checks the header against the file's length
            metadata = dict(file.metadata() or {})
        stored = deserialize(path.read_bytes())  # type: ignore[no-untyped-call]
        tensors = {name: _array(tensor) for name, tensor in stored}
    except KeyError as error:
        raise ModelError(f"{path}: contains arrays of the unsupported type {error}") from None
    except (SafetensorError, OSError, TypeError, AttributeError, ValueError) as error:
        raise ModelError(f"{path}: not a readable safetensors file ({error})") from None
    recorded = metadata.pop(_DIGEST, None)
    if recorded is not None and recorded != _digest(stored):
        raise ModelError(
            f"{path}: its weights are not those that were written; the file is damaged. If another program changed "
            f"them on purpose, it has to leave {_DIGEST} out of the metadata"
        )
    return metadata, tensors


def _digest(stored: Iterable[tuple[str, Mapping[str, Any]]]) -> str:
    """What stands for arrays as safetensors' `deserialize` gives them."""
    digest = hashlib.sha256()
    for name, tensor in sorted(stored, key=lambda pair: pair[0]):
        digest.update(f"{name}\0{tensor['dtype']}\0{tuple(tensor['shape'])}\0".encode())
        digest.update(tensor["data"])
    return digest.hexdigest()


def write_safetensors(path: Path, tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> None:
    """Writes a file atomically.

    Args:
        path: target; its suffix must be `.safetensors`.
        tensors: arrays by name.
        metadata: stored beside them.

    Raises:
        ModelError: the suffix is wrong, or the target cannot be written.
    """
    if path.suffix != ".safetensors":
        raise ModelError(f"{path}: model files end in .safetensors")
    arrays = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    digest = _digest(deserialize(save(arrays)))  # type: ignore[no-untyped-call]
    try:
        with atomic_write(path) as file:
            file.write(save(arrays, {**metadata, _DIGEST: digest}))
    except FileError as error:
        raise ModelError(str(error)) from None


def _array(tensor: dict[str, Any]) -> NDArray[Any]:
    dtype, data, shape = tensor["dtype"], tensor["data"], tuple(tensor["shape"])
    if dtype == "BF16":
        wide = np.frombuffer(data, np.uint16).astype(np.uint32) << 16
        return wide.view(np.float32).reshape(shape)
    return np.frombuffer(data, _DTYPES[dtype]).reshape(shape)


__all__ = ["read_safetensors", "write_safetensors"]
