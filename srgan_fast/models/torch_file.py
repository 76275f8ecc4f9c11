"""Reads files written by `torch.save` without PyTorch: current archives and the stream format of before 2020.

Both contain a pickle that describes tensors (see `pickles`) and the bytes of their storages. Nothing is executed, and
no more is allocated than the file can contain.
"""

import io
import math
import mmap
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from srgan_fast.errors import ModelError
from srgan_fast.models.pickles import Called, Named, Persistent, PickleError, read_pickle

_LONGEST_PICKLE = 1 << 25
_DEEPEST = 64
_MOST_DIMENSIONS = 8
_MAGIC = 0x1950A86A20F9469CFC6C  # of the stream format
_BFLOAT16 = "bfloat16"
_DTYPES = {
    "FloatStorage": "float32", "DoubleStorage": "float64", "HalfStorage": "float16", "BFloat16Storage": _BFLOAT16,
    "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8",
    "ByteStorage": "uint8", "BoolStorage": "bool", "UntypedStorage": "uint8",
    "float32": "float32", "float64": "float64", "float16": "float16", "bfloat16": _BFLOAT16,
    "int64": "int64", "int32": "int32", "int16": "int16", "int8": "int8", "uint8": "uint8", "bool": "bool",
}  # fmt: skip
_PARAMETERS = ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state")
_TENSORS = (
    "torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor_v3",
)  # fmt: skip
_ITEM_SIZE = {name: 2 if name == _BFLOAT16 else np.dtype(name).itemsize for name in set(_DTYPES.values())}


@dataclass(frozen=True, slots=True)
class Storage:
    """A range of bytes in the file.

    Attributes:
        dtype: of its elements.
        size: in bytes.
        read: reads them.
    """

    dtype: str
    size: int
    read: Callable[[], bytes]


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor that is not read yet.

    Attributes:
        shape: of the tensor.
        dtype: NumPy's name of its dtype, or `bfloat16`.
        offset: of the first element in the storage, in elements.
        stride: in elements.
        storage: its storage.
    """

    shape: tuple[int, ...]
    dtype: str
    offset: int
    stride: tuple[int, ...]
    storage: Storage

    @property
    def is_float(self) -> bool:
        """Whether it holds floating-point numbers."""
        return self.dtype == _BFLOAT16 or np.dtype(self.dtype).kind == "f"

    def array(self) -> NDArray[Any]:
        """Reads the tensor's values; bfloat16 as float32."""
        raw = self.storage.read()
        items: NDArray[Any]
        if self.dtype == _BFLOAT16:
            items = (np.frombuffer(raw, np.uint16).astype(np.uint32) << 16).view(np.float32)
        else:
            items = np.frombuffer(raw, self.dtype)
        strides = tuple(step * items.itemsize for step in self.stride)
        view = np.lib.stride_tricks.as_strided(items[self.offset :], self.shape, strides)
        return np.ascontiguousarray(view).reshape(self.shape)


def read_torch_file(path: Path) -> Any:
    """Reads what was passed to `torch.save`: mappings, lists and plain values, with a `StoredTensor` for every tensor.

    Objects of other classes become `pickles.Called`.

    Raises:
        ModelError: a damaged file, a TorchScript archive, or a file not written by torch.save.
    """
    try:
        with path.open("rb") as file:
            length = file.seek(0, io.SEEK_END)
            file.seek(0)
            archive = file.read(4) == b"PK\x03\x04"
            file.seek(0)
            if archive:
                return _read_archive(path, file, length)
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as stream:  # reads never go past its end
                return _read_stream(path, stream, length)
    except (PickleError, OSError, zipfile.BadZipFile, struct.error) as error:
        raise ModelError(
            f"{path}: not a readable PyTorch file ({error}); it is damaged, or not written by torch.save"
        ) from None
    except (
        NotImplementedError,
        RuntimeError,
        ValueError,
        EOFError,
        LookupError,
        OverflowError,
    ) as error:  # zipfile's errors for invalid archives
        raise ModelError(f"{path}: not a readable PyTorch file ({str(error)[:100]})") from None


