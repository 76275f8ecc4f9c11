"""Upscaling on a GPU: our CUDA kernels, PyTorch in its usual forms, and TensorRT engines if it is installed.

Each is compared with float64. Every row has three times: on the device between two events, replayed from a CUDA graph,
and with copies from and to host memory.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

from srgan_fast.bench.accuracy import TOLERANCES, compare
from srgan_fast.bench.candidates import Candidate
from srgan_fast.bench.gpu.timing import Time, in_graph, time_calls, time_of
from srgan_fast.bench.options import BenchPrecision
from srgan_fast.bench.turns import finite
from srgan_fast.bench.worker import why_not
from srgan_fast.errors import BackendError
from srgan_fast.models import DEFAULT_MODEL, ModelFile, read_model
from srgan_fast.network.torch_module import NetworkModule
from srgan_fast.ops.native import why_not_on_cuda
from srgan_fast.runtime import create_backend, usable_backends
from srgan_fast.runtime.cuda_network import CudaNetwork
from srgan_fast.runtime.tensorrt.engine import Engine, output_types, wrong_output_types
from srgan_fast.runtime.tensorrt.flavour import installed_flavours, load_library
from srgan_fast.runtime.tensorrt.gpu import describe_gpu, why_no_gpu
from srgan_fast.runtime.tensorrt.shapes import ONE_IMAGE, Shape

if TYPE_CHECKING:
    from srgan_fast.runtime.onnxruntime_backend import OnnxRuntimeBackend

SHAPES = (Shape(1, 128, 128), Shape(1, 256, 256), Shape(8, 128, 128))
ROUNDS = 20
_DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

# A network in some runtime: enqueues N, 3, H, W float32 to N, 3, scale * H, scale * W float32, both on the device.
Upscale = Callable[[Tensor], Tensor]


@dataclass(slots=True)
class GpuRowResult:
    """A row at one shape.

    `precision` determines the tolerance; TF32 has that of bf16. Status `wrong` is beyond it; `left out` does not
    support the shape. Times: `device` between two events with queued calls; `graph` of a CUDA graph's replay, None if
    it cannot be captured; `with_copies` from an image in host memory to its result there; `load_s` from weights to
    ready, including builds and compilation. `peak_mb` is PyTorch's peak memory of one run, 10^6 bytes, without an
    engine's own. `engine_types` counts an engine's layers by output type, according to TensorRT's inspector.
    """

    name: str
    precision: str
    status: str = "ok"
    reason: str | None = None
    load_s: float | None = None
    device: Time | None = None
    graph: Time | None = None
    graph_reason: str | None = None
    with_copies: Time | None = None
    peak_mb: float | None = None
    max_error: float | None = None
    psnr_db: float | None = None
    images_per_second: float | None = None
    engine_types: dict[str, int] = field(default_factory=dict)


def time_inference(
    device: torch.device, model: str = DEFAULT_MODEL, shapes: tuple[Shape, ...] = SHAPES
) -> list[dict[str, Any]]:
    """Measures all rows at all shapes.

    On a CPU only the results are checked. Returns `shape` and `rows` per shape, ready for JSON.
    """
    file = read_model(model)
    rows = [(row, *_load(row, file, device)) for row in gpu_candidates()]
    return [
        {"shape": str(shape), "rows": [asdict(_measure(*row, file, shape, device)) for row in rows]} for shape in shapes
    ]


def gpu_candidates() -> Iterator[Candidate]:
    """The GPU's rows, as `bench.candidates`. TF32, which TensorRT prefers for fp32, is judged as bf16."""
    judged: dict[str, BenchPrecision] = {"fp32": "fp32", "tf32": "bf16", "bf16": "bf16", "fp16": "fp16"}
    for name in ("nchw-fp32", "nhwc-fp32", "nhwc-tf32", "nhwc-bf16", "nhwc-fp16", "compile-fp16"):
        yield Candidate(f"torch-{name}", "torch", judged[name[-4:]], ("torch",), ("torch",), device="cuda")
    for name in ("bf16", "fp16"):
        yield Candidate(f"cuda-{name}", "cuda", judged[name], ("torch",), ("torch",), kind="backend", device="cuda")
    for name in usable_backends():
        if name.startswith("onnxruntime-") and name != "onnxruntime-openvino":
            yield Candidate(f"{name}-fp32", name, "bf16", (), (), device="cuda")
    for flavour in installed_flavours():
        yield Candidate(f"{flavour.name}-fp32", flavour.name, "bf16", (), (), device="cuda")
        yield Candidate(f"{flavour.name}-fp16", flavour.name, "fp16", (), (), device="cuda")


def _load(row: Candidate, file: ModelFile, device: torch.device) -> tuple[Upscale | str, float]:
    """A row's network or the reason why there is none, and the seconds that loading took."""
    began = time.perf_counter()
    found: Upscale | str
    try:
        found = load_row(row, file, device)
    except Exception as error:  # every runtime raises its own exceptions
        found = why_not(error)
    return found, time.perf_counter() - began


