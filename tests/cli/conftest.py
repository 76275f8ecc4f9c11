"""The command line called in this process or as one of its own, in an empty folder, with images to work on."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner, Result

from srgan_fast.cli.app import app
from srgan_fast.data.images import Image, encode_image
from srgan_fast.upscale import Upscaler

Run = Callable[..., Result]
RunProcess = Callable[..., "subprocess.CompletedProcess[bytes]"]
MakePicture = Callable[..., Path]


@pytest.fixture
def run(folder: Path) -> Run:
    """Calls `srgan-fast` in this process; what it does not handle itself comes out."""

    def call(*arguments: Any, given: bytes | None = None) -> Result:
        texts = [str(argument) for argument in arguments]
        return CliRunner().invoke(app, texts, input=given, env={"COLUMNS": "200"}, catch_exceptions=False)

    return call


@pytest.fixture
def upscale(run: Run, tiny_model: Path) -> Run:
    """Calls `srgan-fast upscale` with the small model on ONNX Runtime."""

    def call(*arguments: Any, **rest: Any) -> Result:
        return run("upscale", "--model", tiny_model, "--backend", "onnxruntime", *arguments, **rest)

    return call


@pytest.fixture
def run_process(folder: Path) -> RunProcess:
    """Calls `python -m srgan_fast` for real."""

    def call(*arguments: Any, **rest: Any) -> "subprocess.CompletedProcess[bytes]":
        command = [sys.executable, "-m", "srgan_fast", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, timeout=60, check=False, **rest)

    return call


@pytest.fixture
def picture(folder: Path) -> MakePicture:
    """Writes noise as an image; JPEG if its name says so, else PNG."""

    def make(name: str, seed: int = 0, size: tuple[int, ...] = (5, 7, 3), dtype: Any = np.uint8) -> Path:
        """Of 1 to 4 channels; the second or fourth is alpha."""
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        values: NDArray[Any] = np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, size, dtype, endpoint=True)
        colours = 3 if size[2] > 2 else 1
        alpha = values[..., -1] if size[2] in (2, 4) else None
        image = Image(values[..., :colours], alpha)
        path.write_bytes(encode_image(image, "jpg" if path.suffix.lower() in (".jpg", ".jpeg") else "png"))
        return path

    return make


@pytest.fixture(scope="session")
def upscaler(tiny_model: Path) -> Upscaler:
    """What the results are held against."""
    return Upscaler(tiny_model, backend="onnxruntime")
