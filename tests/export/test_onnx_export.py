"""An exported file is one file that any ONNX runtime runs as the network is defined, or there is no file."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import srgan_fast
from srgan_fast.architectures.srgan import expected_shapes
from srgan_fast.errors import BackendError, FileError, ModelError
from srgan_fast.export import ExportReport, export_onnx, onnx_export, verify
from srgan_fast.export.verify import TOLERANCES, Agreement
from srgan_fast.models import ModelFile, generator_config, load_generator, read_generator, read_model, write_generator
from srgan_fast.network import onnx_graph

from ..network.random_networks import rich_network

VARIANTS = {"x4": ("paper", 4), "x2": ("paper", 2), "x8": ("paper", 8), "pytorch-gan": ("pytorch-gan", 4)}
SIZES = [(1, 1, 1), (1, 1, 19), (1, 11, 5), (3, 8, 8), (2, 33, 50)]


@dataclass(frozen=True)
class Exported:
    """A model file, what became of it, and the report."""

    source: Path
    target: Path
    report: ExportReport
    scale: int
    preset: str

    def proto(self) -> Any:
        return onnx.load(self.target, load_external_data=False)


def _write_model(path: Path, preset: str, scale: int, seed: int = 1) -> Path:
    """A small generator in which every tensor matters."""
    config = generator_config(preset, scale=scale, channels=6, blocks=2)
    rng = np.random.default_rng(seed)
    weights = {}
    for name, shape in expected_shapes(config).items():
        if len(shape) == 4:
            weights[name] = rng.normal(0, np.prod(shape[1:]) ** -0.5, shape).astype(np.float32)
        else:
            low, high = (0.5, 1.5) if name.endswith(("running_var", "bn.weight", "1.weight", "2.weight")) else (0, 0.3)
            weights[name] = rng.uniform(low, high, shape).astype(np.float32)
    write_generator(weights, config.conventions, path, {"preset": preset, "licence": "to be used", "secret": "inside"})
    return path


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Exported]:
    """Exports each variant once, into a folder of its own."""
    made: dict[str, Exported] = {}

    def get(variant: str) -> Exported:
        if variant not in made:
            preset, scale = VARIANTS[variant]
            folder = tmp_path_factory.mktemp("export")
            source = _write_model(folder / f"my-{variant}.safetensors", preset, scale)
            target = folder / "out" / "model.ONNX"
            made[variant] = Exported(source, target, export_onnx(source, target), scale, preset)
        return made[variant]

    return get


@pytest.fixture(params=VARIANTS)
def exported(request: pytest.FixtureRequest, exports: Callable[[str], Exported]) -> Exported:
    return exports(request.param)


@pytest.fixture
def spoiled(exports: Callable[[str], Exported], monkeypatch: pytest.MonkeyPatch) -> Any:
    """The graph of x4, to be spoiled: the next export gets it."""
    proto = exports("x4").proto()
    del proto.metadata_props[:]
    monkeypatch.setattr(onnx_graph, "build_onnx", lambda *asked, **how: proto)
    return proto


def _sides(value: Any) -> list[Any]:
    return [side.dim_param or side.dim_value for side in value.type.tensor_type.shape.dim]


def test_it_is_one_file_with_everything_inside(exported: Exported) -> None:
    assert [path.name for path in exported.target.parent.iterdir()] == ["model.ONNX"]
    tensors = exported.proto().graph.initializer
    assert tensors
    assert all(t.data_location == onnx.TensorProto.DEFAULT and not t.external_data for t in tensors)
    weights = sum(a.size for n, a in read_generator(exported.source).weights.items() if n.endswith("conv.weight"))
    assert exported.target.stat().st_size > 4 * weights


def test_the_report_is_true(exported: Exported) -> None:
    report = exported.report
    assert report.path == exported.target
    assert report.size == exported.target.stat().st_size
    assert report.opset == exported.proto().opset_import[0].version >= 20
    assert 0 <= report.max_error <= TOLERANCES["fp32"].max_error == 1e-4  # type: ignore[operator]
    assert report.psnr_db >= 80


def test_the_checker_accepts_it_with_its_inferred_shapes(exported: Exported) -> None:
    onnx.checker.check_model(exported.proto(), full_check=True)


def test_all_sizes_but_the_channels_are_free(exported: Exported) -> None:
    graph, scale = exported.proto().graph, exported.scale
    assert [value.name for value in (*graph.input, *graph.output)] == ["lr", "sr"]
    assert _sides(graph.input[0]) == ["batch", 3, "height", "width"]
    assert _sides(graph.output[0]) == ["batch", 3, f"{scale}*height", f"{scale}*width"]


def test_batchnorm_is_folded_and_native_operators_are_used(exported: Exported) -> None:
    proto = exported.proto()
    operators = [node.op_type for node in proto.graph.node]
    stages = exported.scale.bit_length() - 1
    assert not [name for name in operators if "Norm" in name]
    assert operators.count("DepthToSpace") == stages
    assert operators.count("LeakyRelu") == 1 + 2 + stages
    assert operators.count("Conv") == 1 + 2 * 2 + 1 + stages + 1
    assert operators.count("Tanh") == (exported.preset == "pytorch-gan")
    assert {entry.domain for entry in proto.opset_import} <= {"", "ai.onnx"}, "standard operators only"
    assert not proto.functions


def test_the_file_says_what_it_is(exported: Exported) -> None:
    proto = exported.proto()
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    assert metadata == {
        "model": exported.source.stem,
        "scale": str(exported.scale),
        "architecture": "SRGAN generator, 2 blocks of 6 channels",
        "precision": "fp32",
        "sha256": exported.report.sha256,
        "srgan_fast": srgan_fast.__version__,
        "licence": "to be used",
        "preset": exported.preset,
    }
    assert (proto.producer_name, proto.producer_version) == ("srgan_fast", srgan_fast.__version__)
    assert f"x{exported.scale}" in proto.doc_string


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_onnx_runtime_agrees_with_torch(exported: Exported, size: tuple[int, int, int]) -> None:
    count, height, width = size
    lr = np.random.default_rng(height * 100 + width).random((count, 3, height, width), np.float32)
    with torch.inference_mode():
        expected = load_generator(read_generator(exported.source))(torch.from_numpy(lr)).numpy()
    session = onnxruntime.InferenceSession(exported.target.read_bytes(), providers=["CPUExecutionProvider"])
    got = session.run(["sr"], {"lr": lr})[0]
    assert got.dtype == np.float32
    assert got.shape == (count, 3, exported.scale * height, exported.scale * width)
    assert expected.std() > 0.01
    assert np.abs(got - expected).max() <= 1e-4


def test_the_digest_is_that_of_the_weights_and_settings(tmp_path: Path) -> None:
    def digest(name: str, *variant: Any) -> str:
        return onnx_export.network_digest(read_model(_write_model(tmp_path / f"{name}.safetensors", *variant)).network)

    one = digest("one", "paper", 4)
    assert len(one) == 64
    assert digest("same", "paper", 4) == one, "whatever the file is called"
    assert len({one, digest("other", "paper", 4, 2), digest("x2", "paper", 2), digest("gan", "pytorch-gan", 4)}) == 4


# --- refusals


def _refused(source: Path, target: Path, message: str, error: type[Exception] = ModelError) -> str:
    before = sorted(target.parent.rglob("*"))
    with pytest.raises(error, match=message) as caught:
        export_onnx(source, target)
    assert sorted(target.parent.rglob("*")) == before, "nothing is written"
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["model.pb", "model", "model.onnx.tmp", "onnx"])
def test_another_suffix_is_refused(tiny_model: Path, tmp_path: Path, name: str) -> None:
    _refused(tiny_model, tmp_path / name, f"{name}: ONNX files end in .onnx")


def test_an_unknown_model_is_refused_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"neither a file nor a shipped model; shipped models: .*srresnet-x4"):
        export_onnx("nope", tmp_path / "a.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("module", ["onnx", "onnxruntime"])
def test_a_missing_package_is_named_with_what_installs_it(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    text = _refused(tiny_model, tmp_path / "a.onnx", f"exporting needs {module}", BackendError)
    assert text.endswith("pip install 'srgan_fast[onnx]'")


@pytest.mark.parametrize("existing", [True, False], ids=["over a file", "new"])
@pytest.mark.parametrize("part", ["weight", "bias"])
def test_a_graph_that_computes_something_else_is_refused(
    exports: Callable[[str], Exported], spoiled: Any, tmp_path: Path, part: str, existing: bool
) -> None:
    (tensor,) = [t for t in spoiled.graph.initializer if t.name == f"tail.{part}"]
    tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor) + np.float32(0.05), tensor.name))
    target = tmp_path / "a.onnx"
    if existing:
        target.write_bytes(b"old")
    text = _refused(exports("x4").source, target, "the exported fp32 graph differs from the network by")
    assert text.startswith("my-x4: ")
    assert not existing or target.read_bytes() == b"old"


def test_a_graph_of_another_scale_is_refused(spoiled: Any, tmp_path: Path) -> None:
    source = _write_model(tmp_path / "my-x2.safetensors", "paper", 2)
    _refused(source, tmp_path / "a.onnx", r"my-x2: the exported graph gives \(1, 3, 4, 4\) instead of")


@pytest.mark.parametrize("difference", [1.01e-4, float("nan"), float("inf")])
def test_the_tolerance_is_kept(
    exports: Callable[[str], Exported], spoiled: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, difference: float
) -> None:
    monkeypatch.setattr(verify, "verify", lambda *asked: Agreement(difference, 90.0))
    expected = "more than 1e-04; report it" if difference < 1 else "values that are not finite; report it"
    _refused(exports("x4").source, tmp_path / "a.onnx", expected)


def test_the_same_graph_unspoiled_is_accepted(exports: Callable[[str], Exported], spoiled: Any, tmp_path: Path) -> None:
    report = export_onnx(exports("x4").source, tmp_path / "a.onnx")
    assert report.sha256 == exports("x4").report.sha256
    assert (tmp_path / "a.onnx").stat().st_size == report.size


@pytest.mark.parametrize("place", ["file/a.onnx", "folder.onnx"])
def test_an_output_that_cannot_be_written_is_named(
    exports: Callable[[str], Exported], spoiled: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setattr(verify, "verify", lambda *asked: Agreement(0.0, 90.0))
    (tmp_path / "file").write_bytes(b"kept")
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(FileError, match=rf"{place}: (cannot be written \(|is a folder)") as error:
        export_onnx(exports("x4").source, tmp_path / place)
    assert "\n" not in str(error.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.onnx"]
    assert (tmp_path / "file").read_bytes() == b"kept"


def test_exporting_needs_no_torch(tiny_model: Path, tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
sys.modules["torch"] = None
from srgan_fast.export import export_onnx
print(export_onnx(sys.argv[1], Path(sys.argv[2])).psnr_db > 80)
"""
    command = [sys.executable, "-c", code, tiny_model, tmp_path / "a.onnx"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


OTHERS: dict[str, dict[str, Any]] = {
    "gray": {"channels": 1},
    "four channels, nearest skip": {"channels": 4, "skip": "nearest"},
    "unshuffled, bilinear skip": {"unshuffle": 2, "skip": "bilinear"},
}


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("how", OTHERS)
def test_networks_that_are_no_srgan_are_exported_in_every_precision(how: str, precision: Any) -> None:
    network = rich_network(np.random.default_rng(2), **OTHERS[how])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Agreement, "problem", lambda *asked: None)  # of random weights in int8
        made = onnx_export.make_onnx(ModelFile(network, "random", "random", {}), precision=precision)
    assert made.agreement.psnr_db > {"fp32": 100, "fp16": 45, "int8": 15}[precision]
