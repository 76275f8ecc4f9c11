"""`srgan-fast export onnx` writes a checked file, says how well it agrees, and replaces nothing unasked."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from srgan_fast.data.images import read_image
from srgan_fast.runtime.installed import is_installed
from srgan_fast.upscale import Upscaler


def test_a_model_becomes_a_file_that_computes_the_same(
    run_process: Any, picture: Any, folder: Path, tiny_model: Path, upscaler: Upscaler
) -> None:
    done = run_process("export", "onnx", "--model", tiny_model, "-o", "new/m.onnx")
    said = done.stderr.decode()
    assert (done.returncode, done.stdout) == (0, b""), said
    assert said.startswith("new/m.onnx: 0.0 MB, fp32, opset 20, ")
    assert said.endswith(" on them and on noise\n")
    assert said.count("\n") == 1, "nothing of the exporter's own"
    assert [path.name for path in (folder / "new").iterdir()] == ["m.onnx"]
    source = read_image(picture("a.png", size=(9, 14, 3)))
    lr = source.pixels.transpose(2, 0, 1)[None].astype(np.float32) / np.float32(255)
    (sr,) = onnxruntime.InferenceSession(folder / "new/m.onnx").run(None, {"lr": lr})
    np.testing.assert_allclose(sr, upscaler.run(lr), atol=1e-4)


def test_a_file_that_is_there_is_replaced_only_if_that_is_wanted(
    run: Any, folder: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "m.onnx").write_bytes(b"mine")
    result = run("export", "onnx", "-m", tiny_model, "-o", "m.onnx")
    assert (result.exit_code, result.stderr) == (1, "error: m.onnx: already exists; use --overwrite\n")
    assert (folder / "m.onnx").read_bytes() == b"mine"
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    result = run("export", "onnx", "-m", tiny_model, "-o", "m.onnx", "--overwrite")
    assert (folder / "m.onnx").read_bytes() == b"mine", "it failed, so what was there stays"
    assert result.stderr == "error: exporting needs onnxruntime: pip install 'srgan_fast[onnx]'\n"
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    assert run("export", "onnx", "-m", tiny_model, "-o", "m.onnx", "--overwrite").exit_code == 0
    assert (folder / "m.onnx").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "m.pb"], "m.pb: ONNX files end in .onnx"),
        (["-o", "m.onnx", "-m", "nope"], "nope: is neither a file nor a shipped model; shipped models: "),
    ],
)
def test_what_cannot_be_exported_is_one_line(run: Any, folder: Path, arguments: list[str], message: str) -> None:
    result = run("export", "onnx", *arguments)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)
    assert result.stderr.startswith(f"error: {message}")
    assert list(folder.iterdir()) == []


def test_the_output_must_be_given(run: Any) -> None:
    result = run("export", "onnx", "--model", "srresnet-x4")
    assert result.exit_code == 2
    assert "--output" in result.stderr


@pytest.mark.skipif(not is_installed("tensorrt_rtx"), reason="TensorRT-RTX is not installed")
def test_a_model_becomes_an_engine(run_process: Any, folder: Path, tiny_model: Path) -> None:
    shapes = ("--min-shapes", "1x3x8x8", "--opt-shapes", "lr:1x3x64x64", "--max-shapes", "2x3x128x128")
    done = run_process("export", "tensorrt", "--model", tiny_model, "-o", "new/m.engine", *shapes)
    said = done.stderr.decode()
    assert (done.returncode, done.stdout) == (0, b""), said
    assert said.startswith("new/m.engine: ")
    assert " for its default GPUs, convolutions: 9 HALF; its graph is " in said
    assert said.count("\n") == 1, "nothing of the library's own"
    assert sorted(path.name for path in (folder / "new").iterdir()) == ["m.engine", "m.engine.json"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "m.plan"], "m.plan: engines end in .engine"),
        (["-o", "m.engine", "--min-shapes", "1x3x8"], "shape is '1x3x8'; it must be NxCxHxW, as in 1x3x128x128"),
        (["-o", "m.engine", "--opt-shapes", "1x3x600x8"], "shapes are 1x3x1x1, 1x3x600x8 and 1x3x512x512; no number"),
        (["-o", "m.engine", "--flavour", "tensorrt"], "tensorrt is not installed: pip install 'srgan_fast[tensorrt]'"),
        (["-o", "m.engine", "-m", "nope"], "nope: is neither a file nor a shipped model; shipped models: "),
        (
            ["-o", "m.engine", "--compute-capability", "3.5"],
            "compute capability is '3.5'; this TensorRT-RTX builds for",
        ),
        (["-o", "m.engine", "--version-compatible"], "TensorRT-RTX has no hardware or version compatibility"),
        (["-o", "m.engine", "--optimization-level", "9"], "optimization level is 9; it must lie between 0 and 5"),
    ],
)
@pytest.mark.skipif(
    is_installed("tensorrt") or not is_installed("tensorrt_rtx"), reason="the texts are those of TensorRT-RTX alone"
)
def test_what_no_engine_can_be_built_for_is_one_line(
    run: Any, folder: Path, tiny_model: Path, arguments: list[str], message: str
) -> None:
    model = [] if "-m" in arguments else ["-m", tiny_model]
    result = run("export", "tensorrt", *arguments, *model)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)
    assert result.stderr.startswith(f"error: {message}")
    assert list(folder.iterdir()) == []


def test_an_engine_that_is_there_is_replaced_only_if_that_is_wanted(run: Any, folder: Path, tiny_model: Path) -> None:
    (folder / "m.engine").write_bytes(b"mine")
    result = run("export", "tensorrt", "-m", tiny_model, "-o", "m.engine")
    assert (result.exit_code, result.stderr) == (1, "error: m.engine: already exists; use --overwrite\n")
    assert (folder / "m.engine").read_bytes() == b"mine"


@pytest.mark.parametrize("opset", ["19", "26"])
def test_an_opset_that_cannot_be_had_is_one_line(run: Any, folder: Path, tiny_model: Path, opset: str) -> None:
    result = run("export", "onnx", "-m", tiny_model, "-o", "m.onnx", "--opset", opset)
    assert (result.exit_code, result.stderr) == (1, f"error: opset is {opset}; it must lie between 20 and 25\n")
    assert list(folder.iterdir()) == []
