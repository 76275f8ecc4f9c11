"""The backends, which of them are installed, and which one `auto` selects."""

import functools
import importlib
import operator
import os
from typing import Any, cast

from srgan_fast.errors import BackendError, SrganFastError
from srgan_fast.models import ModelFile
from srgan_fast.runtime.installed import is_installed
from srgan_fast.runtime.protocol import Backend, BackendEntry, BackendFactory, OnBuild, Precision, RequestedPrecision

# In order of preference for `auto` on a CPU; docs/performance.md has the measurements.
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
            "openvino",
            ("openvino", "onnx"),
            "openvino",
            ("fp32", "bf16"),
            "openvino_backend:OpenVINOBackend",
            "openvino_backend:computes",
        ),
        BackendEntry(
            "onnxruntime", ("onnxruntime", "onnx"), "onnx", ("fp32",), "onnxruntime_backend:OnnxRuntimeBackend"
        ),
        BackendEntry(
            "torch",
            ("torch",),
            "train",
            ("fp32", "bf16", "fp16"),
            "torch_backend:TorchBackend",
            "torch_backend:computes",
        ),
        BackendEntry(
            "cuda",
            ("torch",),
            "train",
            ("fp16", "bf16"),
            "cuda_backend:CudaBackend",
            why_not="cuda_backend:why_not",
            chosen_by_auto=False,  # only with a CUDA device: see choose_backend
        ),
        *(
            BackendEntry(
                f"onnxruntime-{provider}",
                ("onnxruntime", "onnx"),
                "onnx",
                ("fp32",),
                f"onnxruntime_backend:{factory}",
                why_not=f"onnxruntime_backend:{factory}.why_not",
                chosen_by_auto=False,
            )
            for provider, factory in (
                ("cuda", "OnnxRuntimeCudaBackend"),
                ("tensorrt", "TensorRTProviderBackend"),
                ("openvino", "OpenVINOProviderBackend"),
            )
        ),
        *(
            BackendEntry(
                name,
                (module, "torch", "onnx"),
                name,
                ("fp32", "fp16"),
                f"tensorrt.backend:{factory}",
                why_not="tensorrt.gpu:why_no_gpu",
                chosen_by_auto=False,
                builds=True,
            )
            for name, module, factory in (
                ("tensorrt", "tensorrt", "TensorRTBackend"),
                ("tensorrt-rtx", "tensorrt_rtx", "TensorRTRtxBackend"),
            )
        ),
    )
}


def missing_modules(entry: BackendEntry) -> list[str]:
    """Modules that a backend needs and that are not installed."""
    return [module for module in entry.modules if not is_installed(module)]


def choose_backend(name: str = "auto", precision: Precision = "fp32") -> tuple[str, str]:
    """Selects a backend; also returns the reason, in words.

    Args:
        name: one of `BACKENDS`, or `auto`: with a CUDA device our kernels, or torch for precisions that they do not
            support and where it was measured as faster; otherwise the first installed backend that supports the
            precision.
        precision: requested precision.

    Raises:
        BackendError: unknown, not installed, or the precision is not supported.
    """
    if name != "auto":
        if name not in BACKENDS:
            raise BackendError(f"unknown backend {name!r}; choose from auto, {', '.join(BACKENDS)}")
        entry = BACKENDS[name]
        if missing := missing_modules(entry):
            raise BackendError(f"backend {name} needs {' and '.join(missing)}: {_install(entry)}")
        if precision not in entry.precisions:
            others = [e.name for e in BACKENDS.values() if precision in e.precisions]
            raise BackendError(f"backend {name} does not compute in {precision}; {', '.join(others) or 'none'} can")
        if reason := _why_not(entry):
            raise BackendError(f"backend {name} {reason}")
        if not _computes(entry, precision):
            raise BackendError(
                f"backend {name} cannot compute in {precision} on this processor; take another precision, "
                "or leave --backend to auto"
            )
        return name, "asked for"
    if not missing_modules(BACKENDS["torch"]) and _cuda_device():
        return _on_cuda(precision)
    entries = [entry for entry in BACKENDS.values() if entry.chosen_by_auto]
    able = [entry for entry in entries if precision in entry.precisions]
    for entry in able:
        if not missing_modules(entry) and _computes(entry, precision):
            names = ", ".join(entry.name for entry in entries)
            return entry.name, f"the first installed of {names} that computes in {precision}"
    absent = [entry for entry in able if entry.extra and missing_modules(entry)]
    extras = " or ".join(f"'srgan_fast[{entry.extra}]'" for entry in absent)
    unable = [entry.name for entry in able if not missing_modules(entry)]
    if unable and not absent:
        raise BackendError(
            f"{' and '.join(unable)} cannot compute in {precision} on this machine: take another precision"
        )
    if unable:
        raise BackendError(
            f"{' and '.join(unable)} cannot compute in {precision} on this processor, and no other runtime for it is "
            f"installed: take another precision, or pip install {extras}"
        )
    raise BackendError(f"no runtime for {precision} is installed: pip install {extras}")


