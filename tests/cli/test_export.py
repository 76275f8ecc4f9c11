"""`srgan-fast export onnx` writes a checked file, says how well it agrees, and replaces nothing unasked."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from srgan_fast.data.images import read_image
from srgan_fast.upscale import Upscaler


def test_a_model_becomes_a_file_that_computes_the_same(
    run_process: Any, picture: Any, folder: Path, tiny_model: Path, upscaler: Upscaler
) -> None:
    done = run_process("export", "onnx", "--model", tiny_model, "-o", "new/m.onnx")
    said = done.stderr.decode()
    assert (done.returncode, done.stdout) == (0, b""), said
    assert said.startswith("new/m.onnx: 0.1 MB, opset 20, at most ")
    assert said.endswith(" from torch\n")
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
    assert (result.exit_code, result.stderr) == (1, "error: m.onnx: is there already; use --overwrite\n")
    assert (folder / "m.onnx").read_bytes() == b"mine"
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    result = run("export", "onnx", "-m", tiny_model, "-o", "m.onnx", "--overwrite")
    assert (folder / "m.onnx").read_bytes() == b"mine", "it failed, so what was there stays"
    assert result.stderr == "error: exporting needs onnxscript: pip install 'srgan_fast[train,onnx]'\n"
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
