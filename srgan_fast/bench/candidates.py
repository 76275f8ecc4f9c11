"""The rows of the table: this package's backends, and the runtimes of others that they are held against."""

import importlib
import importlib.util
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

from srgan_fast.bench.options import PRECISIONS, BenchPrecision, Size
from srgan_fast.errors import BackendError, SrganFastError, UsageError
from srgan_fast.models import ModelFile
from srgan_fast.runtime import BACKENDS, Precision, create_backend
from srgan_fast.runtime.protocol import FloatImages
from srgan_fast.runtime.registry import choose_backend, missing_modules

if TYPE_CHECKING:
    from srgan_fast.bench.gpu.clock import TorchClock

# Backends whose `run` several threads may call at once: native and openvino lock, a session and a module are only read.
CALLED_BY_SEVERAL = frozenset({"native", "openvino", "onnxruntime", "torch"})
# Backends whose work on a GPU is queued on torch's current stream, so that torch's events stand around it.
ON_TORCH_STREAMS = frozenset({"torch", "cuda", "tensorrt", "tensorrt-rtx"})


@dataclass(frozen=True, slots=True)
class Job:
    """What a row is loaded with.

    Attributes:
        file: the model.
        size: of the picture.
        threads: to compute with.
        folder: where prepared files of this generator lie.
        calibration: pictures for int8.
        batch: pictures of a run.
    """

    file: ModelFile
    size: Size
    threads: int
    folder: Path
    calibration: Path | None
    batch: int = 1

    @property
    def shape_folder(self) -> Path:
        """Where files for this size and batch lie."""
        return self.folder / f"{self.batch}x{self.size}"


class Gpu(Protocol):
    """What a row on a GPU tells beside the host's clock, which its latency comes from as that of every row."""

    def last_run_s(self) -> float:
        """Seconds between CUDA events around the device's work in the last run."""
        ...

    def peak_mib(self) -> float:
        """The most device memory that the row held since it was loaded."""
        ...


@dataclass(frozen=True, slots=True)
class Loaded:
    """A generator in a runtime, with its input in place.

    Attributes:
        run: computes once; what is timed. It may return whatever its runtime likes best.
        array: makes N, 3, scale * H, scale * W float32 of that, in memory of its own; not timed.
        device: where it computes, in words, with the instruction set where the runtime tells.
        caller: makes one more caller of the same loaded generator, whose `run` may be called while others run: with
            state of its own, or behind a lock of the runtime's. None where the runtime must not be called so.
        gpu: the clock and the memory of the GPU that it computes on; None on a CPU.
    """

    run: Callable[[], Any]
    array: Callable[[Any], FloatImages]
    device: str = "CPU"
    caller: Callable[[], Callable[[], Any]] | None = None
    gpu: Gpu | None = None


class Peer(Protocol):
    """What a module in `peers` offers."""

    def prepare(self, job: Job, precision: BenchPrecision) -> None:
        """Writes the runtime's own model files; called in another process where it is slow or talkative."""
        ...

    def load(self, job: Job, row: str, lr: FloatImages) -> Loaded:
        """Loads what was prepared."""
        ...


class Bf16Peer(Peer, Protocol):
    """A peer that has a row in bf16."""

    def why_not_bf16(self) -> str | None:
        """Why that row is not worth measuring on this CPU: it has no instructions for it. None where it has."""
        ...


@dataclass(frozen=True, slots=True)
class Candidate:
    """A row.

    Attributes:
        name: what the user types and reads.
        kind: `backend` is ours, `peer` is somebody else's, called without anything of ours around it.
        runtime: library that computes, or name in the registry.
        precision: it computes in.
        modules: that must be importable, here or in the process that prepares it.
        packages: on PyPI that bring them.
        prepares_apart: whether preparing wants a process of its own, because it drags in what would disturb the others.
    """

    name: str
    kind: Literal["backend", "peer"]
    runtime: str
    precision: BenchPrecision
    modules: tuple[str, ...]
    packages: tuple[str, ...]
    prepares_apart: bool = False

    def missing(self) -> list[str]:
        """Modules that are not installed."""
        if self.kind == "backend":
            return missing_modules(BACKENDS[self.runtime])
        return [module for module in self.modules if importlib.util.find_spec(module) is None]

    def why_not_here(self) -> str | None:
        """Why it cannot compute on this machine though it is installed: no such processor, no GPU."""
        if self.kind == "peer":
            return self._why_no_bf16() if self.precision == "bf16" else None
        try:
            choose_backend(self.runtime, cast(Precision, self.precision))
        except BackendError as error:
            return str(error)
        return None

    def _why_no_bf16(self) -> str | None:
        try:
            return cast(Bf16Peer, _peer(self.runtime)).why_not_bf16()
        except ImportError:  # installed, but broken: loading it says so
            return None

    @property
    def remedy(self) -> str:
        """The line that installs it."""
        return f"pip install {' '.join(self.packages)}"

    def prepare(self, job: Job) -> None:
        """Writes what `load` needs; nothing for backends.

        Raises:
            Exception: whatever the runtime raises.
        """
        if self.kind == "peer":
            job.shape_folder.mkdir(parents=True, exist_ok=True)
            _peer(self.runtime).prepare(job, self.precision)

    def load(self, job: Job, lr: FloatImages) -> Loaded:
        """Loads the generator and puts the input where the runtime likes it.

        Args:
            job: what to load.
            lr: N, 3, H, W in 0..1.

        Raises:
            Exception: whatever the runtime raises.
        """
        if self.kind == "peer":
            return _peer(self.runtime).load(job, self.name, lr)
        clock = _clock(self.runtime)
        backend = create_backend(job.file, self.runtime, cast(Precision, self.precision), job.threads)

        def run() -> FloatImages:
            return backend.run(lr)

        return Loaded(
            run=run if clock is None else clock.around(run),
            array=lambda sr: cast(FloatImages, sr.copy()),
            device=backend.device,
            caller=(lambda: run) if self.runtime in CALLED_BY_SEVERAL else None,
            gpu=clock,
        )


