"""Builds an engine from an ONNX graph.

Networks are strongly typed: an engine computes in the types of its graph. TensorRT 11 has no other mode and would
silently build an fp32 engine from an fp32 graph, so the types of the parsed network are checked before building.
"""

import logging
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from srgan_fast.errors import BackendError, FileError, UsageError
from srgan_fast.files import atomic_write
from srgan_fast.runtime.protocol import OnBuild
from srgan_fast.runtime.tensorrt.flavour import Library
from srgan_fast.runtime.tensorrt.shapes import ONE_IMAGE, Profile

if TYPE_CHECKING:
    import tensorrt as trt

_log = logging.getLogger(__name__)

EnginePrecision = Literal["fp32", "fp16", "int8"]
HardwareCompatibility = Literal["none", "same-compute-capability", "ampere-plus"]

_TYPES = {"fp32": "FLOAT", "fp16": "HALF"}


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """Build options of an engine.

    Attributes:
        profile: shapes that it accepts.
        hardware: hardware compatibility level (TensorRT only; it costs speed).
        version_compatible: whether later TensorRT versions of the same major version may run it (TensorRT only).
        compute_capabilities: target compute capabilities such as 8.6 (TensorRT-RTX only); empty for the library's
            default, which excludes GPUs older than 8.0.
        optimization_level: 0 to 5, how long to search for faster kernels; the library's default if None.
        workspace_mib: device memory for kernels; unlimited if None.
        timing_cache: file of kernel timings, read and updated (TensorRT only).
    """

    profile: Profile = ONE_IMAGE
    hardware: HardwareCompatibility = "none"
    version_compatible: bool = False
    compute_capabilities: tuple[str, ...] = ()
    optimization_level: int | None = None
    workspace_mib: int | None = None
    timing_cache: Path | None = None


@dataclass(frozen=True, slots=True)
class ParsedLayer:
    """A layer of the parsed network.

    Attributes:
        name: name of the ONNX node.
        kind: TensorRT's layer type, in capitals.
        dtype: type of its first output, in capitals.
        reads: types of the layers that produce its inputs.
    """

    name: str
    kind: str
    dtype: str
    reads: tuple[str, ...]

    @property
    def is_quantised(self) -> bool:
        """Whether it reads a dequantised map and dequantised weights, which TensorRT fuses into an int8 kernel."""
        return self.reads[:2] == ("DEQUANTIZE", "DEQUANTIZE")


@dataclass(frozen=True, slots=True)
class BuiltEngine:
    """An engine and the parsed network that it was built from."""

    data: bytes
    layers: tuple[ParsedLayer, ...]

    def convolutions(self) -> dict[str, int]:
        """Number of convolutions per output type; those that read quantised values count as INT8."""
        convolutions = [layer for layer in self.layers if layer.kind == "CONVOLUTION"]
        return dict(Counter("INT8" if layer.is_quantised else layer.dtype for layer in convolutions))


def build_engine(
    library: Library,
    graph: bytes,
    precision: EnginePrecision,
    options: BuildOptions,
    on_progress: OnBuild = lambda phase, done, of: None,
) -> BuiltEngine:
    """Builds an engine.

    Args:
        library: library to build with.
        graph: serialised ONNX model; its input is `lr`.
        precision: precision that the graph must have.
        options: build options.
        on_progress: called with the progress, from any thread.

    Raises:
        BackendError: the build fails, the graph has other types than requested, or there is no GPU to build on.
        UsageError: options that the library does not support.
        KeyboardInterrupt: the user pressed Ctrl-C; the build is cancelled.
    """
    api, mark = library.api, library.mark
    name = f"{library.flavour.name} {library.version}"
    check_options(library, options)
    try:
        builder: trt.Builder = api.Builder(library.log)
    except (TypeError, RuntimeError):  # pybind11's factory received a null pointer
        need = "; building needs an NVIDIA GPU and its driver" if library.flavour.needs_gpu else ""
        raise BackendError(f"{name} cannot start ({library.said_since(mark)}){need}") from None
    network, _parser = _parse(library, builder, graph, mark)
    layers = tuple(_layers(network))
    if problem := wrong_types(layers, precision):
        raise BackendError(f"the parsed network is not {precision}: {problem}")
    config = _configure(library, builder, network, options)
    raised: list[Exception] = []
    with _interruptible() as interrupted:
        config.progress_monitor = _monitor(api, on_progress, interrupted, raised)
        data = builder.build_serialized_network(network, config)
    if interrupted.is_set():
        raise KeyboardInterrupt
    if raised:
        raise raised[0]
    if data is None:
        raise BackendError(f"{name} failed to build an engine ({library.said_since(mark)})")
    _keep_timings(config, options.timing_cache)
    return BuiltEngine(_bytes(data), layers)