def _read_archive(path: Path, file: BinaryIO, length: int) -> Any:
    with zipfile.ZipFile(file) as archive:
        members = {info.filename: info for info in archive.infolist()}
        found = [name for name in members if name.endswith("/data.pkl") or name == "data.pkl"]
        if len(found) != 1:
            raise ModelError(f"{path}: an archive not written by torch.save (it has no data.pkl)")
        prefix = found[0].removesuffix("data.pkl")
        if any(name.startswith(f"{prefix}code/") for name in members):
            raise ModelError(
                f"{path}: a TorchScript archive, which contains code; save only the state dict: "
                f"torch.save(model.state_dict(), ...)"
            )
        if any(info.compress_type != zipfile.ZIP_STORED for info in members.values()):
            raise ModelError(f"{path}: a compressed archive, which torch.save does not write")
        if sum(info.file_size for info in members.values()) > length:
            raise ModelError(f"{path}: an archive that claims to hold more than its {length} bytes")
        order = archive.read(f"{prefix}byteorder") if f"{prefix}byteorder" in members else b"little"
        if order != b"little":
            raise ModelError(f"{path}: written on a machine of {order[:10]!r} byte order, which is not read here")
        if members[found[0]].file_size > _LONGEST_PICKLE:
            raise ModelError(f"{path}: its description is longer than {_LONGEST_PICKLE} bytes")

        def storage(key: tuple[Any, ...]) -> Storage:
            dtype, member, count = _DTYPES[key[1].name], members[f"{prefix}data/{key[2]}"], int(key[4])
            if not 0 <= count * _ITEM_SIZE[dtype] <= member.file_size:
                raise PickleError(f"a storage of {count} items in {member.file_size} bytes")
            begin = _begin(file, member)
            if begin + member.file_size > length:
                raise PickleError(f"a storage of {count} items beyond the end of the file")
            return Storage(dtype, member.file_size, lambda: _bytes_of(path, begin, member.file_size, member.CRC))

        return _Tensors(storage).of(read_pickle(io.BytesIO(archive.read(found[0]))))


def _begin(file: BinaryIO, member: zipfile.ZipInfo) -> int:
    """Offset of a member's data: after its header, its name and padding."""
    file.seek(member.header_offset)
    header = file.read(30)
    if header[:4] != b"PK\x03\x04":
        raise PickleError(f"no header of {member.filename:.40}")
    name, padding = struct.unpack("<HH", header[26:30])
    return int(member.header_offset) + 30 + int(name) + int(padding)


def _bytes_of(path: Path, begin: int, size: int, checksum: int | None = None) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(begin)
            data = file.read(size)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from None
    if len(data) != size or (checksum is not None and zlib.crc32(data) != checksum):
        raise ModelError(f"{path}: {size} bytes at {begin} are not what was written; the file is damaged")
    return data


def _read_stream(path: Path, file: mmap.mmap, length: int) -> Any:
    """Stream format: magic number, version, machine, content, names of storages, storages with their lengths."""
    if read_pickle(file) != _MAGIC:
        raise PickleError("no magic number")
    read_pickle(file), read_pickle(file)
    content, keys = read_pickle(file), read_pickle(file)
    places = _Places(path)
    tensors = _Tensors(places.storage)
    result = tensors.of(content)
    if not isinstance(keys, list):
        raise PickleError("no list of storages")
    for key in keys:
        count = struct.unpack("<q", file.read(8))[0]
        size = count * _ITEM_SIZE[places.dtypes.get(str(key), "uint8")]
        begin = file.tell()
        if count < 0 or begin + size > length:
            raise PickleError(f"a storage of {count} items does not fit into the file")
        places.found[str(key)] = (begin, size)
        file.seek(begin + size)
    for key, (dtype, count) in places.asked.items():
        if key not in places.found or count * _ITEM_SIZE[dtype] > places.found[key][1]:
            raise PickleError(f"storage {key:.20} is missing or too short")
    return result


