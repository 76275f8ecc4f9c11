"""Files made to cost memory or time: one line within 2 seconds of a processor and 500 MB, the interpreter included."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.peak_memory import with_tests

from .ncnn_model import FLOAT16, NcnnModel
from .onnx_model import OnnxModel

PROGRAM = Path(__file__).parent / "read_limited.py"
SECONDS = 2.0
PEAK = 500e6


def _read(path: Path) -> str:
    """The error; empty if the file was read."""
    command = [sys.executable, PROGRAM, path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=with_tests())
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout)
    assert result["peak"] < PEAK
    assert result["seconds"] < SECONDS
    assert result["error"].isprintable()
    return str(result["error"])


def _chain(kind: str, **parameters: float) -> Callable[[NcnnModel], object]:
    def build(model: NcnnModel) -> object:
        x = model.conv("data", 3, 512)
        for _ in range(9_000):
            x = model.layer(kind, [x], **parameters)
        return model.conv(x, 512, 3)

    return build


def _sums(model: NcnnModel) -> object:
    x = model.conv("data", 3, 64)
    for _ in range(2_000):
        x = model.layer("BinaryOp", model.split(x, 2))
        x = model.layer("ReLU", [x])
    return model.conv(x, 64, 3)


def _doubling(model: NcnnModel) -> object:
    x = model.conv("data", 3, 3)
    for _ in range(1_000):
        x = model.layer("Concat", model.split(x, 2))
    return model.conv(x, 3, 3)


def _joined(model: NcnnModel) -> object:
    return model.conv(model.layer("Concat", model.split(model.conv("data", 3, 3), 100_000)), 3, 3)


def _many_phases(model: NcnnModel) -> object:
    x = model.layer("Interp", [model.conv("data", 3, 512)], p0=1, p1=16.0, p2=16.0)
    return model.conv(x, 512, 512, tag=FLOAT16)


def _wide_copies(model: NcnnModel) -> object:
    x = model.conv("data", 3, 16384, 1)
    for _ in range(20):
        x = model.layer("BinaryOp", model.split(x, 2))
    return model.conv(x, 16384, 3, 1)


def _wide_resize(model: NcnnModel) -> object:
    x = model.layer("PixelShuffle", [model.conv("data", 3, 16384, 1)], p0=16)
    return model.layer("Interp", [x], p0=3, p1=0.5, p2=0.5)


def _shuffles(model: NcnnModel) -> object:
    x = model.conv("data", 3, 4096, 1)
    for _ in range(6):
        x = model.layer("PixelShuffle", [x], p0=2)
    return model.layer("PixelShuffle", [model.conv(x, 1, 2304, 1)], p0=16)


NCNN = {
    "long chains of factors": (_chain("BinaryOp", p0=2, p1=1, p2=0.999), ""),
    "long chains of sums": (_chain("BinaryOp", p0=0, p1=1, p2=0.1), ""),
    "long chains of activations": (_chain("ReLU", p0=0.1), "more than 50000000 weights"),
    "thousands of residuals": (_sums, ""),
    "concatenations that double": (_doubling, "joins more than"),
    "a concatenation of 100,000 maps": (_joined, "joins more than"),
    "an enlargement of many weights": (_many_phases, "more than 50000000 weights"),
    "copies of wide maps": (_wide_copies, "more than 50000000 weights"),
    "a resize of wide maps": (_wide_resize, "more than 50000000 weights"),
    "enlargements without end": (_shuffles, "enlarges by 32, more than 16"),
}


@pytest.mark.parametrize("what", NCNN)
def test_a_hostile_ncnn_model_costs_little(what: str, tmp_path: Path) -> None:
    build, message = NCNN[what]
    model = NcnnModel()
    build(model)
    error = _read(model.write(tmp_path))
    assert message in error
    assert bool(message) == bool(error)


@pytest.mark.parametrize(
    ("param", "message"),
    [
        (b"7767517\n999999999 1\n" + b"Input a 0 1 data\n" * 200_000, "999999999 layers, more than 10000"),
        (b"7767517\n10000 1\n" + b"Input a 0 1 data\n" * 200_000, "it says 10000 layers and has 200000"),
        (b"7767517\n10000 1\n" + b"Input a 0 1 data\n" * 10_000, "more than one input"),
        (b"7767517\n1 1\nInput a 0 1 data " + b"0=1 " * 900_000, "more than 100 parameters"),
        (b"7767517\n1 1\nInput a 0 1 data 0=" + b"9" * 4_000_000, "is not a parameter"),
        (b"7767517\n1 1\n" + b"x" * 4_000_000, "a line that is not a layer"),
        (b"7767517\n1 1\nInput a 0 1 data -23300=900000" + b",1" * 900_000, "0 results"),
    ],
    ids=["a number", "more lines", "many inputs", "parameters", "a long number", "one word", "an array"],
)
def test_a_hostile_param_file_costs_little(param: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "model.param"
    path.write_bytes(param)
    path.with_suffix(".bin").write_bytes(b"")
    error = _read(path)
    assert message in error


def test_a_huge_bin_file_is_not_read(tmp_path: Path) -> None:
    model = NcnnModel()
    model.conv("data", 3, 3)
    path = model.write(tmp_path)
    with path.with_suffix(".bin").open("r+b") as file:
        file.truncate(1 << 40)  # takes no room on the disk
    assert "more than the 201048576 that such a file may have" in _read(path)


def _field(number: int, data: bytes) -> bytes:
    """A field of bytes in protocol buffers' format."""
    key, size = bytes([number << 3 | 2]), len(data)
    length = b""
    while size >= 0x80:
        length += bytes([size & 0x7F | 0x80])
        size >>= 7
    return key + length + bytes([size]) + data