def _clock(runtime: str) -> "TorchClock | None":
    """For backends that compute on torch's CUDA streams, where there is a device."""
    if runtime not in ON_TORCH_STREAMS:
        return None
    import torch  # noqa: PLC0415 (heavy, and these backends load it anyway)

    if not torch.cuda.is_available():
        return None
    from srgan_fast.bench.gpu.clock import TorchClock  # noqa: PLC0415

    return TorchClock()


def _peer(runtime: str) -> Peer:
    return cast(Peer, importlib.import_module(f"srgan_fast.bench.peers.{runtime}_peer"))


_ONNX = ("onnx",)

PEERS: dict[str, Candidate] = {
    row.name: row
    for row in (
        Candidate("torch-nchw-fp32", "peer", "torch", "fp32", ("torch",), ("torch",)),
        Candidate("torch-nhwc-fp32", "peer", "torch", "fp32", ("torch",), ("torch",)),
        Candidate("torch-nhwc-bf16", "peer", "torch", "bf16", ("torch",), ("torch",)),
        Candidate(
            "onnxruntime-fp32", "peer", "onnxruntime", "fp32", ("onnxruntime", *_ONNX), ("onnxruntime", "onnx")
        ),
        Candidate("openvino-fp32", "peer", "openvino", "fp32", ("openvino", *_ONNX), ("openvino", "onnx")),
        Candidate("openvino-bf16", "peer", "openvino", "bf16", ("openvino", *_ONNX), ("openvino", "onnx")),
        Candidate(
            "openvino-int8",
            "peer",
            "openvino",
            "int8",
            ("openvino", "nncf", *_ONNX),
            ("openvino", "nncf", "onnx"),
            prepares_apart=True,
        ),
        Candidate("mnn-fp32", "peer", "mnn", "fp32", ("MNN", *_ONNX), ("MNN", "onnx")),
        Candidate(
            "ncnn-fp32", "peer", "ncnn", "fp32", ("ncnn", "pnnx", "torch"), ("ncnn", "pnnx", "torch"), True
        ),
    )
}  # fmt: skip
RUNTIMES = tuple(dict.fromkeys(row.runtime for row in PEERS.values()))


def find_candidate(name: str) -> Candidate:
    """The row of that name.

    Raises:
        UsageError: there is none.
    """
    rows = {row.name: row for row in (*_backend_rows(BACKENDS), *PEERS.values())}
    if name not in rows:
        raise UsageError(f"no row is called {name!r}; there are {', '.join(rows)}")
    return rows[name]


def _backend_rows(names: Iterable[str]) -> list[Candidate]:
    """Rows of our own; a backend that wraps a peer's runtime carries `our-` before its name."""
    rows = []
    for name in names:
        entry = BACKENDS[name]
        label = f"our-{name}" if name in RUNTIMES else name
        packages = (f"'srgan_fast[{entry.extra}]'",) if entry.extra else ("srgan_fast",)
        rows += [Candidate(f"{label}-{p}", "backend", name, p, entry.modules, packages) for p in entry.precisions]
    return rows


def select_candidates(
    backends: tuple[str, ...], peers: tuple[str, ...], precisions: tuple[BenchPrecision, ...]
) -> list[Candidate]:
    """The rows that were asked for, ours first; see `InferenceOptions` for the words that stand for several.

    Raises:
        UsageError: a name that stands for nothing, or nothing left to measure.
    """
    ours = [row for name in _named(backends, tuple(BACKENDS), "backend") for row in _backend_rows([name])]
    if not backends:
        named = (name for name in BACKENDS if name not in RUNTIMES)
        ours = _backend_rows(name for name in named if name == "native" or _computes_here(name))
    wanted = _named(peers or ("all",), (*PEERS, *RUNTIMES), "peer")
    theirs = [row for row in PEERS.values() if row.name in wanted or row.runtime in wanted]
    rows = [row for row in (*ours, *theirs) if row.precision in (precisions or PRECISIONS)]
    if not rows:
        raise UsageError("nothing is left to measure; give other --backend, --peer or --precision")
    return rows


def _computes_here(name: str) -> bool:
    """Whether a backend is installed and can compute on this machine, in one precision at least."""
    return not missing_modules(BACKENDS[name]) and any(row.why_not_here() is None for row in _backend_rows([name]))


def _named(names: tuple[str, ...], known: tuple[str, ...], what: str) -> list[str]:
    """What the names stand for, `all` and `none` among them, each once."""
    for name in names:
        if name not in (*known, "all", "none"):
            raise UsageError(f"no {what} is called {name!r}; there are all, none, {', '.join(known)}")
    if "none" in names and len(set(names)) > 1:
        raise UsageError(f"--{what} none goes with no other --{what}")
    if "none" in names:
        return []
    return list(known if "all" in names else dict.fromkeys(names))


def why_not(error: BaseException) -> str:
    """An error as one line."""
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    if isinstance(error, SrganFastError) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
