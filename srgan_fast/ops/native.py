"""Loads the operator libraries, and explains why one is not available."""

import importlib
import importlib.util
from pathlib import Path

import torch

from srgan_fast.errors import TrainingError


def _load(library: str, kind: str, remedy: str) -> str | None:
    try:
        importlib.import_module(f"srgan_fast.{library}")
    except ModuleNotFoundError:
        return f"this installation has no {kind}, since it was built without {remedy}"
    except (ImportError, OSError) as error:
        return f"the {kind} cannot be loaded: {error}"
    return None


def has_cuda() -> bool:
    """Whether PyTorch was built with CUDA."""
    return torch.version.cuda is not None


def _load_cuda() -> str | None:
    if not has_cuda():
        return "this PyTorch was built without CUDA"
    return _load(
        "_C_cuda",
        "fused CUDA kernels",
        "nvcc; install the CUDA toolkit and build again: "
        "pip install --no-build-isolation --force-reinstall --no-deps srgan_fast",
    )


# At import: torch.compile would trace a lazy load.
_PROBLEM = _load(
    "_C",
    "fused kernels",
    "PyTorch; install PyTorch and build again: pip install --no-build-isolation --force-reinstall --no-deps srgan_fast",
)
_CUDA_PROBLEM = _PROBLEM or _load_cuda()


def on_cuda(tensor: torch.Tensor) -> bool:
    """Whether the CUDA operators compute a tensor; tests without a GPU replace it (`tests/emulated_gpu.py`)."""
    return tensor.is_cuda


def refuse_several_devices(operator: str, first: torch.Tensor, *others: object) -> None:
    """The device check of the real kernels, for fake kernels; `others` are the call's other arguments of any kind.

    PyTorch calls the fake kernel if any tensor is fake or on the meta device. Without this check, mixing them with real
    tensors would return uninitialised memory.

    Raises:
        RuntimeError: tensors are on several devices.
    """
    for tensor in others:
        if isinstance(tensor, torch.Tensor) and tensor.device != first.device:
            raise RuntimeError(f"srgan_fast::{operator}: tensors on {first.device} and {tensor.device} together")


def available() -> bool:
    """Whether the fused operators can be used in this process."""
    return _PROBLEM is None


def why_not() -> str | None:
    """Why the fused operators cannot be used, in a sentence; None if they can."""
    return _PROBLEM


def why_not_on_cuda() -> str | None:
    """Why the fused operators cannot be used on CUDA tensors, in a sentence; None if they can.

    It does not consider the GPU itself: see `ops.cuda`.
    """
    return _CUDA_PROBLEM


def cuda_library() -> Path:
    """Path of the CUDA library.

    Raises:
        TrainingError: it was not built.
    """
    found = importlib.util.find_spec("srgan_fast._C_cuda")
    if found is None or found.origin is None:
        raise TrainingError("this installation has no fused CUDA kernels")
    return Path(found.origin)
