"""What the tests of exporting share: the bundled model's graphs, each made once."""

from collections.abc import Callable
from typing import Any

import pytest

from srgan_fast.export import onnx_export, tensorrt_export
from srgan_fast.export.onnx_export import OnnxModel
from srgan_fast.models import ModelFile, shipped_models

_MADE: dict[tuple[Any, ...], OnnxModel] = {}


@pytest.fixture
def bundled_once(monkeypatch: pytest.MonkeyPatch) -> Callable[..., OnnxModel]:
    """Lets exports of the bundled model to one precision share its graph, which takes ten seconds to make and check."""
    genuine = onnx_export.make_onnx

    def make(file: ModelFile, **how: Any) -> OnnxModel:
        if file.name not in shipped_models():
            return genuine(file, **how)
        beside = how.get("beside_int8", "fp32") if how.get("precision") == "int8" else None
        key = (file.name, how.get("precision", "fp32"), how.get("pixels", False), beside)
        if key not in _MADE:
            _MADE[key] = genuine(file, **how)
        return _MADE[key]

    monkeypatch.setattr(onnx_export, "make_onnx", make)
    monkeypatch.setattr(tensorrt_export, "make_onnx", make)
    return make