class _Places:
    """Locations of a stream's storages, which are known only after the tensors have been read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.dtypes: dict[str, str] = {}
        self.asked: dict[str, tuple[str, int]] = {}
        self.found: dict[str, tuple[int, int]] = {}

    def storage(self, key: tuple[Any, ...]) -> Storage:
        dtype, name, count = _DTYPES[key[1].name], str(key[2]), int(key[4])
        if len(key) > 5 and key[5] is not None:
            raise PickleError("views of storages, which torch wrote before 2017")
        if count < 0 or self.dtypes.setdefault(name, dtype) != dtype:
            raise PickleError(f"storage {name:.20} is described in two ways")
        self.asked[name] = (dtype, count)
        return Storage(dtype, count * _ITEM_SIZE[dtype], lambda: self.fetch(name))

    def fetch(self, name: str) -> bytes:
        return _bytes_of(self.path, *self.found[name])


class _Tensors:
    """Converts described tensors to `StoredTensor`.

    Args:
        storage: resolves a persistent key, `("storage", type, name, device, items)`.
    """

    def __init__(self, storage: Callable[[tuple[Any, ...]], Storage]) -> None:
        self._storage = storage
        self._seen: dict[int, Any] = {}

    def of(self, value: Any, depth: int = 0) -> Any:
        """Converts a value recursively; shared objects are converted once."""
        if not isinstance(value, Called | dict | list | tuple):
            return value
        if id(value) in self._seen:
            return self._seen[id(value)]
        if depth > _DEEPEST:
            return None
        self._seen[id(value)] = None  # for objects that contain themselves
        self._seen[id(value)] = result = self._converted(value, depth + 1)
        return result

    def _converted(self, value: Any, depth: int) -> Any:
        if isinstance(value, dict):
            return {key: self.of(item, depth) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.of(item, depth) for item in value]
        what = str(value.what)
        if what == "collections.OrderedDict":
            return {key: self.of(item, depth) for key, item in (*_pairs(value.arguments), *value.items.items())}
        if what in _PARAMETERS and value.arguments:
            return self.of(value.arguments[0], depth)
        return self._tensor(value) if what in _TENSORS else value

    def _tensor(self, call: Called) -> StoredTensor | Called:
        """The tensor that a call describes; the call itself if its dtype is unsupported."""
        if len(call.arguments) < 4 or not isinstance(call.arguments[0], Persistent):
            raise PickleError("a tensor without a storage")
        storage, offset, shape, stride = call.arguments[:4]
        dtype = _dtype_of(call)
        if dtype is None:
            return call
        try:
            place = self._storage(storage.key)
        except (KeyError, IndexError, AttributeError, TypeError, ValueError):
            raise PickleError("a tensor in a storage that is unknown or not there") from None
        if isinstance(shape, Called):  # torch.Size
            shape = next(iter(shape.arguments), None)
        if not (_are_sizes(shape) and _are_sizes(stride) and len(shape) == len(stride) and _are_sizes((offset,))):
            raise PickleError("a tensor with invalid sizes")
        count = math.prod(shape)
        last = offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True)) if count else offset
        items = place.size // _ITEM_SIZE[dtype]
        if (count and last >= items) or count > max(items, 1):
            raise PickleError(f"a tensor of {'x'.join(map(str, shape))} items in a storage of {items}")
        return StoredTensor(tuple(shape), dtype, offset, tuple(stride), place)


def _are_sizes(values: Any) -> bool:
    return (
        isinstance(values, tuple | list)
        and len(values) <= _MOST_DIMENSIONS
        and all(type(value) is int and 0 <= value < 1 << 48 for value in values)
    )


def _dtype_of(call: Called) -> str | None:
    """NumPy's name of a tensor's dtype, from its storage or an argument; None if unsupported."""
    key = call.arguments[0].key
    named = call.arguments[6:7] if str(call.what).endswith("v3") else key[1:2] if isinstance(key, tuple) else ()
    return _DTYPES.get(named[0].name) if named and isinstance(named[0], Named) else None


def _pairs(arguments: tuple[Any, ...]) -> Iterator[tuple[Any, Any]]:
    """Items that an OrderedDict was constructed with."""
    if arguments and isinstance(arguments[0], Mapping):
        yield from arguments[0].items()
    elif arguments and isinstance(arguments[0], list):
        for pair in arguments[0]:
            if isinstance(pair, list | tuple) and len(pair) == 2 and isinstance(pair[0], str):
                yield pair[0], pair[1]


__all__ = ["Storage", "StoredTensor", "read_torch_file"]
