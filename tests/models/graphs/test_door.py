"""The door to model files takes graphs too, and says what they are."""

from pathlib import Path

import pytest

from srgan_fast.errors import ModelError
from srgan_fast.models import read_model
from srgan_fast.models.model_file import read_state_file

from . import ncnn_model, onnx_model


@pytest.mark.parametrize("suffix", [".param", ".bin"])
def test_either_file_of_ncnn_is_the_model(suffix: str, tmp_path: Path) -> None:
    path = ncnn_model.small_model().write(tmp_path).with_suffix(suffix)
    model = read_model(path)
    assert (model.scale, model.name, model.path) == (4, "model", path)
    assert model.architecture == "ncnn graph x4, 5 convolutions"


def test_an_onnx_file_is_a_model(tmp_path: Path) -> None:
    path = tmp_path / "small.ONNX"
    path.write_bytes(onnx_model.small_model())
    assert read_model(str(path)).architecture == "ONNX graph x4, 5 convolutions"


def test_a_graph_has_no_keys_and_no_state_dict(tmp_path: Path) -> None:
    path = ncnn_model.small_model().write(tmp_path)
    with pytest.raises(ModelError, match="an ncnn graph is one network; there is no key 'params' in it"):
        read_model(path, "params")
    with pytest.raises(ModelError, match="has no state dict to keep; it runs as it is"):
        read_state_file(path)


def test_a_bin_file_without_a_param_file_is_what_torch_saved(tmp_path: Path) -> None:
    path = ncnn_model.small_model().write(tmp_path)
    path.unlink()
    with pytest.raises(ModelError, match=r"model\.bin"):
        read_model(path.with_suffix(".bin"))
