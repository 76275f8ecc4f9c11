"""The ONNX graph that is written node by node."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from srgan_fast.export import export_onnx
from srgan_fast.models import GeneratorConfig, GeneratorFile, write_generator
from srgan_fast.runtime.onnx_graph import OPSET, build_onnx


def _run(model: bytes, lr: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"lr": lr})[0])


def _sides(value: Any) -> list[Any]:
    return [side.dim_param or side.dim_value for side in value.type.tensor_type.shape.dim]


def test_the_checker_accepts_it_with_its_inferred_shapes(tiny_file: GeneratorFile) -> None:
    onnx.checker.check_model(build_onnx(tiny_file), full_check=True)


def test_all_sizes_but_the_channels_are_free(tiny_file: GeneratorFile) -> None:
    graph = build_onnx(tiny_file).graph
    assert [value.name for value in (*graph.input, *graph.output)] == ["lr", "sr"]
    assert _sides(graph.input[0]) == ["batch", 3, "height", "width"]
    assert _sides(graph.output[0]) == ["batch", 3, "4*height", "4*width"]


def test_batchnorm_is_folded_and_native_operators_are_used(tiny_file: GeneratorFile) -> None:
    model = build_onnx(tiny_file)
    operators = [node.op_type for node in model.graph.node]
    assert set(operators) <= {"Conv", "PRelu", "Add", "Mul", "DepthToSpace", "Tanh", "Identity"}
    assert operators.count("DepthToSpace") == 2
    assert operators.count("Conv") == 1 + 2 * 2 + 1 + 2 + 1
    assert model.opset_import[0].version == OPSET


def test_neutral_maps_leave_no_node(file_of: Any) -> None:
    operators = [node.op_type for node in build_onnx(file_of(GeneratorConfig(channels=4, blocks=0))).graph.node]
    assert "Mul" not in operators
    assert "Tanh" not in operators


@pytest.mark.parametrize("scale", [2, 4])
def test_equals_the_graph_of_torchs_exporter(scale: int, tmp_path: Path, file_of: Any) -> None:
    built = file_of(GeneratorConfig(scale=scale, channels=6, blocks=1, upsample_bn=True, prelu="channel"))
    path = tmp_path / "model.safetensors"
    file = write_generator(built.weights, built.config.conventions, path)
    exported = export_onnx(path, tmp_path / "model.onnx").path.read_bytes()
    ours = build_onnx(file).SerializeToString()
    rng = np.random.default_rng(9)
    for size in ((1, 3, 1, 1), (2, 3, 5, 7), (1, 3, 32, 17)):
        lr = rng.random(size, np.float32)
        assert np.abs(_run(ours, lr) - _run(exported, lr)).max() <= 1e-5
