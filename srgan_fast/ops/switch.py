"""The switch between fused kernels and plain PyTorch: `kernels = fused | reference | auto`."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn

from srgan_fast.errors import TrainingError
from srgan_fast.ops import cuda
from srgan_fast.ops.gpu_choice import choice_of
from srgan_fast.ops.native import available, why_not

Kernels = Literal["auto", "fused", "reference"]

_log = logging.getLogger("srgan_fast.ops")
_said: set[str] = set()
_NAMES = {"cpu": "a CPU", "cuda": "CUDA"}
_TYPES = {"cpu": (torch.float32, torch.float64, torch.bfloat16), "cuda": cuda.MAP_TYPES}


def say_once(text: str) -> None:
    """Logs a message the first time it is called with it."""
    if text not in _said and not torch.compiler.is_compiling():
        _said.add(text)
        _log.warning("%s", text)


class Switched(nn.Module):
    """A module that can compute with fused kernels.

    Attributes:
        kernels: `reference` is plain PyTorch; `fused` requires our kernels; `auto` uses them where they are available
            and faster: on CUDA as `ops.gpu_choice` has it, by default in `recorded_steps` only.
    """

    def __init__(self) -> None:
        super().__init__()
        self.kernels: Kernels = "reference"

    def _fuses(self, x: Tensor) -> bool:
        return choose_fused(self.kernels, x)


class _RecordedSteps:
    """Number of steps in all threads that are being captured in CUDA graphs.

    Not a ContextVar: checkpointing recomputes in autograd's own threads, which must make the same choice.
    """

    def __init__(self) -> None:
        self.steps = 0
        self._lock = threading.Lock()

    def add(self, steps: int) -> None:
        """Increments it when a step begins, decrements it when it ends."""
        with self._lock:
            self.steps += steps


_recorded = _RecordedSteps()


@contextmanager
def recorded_steps() -> Iterator[None]:
    """Inside, `auto` uses the fused kernels on CUDA: for steps that are captured in a CUDA graph, or warm up for it.

    Launched one by one they are slower than PyTorch's, since each launch costs more host time (docs/cuda.md): 90 ms a
    step instead of 40 on an H200; replayed from a graph it takes 7.
    """
    _recorded.add(1)
    try:
        yield
    finally:
        _recorded.add(-1)


def steps_are_recorded() -> bool:
    """Whether a step is being captured in a CUDA graph, or warms up for it."""
    return _recorded.steps > 0


def use_kernels(module: nn.Module, kernels: Kernels) -> None:
    """Sets the switch of a module and its submodules.

    Args:
        module: any; submodules without a fused form are unaffected.
        kernels: see `Switched`.

    Raises:
        TrainingError: `fused`, but this installation has no fused kernels.
    """
    if kernels == "fused" and not available():
        raise TrainingError(f"kernels='fused': {why_not()}")
    for part in module.modules():
        if isinstance(part, Switched):
            part.kernels = kernels


def choose_fused(kernels: Kernels, x: Tensor) -> bool:
    """Whether a module with that switch computes `x` with fused kernels; logs once why `auto` does not.

    Raises:
        TrainingError: `fused`, but it is not possible.
    """
    if kernels == "reference":
        return False
    if kernels == "auto" and x.device.type == "cuda" and (slower := _why_slower(x)):
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            say_once(f"{slower}; using plain PyTorch (kernels='fused' forces them)")
        return False
    problem = _problem_of(x)
    if problem is None:
        return True
    if kernels == "fused":
        raise TrainingError(f"kernels='fused': {problem}")
    if not torch.compiler.is_compiling():
        say_once(f"{problem}; using plain PyTorch")
    return False


def _why_slower(x: Tensor) -> str | None:
    """Why fused kernels are slower than PyTorch's on a CUDA device: as measured there, else as measured on an H200."""
    choice = choice_of(x.device)
    recorded = choice.training_fp32 if _map_type(x) == torch.float32 else choice.training_16bit
    if _recorded.steps and recorded == "reference":
        return "fused kernels were slower than PyTorch's on this GPU (srgan-fast bench gpu)"
    if _recorded.steps or choice.unrecorded == "fused":
        return None
    return "fused kernels are slower than PyTorch's unless steps are captured in a CUDA graph"


def _problem_of(x: Tensor) -> str | None:
    kind = x.device.type
    if kind not in _TYPES:
        return f"fused kernels run on a CPU or on CUDA, not on {kind}"
    problem = why_not() if kind == "cpu" else cuda.problem_of(x.device, float32=_map_type(x) == torch.float32)
    if problem is None and _map_type(x) not in _TYPES[kind]:
        *names, last, other = (str(dtype).removeprefix("torch.") for dtype in (*_TYPES[kind], _map_type(x)))
        return f"fused kernels take {', '.join(names)} or {last} on {_NAMES[kind]}, not {other}"
    return problem


def _map_type(x: Tensor) -> torch.dtype:
    """Dtype of maps under the current autocast settings."""
    kind = x.device.type
    if x.dtype == torch.float32 and torch.is_autocast_enabled(kind):
        return torch.get_autocast_dtype(kind)
    return x.dtype


def autocast_map(x: Tensor) -> Tensor:
    """Converts `x` to the dtype that autocast uses for maps, if it is on."""
    return x.to(_map_type(x))
