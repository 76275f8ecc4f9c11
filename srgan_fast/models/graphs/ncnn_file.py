"""Reader for ncnn models: a text file of layers (`.param`) and a file of weights (`.bin`).

Supported layers are translated to the intermediate graph; all others are rejected by name. Sizes are checked against
the weights' file before anything is allocated. Parameter ids are those of ncnn's operator documentation.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from srgan_fast.errors import ModelError
from srgan_fast.models.graphs import graph as g
from srgan_fast.models.graphs.fuse import fuse
from srgan_fast.models.graphs.graph import quoted
from srgan_fast.network.graph import Network

_MAGIC = "7767517"
_BINARY_MAGIC = int(_MAGIC).to_bytes(4, "little")
_MAX_PARAMETERS = 100  # per layer; ncnn's own limit is 32
_MAX_PARAM_FILE = 4 << 20  # the largest known has 120 KB

# Tag before an array of weights. Any other whose first byte is not 0 means a table of 256 quantised values.
_FLOAT32 = (0, 0x0002C056)
_FLOAT16 = 0x01306B47
_INT8 = 0x000D4B38

_SAME_PADDING = (-233, -234)  # "same" padding; symmetric for odd kernels and stride 1


def read_ncnn(param: Path, weights: Path | None = None) -> Network:
    """Reads the network of a pair of ncnn files.

    Args:
        param: the text file of layers.
        weights: their `.bin` file; by default the one of the same name.

    Raises:
        ModelError: a missing, damaged or binary file, an unsupported layer, or layers that do not fit together; one
            line with the file's name.
    """
    weights = param.with_suffix(".bin") if weights is None else weights
    try:
        text = _read(param, _MAX_PARAM_FILE)
        data = _read(weights, g.MAX_FILE)
    except OSError as error:
        raise ModelError(f"{error.filename}: cannot be read ({error.strerror or error})") from None
    try:
        with np.errstate(all="ignore"):  # non-finite values are rejected when the network is checked
            return fuse(parse_ncnn(text, data))
    except ModelError as error:
        raise ModelError(f"{param}: {error}") from None


def _read(path: Path, limit: int) -> bytes:
    if not path.is_file():
        raise ModelError(f"{path}: no such file; ncnn's models are a .param and a .bin file of the same name")
    if (size := path.stat().st_size) > limit:
        raise ModelError(f"{path}: {size} bytes, more than the {limit} that such a file may have")
    with path.open("rb") as file:
        return file.read(limit)


def parse_ncnn(text: bytes, data: bytes) -> g.Graph:
    """Parses the contents of a `.param` and a `.bin` file.

    Raises:
        ModelError: see `read_ncnn`; without the file's name.
    """
    if text.startswith(_BINARY_MAGIC):
        raise ModelError("a binary .param file; use the text file that it was made from")
    lines = text.decode(errors="replace").splitlines()
    if not lines or lines[0].strip() != _MAGIC:
        raise ModelError(f"not an ncnn .param file: it does not begin with {_MAGIC}")
    counts = lines[1].split() if len(lines) > 1 else []
    if len(counts) != 2 or not all(re.fullmatch(r"\d{1,9}", count) for count in counts):
        raise ModelError("its second line does not say how many layers and values there are")
    stated = int(counts[0])
    if stated > g.MAX_NODES:
        raise ModelError(f"{stated} layers, more than {g.MAX_NODES}")
    if stated != (found := sum(bool(line.strip()) for line in lines[2:])):
        raise ModelError(f"it says {stated} layers and has {found}")
    return _NcnnReader(data).graph(line for line in lines[2:] if line.strip())


@dataclass(frozen=True, slots=True)
class _NcnnLayer:
    """A line of a `.param` file."""

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    values: dict[int, float | tuple[float, ...]]

    def __str__(self) -> str:
        return f"{self.kind} {quoted(self.name)}"

    def number(self, key: int, default: float) -> float:
        """A numeric parameter."""
        value = self.values.get(key, default)
        if isinstance(value, tuple):
            raise ModelError(f"{self}: parameter {key} is an array, not a number")
        return value

    def whole(self, key: int, default: int) -> int:
        """An integer parameter."""
        value = self.number(key, default)
        if value != int(value):
            raise ModelError(f"{self}: parameter {key} is {value:g}, not a whole number")
        return int(value)

    def array(self, key: int) -> tuple[float, ...]:
        """An array parameter; empty if absent."""
        value = self.values.get(key, ())
        return value if isinstance(value, tuple) else (value,)

    def only(self, key: int, default: int, what: str, allowed: tuple[int, ...] | None = None) -> int:
        """An integer parameter that must have a supported value: the default, or one of `allowed`."""
        value = self.whole(key, default)
        if value not in (allowed or (default,)):
            raise ModelError(f"{self}: {what} {value} is not supported")
        return value

    def size(self, key: int, largest: int, what: str) -> int:
        """A parameter that is a count."""
        value = self.whole(key, 0)
        if not 1 <= value <= largest:
            raise ModelError(f"{self}: {what} is {value}; it must be in 1..{largest}")
        return value


def _parse_layer(line: str) -> _NcnnLayer:
    words = line.split()
    kind, name = words[0], words[1] if len(words) > 1 else ""
    if not re.fullmatch(r"\w{1,40}", kind, re.ASCII):
        raise ModelError(f"a line that is not a layer: {quoted(line)}")
    counts = [int(word) for word in words[2:4] if re.fullmatch(r"\d{1,6}", word)]
    if len(counts) != 2 or len(words) < 4 + sum(counts):
        raise ModelError(f"{kind} {quoted(name)}: does not name as many values as it says")
    blobs = words[4 : 4 + sum(counts)]
    values: dict[int, float | tuple[float, ...]] = {}
    if len(words) - 4 - sum(counts) > _MAX_PARAMETERS:
        raise ModelError(f"{kind} {quoted(name)}: more than {_MAX_PARAMETERS} parameters")
    for word in words[4 + sum(counts) :]:
        key, value = _parse_value(word, f"{kind} {quoted(name)}")
        values[key] = value
    return _NcnnLayer(kind, name, tuple(blobs[: counts[0]]), tuple(blobs[counts[0] :]), values)


def _parse_value(word: str, layer: str) -> tuple[int, float | tuple[float, ...]]:
    """Parses `4=1`, `1=2.0`, or `-23310=2,0.2,1.0`, i.e. an array for parameter 10 after its length."""
    match = re.fullmatch(r"(-?\d{1,5})=([-+.,0-9eE]+)", word, re.ASCII)
    try:
        if match is None:
            raise ValueError
        key, numbers = int(match[1]), tuple(float(part) for part in match[2].split(","))
        if not np.isfinite(numbers).all():
            raise ValueError
    except ValueError:
        raise ModelError(f"{layer}: {quoted(word)} is not a parameter") from None
    if key > -23300:
        if len(numbers) != 1 or key < 0:
            raise ModelError(f"{layer}: {quoted(word)} is not a parameter")
        return key, numbers[0]
    if numbers[0] != len(numbers) - 1:
        raise ModelError(f"{layer}: {quoted(word)} is not an array of that length")
    return -23300 - key, numbers[1:]


class _NcnnReader:
    """Translates layers to nodes, and takes their weights from the file in order."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0
        self.image: str | None = None
        self.channels: int | None = None
        self.builder = g.GraphBuilder()
        self.constants: dict[str, g.Floats] = {}
        self.unread: dict[str, None] = {}  # values that no layer reads; the result is the only one left

    def graph(self, lines: Iterable[str]) -> g.Graph:
        for line in lines:
            self._translate(_parse_layer(line))
        if self.image is None:
            raise ModelError("no Input layer")
        if self.at != len(self.data):
            raise ModelError(f"its .bin file has {len(self.data)} bytes, its layers need {self.at}; not of this file")
        outputs = [name for name in self.unread if name not in self.constants and name != self.image]
        if len(outputs) != 1:
            raise ModelError(f"{len(outputs)} results ({', '.join(map(quoted, outputs[:3]))}); a network has one")
        output = self.builder.resolve(outputs[0])
        return g.Graph(tuple(self.builder.nodes), self.image, output, self.channels)

    def _translate(self, layer: _NcnnLayer) -> None:
        handler = _HANDLERS.get(layer.kind)
        if handler is None:
            raise ModelError(f"{layer}: this layer type is not supported")
        for name in layer.inputs:
            self.unread.pop(name, None)
        self.unread.update(dict.fromkeys(layer.outputs))
        try:
            handler(self, layer)
        except ModelError as error:
            line = str(error)
            raise ModelError(line if line.startswith(str(layer)) else f"{layer}: {line}") from None

    # Weights.

    def _take(self, layer: _NcnnLayer, count: int, size: int) -> memoryview:
        """The next bytes, rounded up to multiples of 4."""
        length = -(-count * size // 4) * 4
        left = len(self.data) - self.at
        if length > left:
            raise ModelError(f"{layer}: needs {length} bytes of weights where the .bin file has {left}")
        self.at += length
        return memoryview(self.data)[self.at - length : self.at][: count * size]

    def _floats(self, layer: _NcnnLayer, count: int) -> NDArray[np.float32]:
        """An array that is always stored as float32."""
        return np.frombuffer(self._take(layer, count, 4), "<f4")

    def _weights(self, layer: _NcnnLayer, count: int) -> g.Floats:
        """An array after a tag for its storage type."""
        tag = int(np.frombuffer(self._take(layer, 1, 4), "<u4")[0])
        if tag in _FLOAT32:
            return self._floats(layer, count)
        if tag == _FLOAT16:
            return np.frombuffer(self._take(layer, count, 2), "<f2")
        if tag == _INT8:
            raise ModelError(f"{layer}: int8 weights; use the model in float32 or float16")
        if tag & 0xFF == 0:
            raise ModelError(f"{layer}: weights of an unknown kind (0x{tag:08X})")
        table = self._floats(layer, 256)
        return table[np.frombuffer(self._take(layer, count, 1), np.uint8)]

    # Layers.

    def _one(self, layer: _NcnnLayer, op: g.Op) -> None:
        self._connect(layer, op, 1)

    def _connect(self, layer: _NcnnLayer, op: g.Op, inputs: int | None = None) -> None:
        if (inputs is not None and len(layer.inputs) != inputs) or not layer.inputs or len(layer.outputs) != 1:
            raise ModelError(f"{layer}: {len(layer.inputs)} inputs and {len(layer.outputs)} outputs")
        for name in layer.inputs:
            if name in self.constants:
                raise ModelError(f"{layer}: reads the constant {quoted(name)}")
        self.builder.add(layer.name, op, layer.inputs, layer.outputs[0])

    def input(self, layer: _NcnnLayer) -> None:
        if self.image is not None or layer.inputs or len(layer.outputs) != 1:
            raise ModelError(f"{layer}: more than one input; a network has one image")
        self.image = layer.outputs[0]
        self.channels = layer.whole(2, 0) or None
        self.builder.define(self.image)

    def alias(self, layer: _NcnnLayer) -> None:
        if len(layer.inputs) != 1 or not layer.outputs:
            raise ModelError(f"{layer}: {len(layer.inputs)} inputs and {len(layer.outputs)} outputs")
        (source,) = layer.inputs
        for name in layer.outputs:
            if source in self.constants:
                self.builder.define(name)
                self.constants[name] = self.constants[source]
            else:
                self.builder.define(name, source)

    def dropout(self, layer: _NcnnLayer) -> None:
        if layer.number(0, 1.0) != 1:
            self._one(layer, g.ScaleShift(np.array([layer.number(0, 1.0)]), np.zeros(1)))
        else:
            self.alias(layer)

    def memory_data(self, layer: _NcnnLayer) -> None:
        sizes = [layer.whole(key, 0) for key in (0, 1, 2)]
        depth = layer.only(11, 0, "a depth of")
        if layer.inputs or len(layer.outputs) != 1 or depth:
            raise ModelError(f"{layer}: {len(layer.inputs)} inputs and {len(layer.outputs)} outputs")
        # One number, or one per channel: c of 1 x 1.
        if sizes not in ([1, 0, 0], [1, 1, 0]) and (sizes[:2] != [1, 1] or not 1 <= sizes[2] <= g.MAX_CHANNELS):
            raise ModelError(
                f"{layer}: a constant of {'x'.join(map(str, sizes))}; only one for each channel can be used"
            )
        count = max(sizes[2], 1)
        if layer.only(21, 1, "storage", (0, 1)):
            values: g.Floats = self._floats(layer, count)
        else:
            values = self._weights(layer, count)
        self.builder.define(layer.outputs[0])
        self.constants[layer.outputs[0]] = values

    def convolution(self, layer: _NcnnLayer) -> None:
        channels = layer.size(0, g.MAX_CHANNELS, "the number of output channels")
        size = layer.size(1, g.MAX_KERNEL, "the kernel's side")
        layer.only(11, size, "a kernel height of")
        layer.only(2, 1, "dilation")
        layer.only(12, 1, "dilation")
        layer.only(3, 1, "stride")
        layer.only(13, 1, "stride")
        padding = layer.only(4, 0, "padding", (size // 2, *_SAME_PADDING))
        for key in (14, 15, 16):
            layer.only(key, padding, "padding")
        if size % 2 == 0:
            raise ModelError(f"{layer}: a kernel of {size} x {size}; its side must be odd")
        if layer.number(18, 0.0) != 0:
            raise ModelError(f"{layer}: a padding value other than 0")
        layer.only(8, 0, "int8 scale term")
        layer.only(19, 0, "dynamic weights")
        count = layer.size(6, g.MAX_WEIGHTS, "the number of weights")
        inputs, rest = divmod(count, channels * size**2)
        if rest or inputs > g.MAX_CHANNELS:
            raise ModelError(f"{layer}: {count} weights for {channels} channels of {size} x {size}")
        weight = self._weights(layer, count).reshape(channels, inputs, size, size)
        bias = self._floats(layer, channels) if layer.only(5, 0, "bias", (0, 1)) else np.zeros(channels, np.float32)
        activation = self._activation(layer)
        if activation is None:
            self._one(layer, g.Conv2d(weight, bias))
            return
        # A name that cannot occur in a file, where blanks separate names.
        between = f"{layer.outputs[0] if layer.outputs else ''} before activation"
        self._one(_NcnnLayer(layer.kind, layer.name, layer.inputs, (between,), {}), g.Conv2d(weight, bias))
        self._one(_NcnnLayer(layer.kind, layer.name, (between,), layer.outputs, {}), activation)

    def _activation(self, layer: _NcnnLayer) -> g.Op | None:
        kind, values = layer.only(9, 0, "activation", (0, 1, 2, 3)), layer.array(10)
        if kind in (2, 3) and len(values) != kind - 1:
            raise ModelError(f"{layer}: an activation of kind {kind} with {len(values)} values")
        match kind:
            case 1:
                return g.Slope(np.zeros(1))
            case 2:
                return g.Slope(np.array(values))
            case 3:
                return g.Clip(*values)
        return None

    def relu(self, layer: _NcnnLayer) -> None:
        self._one(layer, g.Slope(np.array([layer.number(0, 0.0)])))

    def prelu(self, layer: _NcnnLayer) -> None:
        self._one(layer, g.Slope(self._floats(layer, layer.size(0, g.MAX_CHANNELS, "the number of slopes"))))

    def scale(self, layer: _NcnnLayer) -> None:
        count = layer.size(0, g.MAX_CHANNELS, "the number of factors")
        gain = self._floats(layer, count)
        offset = self._floats(layer, count) if layer.only(1, 0, "bias", (0, 1)) else np.zeros(count)
        self._one(layer, g.ScaleShift(gain, offset))

    def batch_norm(self, layer: _NcnnLayer) -> None:
        count = layer.size(0, g.MAX_CHANNELS, "the number of channels")
        gamma, mean, variance, beta = (self._floats(layer, count).astype(np.float64) for _ in range(4))
        gain = gamma / np.sqrt(variance + layer.number(1, 0.0))
        self._one(layer, g.ScaleShift(gain, beta - mean * gain))

    def interp(self, layer: _NcnnLayer) -> None:
        kinds: dict[int, Literal["nearest", "bilinear", "bicubic"]] = {1: "nearest", 2: "bilinear", 3: "bicubic"}
        kind = kinds[layer.only(0, 0, "interpolation", tuple(kinds))]
        for key, what in ((3, "an output height of"), (4, "an output width of"), (5, "a dynamic size:")):
            layer.only(key, 0, what)
        layer.only(6, 0, "aligned corners:")
        height, width = layer.number(1, 1.0), layer.number(2, 1.0)
        factor = Fraction(height).limit_denominator(g.MAX_FACTOR)
        if height != width or factor <= 0 or abs(float(factor) - height) > 1e-5:
            raise ModelError(f"{layer}: a resize by {height:g} x {width:g} is not supported")
        self._one(layer, g.Resize(kind, factor))

    def pixel_shuffle(self, layer: _NcnnLayer) -> None:
        factor = layer.size(0, g.MAX_FACTOR, "its factor")
        self._one(layer, g.Shuffle(factor, blocks_first=layer.only(1, 0, "mode", (0, 1)) == 1))

    def reorg(self, layer: _NcnnLayer) -> None:
        factor = layer.size(0, g.MAX_FACTOR, "its factor")
        self._one(layer, g.Unshuffle(factor, blocks_first=layer.only(1, 0, "mode", (0, 1)) == 1))

    def concat(self, layer: _NcnnLayer) -> None:
        layer.only(0, 0, "axis")
        self._connect(layer, g.Concat())

    def eltwise(self, layer: _NcnnLayer) -> None:
        layer.only(0, 0, "operation", (1,))
        scales = layer.array(1) or (1.0,) * len(layer.inputs)
        if len(scales) != len(layer.inputs):
            raise ModelError(f"{layer}: {len(scales)} factors for {len(layer.inputs)} inputs")
        self._connect(layer, g.Sum(scales))

    def binary_op(self, layer: _NcnnLayer) -> None:
        operation = layer.only(0, 0, "operation", (0, 1, 2, 3, 7, 8))
        constants = [name for name in layer.inputs if name in self.constants]
        if layer.only(1, 0, "scalar", (0, 1)):
            self._one(layer, _affine(layer, operation, np.array([layer.number(2, 0.0)])))
        elif len(layer.inputs) == 2 and len(constants) == 1:
            swapped = {0: 0, 1: 7, 2: 2, 3: 8, 7: 1, 8: 3}
            first = layer.inputs[0] in self.constants
            op = _affine(layer, swapped[operation] if first else operation, self.constants[constants[0]])
            maps = tuple(name for name in layer.inputs if name not in self.constants)
            self._one(_NcnnLayer(layer.kind, layer.name, maps, layer.outputs, {}), op)
        elif operation in (0, 1, 7):
            self._connect(layer, g.Sum({0: (1.0, 1.0), 1: (1.0, -1.0), 7: (-1.0, 1.0)}[operation]), 2)
        else:
            raise ModelError(f"{layer}: a product or quotient of two maps is not supported")

    def clip(self, layer: _NcnnLayer) -> None:
        self._one(layer, g.Clip(layer.number(0, -np.inf), layer.number(1, np.inf)))

    def tanh(self, layer: _NcnnLayer) -> None:
        self._one(layer, g.Tanh())


def _affine(layer: _NcnnLayer, operation: int, constant: g.Floats) -> g.ScaleShift:
    """`x + b`, `x - b`, `x * b`, `x / b` or `b - x`."""
    b, one, zero = constant.astype(np.float64), np.ones(1), np.zeros(1)
    match operation:
        case 0:
            return g.ScaleShift(one, b)
        case 1:
            return g.ScaleShift(one, -b)
        case 2:
            return g.ScaleShift(b, zero)
        case 3:
            return g.ScaleShift(1 / b, zero)
        case 7:
            return g.ScaleShift(-one, b)
    raise ModelError(f"{layer}: a quotient with a map below is not supported")


_HANDLERS: dict[str, Callable[[_NcnnReader, _NcnnLayer], None]] = {
    "Input": _NcnnReader.input,
    "Split": _NcnnReader.alias,
    "Noop": _NcnnReader.alias,
    "Cast": _NcnnReader.alias,
    "Dropout": _NcnnReader.dropout,
    "MemoryData": _NcnnReader.memory_data,
    "Convolution": _NcnnReader.convolution,
    "ReLU": _NcnnReader.relu,
    "PReLU": _NcnnReader.prelu,
    "Scale": _NcnnReader.scale,
    "BatchNorm": _NcnnReader.batch_norm,
    "Interp": _NcnnReader.interp,
    "PixelShuffle": _NcnnReader.pixel_shuffle,
    "Reorg": _NcnnReader.reorg,
    "Concat": _NcnnReader.concat,
    "Eltwise": _NcnnReader.eltwise,
    "BinaryOp": _NcnnReader.binary_op,
    "Clip": _NcnnReader.clip,
    "TanH": _NcnnReader.tanh,
}

__all__ = ["parse_ncnn", "read_ncnn"]
