"""An engine file appears whole, says what it is, and is built from a graph that was checked."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from srgan_fast.errors import BackendError, FileError, ModelError, UsageError
from srgan_fast.export import export_tensorrt, tensorrt_export
from srgan_fast.export.onnx_export import make_onnx
from srgan_fast.models import read_model
from srgan_fast.runtime.installed import is_installed
from srgan_fast.runtime.tensorrt.builder import BuildOptions, build_engine
from srgan_fast.runtime.tensorrt.engine_file import profile_of, read_engine
from srgan_fast.runtime.tensorrt.flavour import load_library
from srgan_fast.runtime.tensorrt.shapes import Profile, Shape

pytestmark = pytest.mark.skipif(not is_installed("tensorrt_rtx"), reason="TensorRT-RTX is not installed")

DYNAMIC = BuildOptions(Profile(Shape(1, 8, 8), Shape(2, 64, 96), Shape(4, 256, 320)))


@pytest.mark.parametrize("pixels", [False, True], ids=["floats", "pixels"])
@pytest.mark.parametrize(
    ("precision", "types"), [("fp32", {"FLOAT": 37}), ("fp16", {"HALF": 37}), ("int8", {"INT8": 31, "HALF": 6})]
)
@pytest.mark.usefixtures("bundled_once")
def test_the_bundled_model_becomes_an_engine_with_free_sizes(
    tmp_path: Path, precision: Any, types: dict[str, int], pixels: bool
) -> None:
    path = tmp_path / "m.engine"
    report = export_tensorrt("srresnet-x4", path, precision=precision, options=DYNAMIC, pixels=pixels)
    assert (report.path, report.precision, report.convolutions) == (path, precision, types)
    assert report.size == path.stat().st_size
    assert report.library.startswith("tensorrt-rtx ")
    assert report.psnr_db > (45 if precision == "int8" else 55)
    _, key = read_engine(path)
    assert profile_of(key) == DYNAMIC.profile
    assert (key.precision, key.device) == (precision, "its default GPUs")
    about = json.loads((tmp_path / "m.engine.json").read_text())
    assert len([layer for layer in about["layers"] if layer["kind"] == "CONVOLUTION"]) == 37


def test_a_graph_that_is_not_what_was_asked_for_is_not_built(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it would be where a converter did nothing, and TensorRT built fp32 without a word."""
    genuine = tensorrt_export.make_onnx
    monkeypatch.setattr(tensorrt_export, "make_onnx", lambda file, **how: genuine(file, **{**how, "precision": "fp32"}))
    with pytest.raises(BackendError, match=r"the parsed network is not fp16: .* give FLOAT"):
        export_tensorrt(tiny_model, tmp_path / "m.engine", precision="fp16")
    assert list(tmp_path.iterdir()) == []


def test_biases_in_int32_would_be_refused_and_ours_are_not(tiny_model: Path) -> None:
    made = make_onnx(read_model(tiny_model), precision="fp16")
    built = build_engine(load_library("tensorrt-rtx"), made.data, "fp16", DYNAMIC)
    assert not [layer for layer in built.layers if layer.dtype == "INT32"]


@pytest.mark.parametrize("name", ["m.plan", "m", "engine"])
def test_another_suffix_is_refused(tiny_model: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelError, match=f"{name}: engines end in .engine"):
        export_tensorrt(tiny_model, tmp_path / name)


def test_an_output_that_cannot_be_written_is_found_before_anything_is_built(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensorrt_export, "make_onnx", lambda *what, **how: pytest.fail("too late"))
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match=r"file/m.engine: cannot be written"):
        export_tensorrt(tiny_model, tmp_path / "file" / "m.engine")


def test_ctrl_c_leaves_nothing(tiny_model: Path, tmp_path: Path) -> None:
    def interrupt(phase: str, done: int, of: int) -> None:
        if phase != "exporting and checking the graph":
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        export_tensorrt(tiny_model, tmp_path / "m.engine", on_progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_options_of_the_other_library_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="TensorRT-RTX has no hardware or version compatibility"):
        export_tensorrt(
            tiny_model, tmp_path / "m.engine", flavour="tensorrt-rtx", options=BuildOptions(version_compatible=True)
        )
    assert list(tmp_path.iterdir()) == []
