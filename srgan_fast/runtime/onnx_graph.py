"""The folded generator as an ONNX graph, written node by node.

Runtimes that read ONNX get it from here, so that upscaling with them needs no torch. (`srgan_fast.export` goes through
torch's exporter and is checked against torch; a test holds the two graphs against each other.)
"""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from srgan_fast.errors import ModelError
from srgan_fast.models.checkpoint import GeneratorFile
from srgan_fast.models.folding import Array, FoldedConv, FoldedGenerator, fold_generator
from srgan_fast.network.graph import ColourMap

OPSET = 20
IR_VERSION = 10  # what runtimes of 2024 and later read


class _Graph:
    """Collects nodes and constants; every method returns the name of its result."""

    def __init__(self, dtype: type[np.float32] | type[np.float16]) -> None:
        self.dtype = dtype
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, array: Array) -> str:
        with np.errstate(over="ignore"):  # found out when all are there
            self.constants.append(numpy_helper.from_array(array.astype(self.dtype), name))
        return name

    def node(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], output, **attributes))
        return output

    def conv(self, x: str, layer: FoldedConv, name: str) -> str:
        size = layer.weight.shape[2]
        inputs = [x, self.constant(f"{name}.weight", layer.weight), self.constant(f"{name}.bias", layer.bias)]
        return self.node("Conv", inputs, name, kernel_shape=[size, size], pads=[size // 2] * 4)

    def prelu(self, x: str, slope: Array, name: str) -> str:
        return self.node("PRelu", [x, self.constant(f"{name}.slope", slope.reshape(-1, 1, 1))], name)

    def conv_prelu(self, x: str, layer: FoldedConv, name: str) -> str:
        y = self.conv(x, layer, f"{name}.conv")
        return y if layer.slope is None else self.prelu(y, layer.slope, name)

    def affine(self, x: str, values: ColourMap, name: str) -> str:
        if values.is_identity:
            return x
        gain = self.constant(f"{name}.gain", _column(values.gain))
        offset = self.constant(f"{name}.offset", _column(values.offset))
        return self.node("Add", [self.node("Mul", [x, gain], f"{name}.scaled"), offset], name)


def _column(values: tuple[float, float, float]) -> Array:
    return np.array(values, np.float32).reshape(1, 3, 1, 1)


def build_onnx(file: GeneratorFile, dtype: type[np.float32] | type[np.float16] = np.float32) -> onnx.ModelProto:
    """A checked ONNX model: `lr` of N, 3, H, W in 0..1 to `sr` of N, 3, scale * H, scale * W, float32, not clamped.

    Args:
        file: the generator.
        dtype: that everything between the two is in.

    Raises:
        ModelError: weights that leave float16's range.
    """
    folded = fold_generator(file)
    graph = _Graph(dtype)
    x = "lr" if dtype is np.float32 else graph.node("Cast", ["lr"], "lr_half", to=TensorProto.FLOAT16)
    head = graph.conv_prelu(graph.affine(x, folded.config.conventions.lr_map, "lr_map"), folded.head, "head")
    x = head
    for i, (first, second) in enumerate(folded.blocks):
        y = graph.conv(graph.conv_prelu(x, first, f"blocks.{i}.first"), second, f"blocks.{i}.second")
        x = graph.node("Add", [x, y], f"blocks.{i}.sum")
    x = graph.node("Add", [head, graph.conv(x, folded.fuse, "fuse")], "skip")
    x = _upsample(graph, folded, x)
    x = graph.conv(x, folded.tail, "tail")
    if folded.config.conventions.output == "tanh":
        x = graph.node("Tanh", [x], "tanh")
    x = graph.affine(x, folded.hr_map, "hr_map")
    if dtype is np.float32:
        graph.node("Identity", [x], "sr")
    else:
        graph.node("Cast", [x], "sr", to=TensorProto.FLOAT)
    _check_range(file, graph)

    scale = folded.config.scale
    inputs = [helper.make_tensor_value_info("lr", TensorProto.FLOAT, ["batch", 3, "height", "width"])]
    sides = [f"{scale}*height", f"{scale}*width"]
    outputs = [helper.make_tensor_value_info("sr", TensorProto.FLOAT, ["batch", 3, *sides])]
    proto = helper.make_graph(graph.nodes, file.name, inputs, outputs, graph.constants)
    model = helper.make_model(
        proto, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="srgan_fast"
    )
    onnx.checker.check_model(model)
    return model


def _check_range(file: GeneratorFile, graph: _Graph) -> None:
    for tensor in graph.constants:
        if not np.isfinite(numpy_helper.to_array(tensor)).all():
            raise ModelError(f"{file.name}: {tensor.name} leaves the range of {np.dtype(graph.dtype)}; take fp32")


def _upsample(graph: _Graph, folded: FoldedGenerator, x: str) -> str:
    for i, layer in enumerate(folded.upsample):
        y = graph.conv(x, layer, f"upsample.{i}.conv")
        # CRD is pixel shuffle's order: channel c * 4 + row * 2 + column.
        x = graph.node("DepthToSpace", [y], f"upsample.{i}.shuffle", blocksize=2, mode="CRD")
        if layer.slope is not None:
            x = graph.prelu(x, layer.slope, f"upsample.{i}")
    return x
