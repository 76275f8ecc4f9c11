"""The list of rows: this package's backends, and the runtimes that a user could choose instead."""

import importlib
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from srgan_fast.bench.options import PRECISIONS, BenchPrecision
from srgan_fast.bench.workload import Workload
from srgan_fast.errors import BackendError, UsageError
from srgan_fast.models import ModelFile
from srgan_fast.runtime import BACKENDS, Precision, create_backend
from srgan_fast.runtime.installed import is_installed
from srgan_fast.runtime.protocol import FloatImages
from srgan_fast.runtime.registry import choose_backend, missing_modules

if TYPE_CHECKING:
    from srgan_fast.bench.gpu.timing import TorchClock

# Backends whose `run` may be called by several threads at once: native and openvino lock; the others only read.
CALLED_BY_SEVERAL = frozenset({"native", "openvino", "onnxruntime", "torch"})
# Backends whose GPU work is queued on PyTorch's current stream, so that PyTorch's events can time it.
ON_TORCH_STREAMS = frozenset({"torch", "cuda", "tensorrt", "tensorrt-rtx"})
# `PYTHON_VARIABLE + RUNTIME` names the interpreter of a runtime that is installed in a separate environment.
PYTHON_VARIABLE = "SRGAN_FAST_BENCH_PYTHON_"


@dataclass(frozen=True, slots=True)
class RowJob:
    """Arguments for loading a row: model, workload, folder of prepared files, folder of images for int8 calibration."""

    file: ModelFile
    workload: Workload
    folder: Path
    calibration: Path | None = None

    @property
    def shape_folder(self) -> Path:
        """Folder of the files for this size and batch."""
        return self.folder / f"{self.workload.batch}x{self.workload.size}"

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of the input: N, C, H, W."""
        return (self.workload.batch, self.file.channels, *self.workload.size)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A network loaded in a runtime, with its input in place.

    `run` computes once and is timed; it returns the runtime's own type, which `array` converts to N, 3, scale * H,
    scale * W float32 in separate memory. `device` is the compute device. `caller` creates another caller of the loaded
    network whose `run` may be called concurrently: with its own state, or protected by the runtime's lock; None if the
    runtime does not allow it. `gpu` measures time and memory on a GPU.
    """

    run: Callable[[], Any]
    array: Callable[[Any], FloatImages]
    device: str = "CPU"
    caller: Callable[[], Callable[[], Any]] | None = None
    gpu: "TorchClock | None" = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A row. Functions of a peer are given as `module:function` in `bench.peers` and imported in the row's process.

    Attributes:
        name: name on the command line and in reports.
        runtime: library, or name in the registry of backends.
        precision: compute precision.
        modules: modules that must be importable.
        packages: PyPI packages that provide them.
        command: the runtime's own benchmark or the equivalent call, with the same settings; `{threads}` is substituted.
        loads: for peers: function from a job, the row's name and the input to `Loaded`.
        prepares: for peers: function that writes the files to load; runs in a separate process, since converters import
            a lot.
        lacks: for peers: function that returns why the row is not worth measuring on this CPU, or None.
        kind: `backend` is ours; `peer` is another library, called without any of our code around it.
    """

    name: str
    runtime: str
    precision: BenchPrecision
    modules: tuple[str, ...]
    packages: tuple[str, ...]
    command: str = ""
    loads: str = ""
    prepares: str = ""
    lacks: str = ""
    kind: Literal["backend", "peer"] = "peer"

    @property
    def python(self) -> str:
        """The interpreter that runs it: this one, or that of a separate environment."""
        return os.environ.get(PYTHON_VARIABLE + self.runtime.upper()) or sys.executable

    @property
    def remedy(self) -> str:
        """The command that installs it."""
        return f"pip install {' '.join(self.packages)}"

    def missing(self) -> list[str]:
        """Modules that are not installed; not checked for separate environments, where loading reports it."""
        if self.kind == "backend":
            return missing_modules(BACKENDS[self.runtime])
        modules = self.modules if self.python == sys.executable else ()
        return [module for module in modules if not is_installed(module)]

    def why_not_here(self) -> str | None:
        """Why it is not supported on this machine although it is installed: wrong processor, no GPU."""
        try:
            if self.kind == "peer":
                return cast("str | None", _function(self.lacks)()) if self.lacks else None
            choose_backend(self.runtime, cast(Precision, self.precision))
        except BackendError as error:
            return str(error)
        except ImportError:  # installed, but broken: reported when it is loaded
            return None
        return None

    def prepare(self, job: RowJob) -> None:
        """Writes the files that `load` needs; raises whatever the runtime raises."""
        if self.prepares:
            job.shape_folder.mkdir(parents=True, exist_ok=True)
            _function(self.prepares)(job)

    def load(self, job: RowJob, lr: FloatImages) -> Loaded:
        """Loads the network and its input (N, 3, H, W in 0..1); raises whatever the runtime raises."""
        if self.kind == "peer":
            return cast(Loaded, _function(self.loads)(job, self.name, lr))
        gpu = _gpu(self.runtime)
        backend = create_backend(job.file, self.runtime, cast(Precision, self.precision), job.workload.threads)

        def run() -> FloatImages:
            return backend.run(lr)

        return Loaded(
            run=run if gpu is None else gpu.around(run),
            array=lambda sr: cast(FloatImages, sr.copy()),
            device=backend.device,
            caller=(lambda: run) if self.runtime in CALLED_BY_SEVERAL else None,
            gpu=gpu,
        )


def _function(path: str) -> Callable[..., Any]:
    module, _, name = path.partition(":")
    return cast(Callable[..., Any], getattr(importlib.import_module(f"srgan_fast.bench.peers.{module}"), name))


def _gpu(runtime: str) -> "TorchClock | None":
    """GPU timer for backends that use PyTorch's CUDA streams, if there is a device."""
    if runtime in ON_TORCH_STREAMS:
        import torch  # noqa: PLC0415 (heavy, and these backends load it anyway)

        if torch.cuda.is_available():
            from srgan_fast.bench.gpu.timing import TorchClock  # noqa: PLC0415

            return TorchClock()
    return None


