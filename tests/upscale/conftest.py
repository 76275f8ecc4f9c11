"""An upscaler with a small model, loaded once."""

from pathlib import Path

import pytest

from srgan_fast.upscale import Upscaler


@pytest.fixture(scope="session")
def upscaler(tiny_model: Path) -> Upscaler:
    """The small x4 model on ONNX Runtime."""
    return Upscaler(tiny_model, backend="onnxruntime")
