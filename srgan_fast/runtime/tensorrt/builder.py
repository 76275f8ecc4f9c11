"""From an ONNX graph to an engine.

Networks are strongly typed: what an engine computes in is what the graph says, and nothing else. TensorRT 11 knows no
other way and builds fp32 from a graph in fp32 whatever was meant, so the types of the parsed network are looked at
before anything is built.
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
    """What an engine is built for.

    Attributes:
        profile: shapes it takes.
        hardware: other GPUs that it may run on (TensorRT only; it costs speed).
        version_compatible: whether later TensorRTs of the same major version may run it (TensorRT only).
        compute_capabilities: as in 8.6, that kernels are made for (TensorRT-RTX only); if empty the library's choice,
            which leaves out GPUs older than 8.0.
        optimization_level: 0 to 5, how long to look for faster kernels; the library's own if None.
        workspace_mib: device memory that kernels may take; all there is if None.
        timing_cache: file that timings of kernels are taken from and added to (TensorRT only).
    """

    profile: Profile = ONE_IMAGE
    hardware: HardwareCompatibility = "none"
    version_compatible: bool = False
    compute_capabilities: tuple[str, ...] = ()
    optimization_level: int | None = None
    workspace_mib: int | None = None
    timing_cache: Path | None = None


@dataclass(frozen=True, slots=True)
class Layer:
    """Of the parsed network.

    Attributes:
        name: the ONNX node's.
        kind: as TensorRT calls it, in capitals.
        dtype: of its first output, in capitals.
        reads: kinds of the layers that its inputs come from.
    """

    name: str
    kind: str
    dtype: str
    reads: tuple[str, ...]

    @property
    def is_quantised(self) -> bool:
        """Whether it reads a dequantised map and dequantised weights, which together become an int8 kernel."""
        return self.reads[:2] == ("DEQUANTIZE", "DEQUANTIZE")


@dataclass(frozen=True, slots=True)
class BuiltEngine:
    """An engine and what it was made of."""

    data: bytes
    layers: tuple[Layer, ...]

    def convolutions(self) -> dict[str, int]:
        """How many give which type; those that read quantised values are INT8."""
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
        library: to build with.
        graph: ONNX, serialised; its input is `lr`.
        precision: that the graph must be in.
        options: what to build for.
        on_progress: told what goes on, from any thread.

    Raises:
        BackendError: the library refuses, the graph has other types than asked for, or there is no GPU to build on.
        UsageError: options that the library does not have.
        KeyboardInterrupt: the user pressed Ctrl-C; the build is given up.
    """
    api, mark = library.api, library.mark
    name = f"{library.flavour.name} {library.version}"
    check_options(library, options)
    try:
        builder: trt.Builder = api.Builder(library.log)
    except (TypeError, RuntimeError):  # pybind11's factory got nothing to hand out
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
        raise BackendError(f"{name} builds no engine ({library.said_since(mark)})")
    _keep_timings(config, options.timing_cache)
    return BuiltEngine(_bytes(data), layers)


def wrong_types(layers: tuple[Layer, ...], precision: EnginePrecision) -> str | None:
    """What in a parsed network is not in the precision; None if all is right.

    In fp32 and fp16 every convolution must give that type, and nothing may be quantised. In int8 there must be
    convolutions that read dequantised maps and weights, which is what TensorRT turns into int8 kernels, and none that
    read only one of the two so.
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
    """Whether a library has what is asked of it; values that only it can judge are left to it.

    Raises:
        UsageError: it has not, or a value out of range.
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
    """The network, and its parser, which owns the weights that the network refers to."""
    api = library.api
    # Strong typing is a flag in TensorRT 10 and the only way in 11, which may drop the flag.
    flag = getattr(api.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network: trt.INetworkDefinition = builder.create_network(0 if flag is None else 1 << int(flag))
    parser: trt.OnnxParser = api.OnnxParser(network, library.log)
    if not parser.parse(graph):
        problem = parser.get_error(0).desc() if parser.num_errors else library.said_since(mark)
        raise BackendError(f"{library.flavour.name} cannot read the graph ({' '.join(problem.split())})")
    return network, parser


def _layers(network: "trt.INetworkDefinition") -> Iterator[Layer]:
    makers: dict[str, str] = {}
    for i in range(network.num_layers):
        layer = network.get_layer(i)
        kind = _last(layer.type)
        inputs = [layer.get_input(k) for k in range(layer.num_inputs)]
        reads = tuple(makers.get(tensor.name, "INPUT") for tensor in inputs if tensor is not None)
        for k in range(layer.num_outputs):
            makers[layer.get_output(k).name] = kind
        yield Layer(layer.name, kind, _last(layer.get_output(0).dtype), reads)


def _last(member: object) -> str:
    """Name of an enumeration's member: pybind11 prints it behind that of the enumeration."""
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
        raise BackendError(f"{library.flavour.name} refuses shapes from {shapes.least} to {shapes.largest}")
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
        # A cache of another GPU or version is refused, and an empty one takes its place.
        if not config.set_timing_cache(config.create_timing_cache(known), ignore_mismatch=False):
            config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)
    return config


def _member(option: str) -> str:
    """Of an enumeration, from what the user types."""
    return option.replace("-", "_").upper()


def known_capabilities(library: Library) -> list[str]:
    """Compute capabilities that TensorRT-RTX can be asked to build for, as in 8.6."""
    names = [name.removeprefix("SM") for name in dir(library.api.ComputeCapability) if name.startswith("SM")]
    return [f"{digits[:-1]}.{digits[-1]}" for digits in sorted(names, key=int)]


def _set_capabilities(library: Library, config: Any, wanted: tuple[str, ...]) -> None:
    """Not in the stubs of TensorRT: TensorRT-RTX alone has it."""
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
        """Counts the steps of the outermost phase, and gives up where the user wants that."""

        def __init__(self) -> None:
            api.IProgressMonitor.__init__(self)
            self.outermost: tuple[str, int] | None = None
            self.inner = ""
            self.done = 0

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            """A phase within another, or the whole."""
            if self.outermost is None:
                self.outermost = phase_name, num_steps
            self.inner = phase_name
            self.tell()

        def step_complete(self, phase_name: str, step: int) -> bool:
            """Whether to go on."""
            if self.outermost is not None and phase_name == self.outermost[0]:
                self.done = step + 1
            self.tell()
            return not (interrupted.is_set() or raised)

        def phase_finish(self, phase_name: str) -> None:
            """The whole is told as finished."""
            if self.outermost is not None and phase_name == self.outermost[0]:
                self.done = self.outermost[1]
                self.tell()
                self.outermost, self.done = None, 0

        def tell(self) -> None:
            """Passes on how far it is."""
            if self.outermost is None or raised:
                return
            try:
                on_progress(self.inner, self.done, self.outermost[1])
            except Exception as error:  # it must not travel through the library's own code
                raised.append(error)

    return Monitor()


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """Has Ctrl-C set an event instead of raising: an exception must not travel through the library's own code."""
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
    except FileError as problem:  # the engine is worth more than the timings
        _log.warning("%s; the timings are not kept", problem)


def _bytes(memory: Any) -> bytes:
    """Of the library's host memory, which is a buffer, though not every stub knows."""
    return bytes(memory)
