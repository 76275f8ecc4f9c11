"""Which runtimes there are, which of them are installed, and which one `auto` means."""

import importlib
import importlib.util
import os
from typing import Any, cast

from srgan_fast.errors import BackendError, SrganFastError
from srgan_fast.models import GeneratorFile
from srgan_fast.runtime.protocol import Backend, BackendEntry, BackendFactory, Precision

# In the order in which `auto` prefers them on a CPU: see docs/performance.md for the measurement.
BACKENDS: dict[str, BackendEntry] = {
    entry.name: entry
    for entry in (
        BackendEntry(
            "native",
            ("srgan_fast._engine",),
            "",
            ("fp32", "bf16"),
            "native_backend:NativeBackend",
            "native_backend:computes",
        ),
        BackendEntry(
            "openvino", ("openvino", "onnx"), "openvino", ("fp32", "bf16"), "openvino_backend:OpenVINOBackend"
        ),
        BackendEntry(
            "onnxruntime", ("onnxruntime", "onnx"), "onnx", ("fp32",), "onnxruntime_backend:OnnxRuntimeBackend"
        ),
        BackendEntry("torch", ("torch",), "train", ("fp32", "bf16"), "torch_backend:TorchBackend"),
    )
}


def missing_modules(entry: BackendEntry) -> list[str]:
    """The modules of a backend that are not installed."""
    return [module for module in entry.modules if importlib.util.find_spec(module) is None]


def choose_backend(name: str = "auto", precision: Precision = "fp32") -> tuple[str, str]:
    """The backend that a name stands for, and why, in words.

    Args:
        name: one of `BACKENDS`, or `auto`: a CUDA device is used through torch, else the first installed one that
            computes in that precision.
        precision: that is asked for.

    Raises:
        BackendError: unknown, not installed, or not able to compute in that precision.
    """
    if name != "auto":
        if name not in BACKENDS:
            raise BackendError(f"no backend is called {name!r}; there are auto, {', '.join(BACKENDS)}")
        entry = BACKENDS[name]
        if missing := missing_modules(entry):
            raise BackendError(f"backend {name} needs {' and '.join(missing)}: {_install(entry)}")
        if precision not in entry.precisions:
            able = [e.name for e in BACKENDS.values() if precision in e.precisions]
            raise BackendError(f"backend {name} does not compute in {precision}; {', '.join(able) or 'none'} can")
        if not _computes(entry, precision):
            raise BackendError(
                f"backend {name} cannot compute in {precision} on this processor; leave --backend to auto"
            )
        return name, "asked for"
    if not missing_modules(BACKENDS["torch"]) and precision in BACKENDS["torch"].precisions and _cuda_device():
        return "torch", "a CUDA device is present"
    for entry in BACKENDS.values():
        if precision in entry.precisions and not missing_modules(entry) and _computes(entry, precision):
            return entry.name, f"the first installed of {', '.join(BACKENDS)} that computes in {precision}"
    extras = " or ".join(f"'srgan_fast[{e.extra}]'" for e in BACKENDS.values() if precision in e.precisions and e.extra)
    unable = [e.name for e in BACKENDS.values() if precision in e.precisions and not missing_modules(e)]
    if unable:
        raise BackendError(
            f"{' and '.join(unable)} cannot compute in {precision} on this processor, and no other runtime for it is "
            f"installed: take another precision, or pip install {extras}"
        )
    raise BackendError(f"no runtime for {precision} is installed: pip install {extras}")


def _install(entry: BackendEntry) -> str:
    return (
        f"pip install 'srgan_fast[{entry.extra}]'"
        if entry.extra
        else "reinstall srgan_fast, its native part is missing"
    )


def _attribute(path: str) -> Any:
    module, name = path.split(":")
    return getattr(importlib.import_module(f"srgan_fast.runtime.{module}"), name)


def _computes(entry: BackendEntry, precision: Precision) -> bool:
    if not entry.computes:
        return True
    try:
        return bool(_attribute(entry.computes)(precision))
    except ValueError as error:  # SRGAN_FAST_ISA names what this processor cannot run
        raise BackendError(str(error)) from None


def _cuda_device() -> bool:
    # Importing torch takes seconds; without the driver's device node there is nothing to ask it about.
    if os.name == "posix" and not any(os.path.exists(node) for node in ("/dev/nvidia0", "/dev/nvidiactl", "/dev/dxg")):  # noqa: PTH110
        return False
    return bool(importlib.import_module("torch").cuda.is_available())


def create_backend(
    file: GeneratorFile, name: str = "auto", precision: Precision = "fp32", threads: int | None = None
) -> Backend:
    """Loads a generator into a runtime.

    Args:
        file: of the generator.
        name: see `choose_backend`.
        precision: to compute in; weights are converted when loaded.
        threads: CPU threads; all that this process may use if None.

    Raises:
        BackendError: see `choose_backend`; or the runtime refuses the model.
        ModelError: weights that no runtime could compute with.
    """
    if threads is not None and threads < 1:
        raise BackendError(f"threads is {threads}; it must be at least 1")
    chosen, _ = choose_backend(name, precision)
    try:
        factory = cast(BackendFactory, _attribute(BACKENDS[chosen].load))
        return factory(file, precision, threads or usable_cpus())
    except ImportError as error:
        raise BackendError(
            f"backend {chosen} is installed but cannot be imported ({error}); {_install(BACKENDS[chosen])}"
        ) from error
    except SrganFastError:
        raise
    except Exception as error:  # every runtime has exceptions of its own
        raise BackendError(f"backend {chosen} cannot load {file.name} ({first_line(error)})") from error


def first_line(error: Exception) -> str:
    """What a runtime's exception says, without the traces that some put below it."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def usable_cpus() -> int:
    """CPUs that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
