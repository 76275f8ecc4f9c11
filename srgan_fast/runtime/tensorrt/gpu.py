"""The GPU that engines are built for and run on, as PyTorch reports it."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def why_no_gpu() -> str | None:
    """Why no engine can run here, as the end of a sentence; None if one can."""
    import torch  # noqa: PLC0415 (heavy extra)

    return None if torch.cuda.is_available() else "needs an NVIDIA GPU that torch can use"


def compute_capability(device: "torch.device | None" = None) -> str:
    """Compute capability of a CUDA device, such as 8.6; of the current one if None."""
    import torch  # noqa: PLC0415

    major, minor = torch.cuda.get_device_capability(device)
    return f"{major}.{minor}"


def describe_gpu(device: "torch.device | None" = None) -> str:
    """Description of a CUDA device as stored with engines; the current one if None."""
    import torch  # noqa: PLC0415

    return f"{torch.cuda.get_device_name(device)}, compute capability {compute_capability(device)}"