RELU = _field(1, b"x") + _field(2, b"x") + _field(4, b"Relu")
ONNX = {
    "empty nodes": _field(7, b"\x0a\x00" * 40_000_000),
    "small nodes": _field(7, _field(1, RELU) * 8_000_000),
    "empty attributes": _field(7, _field(1, RELU + b"\x2a\x00" * 40_000_000)),
    "empty tensors": _field(7, b"\x2a\x00" * 40_000_000),
    "empty inputs": _field(7, b"\x5a\x00" * 40_000_000),
    "empty graphs": b"\x3a\x00" * 40_000_000,
    "dimensions": _field(7, _field(5, b"\x08\x01" * 40_000_000)),
    "packed dimensions": _field(7, _field(5, _field(1, b"\x01" * 80_000_000))),
    "a long name": _field(7, _field(1, _field(4, b"x" * 80_000_000))),
}


@pytest.mark.parametrize("what", ONNX)
def test_a_hostile_onnx_file_costs_little(what: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(ONNX[what])
    assert _read(path)
    path.unlink()  # 80 MB each


def test_many_constants_in_the_same_bytes_are_counted(tmp_path: Path) -> None:
    from onnx import TensorProto, external_data_helper

    model = OnnxModel()
    x = "image"
    for i in range(30):
        x = model.conv(x, 3 if i == 0 else 1024, 1024, 1)
    for tensor in model.constants:
        if tensor.dims[0] == 1024 and len(tensor.dims) == 4:
            tensor.dims[:] = [1024, 1024, 3, 3]
            external_data_helper.set_external_data(tensor, "zeros.bin", 0, 4 * 1024 * 1024 * 9)
            tensor.ClearField("raw_data")
            tensor.data_location = TensorProto.EXTERNAL
    path = tmp_path / "model.onnx"
    path.write_bytes(model.model(x))
    with (tmp_path / "zeros.bin").open("wb") as file:
        file.truncate(4 * 1024 * 1024 * 9)
    assert _read(path)


def test_packed_numbers_need_little_more_than_their_values(tmp_path: Path) -> None:
    count = 20_000_000
    numbers = _field(5, np.tile(np.array([0x81, 0x82, 0x01], np.uint8), count).tobytes())
    tensor = _field(8, b"c") + b"\x08\x01" + b"\x08\x01" + b"\x10\x0a" + numbers
    path = tmp_path / "model.onnx"
    path.write_bytes(_field(7, _field(5, tensor)))
    assert _read(path)
