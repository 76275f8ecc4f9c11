"""What the tests share: small models, photographs, and the place of the evaluation images."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from srgan_fast.models import Generator, GeneratorFile, ModelFile, generator_config, model_of, save_generator
from srgan_fast.upscale import Upscaler


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def cpu_with_bf16(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Makes OpenVINO and PyTorch answer whether this CPU has bf16; without it OpenVINO computes in f32 instead."""
    openvino = pytest.importorskip("openvino")

    def answer(has_bf16: bool) -> None:
        class Core(openvino.Core):  # type: ignore[misc, name-defined]
            def get_property(self, device: str, name: str) -> Any:
                found = super().get_property(device, name)
                if name != "OPTIMIZATION_CAPABILITIES":
                    return found
                return [*(one for one in found if one != "BF16"), *(["BF16"] if has_bf16 else [])]

            def compile_model(self, model: Any, device: str, settings: dict[str, Any]) -> Any:
                forced = {} if has_bf16 else {"INFERENCE_PRECISION_HINT": "f32"}
                return super().compile_model(model, device, {**settings, **forced})

        monkeypatch.setattr(openvino, "Core", Core)
        monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
        monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: has_bf16, raising=False)

    return answer


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Folder of the evaluation images; where it is not given, the tests that need it are skipped."""
    place = os.environ.get("SRGAN_FAST_DATA")
    if not place:
        pytest.skip("SRGAN_FAST_DATA is not set to the folder of the evaluation images")
    folder = Path(place)
    assert folder.is_dir(), f"SRGAN_FAST_DATA is {place}, which is no folder"
    return folder


@pytest.fixture(scope="session")
def photo() -> NDArray[np.uint8]:
    """A colour photograph, 512x512 (NASA's portrait of Eileen Collins, public domain)."""
    from skimage import data

    return np.asarray(data.astronaut())


def random_generator(preset: str, **size: int) -> Generator:
    """A generator whose every tensor matters: random slopes, biases and BatchNorm statistics, in eval mode."""
    torch.manual_seed(7)
    generator = Generator(generator_config(preset, **size))
    with torch.no_grad():
        for name, tensor in generator.state_dict().items():
            if name.endswith("num_batches_tracked"):
                continue
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 1.5)
            elif name.endswith(("bn.weight", "bn1.weight", "bn2.weight")):
                tensor.uniform_(0.6, 1.2)
            elif name.endswith(("bias", "running_mean")):
                tensor.uniform_(-0.1, 0.1)
            elif name.endswith("act.weight"):
                tensor.uniform_(0.05, 0.4)
    return generator.eval()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """File of a small x4 generator of the `paper` preset: 2 blocks of 8 channels."""
    path = tmp_path_factory.mktemp("models") / "tiny-x4.safetensors"
    save_generator(random_generator("paper", channels=8, blocks=2), path, "paper")
    return path


@pytest.fixture(scope="session", params=["paper", "pytorch-gan"])
def tiny_generator(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> GeneratorFile:
    """A small x4 generator of each preset, as it is trained."""
    path = tmp_path_factory.mktemp("models") / f"tiny-{request.param}.safetensors"
    return save_generator(random_generator(request.param, channels=8, blocks=2), path, request.param)


@pytest.fixture(scope="session")
def tiny_file(tiny_generator: GeneratorFile) -> ModelFile:
    """The same as a network."""
    return model_of(tiny_generator)


@pytest.fixture(scope="session")
def upscaler(tiny_model: Path) -> Upscaler:
    """The small x4 model on ONNX Runtime."""
    return Upscaler(tiny_model, backend="onnxruntime")
