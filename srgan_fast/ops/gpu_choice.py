"""What `auto` uses on a GPU, as `srgan-fast bench gpu` measured it; on disk beside the self-test's result.

The built-in choices come from one H200. A measurement of this GPU replaces them until the GPU, its driver, PyTorch,
cuDNN or the kernels change, which is what the self-test's result depends on, too. What was not measured is None, and
then the built-in choice holds.
"""

import json
import logging
import threading
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

import torch

from srgan_fast.errors import FileError
from srgan_fast.files import atomic_write
from srgan_fast.ops import self_test_cache
from srgan_fast.ops.self_test_cache import SelfTestKey

SCHEMA = "srgan_fast.gpu_choice/1"

_log = logging.getLogger("srgan_fast.ops")
Training = Literal["fused", "reference"]


@dataclass(frozen=True, slots=True)
class GpuChoice:
    """What is faster on a GPU; None: not measured.

    Attributes:
        training_16bit: kernels of recorded training steps with 16-bit maps; built-in: `fused`.
        training_fp32: the same with float32 maps, in TF32.
        unrecorded: kernels of training steps that are launched one by one; built-in: `reference`.
        gemm: GEMM implementation of fused kernels; `own` everywhere, or `faster`, chosen by size with the built-in
            thresholds (`ops.cuda.gemm`).
        upscaling: backend of upscaling in 16 bits; built-in: `cuda`.
    """

    training_16bit: Training | None = None
    training_fp32: Training | None = None
    unrecorded: Training | None = None
    gemm: Literal["faster", "own"] | None = None
    upscaling: Literal["cuda", "torch"] | None = None


BUILT_IN = GpuChoice()
_ALLOWED = {
    **dict.fromkeys(("training_16bit", "training_fp32", "unrecorded"), ("fused", "reference", None)),
    "gemm": ("faster", "own", None),
    "upscaling": ("cuda", "torch", None),
}
_read: dict[int, GpuChoice] = {}  # of this process, by device index
_lock = threading.Lock()


def choice_of(device: torch.device) -> GpuChoice:
    """The measured choice for a CUDA device, the current one if it has no index; `BUILT_IN` if there is none."""
    index = torch.cuda.current_device() if device.index is None else device.index
    found: GpuChoice = _choice_of(index)
    return found


# May be called while torch.compile traces, which must not trace reading files.
@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _choice_of(index: int) -> GpuChoice:
    with _lock:
        if index not in _read:
            key = _key(index)
            _read[index] = BUILT_IN if key is None else _load(key)
        return _read[index]


def store_choice(device: torch.device, choice: GpuChoice) -> Path | None:
    """Stores the choice for a CUDA device with an index; None if the driver does not identify the device.

    Raises:
        FileError: the cache cannot be written.
    """
    key = _key(device.index)
    if key is None:
        return None
    path = _path(key)
    with atomic_write(path) as file:
        file.write(
            (json.dumps({"schema": SCHEMA, "gpu": asdict(key), "choice": asdict(choice)}, indent=2) + "\n").encode()
        )
    with _lock:
        _read.pop(device.index, None)
    return path


def _key(index: int) -> SelfTestKey | None:
    """That of the self-test, whatever its cases."""
    return self_test_cache.describe(index, SCHEMA)


def _path(key: SelfTestKey) -> Path:
    return self_test_cache.path_of(key).with_suffix(".choice.json")


def _load(key: SelfTestKey) -> GpuChoice:
    """The stored choice; `BUILT_IN` if there is none, or the file is damaged or belongs to another GPU."""
    try:
        found = json.loads(_path(key).read_text(encoding="utf-8"))
        choice = found["choice"] if (found["schema"], found["gpu"]) == (SCHEMA, asdict(key)) else {}
        values = {field.name: choice.get(field.name) for field in fields(GpuChoice)}
        if all(value in _ALLOWED[name] for name, value in values.items()):
            return GpuChoice(**values)
    except FileNotFoundError:
        return BUILT_IN
    except (FileError, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        _log.debug("cannot read what was measured on %s: %s", key.device, error)
    return BUILT_IN