def wrong_types(layers: tuple[ParsedLayer, ...], precision: EnginePrecision) -> str | None:
    """Describes what in a parsed network does not match the precision; None if everything does.

    In fp32 and fp16 every convolution must have that output type, and nothing may be quantised. In int8 some
    convolutions must read dequantised maps and weights, which TensorRT turns into int8 kernels, and none may read only
    one of the two dequantised.
    """
    convolutions = [layer for layer in layers if layer.kind == "CONVOLUTION"]
    quantised = [layer for layer in convolutions if layer.is_quantised]
    if not convolutions:
        return "it has no convolutions"
    if precision == "int8":
        halves = [c for c in convolutions if not c.is_quantised and "DEQUANTIZE" in c.reads[:2]]
        if halves:
            return f"{halves[0].name} reads quantised values on one side only"
        return None if quantised else f"none of {len(convolutions)} convolutions reads quantised values"
    if quantised:
        return f"{len(quantised)} of {len(convolutions)} convolutions read quantised values"
    others = [layer for layer in convolutions if layer.dtype != _TYPES[precision]]
    if others:
        return f"{others[0].name} and {len(others) - 1} other convolutions give {others[0].dtype}"
    return None


def check_options(library: Library, options: BuildOptions) -> None:
    """Checks that a library supports the options; values that only it can judge are left to it.

    Raises:
        UsageError: an option is not supported, or a value is out of range.
    """
    rtx = library.flavour.name == "tensorrt-rtx"
    if rtx and (options.hardware != "none" or options.version_compatible or options.timing_cache is not None):
        raise UsageError(
            "TensorRT-RTX has no hardware or version compatibility and no timing cache: its engines are compiled for "
            "the GPU on their first run"
        )
    if not rtx and options.compute_capabilities:
        raise UsageError("compute capabilities can be chosen with TensorRT-RTX only; TensorRT builds for this GPU")
    if options.hardware != "none" and not hasattr(library.api.HardwareCompatibilityLevel, _member(options.hardware)):
        raise UsageError(f"{library.flavour.name} {library.version} has no hardware compatibility {options.hardware!r}")
    for text in options.compute_capabilities:
        _capability(library, text)
    if options.optimization_level is not None and not 0 <= options.optimization_level <= 5:
        raise UsageError(f"optimization level is {options.optimization_level}; it must lie between 0 and 5")
    if options.workspace_mib is not None and options.workspace_mib < 1:
        raise UsageError(f"workspace is {options.workspace_mib} MiB; it must be at least 1")


def _parse(
    library: Library, builder: "trt.Builder", graph: bytes, mark: int
) -> "tuple[trt.INetworkDefinition, trt.OnnxParser]":
    """The network and its parser, which owns the weights that the network refers to."""
    api = library.api
    # Strong typing is a flag in TensorRT 10 and the default in 11, which may drop the flag.
    flag = getattr(api.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network: trt.INetworkDefinition = builder.create_network(0 if flag is None else 1 << int(flag))
    parser: trt.OnnxParser = api.OnnxParser(network, library.log)
    if not parser.parse(graph):
        problem = parser.get_error(0).desc() if parser.num_errors else library.said_since(mark)
        raise BackendError(f"{library.flavour.name} cannot parse the graph ({' '.join(problem.split())})")
    return network, parser


def _layers(network: "trt.INetworkDefinition") -> Iterator[ParsedLayer]:
    makers: dict[str, str] = {}
    for i in range(network.num_layers):
        layer = network.get_layer(i)
        kind = _last(layer.type)
        inputs = [layer.get_input(k) for k in range(layer.num_inputs)]
        reads = tuple(makers.get(tensor.name, "INPUT") for tensor in inputs if tensor is not None)
        for k in range(layer.num_outputs):
            makers[layer.get_output(k).name] = kind
        yield ParsedLayer(layer.name, kind, _last(layer.get_output(0).dtype), reads)


def _last(member: object) -> str:
    """Name of an enumeration's member, which pybind11 prints after the enumeration's name."""
    return str(member).rsplit(".", 1)[-1]


def _configure(
    library: Library, builder: "trt.Builder", network: "trt.INetworkDefinition", options: BuildOptions
) -> "trt.IBuilderConfig":
    api = library.api
    config: trt.IBuilderConfig = builder.create_builder_config()
    config.profiling_verbosity = api.ProfilingVerbosity.DETAILED
    pixels = network.get_input(0).shape[-1] == 3
    profile: trt.IOptimizationProfile = builder.create_optimization_profile()
    shapes = options.profile
    profile.set_shape("lr", *(api.Dims(shape.dims(pixels)) for shape in (shapes.least, shapes.usual, shapes.largest)))
    if config.add_optimization_profile(profile) < 0:
        raise BackendError(f"{library.flavour.name} rejects shapes from {shapes.least} to {shapes.largest}")
    if options.hardware != "none":
        config.hardware_compatibility_level = getattr(api.HardwareCompatibilityLevel, _member(options.hardware))
    if options.version_compatible:
        config.set_flag(api.BuilderFlag.VERSION_COMPATIBLE)
    if options.optimization_level is not None:
        config.builder_optimization_level = options.optimization_level
    if options.workspace_mib is not None:
        config.set_memory_pool_limit(api.MemoryPoolType.WORKSPACE, options.workspace_mib << 20)
    if options.compute_capabilities:
        _set_capabilities(library, config, options.compute_capabilities)
    if options.timing_cache is not None:
        known = options.timing_cache.read_bytes() if options.timing_cache.is_file() else b""
        # A cache of another GPU or version is rejected and replaced by an empty one.
        if not config.set_timing_cache(config.create_timing_cache(known), ignore_mismatch=False):
            config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)
    return config


