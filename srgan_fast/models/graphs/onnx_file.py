"""ONNX files of upscaling networks.

Operators that such networks are made of become a little graph; all others are refused by their names. The file is read
by a small parser of our own (see `protobuf`), so the `onnx` package is not needed. Field numbers are those of
`onnx.proto3`: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from srgan_fast.errors import ModelError
from srgan_fast.models.graphs import graph as g
from srgan_fast.models.graphs.fuse import fuse
from srgan_fast.models.graphs.graph import quoted
from srgan_fast.models.graphs.protobuf import Budget, as_bytes, as_int, fields, packed_varints, text
from srgan_fast.network.graph import Network

# TensorProto.DataType
_FLOAT, _INT32, _INT64, _FLOAT16, _DOUBLE, _BFLOAT16 = 1, 6, 7, 10, 11, 16
_FLOATS = (_FLOAT, _FLOAT16, _DOUBLE, _BFLOAT16)
_DTYPES = {_FLOAT: "<f4", _INT32: "<i4", _INT64: "<i8", _FLOAT16: "<f2", _DOUBLE: "<f8", _BFLOAT16: "<u2"}

# Axes of a pixel shuffle that is written as a reshape to six dimensions, a transpose, and a reshape back.
_SHUFFLES = {(0, 1, 4, 2, 5, 3): (2, 3, False), (0, 3, 4, 1, 5, 2): (1, 2, True)}
_UNSHUFFLES = {(0, 1, 3, 5, 2, 4): False, (0, 3, 5, 1, 2, 4): True}


def read_onnx(path: Path) -> Network:
    """The network in an ONNX file.

    Args:
        path: the file; weights in files beside it are read too, if they lie in its folder.

    Raises:
        ModelError: a missing or damaged file, an operator that no network of ours has, or parts that do not fit; one
            line with the file's name.
    """
    try:
        if not path.is_file():
            raise ModelError("no such file")
        if (size := path.stat().st_size) > g.MAX_FILE:
            raise ModelError(f"{size} bytes, more than the {g.MAX_FILE} that such a file may have")
        with path.open("rb") as file:
            data = file.read(g.MAX_FILE)
        return fuse(parse_onnx(data, path.parent))
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror or error})") from None
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None


def parse_onnx(data: bytes, folder: Path) -> g.Graph:
    """The graph in an ONNX file's contents.

    Args:
        data: the file.
        folder: where weights outside it may lie.

    Raises:
        ModelError: see `read_onnx`; without the file's name.
    """
    budget = Budget()
    graph = None
    for number, value in fields(memoryview(data), budget):
        if number == 7:  # ModelProto.graph
            graph = as_bytes(value)
    if graph is None:
        raise ModelError("not an ONNX file: there is no graph in it")
    return _Reader(budget, folder).graph(graph)


@dataclass(slots=True)
class _Tensor:
    """A TensorProto, not unfolded yet."""

    name: str = ""
    dims: list[int] = field(default_factory=list)
    kind: int = 0
    data: memoryview | None = None
    numbers: memoryview | None = None  # float16 and integers as varints
    loose: list[int | memoryview] = field(default_factory=list)  # numbers that were not packed
    external: dict[str, str] = field(default_factory=dict)
    is_external: bool = False


@dataclass(slots=True)
class _Node:
    """A NodeProto."""

    op: str = ""
    name: str = ""
    domain: str = ""
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    attributes: dict[str, memoryview] = field(default_factory=dict)

    def __str__(self) -> str:
        what = self.name or (self.outputs[0] if self.outputs else "")
        return f"{self.op} {quoted(what)}"


@dataclass(slots=True)
class _Reshaped:
    """A value on its way through the reshapes and the transpose of a pixel shuffle."""

    source: str
    shape: tuple[int, ...]
    order: tuple[int, ...] = ()


class _Reader:
    """Turns nodes of a file into those of a little graph."""

    def __init__(self, budget: Budget, folder: Path) -> None:
        self.budget = budget
        self.folder = folder
        self.builder = g.GraphBuilder()
        self.constants: dict[str, NDArray[np.generic] | _Tensor] = {}
        self.reshaped: dict[str, _Reshaped] = {}
        self.weights_left = g.MAX_WEIGHTS  # many constants may name the same bytes of another file

    def graph(self, message: memoryview) -> g.Graph:
        nodes: list[_Node] = []
        inputs: list[tuple[str, int, list[int]]] = []
        outputs: list[str] = []
        for number, value in fields(message, self.budget):
            match number:
                case 1:
                    if len(nodes) >= g.MAX_NODES:
                        raise ModelError(f"more than {g.MAX_NODES} nodes")
                    nodes.append(self._node(as_bytes(value)))
                case 5:
                    tensor = self._tensor(as_bytes(value))
                    self.constants[tensor.name] = tensor
                case 11:
                    inputs.append(self._value_info(as_bytes(value)))
                case 12:
                    outputs.append(self._value_info(as_bytes(value))[0])
                case 15:
                    raise ModelError("sparse weights are not supported")
        images = [entry for entry in inputs if entry[0] not in self.constants]
        if len(images) != 1 or len(outputs) != 1:
            raise ModelError(f"{len(images)} inputs and {len(outputs)} outputs; a network has one image and one result")
        image, kind, shape = images[0]
        if kind not in (*_FLOATS, 0):
            raise ModelError(f"its input {quoted(image)} is not of floating-point numbers, so not in 0..1")
        if shape and len(shape) != 4:
            raise ModelError(f"its input {quoted(image)} has {len(shape)} dimensions; an image is N, C, H, W")
        self.builder.define(image)
        for node in _needed(nodes, outputs[0]):
            self._translate(node)
        if outputs[0] in self.constants:
            raise ModelError("its result is a constant")
        channels = shape[1] if shape and shape[1] > 0 else None
        return g.Graph(tuple(self.builder.nodes), image, self.builder.resolve(outputs[0]), channels)

    # Messages.

    def _node(self, message: memoryview) -> _Node:
        node = _Node()
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

    def _value_info(self, message: memoryview) -> tuple[str, int, list[int]]:
        """Name, element type and shape; sides without a number are 0."""
        name, kind, shape = "", 0, []
        for number, value in fields(message, self.budget):
            if number == 1:
                name = text(value)
            elif number == 2:
                for _, tensor_type in self._children(as_bytes(value), 1):
                    for n, v in fields(tensor_type, self.budget):
                        if n == 1:
                            kind = as_int(v)
                        elif n == 2:
                            for _, dim in self._children(as_bytes(v), 1):
                                sizes = [as_int(size) for key, size in fields(dim, self.budget) if key == 1]
                                shape.append(sizes[0] if sizes else 0)
        return name, kind, shape

    def _children(self, message: memoryview, number: int) -> list[tuple[int, memoryview]]:
        return [(n, as_bytes(v)) for n, v in fields(message, self.budget) if n == number]

    def _tensor(self, message: memoryview) -> _Tensor:  # noqa: PLR0912 (one for each field)
        tensor = _Tensor()
        for number, value in fields(message, self.budget):
            match number:
                case 1:
                    if isinstance(value, int):
                        tensor.dims.append(as_int(value))
                    else:
                        tensor.dims += [int(dim) for dim in packed_varints(value[:1000])]
                case 2:
                    tensor.kind = as_int(value)
                case 4 | 9 | 10:  # float_data, raw_data, double_data
                    if number != 9 and len(as_bytes(value)) == (4 if number == 4 else 8) and not tensor.data:
                        tensor.loose.append(value)  # packed with one value, or not packed: the same bytes
                    else:
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

    # Constants.

    def _array(self, tensor: _Tensor) -> NDArray[np.generic]:
        """A tensor's values; a view of the file where they lie there as they are."""
        what = f"the constant {quoted(tensor.name)}"
        dtype = _DTYPES.get(tensor.kind)
        if dtype is None:
            raise ModelError(
                f"{what} is of element type {tensor.kind}; only floating-point and plain integers are read"
            )
        count = 1
        for dim in tensor.dims:
            count *= dim
            if dim < 0 or count > g.MAX_WEIGHTS:
                raise ModelError(f"{what} has a shape of {'x'.join(map(str, tensor.dims[:6]))}")
        self.weights_left -= count
        if self.weights_left < 0:
            raise ModelError(f"more than {g.MAX_WEIGHTS} weights in all")
        size = np.dtype(dtype).itemsize
        if tensor.is_external:
            values = np.frombuffer(self._external(tensor, count * size), dtype)
        elif tensor.numbers is not None:
            if len(tensor.numbers) > 10 * count:
                raise ModelError(f"{what} has more values than its shape")
            values = packed_varints(tensor.numbers, "<u2" if dtype == "<f2" else dtype).view(dtype)
        elif tensor.loose and isinstance(tensor.loose[0], int):
            numbers = np.array([value for value in tensor.loose if isinstance(value, int)], np.uint64)
            values = numbers.astype("<u2" if dtype == "<f2" else dtype).view(dtype)
        else:
            data = tensor.data
            if data is None:
                data = memoryview(b"".join(bytes(as_bytes(value)) for value in tensor.loose))
            if len(data) != count * size:
                raise ModelError(f"{what} has {len(data)} bytes, its shape needs {count * size}")
            values = np.frombuffer(data, dtype)
        if len(values) != count:
            raise ModelError(f"{what} has {len(values)} values, its shape {count}")
        if tensor.kind == _BFLOAT16:
            values = (values.astype(np.uint32) << 16).view(np.float32)
        return values.reshape(tensor.dims)

    def _external(self, tensor: _Tensor, size: int) -> bytes:
        """Weights in a file of their own, which must lie in the model's folder."""
        what = f"the constant {quoted(tensor.name)}"
        location = tensor.external.get("location", "")
        numbers = [tensor.external.get(key, default) for key, default in (("offset", "0"), ("length", str(size)))]
        if not location or not all(re.fullmatch(r"\d{1,12}", number) for number in numbers):
            raise ModelError(f"{what} lies in another file, but it is not said where")
        offset, length = map(int, numbers)
        try:
            folder = self.folder.resolve()
            path = (folder / location).resolve()
            if not path.is_relative_to(folder) or "\0" in location:
                raise ModelError(f"{what} lies outside the model's folder, in {quoted(location)}; refused")
            if not path.is_file():
                raise ModelError(f"{what} lies in {quoted(location)}, which is not there")
            if length != size or offset + length > path.stat().st_size:
                raise ModelError(f"{what} needs {size} bytes of {quoted(location)}, which has other ones")
            with path.open("rb") as file:
                file.seek(offset)
                return file.read(size)
        except (OSError, ValueError) as error:
            raise ModelError(f"{what} lies in {quoted(location)}, which cannot be read ({error})") from None

    def _constant(self, name: str) -> NDArray[np.generic] | None:
        """The values of a constant, None for anything else."""
        value = self.constants.get(name)
        if isinstance(value, _Tensor):
            value = self.constants[name] = self._array(value)
        return value

    def _needed_constant(self, node: _Node, index: int, what: str) -> NDArray[np.generic]:
        value = self._constant(node.inputs[index]) if len(node.inputs) > index else None
        if value is None:
            raise ModelError(f"its {what} is not a constant")
        return value

    # Attributes.

    def _attribute(self, node: _Node, name: str, number: int) -> list[int | memoryview]:
        """All values of one field of an attribute.

        Fields: 2 a float, 3 an integer, 4 text, 5 a tensor, 7 floats, 8 integers.
        """
        message = node.attributes.get(name)
        return [] if message is None else [v for n, v in fields(message, self.budget) if n == number]

    def _int(self, node: _Node, name: str, default: int) -> int:
        values = self._attribute(node, name, 3)
        return as_int(values[-1]) if values else default

    def _float(self, node: _Node, name: str, default: float) -> float:
        values = self._attribute(node, name, 2)
        if not values:
            return default
        if len(data := as_bytes(values[-1])) != 4:
            raise ModelError(f"its {name} is not a number")
        return float(np.frombuffer(data, "<f4")[0])

    def _text(self, node: _Node, name: str, default: str) -> str:
        values = self._attribute(node, name, 4)
        return text(values[-1]) if values else default

    def _ints(self, node: _Node, name: str) -> tuple[int, ...]:
        found: list[int] = []
        for value in self._attribute(node, name, 8):
            found += [as_int(value)] if isinstance(value, int) else [int(v) for v in packed_varints(value[:1000])]
        return tuple(found)

    def _floats(self, node: _Node, name: str) -> tuple[float, ...]:
        data = b"".join(bytes(as_bytes(value)[:1000]) for value in self._attribute(node, name, 7)[:16])
        if len(data) % 4:
            raise ModelError(f"its {name} are not numbers")
        return tuple(float(v) for v in np.frombuffer(data, "<f4"))

    # Nodes.

    def _translate(self, node: _Node) -> None:
        handler = _HANDLERS.get(node.op) if node.domain in ("", "ai.onnx") else None
        if handler is None:
            raise ModelError(f"{node}: no part of a network that can be run here")
        try:
            if not node.inputs and node.op != "Constant":
                raise ModelError("it has no input")
            handler(self, node)
        except ModelError as error:
            raise ModelError(f"{node}: {error}") from None

    def _add(self, node: _Node, op: g.Op, *inputs: str) -> None:
        for name in inputs:
            if name in self.constants:
                raise ModelError(f"reads the constant {quoted(name)}")
            if name in self.reshaped:
                raise ModelError("reads a reshaped map, which is no pixel shuffle")
        self.builder.add(node.name or node.outputs[0], op, inputs, node.outputs[0])

    def constant(self, node: _Node) -> None:
        tensors = self._attribute(node, "value", 5)
        if tensors:
            value: NDArray[np.generic] | _Tensor = self._tensor(as_bytes(tensors[-1]))
        elif "value_float" in node.attributes:
            value = np.array(self._float(node, "value_float", 0.0), np.float32)
        elif "value_floats" in node.attributes:
            value = np.array(self._floats(node, "value_floats"), np.float32)
        elif "value_int" in node.attributes:
            value = np.array(self._int(node, "value_int", 0))
        elif "value_ints" in node.attributes:
            value = np.array(self._ints(node, "value_ints"), np.int64)
        else:
            raise ModelError("a constant of an unknown kind")
        self.builder.define(node.outputs[0])
        self.constants[node.outputs[0]] = value

    def alias(self, node: _Node) -> None:
        value = self._constant(node.inputs[0])
        if node.op == "Cast" and value is None and self._int(node, "to", 0) not in _FLOATS:
            raise ModelError("numbers that are not floating-point")
        if value is not None:
            self.builder.define(node.outputs[0])
            self.constants[node.outputs[0]] = value
        elif node.inputs[0] in self.reshaped:
            raise ModelError("reads a reshaped map, which is no pixel shuffle")
        else:
            self.builder.define(node.outputs[0], node.inputs[0])

    def conv(self, node: _Node) -> None:
        weight = _as_floats(self._needed_constant(node, 1, "weight"))
        if weight.ndim != 4 or not weight.size:
            raise ModelError(f"weights of {weight.ndim} dimensions; they must be C_out, C_in, k, k")
        c_out, c_in, size, width = weight.shape
        if size != width or size % 2 == 0 or size > g.MAX_KERNEL:
            raise ModelError(f"a kernel of {size} x {width}; its sides must be equal and odd, at most {g.MAX_KERNEL}")
        if max(c_out, c_in) > g.MAX_CHANNELS:
            raise ModelError(f"{max(c_out, c_in)} channels, more than {g.MAX_CHANNELS}")
        for name, allowed in (("strides", 1), ("dilations", 1), ("kernel_shape", size)):
            if any(value != allowed for value in self._ints(node, name)):
                raise ModelError(f"{name} of {self._ints(node, name)} are not supported")
        if (group := self._int(node, "group", 1)) != 1:
            raise ModelError(f"a convolution of {group} groups")
        padding = self._text(node, "auto_pad", "NOTSET")
        pads = self._ints(node, "pads") or (0,) * 4
        if padding not in ("SAME_UPPER", "SAME_LOWER") and any(pad != size // 2 for pad in pads):
            raise ModelError(f"a padding of {pads}; a kernel of {size} needs {size // 2} on all sides")
        bias = np.zeros(c_out, np.float32)
        if len(node.inputs) > 2 and node.inputs[2]:
            bias = _as_floats(self._needed_constant(node, 2, "bias")).reshape(-1)
        if bias.size != c_out:
            raise ModelError(f"a bias of {bias.size} values for {c_out} channels")
        self._add(node, g.Conv2d(weight, bias), node.inputs[0])

    def relu(self, node: _Node) -> None:
        self._add(node, g.Slope(np.zeros(1)), node.inputs[0])

    def leaky_relu(self, node: _Node) -> None:
        self._add(node, g.Slope(np.array([self._float(node, "alpha", 0.01)])), node.inputs[0])

    def prelu(self, node: _Node) -> None:
        self._add(node, g.Slope(_per_channel(self._needed_constant(node, 1, "slope"))), node.inputs[0])

    def batch_norm(self, node: _Node) -> None:
        names = ("scale", "bias", "mean", "variance")
        gamma, beta, mean, variance = (
            _as_floats(self._needed_constant(node, i + 1, name)).astype(np.float64).reshape(-1)
            for i, name in enumerate(names)
        )
        if len({len(gamma), len(beta), len(mean), len(variance)}) != 1 or self._int(node, "training_mode", 0):
            raise ModelError("its constants do not fit each other, or it is in training mode")
        with np.errstate(all="ignore"):  # what is not finite is refused when the network is checked
            gain = gamma / np.sqrt(variance + self._float(node, "epsilon", 1e-5))
            self._add(node, g.Affine(gain, beta - mean * gain), node.inputs[0])

    def arithmetic(self, node: _Node) -> None:
        """Add, Sub, Mul, Div and Sum, of maps or of a map and a constant."""
        constants = [i for i, name in enumerate(node.inputs) if self._constant(name) is not None]
        if not constants:
            if node.op in ("Mul", "Div"):
                raise ModelError("a product or quotient of two maps")
            scales = [1.0] * len(node.inputs)
            if node.op == "Sub":
                scales[1:] = [-1.0] * (len(node.inputs) - 1)
            self._add(node, g.Sum(tuple(scales)), *node.inputs)
            return
        if len(node.inputs) != 2 or len(constants) != 1:
            raise ModelError(f"{len(constants)} constants among {len(node.inputs)} inputs")
        (at,) = constants
        c = _per_channel(self._needed_constant(node, at, "constant")).astype(np.float64)
        one, zero = np.ones(1), np.zeros(1)
        with np.errstate(all="ignore"):  # what is not finite is refused when the network is checked
            match node.op:
                case "Add" | "Sum":
                    op = g.Affine(one, c)
                case "Sub":
                    op = g.Affine(one, -c) if at else g.Affine(-one, c)
                case "Mul":
                    op = g.Affine(c, zero)
                case _:
                    if at == 0:
                        raise ModelError("a quotient with a map below")
                    op = g.Affine(1 / c, zero)
        self._add(node, op, node.inputs[1 - at])

    def concat(self, node: _Node) -> None:
        if self._int(node, "axis", 1) not in (1, -3):
            raise ModelError(f"along axis {self._int(node, 'axis', 1)}; only channels can be joined")
        self._add(node, g.Concat(), *node.inputs)

    def resize(self, node: _Node) -> None:
        mode = self._text(node, "mode", "nearest")
        kinds: dict[str, Literal["nearest", "bilinear", "bicubic"]] = {
            "nearest": "nearest", "linear": "bilinear", "bilinear": "bilinear", "cubic": "bicubic",
        }  # fmt: skip
        kind = kinds.get(mode)
        if kind is None:
            raise ModelError(f"interpolation {quoted(mode)}")
        old = node.op == "Upsample" or len(node.inputs) == 2
        where = self._text(node, "coordinate_transformation_mode", "asymmetric" if old else "half_pixel")
        if kind == "nearest":
            rounding = self._text(node, "nearest_mode", "floor" if old else "round_prefer_floor")
            known = {("asymmetric", "floor")} | {
                (pixel, f"round_prefer_{way}")
                for pixel in ("half_pixel", "pytorch_half_pixel")
                for way in ("floor", "ceil")
            }
            if (where, rounding) not in known:
                raise ModelError(f"nearest neighbour with {quoted(where)} and {quoted(rounding)}")
        elif where not in ("half_pixel", "pytorch_half_pixel"):
            raise ModelError(f"{kind} with {quoted(where)}; only half-pixel centres are supported")
        if self._int(node, "antialias", 0) or abs(self._float(node, "cubic_coeff_a", -0.75) + 0.75) > 1e-6:
            raise ModelError("antialiasing, or another cubic than a = -0.75")
        if self._int(node, "exclude_outside", 0) or self._ints(node, "axes") not in ((), (2, 3), (0, 1, 2, 3)):
            raise ModelError("other axes than height and width, or pixels outside left out")
        self._add(node, g.Resize(kind, self._factor(node)), node.inputs[0])

    def _factor(self, node: _Node) -> Fraction:
        if "scales" in node.attributes:
            scales = self._floats(node, "scales")
        else:
            at = 1 if len(node.inputs) == 2 else 2
            if len(node.inputs) <= at or not node.inputs[at]:
                raise ModelError("a resize to a size; only one by a factor is the same for every image")
            scales = tuple(float(v) for v in _as_floats(self._needed_constant(node, at, "scale")).reshape(-1)[:8])
        if len(scales) not in (2, 4) or any(scale != 1 for scale in scales[:-2]) or scales[-1] != scales[-2]:
            raise ModelError(f"a resize by {scales}")
        if not 0 < scales[-1] <= g.MAX_FACTOR:
            raise ModelError(f"a resize by {scales[-1]:g}")
        factor = Fraction(scales[-1]).limit_denominator(g.MAX_FACTOR)
        if abs(float(factor) - scales[-1]) > 1e-5 or factor <= 0:
            raise ModelError(f"a resize by {scales[-1]:g}")
        return factor

    def depth_to_space(self, node: _Node) -> None:
        factor = self._checked_factor(self._int(node, "blocksize", 0))
        mode = self._text(node, "mode", "DCR")
        if mode not in ("DCR", "CRD"):
            raise ModelError(f"mode {quoted(mode)}")
        self._add(node, g.Shuffle(factor, blocks_first=mode == "DCR"), node.inputs[0])

    def space_to_depth(self, node: _Node) -> None:
        factor = self._checked_factor(self._int(node, "blocksize", 0))
        self._add(node, g.Unshuffle(factor, blocks_first=True), node.inputs[0])

    def _checked_factor(self, factor: int) -> int:
        if not 1 <= factor <= g.MAX_FACTOR:
            raise ModelError(f"a factor of {factor}; it must be in 1..{g.MAX_FACTOR}")
        return factor

    def reshape(self, node: _Node) -> None:
        """The first or the last step of a pixel shuffle."""
        shape = tuple(int(v) for v in self._needed_constant(node, 1, "shape").reshape(-1)[:8])
        before = self.reshaped.get(node.inputs[0])
        if before is None and len(shape) == 6 and node.inputs[0] not in self.constants:
            self.builder.define(node.outputs[0])
            self.reshaped[node.outputs[0]] = _Reshaped(self.builder.resolve(node.inputs[0]), shape)
            return
        op = None if before is None or len(shape) != 4 else _shuffle_of(before, shape)
        if before is None or op is None:
            raise ModelError(f"to {shape}, which is no step of a pixel shuffle")
        self._add(node, op, before.source)

    def transpose(self, node: _Node) -> None:
        before = self.reshaped.get(node.inputs[0])
        order = self._ints(node, "perm")
        if before is None or before.order or order not in (*_SHUFFLES, *_UNSHUFFLES):
            raise ModelError(f"by {order}, which is no step of a pixel shuffle")
        self.builder.define(node.outputs[0])
        self.reshaped[node.outputs[0]] = _Reshaped(before.source, before.shape, order)

    def clip(self, node: _Node) -> None:
        ends = [self._float(node, "min", -np.inf), self._float(node, "max", np.inf)]
        for i in (1, 2):
            if len(node.inputs) > i and node.inputs[i]:
                value = _as_floats(self._needed_constant(node, i, "limit"))
                if value.size != 1:
                    raise ModelError("limits that are not single numbers")
                ends[i - 1] = float(value.reshape(-1)[0])
        self._add(node, g.Clip(*ends), node.inputs[0])

    def tanh(self, node: _Node) -> None:
        self._add(node, g.Tanh(), node.inputs[0])


def _needed(nodes: list[_Node], output: str) -> list[_Node]:
    """The nodes that a value depends on, in the file's order; others may compute what they like."""
    wanted, found = {output}, []
    for node in reversed(nodes):
        if wanted.intersection(node.outputs):
            wanted.update(name for name in node.inputs if name)
            found.append(node)
    return found[::-1]


def _as_floats(array: NDArray[np.generic]) -> g.Floats:
    """Numbers as float16 or float32, whichever they are; doubles and integers become float32."""
    with np.errstate(over="ignore"):
        return array if array.dtype in (np.float16, np.float32) else array.astype(np.float32)


def _per_channel(array: NDArray[np.generic]) -> g.Floats:
    """A constant that N, C, H, W maps are combined with: one number, or one for each channel.

    Raises:
        ModelError: it has a shape of its own along rows or columns.
    """
    if array.size != 1 and (array.ndim not in (3, 4) or array.size != array.shape[-3]):
        raise ModelError(f"a constant of shape {array.shape}; only one for each channel can be used")
    return _as_floats(array).reshape(-1)


def _shuffle_of(before: _Reshaped, shape: tuple[int, ...]) -> g.Shuffle | g.Unshuffle | None:
    """What a reshape to six dimensions, a transpose and a reshape to four are together; None for anything else."""
    six = before.shape
    if before.order in _SHUFFLES:
        first, second, blocks_first = _SHUFFLES[before.order]
        factor, channels = six[first], six[3] if blocks_first else six[1]
        if factor == six[second] and 1 <= factor <= g.MAX_FACTOR and shape[1] in (channels, -1):
            return g.Shuffle(factor, blocks_first)
    elif before.order in _UNSHUFFLES:
        factor, channels = six[3], six[1]
        if factor == six[5] and 1 <= factor <= g.MAX_FACTOR and shape[1] in (channels * factor**2, -1):
            return g.Unshuffle(factor, _UNSHUFFLES[before.order])
    return None


_HANDLERS: dict[str, Callable[[_Reader, _Node], None]] = {
    "Constant": _Reader.constant,
    "Identity": _Reader.alias,
    "Cast": _Reader.alias,
    "Dropout": _Reader.alias,
    "Conv": _Reader.conv,
    "Relu": _Reader.relu,
    "LeakyRelu": _Reader.leaky_relu,
    "PRelu": _Reader.prelu,
    "BatchNormalization": _Reader.batch_norm,
    "Add": _Reader.arithmetic,
    "Sub": _Reader.arithmetic,
    "Mul": _Reader.arithmetic,
    "Div": _Reader.arithmetic,
    "Sum": _Reader.arithmetic,
    "Concat": _Reader.concat,
    "Resize": _Reader.resize,
    "Upsample": _Reader.resize,
    "DepthToSpace": _Reader.depth_to_space,
    "SpaceToDepth": _Reader.space_to_depth,
    "Reshape": _Reader.reshape,
    "Transpose": _Reader.transpose,
    "Clip": _Reader.clip,
    "Tanh": _Reader.tanh,
}

__all__ = ["parse_onnx", "read_onnx"]
