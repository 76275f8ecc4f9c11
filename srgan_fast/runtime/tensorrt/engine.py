"""Runs an engine, on device pointers or on PyTorch's CUDA tensors."""

import json
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from srgan_fast.errors import BackendError
from srgan_fast.runtime.tensorrt.builder import EnginePrecision
from srgan_fast.runtime.tensorrt.flavour import Library
from srgan_fast.runtime.tensorrt.shapes import Profile, Shape

if TYPE_CHECKING:
    import tensorrt as trt
    import torch

_GRAPHS_KEPT = 8  # shapes whose CUDA graphs are cached; each holds its input and output


class Engine:
    """An engine ready to run, on one stream at a time.

    Args:
        library: library that built it; other versions and other GPUs are rejected.
        data: serialised engine.
        profile: shapes that it accepts.
        scale: of the generator.
        pixels: whether input and output are N, H, W, 3 uint8.

    Raises:
        BackendError: no GPU or driver, an engine for another version or GPU, or not enough memory.
    """

    def __init__(self, library: Library, data: bytes, profile: Profile, scale: int, pixels: bool = False) -> None:
        mark = library.mark
        name = f"{library.flavour.name} {library.version}"
        try:
            self._runtime: trt.Runtime = library.api.Runtime(library.log)
            engine = self._runtime.deserialize_cuda_engine(data)
        except (TypeError, RuntimeError):
            engine = None
        if engine is None:
            raise BackendError(f"{name} cannot load the engine ({library.said_since(mark)})")
        self._engine = engine
        self._context: trt.IExecutionContext = engine.create_execution_context()
        if self._context is None:
            raise BackendError(f"{name} has not enough memory to run the engine ({library.said_since(mark)})")
        self._library = library
        self._graphs: dict[Shape, _RecordedEngine] = {}
        self._aside: torch.cuda.Stream | None = None
        self.profile = profile
        self.scale = scale
        self.pixels = pixels

    def inspect(self) -> dict[str, Any]:
        """Output of TensorRT's engine inspector: `Layers` after fusion, with kernels and types.

        Raises:
            BackendError: its output cannot be parsed.
        """
        inspector: trt.EngineInspector = self._engine.create_engine_inspector()
        text = inspector.get_engine_information(self._library.api.LayerInformationFormat.JSON)
        try:
            return dict(json.loads(text))
        except (TypeError, ValueError):
            raise BackendError(f"{self._library.flavour.name} cannot inspect the engine") from None

    def enqueue(self, lr: int, sr: int, shape: Shape, stream: int) -> None:
        """Enqueues one run on a CUDA stream, without waiting.

        Args:
            lr: device address of N, 3, H, W float32 in 0..1, contiguous (or N, H, W, 3 uint8).
            sr: device address of a buffer for the result.
            shape: N, H and W.
            stream: a cudaStream_t.

        Raises:
            BackendError: the shape is outside the profile, or the launch fails.
        """
        self._put(self._context, lr, sr, shape, stream)

    def _put(self, context: "trt.IExecutionContext", lr: int, sr: int, shape: Shape, stream: int) -> None:
        if reason := self.profile.why_not(shape):
            raise BackendError(reason)
        mark = self._library.mark
        done = (
            context.set_input_shape("lr", shape.dims(self.pixels))
            and context.set_tensor_address("lr", lr)
            and context.set_tensor_address("sr", sr)
            and context.execute_async_v3(stream)
        )
        if not done:
            raise BackendError(f"TensorRT fails on {shape} ({self._library.said_since(mark)})")

    def __call__(self, lr: "torch.Tensor") -> "torch.Tensor":
        """Upscales on PyTorch's current stream.

        Args:
            lr: contiguous CUDA tensor in the engine's layout.

        Returns:
            A new tensor.

        Raises:
            BackendError: unsupported tensor, the shape is outside the profile, or the launch fails.
        """
        shape = self._check(lr)
        sr = lr.new_empty(self._larger(shape).dims(self.pixels))
        self._enqueue(self._context, lr, sr, shape)
        return sr

    def replay(self, lr: "torch.Tensor") -> "torch.Tensor":
        """Like a call, but replays a CUDA graph that is captured at the first call with a shape.

        Returns:
            A tensor that the next replay with the same shape overwrites.

        Raises:
            BackendError: see `__call__`.
        """
        import torch  # noqa: PLC0415 (heavy extra)

        shape = self._check(lr)
        if shape not in self._graphs:
            if len(self._graphs) == _GRAPHS_KEPT:
                self._graphs.pop(next(iter(self._graphs)))
            given, sr = lr.clone(), lr.new_empty(self._larger(shape).dims(self.pixels))
            # A graph refers to its context's state, so nothing else may use that context.
            mark = self._library.mark
            context = self._engine.create_execution_context()
            if context is None:
                raise BackendError(f"no memory for a graph of {shape} ({self._library.said_since(mark)})")
            self._enqueue(context, given, sr, shape)  # one-time work for a new shape cannot be captured
            torch.cuda.current_stream().synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self._enqueue(context, given, sr, shape)
            self._graphs[shape] = _RecordedEngine(graph, context, given, sr)
        recorded = self._graphs[shape]
        recorded.given.copy_(lr)
        recorded.graph.replay()
        return recorded.sr

    def _enqueue(self, context: "trt.IExecutionContext", lr: "torch.Tensor", sr: "torch.Tensor", shape: Shape) -> None:
        """Runs on PyTorch's current stream, or a side stream instead of the default one, which TensorRT would sync."""
        import torch  # noqa: PLC0415

        current = torch.cuda.current_stream(lr.device)
        if current != torch.cuda.default_stream(lr.device):
            self._put(context, lr.data_ptr(), sr.data_ptr(), shape, current.cuda_stream)
            return
        if self._aside is None:
            self._aside = torch.cuda.Stream(lr.device)  # type: ignore[no-untyped-call]
        aside = self._aside
        aside.wait_stream(current)
        self._put(context, lr.data_ptr(), sr.data_ptr(), shape, aside.cuda_stream)
        current.wait_stream(aside)

    def _check(self, lr: "torch.Tensor") -> Shape:
        """Shape of a tensor, after checking that the engine can read its memory."""
        import torch  # noqa: PLC0415

        dtype = torch.uint8 if self.pixels else torch.float32
        channels = lr.shape[-1 if self.pixels else 1] if lr.dim() == 4 else 0
        if not lr.is_cuda or lr.dtype != dtype or channels != 3 or not lr.is_contiguous():
            layout = "N, H, W, 3" if self.pixels else "N, 3, H, W"
            raise BackendError(
                f"the engine takes {layout} in {dtype}, contiguous and on a GPU; got {tuple(lr.shape)} in {lr.dtype} "
                f"on {lr.device}{'' if lr.is_contiguous() else ', not contiguous'}"
            )
        count, *sides = lr.shape
        height, width = sides[:2] if self.pixels else sides[1:]
        return Shape(count, height, width)

    def _larger(self, shape: Shape) -> Shape:
        return Shape(shape.batch, shape.height * self.scale, shape.width * self.scale)


