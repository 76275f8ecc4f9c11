"""Loads the libraries of torch operators, and says why one is not there."""

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


# Not at the first question, which torch.compile would trace.
_PROBLEM = _load(
    "_C",
    "fused kernels",
    "PyTorch; install PyTorch and build again: pip install --no-build-isolation --force-reinstall --no-deps srgan_fast",
)
_CUDA_PROBLEM = _PROBLEM or _load_cuda()


def refuse_several_devices(operator: str, first: torch.Tensor, *others: torch.Tensor | None) -> None:
    """What operators check where they compute, for their fake kernels.

    Torch asks a fake kernel whenever one of the tensors is fake or on the meta device: without this, real tensors
    beside it would give memory that nobody wrote.

    Raises:
        RuntimeError: tensors on several devices.
    """
    for tensor in others:
        if tensor is not None and tensor.device != first.device:
            raise RuntimeError(f"srgan_fast::{operator}: tensors on {first.device} and {tensor.device} together")


def available() -> bool:
    """Whether the fused operators can be used in this process."""
    return _PROBLEM is None


def why_not() -> str | None:
    """What is in the way of the fused operators, in a sentence; None for nothing."""
    return _PROBLEM


def why_not_on_cuda() -> str | None:
    """What is in the way of the fused operators on CUDA tensors, in a sentence; None for nothing.

    It says nothing about a GPU: see `ops.cuda`.
    """
    return _CUDA_PROBLEM


def cuda_library() -> Path:
    """File of the CUDA kernels.

    Raises:
        TrainingError: they were not built.
    """
    found = importlib.util.find_spec("srgan_fast._C_cuda")
    if found is None or found.origin is None:
        raise TrainingError("this installation has no fused CUDA kernels")
    return Path(found.origin)
