"""The ONNX graph that is written node by node."""

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from srgan_fast.models import ModelFile
from srgan_fast.network import Conv, Network, Residual, interpreter
from srgan_fast.network.onnx_graph import OPSET, build_onnx, ir_version_of

from .random_networks import random_conv, rich_network


def _sides(value: Any) -> list[Any]:
    return [side.dim_param or side.dim_value for side in value.type.tensor_type.shape.dim]


def test_the_checker_accepts_it_with_its_inferred_shapes(tiny_file: ModelFile) -> None:
    onnx.checker.check_model(build_onnx(tiny_file.network, "tiny"), full_check=True)


def test_all_sizes_but_the_channels_are_free(tiny_file: ModelFile) -> None:
    graph = build_onnx(tiny_file.network, "tiny").graph
    assert [value.name for value in (*graph.input, *graph.output)] == ["lr", "sr"]
    assert _sides(graph.input[0]) == ["batch", 3, "height", "width"]
    assert _sides(graph.output[0]) == ["batch", 3, "4*height", "4*width"]


def test_batchnorm_is_folded_and_native_operators_are_used(tiny_file: ModelFile) -> None:
    model = build_onnx(tiny_file.network, "tiny")
    operators = [node.op_type for node in model.graph.node]
    assert set(operators) <= {"Conv", "LeakyRelu", "Add", "Mul", "DepthToSpace", "Tanh", "Identity"}
    assert operators.count("DepthToSpace") == 2
    assert operators.count("Conv") == 1 + 2 * 2 + 1 + 2 + 1
    assert model.opset_import[0].version == OPSET


def test_neutral_maps_and_linear_layers_leave_no_node() -> None:
    conv = Conv("only", (0,), np.ones((12, 3, 3, 3), np.float32), np.zeros(12, np.float32), shuffle=2)
    operators = [node.op_type for node in build_onnx(Network((conv,)), "plain").graph.node]
    assert operators == ["Conv", "DepthToSpace", "Identity"]


def test_activations_are_the_operators_that_runtimes_fuse() -> None:
    graph = build_onnx(rich_network(np.random.default_rng(0)), "rich").graph
    kinds = {node.name: node.op_type for node in graph.node if node.name.endswith(".act")}
    assert kinds == {
        "first.act": "PRelu",
        "dense.1.act": "LeakyRelu",
        "dense.2.act": "Relu",
        "up.1.act": "PRelu",
        "up.2.act": "LeakyRelu",
    }


@pytest.mark.parametrize(("opset", "version"), [(20, 10), (22, 10), (23, 11), (25, 13)])
def test_the_file_format_is_the_oldest_that_holds_the_operators(opset: int, version: int) -> None:
    model = build_onnx(rich_network(np.random.default_rng(0)), "rich", opset=opset)
    assert model.ir_version == ir_version_of(opset) == version


@pytest.mark.parametrize("unshuffle", [1, 2])
def test_an_unshuffled_image_is_read_as_input_beside_others_and_as_residual(unshuffle: int) -> None:
    rng = np.random.default_rng(4)
    c = 3 * unshuffle**2
    convs = (
        random_conv(rng, "first", c, c, residuals=(Residual(0, 0.5),)),
        random_conv(rng, "both", 2 * c, 3 * 4 * unshuffle**2, inputs=(1, 0), shuffle=2 * unshuffle),
    )
    network = Network(convs, unshuffle=unshuffle)
    lr = rng.random((2, 3, 4, 6), np.float32)
    session = onnxruntime.InferenceSession(build_onnx(network, "image").SerializeToString())
    np.testing.assert_allclose(session.run(None, {"lr": lr})[0], interpreter.run(network, lr), atol=1e-5)
