"""Small generators of any size, as data, and the float64 run that every runtime is held against."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from srgan_fast.architectures.srgan import expected_shapes
from srgan_fast.models import GeneratorConfig, GeneratorFile, ModelFile, load_generator
from srgan_fast.network import interpreter
from srgan_fast.ops import infer

from . import emulated_cuda

FileOf = Callable[[GeneratorConfig], GeneratorFile]
Exact = Callable[[GeneratorFile | ModelFile, NDArray[np.float32]], NDArray[np.float64]]


def _tensor(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float32]:
    if len(shape) == 4:  # convolutions keep the variance of what they get
        return rng.normal(0, 1 / np.sqrt(np.prod(shape[1:])), shape).astype(np.float32)
    low, high = -0.1, 0.1
    if name.endswith("running_var"):
        low, high = 0.5, 1.5
    elif "bn" in name and name.endswith("weight"):
        low, high = 0.6, 1.2
    elif name.endswith("act.weight"):
        low, high = 0.05, 0.4
    return rng.uniform(low, high, shape).astype(np.float32)


@pytest.fixture(scope="session")
def file_of() -> FileOf:
    """A generator of a given architecture with random weights, none of them neutral."""

    def build(config: GeneratorConfig) -> GeneratorFile:
        rng = np.random.default_rng(11)
        weights = {name: _tensor(name, shape, rng) for name, shape in expected_shapes(config).items()}
        return GeneratorFile(config, weights, {}, f"random-x{config.scale}-b{config.blocks}")

    return build


@pytest.fixture(scope="session")
def exact() -> Exact:
    """What a generator computes, BatchNorm unfolded, or a network, in float64."""

    def run(file: GeneratorFile | ModelFile, lr: NDArray[np.float32]) -> NDArray[np.float64]:
        if isinstance(file, ModelFile):
            return interpreter.run(file.network, lr)
        with torch.inference_mode():
            return np.asarray(load_generator(file).double()(torch.from_numpy(lr).double()).numpy())

    return run


@pytest.fixture
def emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CUDA kernels of inference in plain torch."""
    for layer in ("head", "conv", "block", "picture", "tail"):
        monkeypatch.setattr(infer, layer, getattr(emulated_cuda, f"emulated_{layer}"))
