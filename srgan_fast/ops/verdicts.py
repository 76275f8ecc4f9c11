"""Verdicts on GPUs that outlast the process: which were found right, and with what.

Only that a GPU is right is kept. Why one is wrong may lie in what cannot be told apart from here (a repaired
installation, memory that somebody else held), and examining it again costs a second, where a stale refusal would cost
every later run its kernels without a word.
"""

import ctypes
import hashlib
import json
import logging
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from srgan_fast.errors import FileError
from srgan_fast.files import atomic_write, cache_folder
from srgan_fast.ops.native import cuda_library

SCHEMA = "srgan_fast.gpu/2"

_NVML = "libnvidia-ml.so.1"  # comes with the driver
_log = logging.getLogger("srgan_fast.ops")


@dataclass(frozen=True, slots=True)
class Examined:
    """What a verdict depends on: with any other value a GPU is examined again.

    Attributes:
        device: name of the GPU.
        uuid: of that one GPU, whatever its index.
        capability: as in 9.0.
        multiprocessors: by their number kernels choose their tiles; slices of a divided GPU differ in it.
        driver: version.
        torch: version and build.
        library: SHA-256 of the kernels.
        checks: SHA-256 of what the GPU was asked.
        cudnn: version of cuDNN, which is a package of its own and computes wide convolutions.
        tf32_override: `NVIDIA_TF32_OVERRIDE`, which changes what NVIDIA's libraries compute; empty if it is not set.
    """

    device: str
    uuid: str
    capability: str
    multiprocessors: int
    driver: str
    torch: str
    library: str
    checks: str
    cudnn: str
    tf32_override: str


def describe(index: int, checks: str) -> Examined | None:
    """What a verdict on a CUDA device would depend on, or None where the driver does not say which it is.

    Args:
        index: of the device.
        checks: all that the examination asks and tolerates, as a text.
    """
    driver = driver_version()
    if driver is None:
        return None
    properties = torch.cuda.get_device_properties(index)
    return Examined(
        device=properties.name,
        uuid=str(properties.uuid),
        capability=f"{properties.major}.{properties.minor}",
        multiprocessors=properties.multi_processor_count,
        driver=driver,
        torch=torch.__version__,
        library=hashlib.sha256(cuda_library().read_bytes()).hexdigest(),
        checks=hashlib.sha256(checks.encode()).hexdigest(),
        cudnn=str(torch.backends.cudnn.version()),  # type: ignore[no-untyped-call]
        tf32_override=os.environ.get("NVIDIA_TF32_OVERRIDE", ""),
    )


def is_kept(examined: Examined) -> bool:
    """Whether that GPU was found right; no where the file is damaged or cannot be read."""
    try:
        return _place(examined).read_bytes() == _text(examined)
    except FileNotFoundError:
        return False
    except (FileError, OSError) as error:
        _log.debug("no verdict on %s can be read: %s", examined.device, error)
        return False


def keep(examined: Examined) -> None:
    """Remembers that a GPU is right; where nothing can be written it is examined again the next time."""
    try:
        with atomic_write(_place(examined)) as file:
            file.write(_text(examined))
    except FileError as error:
        _log.debug("the verdict on %s cannot be kept: %s", examined.device, error)


def forget(examined: Examined) -> None:
    """Takes back that a GPU is right."""
    try:
        _place(examined).unlink(missing_ok=True)
    except (FileError, OSError) as error:
        _log.debug("the verdict on %s cannot be taken back: %s", examined.device, error)


def _place(examined: Examined) -> Path:
    return cache_folder() / "gpus" / f"{hashlib.sha256(_text(examined)).hexdigest()[:16]}.json"


def _text(examined: Examined) -> bytes:
    """All of the file: it counts only if it is this to the byte."""
    return (json.dumps({"schema": SCHEMA, "right": asdict(examined)}, indent=2) + "\n").encode()


def driver_version() -> str | None:
    """Of NVIDIA's driver, as in 580.65.06; None where it cannot be asked."""
    try:
        nvml = ctypes.CDLL(_NVML)
        if nvml.nvmlInit_v2() != 0:
            return None
        version = ctypes.create_string_buffer(80)  # NVML_SYSTEM_DRIVER_VERSION_BUFFER_SIZE
        status = nvml.nvmlSystemGetDriverVersion(version, len(version))
        nvml.nvmlShutdown()
    except (OSError, AttributeError):  # no such library, or one that is not NVML
        return None
    return version.value.decode() if status == 0 else None