class _RecordedEngine(NamedTuple):
    """A CUDA graph and the objects that it depends on."""

    graph: "torch.cuda.CUDAGraph"
    context: "trt.IExecutionContext"
    given: "torch.Tensor"
    sr: "torch.Tensor"


def output_types(inspected: dict[str, Any]) -> dict[str, int]:
    """Number of layers per output type; reported as `Format/Datatype` by TensorRT 10, as `DataType` by 11.

    Args:
        inspected: result of `Engine.inspect`.
    """
    found: Counter[str] = Counter()
    for layer in inspected.get("Layers", []):
        for output in layer.get("Outputs", []) if isinstance(layer, dict) else []:
            found[str(output.get("DataType") or output.get("Format/Datatype") or "?")] += 1
    return dict(found)


def wrong_output_types(types: dict[str, int], precision: EnginePrecision) -> str | None:
    """Why an engine's layers do not match its precision; None if they do, or if it does not report types.

    Args:
        types: from `output_types`; int8 is not checked, since fusion may leave no layer with int8 output.
        precision: precision that it was built for.
    """
    names = {"fp32": ("float", "fp32"), "fp16": ("half", "fp16", "float16")}.get(precision)
    told = [name for name in types if name != "?"]
    if names is None or not told or any(word in name.casefold() for name in told for word in names):
        return None
    return f"the engine is not in {precision}: its layers give {', '.join(told)}"