_TORCH = "torch.set_num_threads({threads}); with torch.inference_mode()"
_AUTOCAST = "torch.autocast('cpu', torch.bfloat16)"
_NHWC = "model.to(memory_format=torch.channels_last)(lr)"
_COMPILED = "torch._inductor.config.freezing = True; torch.compile(model, dynamic=False"
_TUNED = f"{_COMPILED}, mode='max-autotune')(lr)"
_OPENVINO = "benchmark_app -m model.onnx -d CPU -api sync -hint latency -nthreads {threads} -infer_precision"
_IREE = (
    "iree-compile --iree-hal-target-backends=llvm-cpu --iree-llvmcpu-target-cpu=host --iree-opt-level=O3; "
    "iree-benchmark-module --device=local-task --task_topology_group_count={threads}"
)


def _peers() -> Iterable[Candidate]:
    def family(
        runtime: str, modules: tuple[str, ...], loads: str, prepares: str = "", packages: tuple[str, ...] = ()
    ) -> Callable[..., Candidate]:
        """Makes the rows of one library."""
        common = Candidate("", runtime, "fp32", modules, packages or modules, loads=loads, prepares=prepares)
        return lambda name, precision, command, **more: replace(
            common, name=name, precision=precision, command=command, **more
        )

    lacks = {"lacks": "from_torch:torch_lacks_bf16"}
    row = family("torch", ("torch",), "from_torch:load_torch")
    yield row("torch-nchw-fp32", "fp32", f"{_TORCH}: model(lr)")
    yield row("torch-nhwc-fp32", "fp32", f"{_TORCH}: {_NHWC}")
    yield row("torch-nhwc-bf16", "bf16", f"{_TORCH}, {_AUTOCAST}: {_NHWC}", **lacks)
    yield row("torch-compile-fp32", "fp32", f"{_TORCH}: {_TUNED}")
    yield row("torch-compile-bf16", "bf16", f"{_TORCH}, {_AUTOCAST}: {_TUNED}", **lacks)
    row = family("zentorch", ("zentorch",), "from_torch:load_torch")
    yield row("zentorch-fp32", "fp32", f"import zentorch; {_TORCH}: {_COMPILED}, backend='zentorch')(lr)")
    row = family("onnxruntime", ("onnxruntime", "onnx"), "from_onnx:load_onnxruntime", "from_onnx:fixed_onnx")
    yield row("onnxruntime-fp32", "fp32", "onnxruntime_perf_test -e cpu -x {threads} -y 1 -I model.onnx")
    row = family("openvino", ("openvino", "onnx"), "from_onnx:load_openvino", "from_onnx:fixed_onnx")
    yield row("openvino-fp32", "fp32", f"{_OPENVINO} f32")
    yield row("openvino-bf16", "bf16", f"{_OPENVINO} bf16", lacks="from_onnx:openvino_lacks_bf16")
    row = family("openvino", ("openvino", "nncf", "onnx"), "from_onnx:load_openvino", "from_onnx:quantise_openvino")
    yield row("openvino-int8", "int8", f"nncf.quantize(model, images); {_OPENVINO} f32")
    row = family("mnn", ("MNN", "onnx"), "from_onnx:load_mnn", "from_onnx:convert_to_mnn")
    yield row("mnn-fp32", "fp32", "ModuleBasic.out model.mnn dir 0 0 10 {threads} (precision high)")
    row = family("ncnn", ("ncnn", "pnnx", "torch"), "from_torch:load_ncnn", "from_torch:convert_to_ncnn")
    yield row("ncnn-fp32", "fp32", "ncnn.Net(): opt.num_threads = {threads}, no fp16 or bf16")
    yield row("ncnn-bf16", "bf16", "ncnn.Net(): opt.num_threads = {threads}, use_bf16_storage = True")
    headless = ("opencv-python-headless", "onnx")
    row = family("opencv", ("cv2", "onnx"), "from_onnx:load_opencv", "from_onnx:fixed_onnx", headless)
    call = "cv2.dnn.readNetFromONNX('model.onnx'): setInput(lr); forward()"
    yield row("opencv-fp32", "fp32", f"cv2.setNumThreads({{threads}}); {call}")
    packages = ("iree-base-compiler", "iree-base-runtime", "onnx")
    modules = ("iree.compiler", "iree.runtime", "onnx")
    row = family("iree", modules, "from_onnx:load_iree", "from_onnx:compile_iree", packages)
    yield row("iree-fp32", "fp32", _IREE)


