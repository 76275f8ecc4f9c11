"""A whole network that upscales images in fp16 on a GPU: ours, PyTorch's ways, and TensorRT if it is installed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from srgan_fast.bench.accuracy import TOLERANCES, compare
from srgan_fast.bench.gpu.timing import in_graph
from srgan_fast.bench.options import BenchPrecision
from srgan_fast.errors import BackendError
from srgan_fast.models import ModelFile
from srgan_fast.network.torch_module import NetworkModule
from srgan_fast.runtime.cuda_network import CudaNetwork
from srgan_fast.runtime.tensorrt.engine import Engine, output_types, wrong_output_types
from srgan_fast.runtime.tensorrt.flavour import load_library
from srgan_fast.runtime.tensorrt.gpu import describe_gpu
from srgan_fast.runtime.tensorrt.shapes import ONE_IMAGE, parse_shape

_DTYPES: dict[BenchPrecision, torch.dtype] = {"fp16": torch.float16, "bf16": torch.bfloat16}
_CHECKED = ((1, 3, 40, 64), (2, 3, 17, 9))  # small: the reference is float64 on the CPU


def network_call(file: ModelFile, shape: str, way: str, device: torch.device) -> Callable[[], Tensor]:
    """Upscales random images of a shape such as `1x3x128x128` that are on the device, float32 to float32.

    Raises:
        BackendError: an engine of TensorRT that does not compute in fp16.
        Exception: whatever the runtime raises.
    """
    lr = torch.from_numpy(np.random.default_rng(0).random(parse_shape(shape).dims(), np.float32)).to(device)
    if way.startswith("ours"):
        network = CudaNetwork(file.network, torch.float16, device)
        return lambda: network(lr)
    if way.startswith("tensorrt"):
        return _engine(file, way, lr)
    lr = lr.contiguous(memory_format=torch.channels_last)
    module = NetworkModule(file.network).to(device, torch.float16).to(memory_format=torch.channels_last)
    run = torch.compile(module, dynamic=False) if way == "compiled" else module

    @torch.inference_mode()
    def upscale() -> Tensor:
        result: Tensor = run(lr.half())
        return result.float()

    return upscale if way == "eager" else in_graph(upscale, device)  # type: ignore[return-value]


def _engine(file: ModelFile, flavour: str, lr: Tensor) -> Callable[[], Tensor]:
    from srgan_fast.runtime.tensorrt.backend import cached_engine  # noqa: PLC0415 (needs onnx)

    library = load_library(flavour)
    engine = Engine(library, cached_engine(library, file, "fp16", describe_gpu(lr.device)).data, ONE_IMAGE, file.scale)
    if problem := wrong_output_types(output_types(engine.inspect()), "fp16"):
        raise BackendError(problem)
    return lambda: engine.replay(lr)


@dataclass(frozen=True, slots=True)
class NetworkCheck:
    """A network against float64 on the CPU: PSNR over the range in dB, None if equal; `reason` if it is wrong."""

    what: str
    psnr_db: float | None
    right: bool
    reason: str | None


def check_network(file: ModelFile, device: torch.device) -> Iterator[NetworkCheck]:
    """Compares our kernels with float64 on the CPU, replayed from a CUDA graph."""
    exact = NetworkModule(file.network).double()
    for precision, dtype in _DTYPES.items():
        network = CudaNetwork(file.network, dtype, device)
        for shape in _CHECKED:
            lr = torch.from_numpy(np.random.default_rng(0).random(shape, np.float32))
            with torch.inference_mode():
                expected = exact(lr.double()).numpy()
            given, sizes = lr.to(device), "x".join(map(str, shape))
            for _ in range(3):  # from the second call on, replayed from a CUDA graph
                sr = network(given).cpu().contiguous().numpy()
            accuracy = compare(sr, expected)
            psnr = accuracy.psnr_db if np.isfinite(accuracy.psnr_db) else None
            problem = accuracy.problem(TOLERANCES[precision])
            yield NetworkCheck(f"{file.name} {precision} {sizes}", psnr, problem is None, problem)