def _member(option: str) -> str:
    """Name of an enumeration's member, from a command-line value."""
    return option.replace("-", "_").upper()


def known_capabilities(library: Library) -> list[str]:
    """Compute capabilities that TensorRT-RTX can build for, such as 8.6."""
    names = [name.removeprefix("SM") for name in dir(library.api.ComputeCapability) if name.startswith("SM")]
    return [f"{digits[:-1]}.{digits[-1]}" for digits in sorted(names, key=int)]


def _set_capabilities(library: Library, config: Any, wanted: tuple[str, ...]) -> None:
    """Sets compute capabilities, which only TensorRT-RTX has: they are missing in TensorRT's stubs."""
    config.num_compute_capabilities = len(wanted)
    for i, text in enumerate(wanted):
        if not config.set_compute_capability(_capability(library, text), i):
            raise UsageError(f"{library.flavour.name} does not build for {' and '.join(wanted)} together")


def _capability(library: Library, text: str) -> Any:
    known = known_capabilities(library)
    if text not in known:
        raise UsageError(f"compute capability is {text!r}; this TensorRT-RTX builds for {', '.join(known)}")
    return getattr(library.api.ComputeCapability, f"SM{text.replace('.', '')}")


def _monitor(api: Any, on_progress: OnBuild, interrupted: threading.Event, raised: list[Exception]) -> Any:
    class Monitor(api.IProgressMonitor):  # type: ignore[misc]
        """Reports the steps of the outermost phase, and cancels the build on Ctrl-C."""

        def __init__(self) -> None:
            api.IProgressMonitor.__init__(self)
            self.outermost: tuple[str, int] | None = None
            self.inner = ""
            self.done = 0

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            """Called when a phase or nested phase begins."""
            if self.outermost is None:
                self.outermost = phase_name, num_steps
            self.inner = phase_name
            self.tell()

        def step_complete(self, phase_name: str, step: int) -> bool:
            """Called after a step; returns whether to continue."""
            if self.outermost is not None and phase_name == self.outermost[0]:
                self.done = step + 1
            self.tell()
            return not (interrupted.is_set() or raised)

        def phase_finish(self, phase_name: str) -> None:
            """Called when a phase ends; reports the outermost one as finished."""
            if self.outermost is not None and phase_name == self.outermost[0]:
                self.done = self.outermost[1]
                self.tell()
                self.outermost, self.done = None, 0

        def tell(self) -> None:
            """Reports the progress."""
            if self.outermost is None or raised:
                return
            try:
                on_progress(self.inner, self.done, self.outermost[1])
            except Exception as error:  # it must not propagate through C++
                raised.append(error)

    return Monitor()


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """Makes Ctrl-C set an event instead of raising: an exception must not propagate through the library's C++ code."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    before = signal.signal(signal.SIGINT, lambda number, frame: event.set())
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, before)


def _keep_timings(config: "trt.IBuilderConfig", path: Path | None) -> None:
    if path is None:
        return
    timings = config.get_timing_cache()
    if timings is None:
        return
    try:
        with atomic_write(path) as file:
            file.write(_bytes(timings.serialize()))
    except FileError as problem:  # the engine is still usable
        _log.warning("%s; kernel timings are not saved", problem)


def _bytes(memory: Any) -> bytes:
    """Bytes of the library's host memory, which supports the buffer protocol although some stubs do not declare it."""
    return bytes(memory)
