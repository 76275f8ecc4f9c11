"""Messages of an ONNX file: nodes, tensors and value infos, parsed on demand.

Field numbers are those of `onnx.proto3`: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from srgan_fast.errors import ModelError
from srgan_fast.models.graphs import graph as g
from srgan_fast.models.graphs.graph import quoted
from srgan_fast.models.graphs.protobuf import Budget, as_bytes, as_int, fields, packed_varints, text

# TensorProto.DataType
_FLOAT, _INT32, _INT64, _FLOAT16, _DOUBLE, _BFLOAT16 = 1, 6, 7, 10, 11, 16
FLOATS = (_FLOAT, _FLOAT16, _DOUBLE, _BFLOAT16)
_DTYPES = {_FLOAT: "<f4", _INT32: "<i4", _INT64: "<i8", _FLOAT16: "<f2", _DOUBLE: "<f8", _BFLOAT16: "<u2"}

Constant = NDArray[np.generic]


@dataclass(slots=True)
class NodeMessage:
    """A NodeProto.

    Attributes:
        op: operator.
        name: used in messages; may be empty.
        domain: domain of the operator; empty for ONNX's own.
        inputs: names of values; empty for omitted ones.
        outputs: names of values.
        attributes: AttributeProtos by name.
    """

    budget: Budget
    op: str = ""
    name: str = ""
    domain: str = ""
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    attributes: dict[str, memoryview] = field(default_factory=dict)

    def __str__(self) -> str:
        what = self.name or (self.outputs[0] if self.outputs else "")
        return f"{self.op} {quoted(what)}"

    def has_input(self, index: int) -> bool:
        """Whether an optional input is present."""
        return len(self.inputs) > index and self.inputs[index] != ""

    def integer(self, name: str, default: int) -> int:
        """An integer attribute."""
        values = self._attribute(name, 3)
        return as_int(values[-1]) if values else default

    def number(self, name: str, default: float) -> float:
        """A numeric attribute."""
        values = self._attribute(name, 2)
        if not values:
            return default
        if len(data := as_bytes(values[-1])) != 4:
            raise ModelError(f"its {name} is not a number")
        return float(np.frombuffer(data, "<f4")[0])

    def string(self, name: str, default: str) -> str:
        """A string attribute."""
        values = self._attribute(name, 4)
        return text(values[-1]) if values else default

    def integers(self, name: str) -> tuple[int, ...]:
        """An attribute of integers; empty if absent."""
        found: list[np.int64 | int] = []
        for value in self._attribute(name, 8):
            found += [as_int(value)] if isinstance(value, int) else packed_varints(as_bytes(value)[:1000])
        return tuple(v.__index__() for v in found)

    def numbers(self, name: str) -> Constant:
        """An attribute of numbers; empty if absent."""
        data = b"".join(bytes(as_bytes(value)[:1000]) for value in self._attribute(name, 7)[:16])
        if len(data) % 4:
            raise ModelError(f"its {name} are not numbers")
        return np.frombuffer(data, "<f4")

    def tensor(self, name: str) -> memoryview | None:
        """A tensor attribute."""
        values = self._attribute(name, 5)
        return as_bytes(values[-1]) if values else None

    def _attribute(self, name: str, number: int) -> list[int | memoryview]:
        """All values of one field of an AttributeProto."""
        message = self.attributes.get(name)
        return [] if message is None else [v for n, v in fields(message, self.budget) if n == number]


@dataclass(slots=True)
class Tensor:
    """A TensorProto whose values are not parsed yet."""

    name: str = ""
    dims: list[int] = field(default_factory=list)
    kind: int = 0
    data: memoryview | None = None  # raw_data
    numbers: memoryview | None = None  # packed varints: integers, and the bits of 16-bit floats
    loose: list[int | memoryview] = field(default_factory=list)  # unpacked values
    external: dict[str, str] = field(default_factory=dict)
    is_external: bool = False

    def __str__(self) -> str:
        return f"the constant {quoted(self.name)}"


@dataclass(frozen=True, slots=True)
class ValueInfo:
    """A ValueInfoProto.

    Attributes:
        name: of the value.
        kind: element type; 0 if not stated.
        shape: 0 for dynamic sides; empty if not stated.
    """

    name: str
    kind: int
    shape: tuple[int, ...]


class Messages:
    """Parses a file's messages, and counts them towards limits.

    Args:
        folder: folder of external weights.
    """

    def __init__(self, folder: Path) -> None:
        self.budget = Budget()
        self.folder = folder
        self.weights_left = g.MAX_WEIGHTS  # many constants may refer to the same external bytes

    def node(self, message: memoryview) -> NodeMessage:
        """Parses a NodeProto."""
        node = NodeMessage(self.budget)
        for number, value in fields(message, self.budget):
            match number:
                case 1:
                    node.inputs.append(text(value))
                case 2:
                    node.outputs.append(text(value))
                case 3:
                    node.name = text(value)
                case 4:
                    node.op = text(value)
                case 5:
                    attribute = as_bytes(value)
                    name = next((text(v) for n, v in fields(attribute, self.budget) if n == 1), "")
                    node.attributes[name] = attribute
                case 7:
                    node.domain = text(value)
        if not re.fullmatch(r"\w{1,60}", node.op, re.ASCII):
            raise ModelError(f"a node without an operator: {quoted(node.op)}")
        return node

    def value_info(self, message: memoryview) -> ValueInfo:
        """Parses a ValueInfoProto."""
        name, kind = "", 0
        shape: list[int] = []
        for number, value in fields(message, self.budget):
            if number == 1:
                name = text(value)
            elif number == 2:
                for tensor_type in self._children(value, 1):
                    for n, v in fields(tensor_type, self.budget):
                        if n == 1:
                            kind = as_int(v)
                        elif n == 2:
                            shape += [self._side(dim) for dim in self._children(v, 1)]
        return ValueInfo(name, kind, tuple(shape))

    def _children(self, message: int | memoryview, number: int) -> list[memoryview]:
        return [as_bytes(v) for n, v in fields(as_bytes(message), self.budget) if n == number]

    def _side(self, dim: memoryview) -> int:
        return next((as_int(size) for number, size in fields(dim, self.budget) if number == 1), 0)

    def tensor(self, message: memoryview) -> Tensor:  # noqa: PLR0912 (one for each field)
        """Parses a TensorProto except for its values."""
        tensor = Tensor()
        for number, value in fields(message, self.budget):
            match number:
                case 1:
                    if isinstance(value, int):
                        tensor.dims.append(as_int(value))
                    else:
                        tensor.dims += [int(dim) for dim in packed_varints(value[:1000])]
                case 2:
                    tensor.kind = as_int(value)
                case 4 | 10:  # float_data, double_data: one packed value and one unpacked value look the same
                    if len(as_bytes(value)) == (4 if number == 4 else 8):
                        tensor.loose.append(value)
                    else:
                        tensor.data = as_bytes(value)
                case 9:
                    tensor.data = as_bytes(value)
                case 5 | 7:  # int32_data, int64_data
                    if isinstance(value, int):
                        tensor.loose.append(value)
                    else:
                        tensor.numbers = value
                case 8:
                    tensor.name = text(value)
                case 13:
                    entry = {n: text(v) for n, v in fields(as_bytes(value), self.budget)}
                    tensor.external[entry.get(1, "")] = entry.get(2, "")
                case 14:
                    tensor.is_external = as_int(value) == 1
        return tensor

    def array(self, tensor: Tensor) -> Constant:
        """Values of a tensor; a view of the file if possible.

        Raises:
            ModelError: the number or type of the values differs from what is stated, or their location is not allowed.
        """
        dtype = _DTYPES.get(tensor.kind)
        if dtype is None:
            raise ModelError(f"{tensor} is of element type {tensor.kind}; only floating-point weights are read")
        count = 1
        for dim in tensor.dims:
            count *= dim
            if dim < 0 or count > g.MAX_WEIGHTS:
                raise ModelError(f"{tensor} has a shape of {'x'.join(map(str, tensor.dims[:6]))}")
        self.weights_left -= count
        if self.weights_left < 0:
            raise ModelError(f"more than {g.MAX_WEIGHTS} weights in all")
        values = self._values(tensor, dtype, count)
        if len(values) != count:
            raise ModelError(f"{tensor} has {len(values)} values, its shape {count}")
        if tensor.kind == _BFLOAT16:
            values = (values.astype(np.uint32) << 16).view(np.float32)
        return values.reshape(tensor.dims)

    def _values(self, tensor: Tensor, dtype: str, count: int) -> Constant:
        size = np.dtype(dtype).itemsize
        if tensor.is_external:
            return np.frombuffer(self._external(tensor, count * size), dtype)
        bits = "<u2" if dtype == "<f2" else dtype  # 16-bit floats are stored as integers with the same bits
        if tensor.numbers is not None:
            if len(tensor.numbers) > 10 * count:
                raise ModelError(f"{tensor} has more values than its shape")
            return packed_varints(tensor.numbers, bits).view(dtype)
        if tensor.loose and isinstance(tensor.loose[0], int):
            return np.array([v for v in tensor.loose if isinstance(v, int)], np.uint64).astype(bits).view(dtype)
        data = tensor.data
        if data is None:
            data = memoryview(b"".join(bytes(as_bytes(value)) for value in tensor.loose))
        if len(data) != count * size:
            raise ModelError(f"{tensor} has {len(data)} bytes, its shape needs {count * size}")
        return np.frombuffer(data, dtype)

    def _external(self, tensor: Tensor, size: int) -> bytes:
        """External weights, which must be in the model's folder."""
        location = tensor.external.get("location", "")
        numbers = [tensor.external.get(key, default) for key, default in (("offset", "0"), ("length", str(size)))]
        if not location or not all(re.fullmatch(r"\d{1,12}", number, re.ASCII) for number in numbers):
            raise ModelError(f"{tensor} is in an external file without a location")
        offset, length = map(int, numbers)
        where = quoted(location)
        try:
            folder = self.folder.resolve()
            path = (folder / location).resolve()
            if not path.is_relative_to(folder):
                raise ModelError(f"{tensor} is outside the model's folder, in {where}; refused")
            if not path.is_file():
                raise ModelError(f"{tensor} is in {where}, which does not exist")
            if length != size or offset + length > path.stat().st_size:
                raise ModelError(f"{tensor} needs {size} bytes, {where} has others")
            with path.open("rb") as file:
                file.seek(offset)
                return file.read(size)
        except (OSError, ValueError):  # ValueError: a name with a null byte
            raise ModelError(f"{tensor} is in {where}, which cannot be read") from None


__all__ = ["FLOATS", "Constant", "Messages", "NodeMessage", "Tensor", "ValueInfo"]