def _on_cuda(precision: Precision) -> tuple[str, str]:
    """The selection of `auto` with a CUDA device, and the reason."""
    if precision not in BACKENDS["cuda"].precisions:
        return "torch", "a CUDA device is present"
    reason = _why_not(BACKENDS["cuda"])
    if reason is None and _attribute("cuda_backend:measured_slower")():
        return "torch", "a CUDA device is present, where PyTorch was faster (srgan-fast bench gpu)"
    if reason is None:
        return "cuda", "a CUDA device is present, and our kernels compute right on it"
    return "torch", f"a CUDA device is present, and backend cuda {reason}"


def choose_precision(precision: RequestedPrecision, name: str = "auto") -> Precision:
    """Resolves precision `auto`: fp16 with our CUDA kernels, fp32 otherwise.

    The difference is not visible in 8-bit images: docs/cuda.md.

    Args:
        precision: requested precision.
        name: requested backend.
    """
    if precision != "auto":
        return precision
    if name == "cuda":
        return "fp16"
    if name != "auto" or missing_modules(BACKENDS["cuda"]) or not _cuda_device():
        return "fp32"
    return "fp32" if _why_not(BACKENDS["cuda"]) else "fp16"


def usable_backends(precision: Precision = "fp32") -> list[str]:
    """Names of the installed backends that support the precision on this machine."""
    usable = []
    for name in BACKENDS:
        try:
            choose_backend(name, precision)
        except BackendError:
            continue
        usable.append(name)
    return usable


def _install(entry: BackendEntry) -> str:
    return (
        f"pip install 'srgan_fast[{entry.extra}]'"
        if entry.extra
        else "reinstall srgan_fast, its native part is missing"
    )


def _attribute(path: str) -> Any:
    module, names = path.split(":")
    return operator.attrgetter(names)(importlib.import_module(f"srgan_fast.runtime.{module}"))


def _computes(entry: BackendEntry, precision: Precision) -> bool:
    if not entry.computes:
        return True
    try:
        return bool(_attribute(entry.computes)(precision))
    except ImportError:  # installed, but broken: reported when it is loaded
        return True
    except ValueError as error:  # SRGAN_FAST_ISA requests an unsupported instruction set
        raise BackendError(str(error)) from None


def _why_not(entry: BackendEntry) -> str | None:
    if not entry.why_not:
        return None
    try:
        reason: str | None = _attribute(entry.why_not)()
    except ImportError as error:
        return f"is installed but cannot be imported ({error}); {_install(entry)}"
    return reason


def has_nvidia_driver() -> bool:
    """Whether the system may have an NVIDIA driver; False, without importing torch, if there is no device node."""
    nodes = ("/dev/nvidia0", "/dev/nvidiactl", "/dev/dxg")
    return os.name != "posix" or any(os.path.exists(node) for node in nodes)  # noqa: PTH110


def _cuda_device() -> bool:
    # Importing torch takes seconds.
    return has_nvidia_driver() and bool(importlib.import_module("torch").cuda.is_available())


def create_backend(
    file: ModelFile,
    name: str = "auto",
    precision: Precision = "fp32",
    threads: int | None = None,
    on_build: OnBuild | None = None,
) -> Backend:
    """Loads a model into a backend.

    Args:
        file: the model.
        name: see `choose_backend`.
        precision: compute precision; weights are converted when loaded.
        threads: number of CPU threads; all that the process may use if None.
        on_build: called with the progress of backends that compile an engine first, which takes minutes.

    Raises:
        BackendError: see `choose_backend`; or the backend rejects the model.
        ModelError: invalid weights.
    """
    if threads is not None and threads < 1:
        raise BackendError(f"threads is {threads}; it must be at least 1")
    chosen, _ = choose_backend(name, precision)
    try:
        factory = cast(BackendFactory, _attribute(BACKENDS[chosen].load))
        if on_build is not None and BACKENDS[chosen].builds:
            factory = functools.partial(factory, on_build=on_build)  # type: ignore[call-arg]
        return factory(file, precision, threads or usable_cpus())
    except ImportError as error:
        raise BackendError(
            f"backend {chosen} is installed but cannot be imported ({error}); {_install(BACKENDS[chosen])}"
        ) from error
    except SrganFastError:
        raise
    except Exception as error:  # every runtime raises its own exceptions
        raise BackendError(f"backend {chosen} cannot load {file.name} ({first_line(error)})") from error


def first_line(error: Exception) -> str:
    """First line of a runtime's exception, without the stack trace that some append."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def usable_cpus() -> int:
    """Number of CPUs that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
