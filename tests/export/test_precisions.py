"""fp16 and int8 graphs are what they claim to be, near enough to float64, and refused where they are not."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from srgan_fast.data import calibration
from srgan_fast.data.images import Image, read_image, write_image
from srgan_fast.errors import ModelError, UsageError
from srgan_fast.export import ExportReport, export_onnx, onnx_export
from srgan_fast.export.quantize import kept_convs, quantize
from srgan_fast.export.verify import TOLERANCES, Agreement
from srgan_fast.models import read_generator, read_model, write_generator
from srgan_fast.network.onnx_graph import build_onnx
from srgan_fast.upscale import Upscaler

PRECISIONS = ("fp32", "fp16", "int8")
SAMPLE = Path(__file__).parents[2] / "docs" / "samples" / "astronaut.png"

Get = Callable[..., tuple[Path, ExportReport]]


@pytest.fixture
def exported(tmp_path: Path, bundled_once: Any) -> Get:
    """The bundled model in a precision."""

    def get(precision: Any, pixels: bool = False) -> tuple[Path, ExportReport]:
        path = tmp_path / f"{precision}.onnx"
        return path, export_onnx("srresnet-x4", path, precision=precision, pixels=pixels)

    return get


def _types(path: Path) -> Counter[str]:
    """How many convolutions read which type of weight."""
    proto = onnx.load(path)
    weights = {t.name: onnx.TensorProto.DataType.Name(t.data_type) for t in proto.graph.initializer}
    sources = {node.output[0]: node for node in proto.graph.node}
    found: Counter[str] = Counter()
    for node in proto.graph.node:
        if node.op_type == "Conv":
            name = node.input[1]
            found[weights[name] if name in weights else weights[sources[name].input[0]]] += 1
    return found


def _run(path: Path, lr: Any) -> Any:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(["sr"], {"lr": lr})[0]


@pytest.mark.parametrize(
    ("precision", "types"),
    [("fp32", {"FLOAT": 37}), ("fp16", {"FLOAT16": 37}), ("int8", {"INT8": 31, "FLOAT": 6})],
)
def test_convolutions_have_the_type_that_was_asked_for(exported: Get, precision: str, types: dict[str, int]) -> None:
    path, report = exported(precision)
    assert _types(path) == types
    assert report.precision == precision
    assert {entry.key: entry.value for entry in onnx.load(path).metadata_props}["precision"] == precision


def test_each_precision_is_smaller_and_less_exact_than_the_one_before(exported: Get) -> None:
    reports = [exported(precision)[1] for precision in PRECISIONS]
    assert reports[0].size > 1.9 * reports[1].size > 1.9 * reports[2].size
    assert reports[0].psnr_db > reports[1].psnr_db > reports[2].psnr_db
    assert reports[1].psnr_db > 75
    assert reports[2].psnr_db > 48, "int8 with the sensitive layers kept"


@pytest.mark.parametrize("precision", PRECISIONS)
def test_all_take_and_give_float32_between_0_and_1(exported: Get, precision: str) -> None:
    lr = np.random.default_rng(1).random((2, 3, 9, 7), np.float32)
    sr = _run(exported(precision)[0], lr)
    assert (sr.dtype, sr.shape) == (np.float32, (2, 3, 36, 28))


@pytest.mark.parametrize(("precision", "levels", "psnr"), [("fp32", 1, 70), ("fp16", 1, 60), ("int8", 255, 40)])
def test_a_graph_of_pixels_gives_the_image_that_upscaling_gives(
    exported: Get, precision: str, levels: int, psnr: float
) -> None:
    picture = read_image(SAMPLE).pixels[20:90, 30:110]
    sr = _run(exported(precision, pixels=True)[0], picture[None])
    assert (sr.dtype, sr.shape) == (np.uint8, (1, 280, 320, 3))
    difference = sr[0].astype(float) - Upscaler("srresnet-x4", border="zero")(picture)
    assert np.abs(difference).max() <= levels
    assert 20 * np.log10(255) - 10 * np.log10(max(np.mean(difference**2), 1e-12)) >= psnr


def test_the_layers_on_the_images_own_path_are_not_quantised() -> None:
    network = read_model("srresnet-x4").network
    few = ["head.conv", "blocks.0.conv1", "fuse.conv", "upsample.0.conv", "tail"]
    assert kept_convs(network) == few
    assert kept_convs(network, upsamplers=True) == [*few[:-1], "upsample.1.conv", "tail"]


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_filters_too_small_for_a_scale_are_not_lost(tiny_model: Path, dtype: Any) -> None:
    """The least scale of fp16 is 6.1e-5; ONNX Runtime gives smaller ones a scale of 1, and all values become 0."""
    network = read_model(tiny_model).network
    small = replace(network.convs[2], weight=network.convs[2].weight * np.float32(1e-4))
    network = replace(network, convs=(*network.convs[:2], small, *network.convs[3:]))
    pictures = [np.random.default_rng(0).random((1, 3, 16, 16), np.float32)]
    made = quantize(build_onnx(network, "small", dtype), pictures, [network.convs[0].name])
    arrays = {t.name: onnx.numpy_helper.to_array(t) for t in made.graph.initializer}
    (name,) = (n.input[1] for n in made.graph.node if n.op_type == "Conv" and n.name == small.name)
    (node,) = (n for n in made.graph.node if name in n.output)
    integers, scales = (arrays[part].astype(np.float64) for part in node.input[:2])
    restored = integers * scales.reshape(-1, 1, 1, 1)
    step = max(np.abs(small.weight).max() / 127, float(np.finfo(dtype).tiny))
    assert np.abs(restored - small.weight).max() <= 0.51 * step
    assert integers.any()


def test_quantised_graphs_are_symmetric_and_leave_biases_alone(exported: Get) -> None:
    """What TensorRT takes."""
    graph = onnx.load(exported("int8")[0]).graph
    arrays = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    for node in graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            assert not arrays[node.input[2]].any(), "zero points are zero"
            assert arrays[node.input[2]].dtype == np.int8
        if node.op_type == "Conv":
            assert arrays[node.input[2]].dtype == np.float32
    scales = [arrays[n.input[1]] for n in graph.node if n.op_type == "DequantizeLinear" and n.input[0] in arrays]
    assert [scale.size > 1 for scale in scales] == [True] * 31, "weights have a scale for each output channel"


@pytest.mark.parametrize("opset", [20, 21, 22, 23, 24, 25])
def test_newer_opsets_compute_the_same(tiny_model: Path, tmp_path: Path, opset: int) -> None:
    report = export_onnx(tiny_model, tmp_path / "a.onnx", opset=opset)
    assert onnx.load(tmp_path / "a.onnx").opset_import[0].version == opset == report.opset


@pytest.mark.parametrize("opset", [-1, 7, 19, 26, 1000])
def test_other_opsets_are_refused(tiny_model: Path, tmp_path: Path, opset: int) -> None:
    with pytest.raises(UsageError, match=f"opset is {opset}; it must lie between 20 and 25"):
        export_onnx(tiny_model, tmp_path / "a.onnx", opset=opset)
    assert not list(tmp_path.iterdir())


def test_int8_is_calibrated_on_the_folder_that_is_given(tiny_model: Path, tmp_path: Path) -> None:
    """Ranges of activations follow the images: black ones leave next to none."""
    (tmp_path / "black").mkdir()
    write_image(tmp_path / "black" / "a.png", Image(np.zeros((40, 40, 3), np.uint8)))
    graphs = []
    for folder in (None, tmp_path / "black"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Agreement, "problem", lambda *asked: None)
            made = onnx_export.make_onnx(read_model(tiny_model), precision="int8", calibration=folder)
        graph = onnx.load_from_string(made.data).graph
        arrays = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
        graphs.append(
            sum(
                float(arrays[n.input[1]])
                for n in graph.node
                if n.op_type == "QuantizeLinear" and n.input[0] not in arrays
            )
        )
    assert graphs[1] < 0.8 * graphs[0]


def test_without_samples_int8_asks_for_images_and_fp16_does_without(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "samples_folder", lambda: None)
    with pytest.raises(UsageError, match="int8 needs images for calibration: --calibration FOLDER"):
        export_onnx(tiny_model, tmp_path / "a.onnx", precision="int8")
    assert export_onnx(tiny_model, tmp_path / "a.onnx", precision="fp16").psnr_db > 60


def test_weights_that_fp16_cannot_hold_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    file = read_generator(tiny_model)
    weights = {name: array.copy() for name, array in file.weights.items()}
    weights["tail.weight"][0, 0, 0, 0] = 1e6
    write_generator(weights, file.config.conventions, tmp_path / "wild.safetensors", {})
    with pytest.raises(ModelError, match=r"wild: tail\.weight exceeds the range of float16; use fp32"):
        export_onnx(tmp_path / "wild.safetensors", tmp_path / "a.onnx", precision="fp16")
    assert not (tmp_path / "a.onnx").exists()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_what_is_too_far_from_float64_is_refused_with_what_to_do(precision: Any) -> None:
    tolerance = TOLERANCES[precision]
    assert Agreement(0.0, float("inf")).problem(precision, False) is None
    assert Agreement(1e-6, tolerance.psnr_db).problem(precision, False) is None
    for wrong in (tolerance.psnr_db - 0.1, float("nan"), -3.0):
        problem = Agreement(1e-6, wrong).problem(precision, False) or ""
        assert f"less than {tolerance.psnr_db:g} dB; {tolerance.remedy}" in problem
    assert "not finite" in (Agreement(float("inf"), 90.0).problem(precision, False) or "")
    if tolerance.max_error is not None:
        assert "differs from the network" in (
            Agreement(1.1 * tolerance.max_error, 90.0).problem(precision, False) or ""
        )
        within = Agreement(tolerance.max_error + 0.0019, 56.0)
        assert within.problem(precision, True) is None, "half a level of 255 is rounding"


@pytest.mark.parametrize("pixels", [False, True], ids=["floats", "pixels"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_openvino_reads_it_as_onnx_runtime_does(exported: Get, precision: str, pixels: bool) -> None:
    openvino = pytest.importorskip("openvino")
    path, _ = exported(precision, pixels)
    picture = read_image(SAMPLE).pixels[20:60, 30:70]
    lr = picture[None] if pixels else np.ascontiguousarray(picture.transpose(2, 0, 1)[None], np.float32) / 255
    expected = _run(path, lr).astype(np.float64)
    compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    got = compiled([lr])[0]
    white = 255 if pixels else 1
    error = np.mean(((got - expected) / white) ** 2)
    # Half precision is computed in another order, and what is quantised may fall on the next step.
    assert -10 * np.log10(max(error, 1e-30)) >= {"fp32": 70, "fp16": 58, "int8": 45}[precision]