def load_row(row: Candidate, file: ModelFile, device: torch.device) -> Upscale:
    """Loads or builds a row's network for a device; raises whatever its runtime raises."""
    if row.runtime == "torch":
        return _eager(row.name, file, device)
    if row.runtime == "cuda":
        if reason := why_not_on_cuda() or (None if device.type == "cuda" else "they need a CUDA device"):
            raise BackendError(f"our CUDA kernels: {reason}")
        network = CudaNetwork(file.network, _DTYPES[row.precision], device)
        return torch.inference_mode()(network.compute)
    if row.runtime.startswith("onnxruntime"):
        return _onnxruntime(row.runtime, file)
    from srgan_fast.runtime.tensorrt.backend import cached_engine  # noqa: PLC0415 (needs onnx)

    if reason := why_no_gpu():
        raise BackendError(f"{row.runtime} {reason}")
    library = load_library(row.runtime)
    found = cached_engine(library, file, "fp32" if row.name.endswith("fp32") else "fp16", describe_gpu(device))
    return Engine(library, found.data, ONE_IMAGE, file.scale)


def _eager(name: str, file: ModelFile, device: torch.device) -> Upscale:
    precision = name.rpartition("-")[2]
    dtype = _DTYPES[precision]
    network: Any = NetworkModule(file.network).to(device, dtype).to(memory_format=torch.channels_last)
    if "compile" in name:
        network = torch.compile(network, dynamic=False)

    def run(lr: Tensor) -> Tensor:
        with _tf32(precision == "tf32"), torch.inference_mode():
            return cast(Tensor, network(lr.to(dtype))).float()

    return run


def _tf32(allowed: bool) -> AbstractContextManager[None]:
    if not torch.cuda.is_available():
        return nullcontext()
    return torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=allowed)


def _onnxruntime(name: str, file: ModelFile) -> Upscale:
    backend = cast("OnnxRuntimeBackend", create_backend(file, name))

    def run(lr: Tensor) -> Tensor:
        lr = lr.contiguous()
        count, channels, height, width = lr.shape
        sr = lr.new_empty((count, channels, height * file.scale, width * file.scale))
        if lr.is_cuda:  # the session uses its own stream
            torch.cuda.current_stream().synchronize()
        place = (lr.data_ptr(), sr.data_ptr(), (count, height, width))
        backend.run_in_place(*place, lr.device.type, lr.device.index or 0)
        return sr

    return run


def _measure(
    row: Candidate, upscale: Upscale | str, load_s: float, file: ModelFile, shape: Shape, device: torch.device
) -> GpuRowResult:
    found = GpuRowResult(row.name, row.precision, load_s=load_s)
    if isinstance(upscale, str):
        found.status, found.reason, found.load_s = "failed", upscale, None
        return found
    if isinstance(upscale, Engine) and shape.batch > 1:
        found.status, found.reason = "left out", "its engine takes one image at a time"
        return found
    lr = torch.from_numpy(np.random.default_rng(0).random(shape.dims(), np.float32))
    layout = torch.channels_last if "nhwc" in row.name or "compile" in row.name else torch.contiguous_format
    given = lr.to(device, memory_format=layout)
    try:
        if isinstance(upscale, Engine):
            found.engine_types = output_types(upscale.inspect())
            if problem := wrong_output_types(found.engine_types, "fp32" if row.name.endswith("fp32") else "fp16"):
                raise BackendError(problem)
        with torch.inference_mode():
            exact = NetworkModule(file.network).double().to(device)(lr.double().to(device)).cpu().numpy()
        accuracy = compare(upscale(given).cpu().contiguous().numpy(), exact)
        known = finite({"max_error": accuracy.max_error, "psnr_db": accuracy.psnr_db})
        found.max_error, found.psnr_db = known.get("max_error"), known.get("psnr_db")
        if problem := accuracy.problem(TOLERANCES[row.precision]):
            found.status, found.reason = "wrong", problem
        if device.type == "cuda":
            _time(found, upscale, given, lr.to(memory_format=layout).pin_memory(), shape)
    except Exception as error:  # every runtime raises its own exceptions
        found.status, found.reason = "failed", why_not(error)
    return found


def _time(found: GpuRowResult, upscale: Upscale, given: Tensor, host: Tensor, shape: Shape) -> None:
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    upscale(given)
    torch.cuda.synchronize()
    found.peak_mb = (torch.cuda.max_memory_allocated() - before) / 1e6
    found.device = time_calls(lambda: upscale(given))
    try:
        # An engine captures with a separate execution context.
        replay = partial(upscale.replay, given) if isinstance(upscale, Engine) else in_graph(lambda: upscale(given))
        found.graph = time_calls(replay)
    except Exception as error:  # work on a runtime's own streams cannot be captured
        found.graph_reason = why_not(error)
    best = min(t.median for t in (found.device, found.graph) if t is not None)
    found.images_per_second = shape.batch / best
    result = upscale(given)
    target = torch.empty(result.shape, dtype=result.dtype, pin_memory=True)
    waits = []
    for _ in range(ROUNDS):
        torch.cuda.synchronize()
        began = time.perf_counter()
        target.copy_(upscale(host.to(given.device, non_blocking=True)), non_blocking=True)
        torch.cuda.synchronize()
        waits.append(time.perf_counter() - began)
    found.with_copies = time_of(waits)
