"""Writes small ONNX models with the `onnx` package, node by node."""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class OnnxModel:
    """A model in the making; every method returns the name of its result."""

    def __init__(self, seed: int = 0, dtype: type = np.float32, channels: int | str = 3) -> None:
        self.rng = np.random.default_rng(seed)
        self.dtype = dtype
        self.channels = channels
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def node(self, op: str, inputs: list[str], output: str | None = None, **attributes: Any) -> str:
        output = output or f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [output], f"{op.lower()}{len(self.nodes)}", **attributes))
        return output

    def constant(self, values: Any, dtype: type | None = None, *, raw: bool = True) -> str:
        array, name = np.asarray(values, dtype or self.dtype), f"c{len(self.constants)}"
        tensor = numpy_helper.from_array(array, name)
        if not raw:
            kind = helper.np_dtype_to_tensor_dtype(array.dtype)
            tensor = helper.make_tensor(name, kind, array.shape, array.reshape(-1).tolist())
        self.constants.append(tensor)
        return name

    def conv(self, x: str, c_in: int, c_out: int, size: int = 3, *, raw: bool = True, **attributes: Any) -> str:
        weight = self.rng.standard_normal((c_out, c_in, size, size)) / np.sqrt(c_in * size * size)
        inputs = [x, self.constant(weight, raw=raw), self.constant(0.2 * self.rng.standard_normal(c_out), raw=raw)]
        return self.node("Conv", inputs, **({"pads": [size // 2] * 4} | attributes))

    def model(self, result: str, opset: int = 18, kind: int = TensorProto.FLOAT) -> bytes:
        sides = ["n", self.channels, "h", "w"]
        graph = helper.make_graph(
            self.nodes,
            "small",
            [helper.make_tensor_value_info("image", kind, sides)],
            [helper.make_tensor_value_info(result, kind, None)],
            self.constants,
        )
        return helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8
        ).SerializeToString()


def small_model() -> bytes:
    """A dense block, a scaled residual, both kinds of upsampling and a skip, in little."""
    model = OnnxModel(1)
    first = model.conv("image", 3, 4)
    dense = model.node("LeakyRelu", [model.conv(first, 4, 4)], alpha=0.2)
    dense = model.conv(model.node("Concat", [first, dense], axis=1), 8, 4)
    total = model.node("Add", [model.node("Mul", [dense, model.constant(0.2)]), first])
    enlarged = model.node("Resize", [total, "", model.constant([1, 1, 2, 2])], mode="nearest", **FLOOR)
    up = model.node("PRelu", [model.conv(enlarged, 4, 4), model.constant([[[0.1]], [[0.2]], [[0.3]], [[0.4]]])])
    pixels = model.node("DepthToSpace", [model.conv(up, 4, 12)], blocksize=2, mode="CRD")
    skip = model.node("Resize", ["image", "", model.constant([1, 1, 4, 4])], mode="nearest", **FLOOR)
    return model.model(model.node("Add", [pixels, skip]))


FLOOR = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
