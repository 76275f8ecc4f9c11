"""Reader for ONNX files of upscaling networks.

Supported operators are translated to the intermediate graph; all others are rejected by name. The file is read by our
own small parser (see `protobuf`), so the `onnx` package is not needed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np

from srgan_fast.errors import ModelError
from srgan_fast.models.graphs import graph as g
from srgan_fast.models.graphs.fuse import fuse
from srgan_fast.models.graphs.graph import quoted
from srgan_fast.models.graphs.onnx_messages import FLOATS, Constant, Messages, NodeMessage, Tensor, ValueInfo
from srgan_fast.models.graphs.protobuf import as_bytes, fields
from srgan_fast.network.graph import Network

# Axes of a pixel shuffle written as a reshape to six dimensions, a transpose, and a reshape back.
_SHUFFLES = {(0, 1, 4, 2, 5, 3): (2, 3, False), (0, 3, 4, 1, 5, 2): (1, 2, True)}
_UNSHUFFLES = {(0, 1, 3, 5, 2, 4): False, (0, 3, 5, 1, 2, 4): True}


def read_onnx(path: Path) -> Network:
    """Reads the network of an ONNX file.

    Args:
        path: the file; external weights are read, too, if they are in the same folder.

    Raises:
        ModelError: a missing or damaged file, an unsupported operator, or nodes that do not fit together; one line with
            the file's name.
    """
    try:
        if not path.is_file():
            raise ModelError("no such file")
        if (size := path.stat().st_size) > g.MAX_FILE:
            raise ModelError(f"{size} bytes, more than the {g.MAX_FILE} that such a file may have")
        with path.open("rb") as file:
            data = file.read(g.MAX_FILE)
        with np.errstate(all="ignore"):  # non-finite values are rejected when the network is checked
            return fuse(parse_onnx(data, path.parent))
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror or error})") from None
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None


def parse_onnx(data: bytes, folder: Path) -> g.Graph:
    """Parses the contents of an ONNX file.

    Args:
        data: contents of the file.
        folder: folder of external weights.

    Raises:
        ModelError: see `read_onnx`; without the file's name.
    """
    messages = Messages(folder)
    graph = None
    for number, value in fields(memoryview(data), messages.budget):
        if number == 7:  # ModelProto.graph
            graph = as_bytes(value)
    if graph is None:
        raise ModelError("not an ONNX file: there is no graph in it")
    return _OnnxReader(messages).graph(graph)


_Steps = tuple[tuple[str, tuple[int, ...]], ...]


@dataclass(frozen=True, slots=True)
class _Reshaped:
    """A value within the reshapes and the transpose of a pixel shuffle: the operators so far and their arguments."""

    source: str
    steps: _Steps


class _OnnxReader:
    """Translates a file's nodes to those of the intermediate graph."""

    def __init__(self, messages: Messages) -> None:
        self.messages = messages
        self.builder = g.GraphBuilder()
        self.constants: dict[str, Constant | Tensor] = {}
        self.reshaped: dict[str, _Reshaped] = {}

    def graph(self, message: memoryview) -> g.Graph:
        """Translates a GraphProto."""
        nodes: list[NodeMessage] = []
        inputs: list[ValueInfo] = []
        outputs: list[ValueInfo] = []
        for number, value in fields(message, self.messages.budget):
            if max(len(nodes), len(self.constants), len(inputs), len(outputs)) > g.MAX_NODES:
                raise ModelError(f"more than {g.MAX_NODES} nodes, constants, inputs or outputs")
            match number:
                case 1:
                    nodes.append(self.messages.node(as_bytes(value)))
                case 5:
                    tensor = self.messages.tensor(as_bytes(value))
                    self.constants[tensor.name] = tensor
                case 11:
                    inputs.append(self.messages.value_info(as_bytes(value)))
                case 12:
                    outputs.append(self.messages.value_info(as_bytes(value)))
                case 15:
                    raise ModelError("sparse weights are not supported")
        images = [entry for entry in inputs if entry.name not in self.constants]
        if len(images) != 1 or len(outputs) != 1:
            raise ModelError(f"{len(images)} inputs and {len(outputs)} outputs; a network has one image and one result")
        image, result = images[0], outputs[0].name
        if image.kind not in (*FLOATS, 0):
            raise ModelError(f"its input {quoted(image.name)} is not of floating-point numbers, so not in 0..1")
        if len(image.shape) not in (0, 4):
            raise ModelError(f"its input {quoted(image.name)} has {len(image.shape)} dimensions; images are N, C, H, W")
        self.builder.define(image.name)
        for node in _needed(nodes, result):
            self._translate(node)
        if result in self.constants:
            raise ModelError("its result is a constant")
        channels = image.shape[1] if image.shape and image.shape[1] > 0 else None
        return g.Graph(tuple(self.builder.nodes), image.name, self.builder.resolve(result), channels)

    # Constants.

    def _constant(self, name: str) -> Constant | None:
        """The values of a constant; None for other values."""
        value = self.constants.get(name)
        if isinstance(value, Tensor):
            value = self.constants[name] = self.messages.array(value)
        return value

    def _needed_constant(self, node: NodeMessage, index: int, what: str) -> Constant:
        value = self._constant(node.inputs[index]) if len(node.inputs) > index else None
        if value is None:
            raise ModelError(f"its {what} is not a constant")
        return value

    # Nodes.

    def _translate(self, node: NodeMessage) -> None:
        handler = _HANDLERS.get(node.op) if node.domain in ("", "ai.onnx") else None
        if handler is None:
            raise ModelError(f"{node}: this operator is not supported")
        try:
            if not node.inputs and node.op != "Constant":
                raise ModelError("it has no input")
            handler(self, node)
        except ModelError as error:
            raise ModelError(f"{node}: {error}") from None

    def _add(self, node: NodeMessage, op: g.Op, *inputs: str) -> None:
        for name in inputs:
            if name in self.constants:
                raise ModelError(f"reads the constant {quoted(name)}")
            if name in self.reshaped:
                raise ModelError("reads a reshaped map, which is not a pixel shuffle")
        self.builder.add(node.name or node.outputs[0], op, inputs, node.outputs[0])

    def constant(self, node: NodeMessage) -> None:
        tensor = node.tensor("value")
        if tensor is not None:
            value: Constant | Tensor = self.messages.tensor(tensor)
        elif "value_float" in node.attributes:
            value = np.array(node.number("value_float", 0.0), np.float32)
        elif "value_floats" in node.attributes:
            value = node.numbers("value_floats")
        elif "value_int" in node.attributes:
            value = np.array(node.integer("value_int", 0))
        elif "value_ints" in node.attributes:
            value = np.array(node.integers("value_ints"), np.int64)
        else:
            raise ModelError("a constant of an unknown kind")
        self.builder.define(node.outputs[0])
        self.constants[node.outputs[0]] = value

    def alias(self, node: NodeMessage) -> None:
        value = self._constant(node.inputs[0])
        if node.op == "Cast" and value is None and node.integer("to", 0) not in FLOATS:
            raise ModelError("numbers that are not floating-point")
        if value is not None:
            self.builder.define(node.outputs[0])
            self.constants[node.outputs[0]] = value
        elif node.inputs[0] in self.reshaped:
            raise ModelError("reads a reshaped map, which is not a pixel shuffle")
        else:
            self.builder.define(node.outputs[0], node.inputs[0])

    def conv(self, node: NodeMessage) -> None:
        weight = _as_floats(self._needed_constant(node, 1, "weight"))
        if weight.ndim != 4 or not weight.size:
            raise ModelError(f"weights of {weight.ndim} dimensions; they must be C_out, C_in, k, k")
        c_out, c_in, size, width = weight.shape
        if size != width or size % 2 == 0 or size > g.MAX_KERNEL:
            raise ModelError(f"a kernel of {size} x {width}; its sides must be equal and odd, at most {g.MAX_KERNEL}")
        if max(c_out, c_in) > g.MAX_CHANNELS:
            raise ModelError(f"{max(c_out, c_in)} channels, more than {g.MAX_CHANNELS}")
        for name, allowed in (("strides", 1), ("dilations", 1), ("kernel_shape", size)):
            if any(value != allowed for value in node.integers(name)):
                raise ModelError(f"{name} of {node.integers(name)} are not supported")
        if (group := node.integer("group", 1)) != 1:
            raise ModelError(f"a convolution of {group} groups")
        padding = node.string("auto_pad", "NOTSET")
        pads = node.integers("pads") or (0,) * 4
        if padding not in ("SAME_UPPER", "SAME_LOWER") and any(pad != size // 2 for pad in pads):
            raise ModelError(f"a padding of {pads}; a kernel of {size} needs {size // 2} on all sides")
        bias = np.zeros(c_out, np.float32)
        if node.has_input(2):
            bias = _as_floats(self._needed_constant(node, 2, "bias")).reshape(-1)
        if bias.size != c_out:
            raise ModelError(f"a bias of {bias.size} values for {c_out} channels")
        self._add(node, g.Conv2d(weight, bias), node.inputs[0])

    def relu(self, node: NodeMessage) -> None:
        self._add(node, g.Slope(np.zeros(1)), node.inputs[0])

    def leaky_relu(self, node: NodeMessage) -> None:
        self._add(node, g.Slope(np.array([node.number("alpha", 0.01)])), node.inputs[0])

    def prelu(self, node: NodeMessage) -> None:
        self._add(node, g.Slope(_per_channel(self._needed_constant(node, 1, "slope"))), node.inputs[0])

    def batch_norm(self, node: NodeMessage) -> None:
        names = ("scale", "bias", "mean", "variance")
        gamma, beta, mean, variance = (
            _as_floats(self._needed_constant(node, i + 1, name)).astype(np.float64).reshape(-1)
            for i, name in enumerate(names)
        )
        if len({len(gamma), len(beta), len(mean), len(variance)}) != 1 or node.integer("training_mode", 0):
            raise ModelError("its constants do not fit each other, or it is in training mode")
        gain = gamma / np.sqrt(variance + node.number("epsilon", 1e-5))
        self._add(node, g.ScaleShift(gain, beta - mean * gain), node.inputs[0])

    def arithmetic(self, node: NodeMessage) -> None:
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
        match node.op:
            case "Add" | "Sum":
                op = g.ScaleShift(one, c)
            case "Sub":
                op = g.ScaleShift(one, -c) if at else g.ScaleShift(-one, c)
            case "Mul":
                op = g.ScaleShift(c, zero)
            case _:
                if at == 0:
                    raise ModelError("a quotient with a map below")
                op = g.ScaleShift(1 / c, zero)
        self._add(node, op, node.inputs[1 - at])

    def concat(self, node: NodeMessage) -> None:
        if node.integer("axis", 1) not in (1, -3):
            raise ModelError(f"along axis {node.integer('axis', 1)}; only channels can be joined")
        self._add(node, g.Concat(), *node.inputs)

    def resize(self, node: NodeMessage) -> None:
        mode = node.string("mode", "nearest")
        kinds: dict[str, Literal["nearest", "bilinear", "bicubic"]] = {
            "nearest": "nearest", "linear": "bilinear", "bilinear": "bilinear", "cubic": "bicubic",
        }  # fmt: skip
        kind = kinds.get(mode)
        if kind is None:
            raise ModelError(f"interpolation {quoted(mode)}")
        old = node.op == "Upsample" or len(node.inputs) == 2
        where = node.string("coordinate_transformation_mode", "asymmetric" if old else "half_pixel")
        if kind == "nearest":
            rounding = node.string("nearest_mode", "floor" if old else "round_prefer_floor")
            known = {("asymmetric", "floor")} | {
                (pixel, f"round_prefer_{way}")
                for pixel in ("half_pixel", "pytorch_half_pixel")
                for way in ("floor", "ceil")
            }
            if (where, rounding) not in known:
                raise ModelError(f"nearest neighbour with {quoted(where)} and {quoted(rounding)}")
        elif where not in ("half_pixel", "pytorch_half_pixel"):
            raise ModelError(f"{kind} with {quoted(where)}; only half-pixel centres are supported")
        if node.integer("antialias", 0) or abs(node.number("cubic_coeff_a", -0.75) + 0.75) > 1e-6:
            raise ModelError("antialiasing, or another cubic than a = -0.75")
        if node.integer("exclude_outside", 0) or node.integers("axes") not in ((), (2, 3), (0, 1, 2, 3)):
            raise ModelError("other axes than height and width, or pixels outside left out")
        self._add(node, g.Resize(kind, self._factor(node)), node.inputs[0])

    def _factor(self, node: NodeMessage) -> Fraction:
        if "scales" in node.attributes:
            values = node.numbers("scales")
        else:
            at = 1 if len(node.inputs) == 2 else 2
            if not node.has_input(at):
                raise ModelError("a resize to a size; only one by a factor is the same for every image")
            values = self._needed_constant(node, at, "scale").reshape(-1)[:8]
        scales = tuple(float(v) for v in _as_floats(values))
        if len(scales) not in (2, 4) or any(scale != 1 for scale in scales[:-2]) or scales[-1] != scales[-2]:
            raise ModelError(f"a resize by {scales}")
        if not 0 < scales[-1] <= g.MAX_FACTOR:
            raise ModelError(f"a resize by {scales[-1]:g}")
        factor = Fraction(scales[-1]).limit_denominator(g.MAX_FACTOR)
        if abs(float(factor) - scales[-1]) > 1e-5 or factor <= 0:
            raise ModelError(f"a resize by {scales[-1]:g}")
        return factor

    def depth_to_space(self, node: NodeMessage) -> None:
        factor = self._checked_factor(node.integer("blocksize", 0))
        mode = node.string("mode", "DCR")
        if mode not in ("DCR", "CRD"):
            raise ModelError(f"mode {quoted(mode)}")
        self._add(node, g.Shuffle(factor, blocks_first=mode == "DCR"), node.inputs[0])

    def space_to_depth(self, node: NodeMessage) -> None:
        factor = self._checked_factor(node.integer("blocksize", 0))
        self._add(node, g.Unshuffle(factor, blocks_first=True), node.inputs[0])

    def _checked_factor(self, factor: int) -> int:
        if not 1 <= factor <= g.MAX_FACTOR:
            raise ModelError(f"a factor of {factor}; it must be in 1..{g.MAX_FACTOR}")
        return factor

    def gather(self, node: NodeMessage) -> None:
        """A permutation of channels, as exporters write after SpaceToDepth."""
        order = self._needed_constant(node, 1, "order").reshape(-1)
        if node.integer("axis", 0) not in (1, -3) or order.size > g.MAX_CHANNELS:
            raise ModelError("only channels can be picked, each once")
        self._add(node, g.Reorder(tuple(int(i) for i in order)), node.inputs[0])

    def reshape(self, node: NodeMessage) -> None:
        """Reshape, Transpose, Squeeze, Unsqueeze: only as steps of a pixel shuffle or its inverse."""
        if node.op == "Transpose":
            arguments = node.integers("perm")
        elif len(node.inputs) == 1:  # until opset 13
            arguments = node.integers("axes")
        else:
            arguments = tuple(int(v) for v in self._needed_constant(node, 1, "shape").reshape(-1)[:8])
        source = node.inputs[0]
        before = self.reshaped.get(source)
        value = _Reshaped(source, ()) if before is None else before
        value = _Reshaped(value.source, (*value.steps, (node.op, arguments)))
        op = _pixel_op(value.steps)
        if op is not None:
            self._add(node, op, value.source)
            return
        if not _may_become_pixel_op(value.steps):
            raise ModelError(f"with {arguments}, which is not a step of a pixel shuffle")
        if source in self.constants:
            raise ModelError(f"reads the constant {quoted(source)}")
        self.builder.define(node.outputs[0])
        self.reshaped[node.outputs[0]] = value

    def clip(self, node: NodeMessage) -> None:
        ends = [node.number("min", -np.inf), node.number("max", np.inf)]
        for i in (1, 2):
            if node.has_input(i):
                value = _as_floats(self._needed_constant(node, i, "limit"))
                if value.size != 1:
                    raise ModelError("limits that are not single numbers")
                ends[i - 1] = float(value.reshape(-1)[0])
        self._add(node, g.Clip(*ends), node.inputs[0])

    def tanh(self, node: NodeMessage) -> None:
        self._add(node, g.Tanh(), node.inputs[0])


def _needed(nodes: list[NodeMessage], output: str) -> list[NodeMessage]:
    """Nodes that a value depends on, in the file's order; others may be unsupported."""
    wanted, found = {output}, []
    for node in reversed(nodes):
        if wanted.intersection(node.outputs):
            wanted.update(name for name in node.inputs if name)
            found.append(node)
    return found[::-1]


def _as_floats(array: Constant) -> g.Floats:
    """Values as float16 if they are, else as float32."""
    return array.astype(np.float16 if array.dtype == np.float16 else np.float32, copy=False)


def _per_channel(array: Constant) -> g.Floats:
    """A constant that is combined with N, C, H, W maps: one number, or one per channel.

    Raises:
        ModelError: it varies along rows or columns.
    """
    if array.size != 1 and (array.ndim not in (3, 4) or array.size != array.shape[-3]):
        raise ModelError(f"a constant of shape {array.shape}; only one for each channel can be used")
    return _as_floats(array).reshape(-1)


def _pixel_op(steps: _Steps) -> g.Shuffle | g.Unshuffle | None:
    """The pixel shuffle that a reshape to 6-D, a transpose and a reshape to 4-D form; None for anything else."""
    steps = _shortened(steps)
    if [op for op, _ in steps] != ["Reshape", "Transpose", "Reshape"]:
        return None
    (_, six), (_, order), (_, four) = steps
    if len(six) != 6 or len(four) != 4:
        return None
    if order in _SHUFFLES:
        first, second, blocks_first = _SHUFFLES[order]
        factor, channels = six[first], six[3] if blocks_first else six[1]
        if factor == six[second] and 1 <= factor <= g.MAX_FACTOR and four[1] in (channels, -1):
            return g.Shuffle(factor, blocks_first)
    elif order in _UNSHUFFLES:
        factor, channels = six[3], six[1]
        if factor == six[5] and 1 <= factor <= g.MAX_FACTOR and four[1] in (channels * factor**2, -1):
            return g.Unshuffle(factor, _UNSHUFFLES[order])
    return None


def _shortened(steps: _Steps) -> _Steps:
    """Removes the redundant steps that PyTorch writes for a pixel-unshuffle of an image of dynamic size."""
    if [op for op, _ in steps] == ["Unsqueeze", "Reshape", "Reshape", "Transpose", "Reshape", "Squeeze"]:
        (_, axis), (_, rows), (_, columns), transpose, (_, merged), (_, ones) = steps
        if (
            axis == (3,)
            and (*rows[:3], *rows[4:]) == (0, 0, -1, 0)
            and columns == (0, 0, 0, 0, -1, rows[3])
            and (merged, ones) == ((0, -1, 1, 1, 0, 0), (2, 3))
        ):
            return ("Reshape", (0, 0, -1, rows[3], -1, rows[3])), transpose, ("Reshape", (0, -1, 0, 0))
    return steps


def _may_become_pixel_op(steps: _Steps) -> bool:
    """Whether more steps could complete a pixel shuffle; so that messages name the operator that is to blame."""
    first, arguments = steps[0]
    if not ((first == "Reshape" and len(arguments) == 6) or (first, arguments) == ("Unsqueeze", (3,))):
        return False
    orders = [arguments for op, arguments in steps if op == "Transpose"]
    return len(steps) < 6 and all(order in (*_SHUFFLES, *_UNSHUFFLES) for order in orders)


_HANDLERS: dict[str, Callable[[_OnnxReader, NodeMessage], None]] = {
    "Constant": _OnnxReader.constant,
    "Identity": _OnnxReader.alias,
    "Cast": _OnnxReader.alias,
    "Dropout": _OnnxReader.alias,
    "Conv": _OnnxReader.conv,
    "Relu": _OnnxReader.relu,
    "LeakyRelu": _OnnxReader.leaky_relu,
    "PRelu": _OnnxReader.prelu,
    "BatchNormalization": _OnnxReader.batch_norm,
    "Add": _OnnxReader.arithmetic,
    "Sub": _OnnxReader.arithmetic,
    "Mul": _OnnxReader.arithmetic,
    "Div": _OnnxReader.arithmetic,
    "Sum": _OnnxReader.arithmetic,
    "Concat": _OnnxReader.concat,
    "Resize": _OnnxReader.resize,
    "Upsample": _OnnxReader.resize,
    "DepthToSpace": _OnnxReader.depth_to_space,
    "SpaceToDepth": _OnnxReader.space_to_depth,
    "Gather": _OnnxReader.gather,
    "Reshape": _OnnxReader.reshape,
    "Transpose": _OnnxReader.reshape,
    "Squeeze": _OnnxReader.reshape,
    "Unsqueeze": _OnnxReader.reshape,
    "Clip": _OnnxReader.clip,
    "Tanh": _OnnxReader.tanh,
}

__all__ = ["parse_onnx", "read_onnx"]
