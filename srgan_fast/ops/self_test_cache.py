"""On-disk cache of GPU self-test results.

Only passes are cached. The cause of a failure may be outside of what can be observed here (a repaired installation,
memory used by another process), and repeating the self-test takes a second, while a stale failure would silently
disable the kernels in every later run.
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

_NVML = "libnvidia-ml.so.1"  # part of the driver
_log = logging.getLogger("srgan_fast.ops")


@dataclass(frozen=True, slots=True)
class SelfTestKey:
    """What a cached pass depends on: if any of it changes, the self-test runs again.

    Attributes:
        device: name of the GPU.
        uuid: of this GPU, independent of its index.
        capability: as in 9.0.
        multiprocessors: number of SMs, from which kernels choose their tiles; MIG slices differ in it.
        driver: driver version.
        torch: PyTorch version and build.
        library: SHA-256 of the CUDA library.
        checks: SHA-256 of the self-test's cases.
        cudnn: cuDNN version; a separate package, which computes wide convolutions.
        tf32_override: `NVIDIA_TF32_OVERRIDE`, which changes what NVIDIA's libraries compute; empty if unset.
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


def describe(index: int, checks: str) -> SelfTestKey | None:
    """The cache key of a CUDA device; None if the driver does not identify it.

    Args:
        index: of the device.
        checks: all cases and tolerances of the self-test, as text.
    """
    driver = driver_version()
    if driver is None:
        return None
    properties = torch.cuda.get_device_properties(index)
    return SelfTestKey(
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


def is_cached(key: SelfTestKey) -> bool:
    """Whether this GPU has passed; False if the file is damaged or cannot be read."""
    try:
        return path_of(key).read_bytes() == _text(key)
    except FileNotFoundError:
        return False
    except (FileError, OSError) as error:
        _log.debug("cannot read the cached self-test result of %s: %s", key.device, error)
        return False


def store(key: SelfTestKey) -> None:
    """Caches a pass; if the file cannot be written, the self-test runs again next time."""
    try:
        with atomic_write(path_of(key)) as file:
            file.write(_text(key))
    except FileError as error:
        _log.debug("cannot cache the self-test result of %s: %s", key.device, error)


def remove(key: SelfTestKey) -> None:
    """Removes a cached pass."""
    try:
        path_of(key).unlink(missing_ok=True)
    except (FileError, OSError) as error:
        _log.debug("cannot remove the cached self-test result of %s: %s", key.device, error)


def path_of(key: SelfTestKey) -> Path:
    """File of a GPU in the cache."""
    return cache_folder() / "gpus" / f"{hashlib.sha256(_text(key)).hexdigest()[:16]}.json"


def _text(key: SelfTestKey) -> bytes:
    """The file's exact contents: any other contents are not a pass."""
    return (json.dumps({"schema": SCHEMA, "right": asdict(key)}, indent=2) + "\n").encode()


def driver_version() -> str | None:
    """Version of NVIDIA's driver, such as 580.65.06; None if it cannot be queried."""
    try:
        nvml = ctypes.CDLL(_NVML)
        if nvml.nvmlInit_v2() != 0:
            return None
        version = ctypes.create_string_buffer(80)  # NVML_SYSTEM_DRIVER_VERSION_BUFFER_SIZE
        status = nvml.nvmlSystemGetDriverVersion(version, len(version))
        nvml.nvmlShutdown()
    except (OSError, AttributeError):  # missing library, or not NVML
        return None
    return version.value.decode() if status == 0 else None
