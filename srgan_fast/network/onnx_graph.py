"""Conversion of a network to an ONNX graph, for the runtimes that read ONNX and for exports."""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from srgan_fast.errors import ModelError
from srgan_fast.network.analysis import scale_of, value_shapes
from srgan_fast.network.graph import IMAGE, Array, ColourMap, Conv, Network

OPSET = 20
_WHITE = 255


def ir_version_of(opset: int) -> int:
    """The IR version that introduced an operator set: the oldest that may hold it, so that older runtimes can read it.

    Raises:
        ModelError: the installed onnx does not know the operator set.
    """
    found = helper.OP_SET_ID_VERSION_MAP.get(("ai.onnx", opset))
    if found is None:
        raise ModelError(f"opset is {opset}; the installed onnx {onnx.__version__} does not support it")
    # At least 10, which runtimes since 2024 read.
    return max(int(found), 10)


class _Graph:
    """Collects nodes and constants; methods return the name of their result."""

    def __init__(self, network: Network, dtype: type[np.float32] | type[np.float16]) -> None:
        self.network, self.dtype = network, dtype
        self.channels = [shape.channels for shape in value_shapes(network)]
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, array: NDArray[Any]) -> str:
        """Adds an initialiser; floats are converted to the graph's dtype."""
        with np.errstate(over="ignore"):  # `_check_range` reports overflows
            values = array.astype(self.dtype) if array.dtype.kind == "f" else array
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def single(self, name: str, array: Array) -> str:
        """Adds an initialiser that stays float32."""
        self.constants.append(numpy_helper.from_array(array.astype(np.float32), name))
        return name

    def node(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], output, **attributes))
        return output

    def conv(self, conv: Conv, values: list[str]) -> str:
        """Adds a convolution with its epilogue."""
        name, size = conv.name, conv.size
        given = [values[value] for value in conv.inputs]
        x = given[0] if len(given) == 1 else self.node("Concat", given, f"{name}.inputs", axis=1)
        weight = conv.weight[:, self.channel_order(conv)]
        arrays = [self.constant(f"{name}.weight", weight), self.constant(f"{name}.bias", conv.bias)]
        y = self.node("Conv", [x, *arrays], name, kernel_shape=[size, size], pads=[size // 2] * 4)
        if conv.slope is not None:
            y = self.activation(y, conv.slope, name)
        for number, residual in enumerate(conv.residuals):
            added, what = values[residual.value], f"{name}.sum.{number}"
            if residual.value == IMAGE and self.network.unshuffle > 1:
                order = self.constant(f"{what}.order", np.argsort(_blocks_first(self.network)))
                added = self.node("Gather", [added, order], f"{what}.ordered", axis=1)
            if residual.scale != 1.0:
                factor = self.constant(f"{what}.scale", np.array(residual.scale, np.float32))
                added = self.node("Mul", [added, factor], f"{what}.scaled")
            y = self.node("Add", [y, added], what)
        if conv.shuffle == 1:
            return y
        # CRD matches pixel_shuffle's channel order: c * r^2 + row * r + column.
        return self.node("DepthToSpace", [y], f"{name}.shuffle", blocksize=conv.shuffle, mode="CRD")

    def channel_order(self, conv: Conv) -> NDArray[np.int64]:
        """For each of a convolution's input channels in the graph's order, its channel in the network's."""
        order, begin = [], 0
        for value in conv.inputs:
            order.append(begin + (_blocks_first(self.network) if value == IMAGE else np.arange(self.channels[value])))
            begin += self.channels[value]
        return np.concatenate(order)

    def activation(self, x: str, slope: Array, name: str) -> str:
        output = f"{name}.act"
        if not slope.any():
            return self.node("Relu", [x], output)
        if slope.size == 1:
            return self.node("LeakyRelu", [x], output, alpha=float(slope[0]))
        return self.node("PRelu", [x, self.constant(f"{name}.slope", slope.reshape(-1, 1, 1))], output)

    def affine(self, x: str, values: ColourMap, name: str) -> str:
        if values.is_identity:
            return x
        gain = self.constant(f"{name}.gain", _column(values.gain))
        offset = self.constant(f"{name}.offset", _column(values.offset))
        return self.node("Add", [self.node("Mul", [x, gain], f"{name}.scaled"), offset], name)

    def unshuffle(self, x: str) -> str:
        """Unshuffles the image in ONNX's channel order; the weights of its readers are permuted to match."""
        if self.network.unshuffle == 1:
            return x
        return self.node("SpaceToDepth", [x], "unshuffle", blocksize=self.network.unshuffle)

    def enlarged(self, x: str) -> str:
        """The image enlarged to the output's size, for the skip connection."""
        scale = scale_of(self.network)
        if scale == 1:
            return x
        scales = self.single("enlarged.scales", np.array([1, 1, scale, scale], np.float32))
        if self.network.skip == "nearest":
            how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        else:
            how = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
        return self.node("Resize", [x, "", scales], "enlarged", **how)


def _blocks_first(network: Network) -> NDArray[np.int64]:
    """For every channel after SpaceToDepth, the corresponding channel of the network's unshuffled image.

    ONNX's order is position-major, the network's channel-major. (A Gather of channels could convert between them, but
    OpenVINO 2026.4 computes wrong results for one before a convolution.)
    """
    places = network.unshuffle**2
    return np.arange(network.channels * places).reshape(network.channels, places).T.reshape(-1)


def _column(values: tuple[float, ...]) -> Array:
    return np.array(values, np.float32).reshape(1, -1, 1, 1)


def build_onnx(
    network: Network,
    name: str,
    dtype: type[np.float32] | type[np.float16] = np.float32,
    *,
    pixels: bool = False,
    opset: int = OPSET,
) -> onnx.ModelProto:
    """Builds a checked ONNX model: `lr`, N, C, H, W in 0..1, to `sr`, N, C, scale * H, scale * W, float32, not clamped.

    N, H and W are dynamic; H and W must be multiples of the network's pixel-unshuffle. Initialisers are named after
    their convolutions, with `.weight`, `.bias` and `.slope`.

    Args:
        network: to write.
        name: of the graph; also used in messages.
        dtype: of everything between input and output.
        pixels: uint8 input and output: `lr` is N, H, W, C, `sr` is N, scale * H, scale * W, C, and the graph converts.
        opset: version of ONNX's operator set.

    Raises:
        ModelError: weights exceed float16's range, or the installed onnx does not know the opset.
    """
    graph = _Graph(network, dtype)
    x = "lr"
    if pixels:
        # Casts must be adjacent to the input and the output: TensorRT accepts uint8 nowhere else.
        x = graph.node("Cast", [x], "lr_float", to=TensorProto.FLOAT)
        x = graph.node("Transpose", [x], "lr_planes", perm=[0, 3, 1, 2])
        x = graph.node("Div", [x, graph.single("white", np.array(_WHITE, np.float32))], "lr_unit")
    if dtype is not np.float32:
        x = graph.node("Cast", [x], "lr_half", to=TensorProto.FLOAT16)
    image = graph.affine(x, network.input_map, "input_map")
    values = [graph.unshuffle(image)]
    for conv in network.convs:
        values.append(graph.conv(conv, values))
    x = values[-1]
    if network.skip != "none":
        x = graph.node("Add", [x, graph.enlarged(image)], "skip")
    if network.tanh:
        x = graph.node("Tanh", [x], "tanh")
    x = graph.affine(x, network.output_map, "output_map")
    if dtype is not np.float32:
        x = graph.node("Cast", [x], "sr_float", to=TensorProto.FLOAT)
    if pixels:
        black, one = (graph.single(n, np.array(v, np.float32)) for n, v in (("black", 0), ("one", 1)))
        x = graph.node("Clip", [x, black, one], "sr_clipped")
        x = graph.node("Round", [graph.node("Mul", [x, "white"], "sr_levels")], "sr_rounded")
        x = graph.node("Transpose", [x], "sr_pixels", perm=[0, 2, 3, 1])
        graph.node("Cast", [x], "sr", to=TensorProto.UINT8)
    else:
        graph.node("Identity", [x], "sr")
    _check_range(name, graph)
    model = helper.make_model(
        helper.make_graph(graph.nodes, name, *_ends(network, pixels), graph.constants),
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=ir_version_of(opset),
        producer_name="srgan_fast",
    )
    onnx.checker.check_model(model)
    return model


def _ends(network: Network, pixels: bool) -> tuple[list[onnx.ValueInfoProto], list[onnx.ValueInfoProto]]:
    """Input and output of the graph."""
    scale, dtype = scale_of(network), TensorProto.UINT8 if pixels else TensorProto.FLOAT

    def shape(height: str, width: str) -> list[str | int]:
        return ["batch", height, width, network.channels] if pixels else ["batch", network.channels, height, width]

    lr = helper.make_tensor_value_info("lr", dtype, shape("height", "width"))
    sr = helper.make_tensor_value_info("sr", dtype, shape(f"{scale}*height", f"{scale}*width"))
    return [lr], [sr]


def _check_range(name: str, graph: _Graph) -> None:
    for tensor in graph.constants:
        if not np.isfinite(numpy_helper.to_array(tensor)).all():
            raise ModelError(f"{name}: {tensor.name} exceeds the range of {np.dtype(graph.dtype)}; use fp32")


__all__ = ["OPSET", "build_onnx", "ir_version_of"]