PEERS: dict[str, Candidate] = {row.name: row for row in _peers()}
RUNTIMES = tuple(dict.fromkeys(row.runtime for row in PEERS.values()))


def find_candidate(name: str) -> Candidate:
    """The row of that name; a UsageError if there is none."""
    rows = {row.name: row for row in (*(row for name in BACKENDS for row in _backend_rows(name)), *PEERS.values())}
    if name not in rows:
        raise UsageError(f"unknown row {name!r}; choose from {', '.join(rows)}")
    return rows[name]


def _backend_rows(name: str) -> Iterable[Candidate]:
    """Rows of one of our backends; one that wraps a peer's runtime gets the prefix `our-`."""
    entry = BACKENDS[name]
    label = f"our-{name}" if name in RUNTIMES else name
    packages = (f"'srgan_fast[{entry.extra}]'",) if entry.extra else ("srgan_fast",)
    for precision in entry.precisions:
        command = f"Upscaler(model, backend={name!r}, precision={precision!r}, threads={{threads}}).run(lr)"
        yield Candidate(f"{label}-{precision}", name, precision, entry.modules, packages, command, kind="backend")


def select_candidates(
    backends: tuple[str, ...], peers: tuple[str, ...], precisions: tuple[BenchPrecision, ...]
) -> list[Candidate]:
    """The requested rows, ours first; see `InferenceOptions` for names of groups.

    Raises:
        UsageError: an unknown name, or nothing to measure.
    """
    named = _named(backends, tuple(BACKENDS), "backend")
    if not backends:
        named = [name for name in BACKENDS if name not in RUNTIMES and (name == "native" or _computes_here(name))]
    ours = [row for name in named for row in _backend_rows(name)]
    wanted = _named(peers or ("all",), (*PEERS, *RUNTIMES), "peer")
    theirs = [row for row in PEERS.values() if row.name in wanted or row.runtime in wanted]
    rows = [row for row in (*ours, *theirs) if row.precision in (precisions or PRECISIONS)]
    if not rows:
        raise UsageError("nothing to measure; change --backend, --peer or --precision")
    return rows


def _computes_here(name: str) -> bool:
    """Whether a backend is installed and supports at least one precision on this machine."""
    return not missing_modules(BACKENDS[name]) and any(row.why_not_here() is None for row in _backend_rows(name))


def _named(names: tuple[str, ...], known: tuple[str, ...], what: str) -> list[str]:
    """Expands names, including `all` and `none`; without duplicates."""
    for name in names:
        if name not in (*known, "all", "none"):
            raise UsageError(f"unknown {what} {name!r}; choose from all, none, {', '.join(known)}")
    if "none" in names and len(set(names)) > 1:
        raise UsageError(f"--{what} none cannot be combined with another --{what}")
    return [] if "none" in names else list(known if "all" in names else dict.fromkeys(names))
