"""Upscaling on a GPU: our CUDA kernels, PyTorch as people run it, and engines where TensorRT is installed.

Each is held against float64.

Three times of each row: the device's own between two events, the same replayed from a CUDA graph, and what a caller
waits for who has the picture in host memory and wants the result there.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor

from srgan_fast.bench.accuracy import TOLERANCES, compare
from srgan_fast.bench.candidates import why_not
from srgan_fast.bench.gpu.timing import Time, in_graph, time_calls
from srgan_fast.bench.options import BenchPrecision
from srgan_fast.errors import BackendError
from srgan_fast.models import DEFAULT_MODEL, ModelFile, read_model
from srgan_fast.network.torch_module import NetworkModule
from srgan_fast.ops.native import why_not_on_cuda
from srgan_fast.runtime import create_backend, usable_backends
from srgan_fast.runtime.cuda_network import CudaNetwork
from srgan_fast.runtime.tensorrt.builder import EnginePrecision
from srgan_fast.runtime.tensorrt.engine import Engine, output_types, wrong_output_types
from srgan_fast.runtime.tensorrt.flavour import installed_flavours, load_library
from srgan_fast.runtime.tensorrt.gpu import describe_gpu, why_no_gpu
from srgan_fast.runtime.tensorrt.shapes import ONE_PICTURE, Shape

if TYPE_CHECKING:
    from srgan_fast.runtime.onnxruntime_backend import OnnxRuntimeBackend

SHAPES = (Shape(1, 128, 128), Shape(1, 256, 256), Shape(8, 128, 128))
ROUNDS = 20
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Upscale(Protocol):
    """A generator in some runtime: N, 3, H, W float32 on the device to N, 3, scale * H, scale * W float32 there."""

    def __call__(self, lr: Tensor) -> Tensor:
        """Queues one run."""
        ...


@dataclass(frozen=True, slots=True)
class Candidate:
    """A row.

    Attributes:
        name: in the report.
        precision: that it computes in, and is judged by.
        make: loads or builds it for a device.
        channels_last: layout that its input is given in.
        one_picture: whether it takes no batches.
    """

    name: str
    precision: BenchPrecision
    make: Callable[[ModelFile, torch.device], Upscale]
    channels_last: bool = False
    one_picture: bool = False


@dataclass(slots=True)
class Result:
    """What was found about a row at one shape.

    Attributes:
        name: of the row.
        precision: that it computes in.
        status: `ok`; `wrong` beyond its tolerance; `failed`, or `left out` where it takes no such shape.
        reason: why it is not ok.
        load_s: from weights to ready, builds and compilation included.
        device: seconds between two events, of work queued in a row.
        graph: the same of a graph's replay; None where it cannot be recorded, and `graph_reason` says why.
        graph_reason: why there is no graph.
        with_copies: seconds from a picture in host memory to its result there.
        peak_mb: device memory that torch took at most in one run, 10^6 bytes; an engine's own is not seen.
        engine_types: how many of an engine's layers give which type, by TensorRT's own inspector.
        max_error: over the output's range.
        psnr_db: over the output's range.
        images_per_second: by the faster of `device` and `graph`.
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

    Args:
        device: a CUDA device; on a CPU only the results are checked.
        model: a shipped model's name or a generator file.
        shapes: of batches of low-resolution pictures.

    Returns:
        For each shape `shape` and `rows`, as JSON takes them.
    """
    file = read_model(model)
    candidates = list(_candidates())
    ready: dict[str, Upscale | str] = {}
    load_s: dict[str, float] = {}
    for row in candidates:
        began = time.perf_counter()
        try:
            ready[row.name] = row.make(file, device)
        except Exception as error:  # every runtime has exceptions of its own
            ready[row.name] = why_not(error)
        load_s[row.name] = time.perf_counter() - began
    return [
        {
            "shape": str(shape),
            "rows": [
                asdict(_measure(row, ready[row.name], load_s[row.name], file, shape, device)) for row in candidates
            ],
        }
        for shape in shapes
    ]


def _candidates() -> Iterator[Candidate]:
    yield Candidate("torch-nchw-fp32", "fp32", _eager("fp32"))
    yield Candidate("torch-nhwc-fp32", "fp32", _eager("fp32"), channels_last=True)
    yield Candidate("torch-nhwc-tf32", "bf16", _eager("fp32", tf32=True), channels_last=True)
    yield Candidate("torch-nhwc-bf16", "bf16", _eager("bf16"), channels_last=True)
    yield Candidate("torch-nhwc-fp16", "fp16", _eager("fp16"), channels_last=True)
    yield Candidate("torch-compile-fp16", "fp16", _eager("fp16", compiled=True), channels_last=True)
    yield Candidate("cuda-bf16", "bf16", _ours("bf16"))
    yield Candidate("cuda-fp16", "fp16", _ours("fp16"))
    for name in usable_backends():
        if name.startswith("onnxruntime-") and name != "onnxruntime-openvino":
            yield Candidate(f"{name}-fp32", "bf16", _onnxruntime(name))  # TF32 where it likes
    for flavour in installed_flavours():
        precisions: tuple[EnginePrecision, ...] = ("fp32", "fp16")
        for precision in precisions:
            # TensorRT computes fp32 in TF32 where it likes, so it is judged as such.
            judged: BenchPrecision = "bf16" if precision == "fp32" else "fp16"
            make = _engine(flavour.name, precision)
            yield Candidate(f"{flavour.name}-{precision}", judged, make, one_picture=True)


def _eager(precision: str, tf32: bool = False, compiled: bool = False) -> Callable[[ModelFile, torch.device], Upscale]:
    def make(file: ModelFile, device: torch.device) -> Upscale:
        dtype = _DTYPES[precision]
        network: Any = NetworkModule(file.network).to(device, dtype)
        network = network.to(memory_format=torch.channels_last)
        if compiled:
            network = torch.compile(network, dynamic=False)

        def run(lr: Tensor) -> Tensor:
            with _tf32(tf32), torch.inference_mode():
                return cast(Tensor, network(lr.to(dtype))).float()

        return run

    return make


def _ours(precision: str) -> Callable[[ModelFile, torch.device], Upscale]:
    def make(file: ModelFile, device: torch.device) -> Upscale:
        if reason := why_not_on_cuda() or (None if device.type == "cuda" else "they need a CUDA device"):
            raise BackendError(f"our CUDA kernels: {reason}")
        network = CudaNetwork(file.network, _DTYPES[precision], device)

        def run(lr: Tensor) -> Tensor:
            with torch.inference_mode():
                return network.compute(lr)

        return run

    return make


def _tf32(allowed: bool) -> AbstractContextManager[None]:
    if not torch.cuda.is_available():
        return nullcontext()
    return torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=allowed)


def _engine(flavour: str, precision: EnginePrecision) -> Callable[[ModelFile, torch.device], Upscale]:
    def make(file: ModelFile, device: torch.device) -> Upscale:
        from srgan_fast.runtime.tensorrt.backend import cached_engine  # noqa: PLC0415 (needs onnx)

        if reason := why_no_gpu():
            raise BackendError(f"{flavour} {reason}")
        library = load_library(flavour)
        found = cached_engine(library, file, precision, describe_gpu(device))
        return Engine(library, found.data, ONE_PICTURE, file.scale)

    return make


def _onnxruntime(name: str) -> Callable[[ModelFile, torch.device], Upscale]:
    def make(file: ModelFile, device: torch.device) -> Upscale:
        backend = cast("OnnxRuntimeBackend", create_backend(file, name))
        scale = file.scale

        def run(lr: Tensor) -> Tensor:
            lr = lr.contiguous()
            count, channels, height, width = lr.shape
            sr = lr.new_empty((count, channels, height * scale, width * scale))
            if lr.is_cuda:  # the session has a stream of its own
                torch.cuda.current_stream().synchronize()
            place = (lr.data_ptr(), sr.data_ptr(), (count, height, width))
            backend.run_in_place(*place, lr.device.type, lr.device.index or 0)
            return sr

        return run

    return make


def _measure(
    row: Candidate, upscale: Upscale | str, load_s: float, file: ModelFile, shape: Shape, device: torch.device
) -> Result:
    found = Result(row.name, row.precision, load_s=load_s)
    if isinstance(upscale, str):
        found.status, found.reason, found.load_s = "failed", upscale, None
        return found
    if row.one_picture and shape.batch > 1:
        found.status, found.reason = "left out", "its engine takes one picture at a time"
        return found
    lr = torch.from_numpy(np.random.default_rng(0).random(shape.dims(), np.float32))
    layout = torch.channels_last if row.channels_last else torch.contiguous_format
    given = lr.to(device, memory_format=layout)
    try:
        if isinstance(upscale, Engine):
            found.engine_types = output_types(upscale.inspect())
            built_in: EnginePrecision = "fp32" if row.name.endswith("fp32") else "fp16"
            if problem := wrong_output_types(found.engine_types, built_in):
                raise BackendError(problem)
        accuracy = compare(upscale(given).cpu().contiguous().numpy(), _exact(file, lr, device))
        found.max_error, found.psnr_db = _finite(accuracy.max_error), _finite(accuracy.psnr_db)
        if problem := accuracy.problem(TOLERANCES[row.precision]):
            found.status, found.reason = "wrong", problem
        if device.type == "cuda":
            _time(found, upscale, given, lr.to(memory_format=layout).pin_memory(), shape)
    except Exception as error:  # every runtime has exceptions of its own
        found.status, found.reason = "failed", why_not(error)
    return found


def _time(found: Result, upscale: Upscale, given: Tensor, host: Tensor, shape: Shape) -> None:
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    upscale(given)
    torch.cuda.synchronize()
    found.peak_mb = (torch.cuda.max_memory_allocated() - before) / 1e6
    found.device = time_calls(lambda: upscale(given))
    try:
        # An engine records with a context of its own.
        replay = partial(upscale.replay, given) if isinstance(upscale, Engine) else in_graph(lambda: upscale(given))
        found.graph = time_calls(replay)
    except Exception as error:  # what a runtime does on its own streams cannot be recorded
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
    found.with_copies = Time(statistics.median(waits), min(waits), max(waits))


def _exact(file: ModelFile, lr: Tensor, device: torch.device) -> Any:
    with torch.inference_mode():
        return NetworkModule(file.network).double().to(device)(lr.double().to(device)).cpu().numpy()


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
