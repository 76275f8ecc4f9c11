"""The CUDA operators of training on a CPU: real launches of the real kernels, run by `csrc/kernels/cuda/simt`.

`emulate()` must be called before anything imports `srgan_fast.ops`. From then on the fused operators of CPU tensors
are those of CUDA, so a process that has called it computes nothing else; tests run scripts that call it. `launches()`
counts what a GPU would have launched.
"""

import importlib
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

_USERS = ("conv", "modules", "packing", "pending", "pool", "prologue")
# What PyTorch computes on the host alone.
_FREE = frozenset(
    (
        "alias",
        "as_strided",
        "chunk",
        "contiguous",
        "detach",
        "empty",
        "empty_like",
        "empty_strided",
        "expand",
        "is_pinned",
        "narrow",
        "new_empty",
        "new_empty_strided",
        "permute",
        "record_stream",
        "reshape",
        "select",
        "set_",
        "slice",
        "split",
        "split_with_sizes",
        "squeeze",
        "t",
        "transpose",
        "unbind",
        "unflatten",
        "unsqueeze",
        "unsafe_split",
        "view",
        "view_as",
        "_reshape_alias",
        "_unsafe_view",
        "profiler",
        "_record_function_enter_new",
        "_record_function_exit",
        "_has_same_storage_numel",
        "is_same_size",
    )
)
_COUNTED = ("aten::convolution", "aten::convolution_backward", "aten::copy_")


def emulate(folder: Path) -> None:
    """Replaces the CUDA library by the emulated one of the CMake target `emulated_gpu`, in that folder."""
    assert "srgan_fast.ops" not in sys.modules
    package: Any = importlib.import_module("srgan_fast")
    package.__path__.insert(0, str(folder))
    cuda, torch.version.cuda = torch.version.cuda, "emulated"
    native: Any = importlib.import_module("srgan_fast.ops.native")
    torch.version.cuda = cuda
    assert native.why_not_on_cuda() is None, native.why_not_on_cuda()
    for name in _USERS:
        user: Any = importlib.import_module(f"srgan_fast.ops.{name}")
        user.on_cuda = lambda tensor: True


class _Calls(TorchDispatchMode):
    """Counts the operators that a GPU would compute."""

    def __init__(self, found: Counter[str]) -> None:
        super().__init__()
        self._found = found

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name
        space, short = name.split("::")
        result = func(*args, **(kwargs or {}))
        if space == "aten" and short not in _FREE:
            self._found[name] += 1
        return result


@contextmanager
def launches(computes: bool = True) -> Iterator[Counter[str]]:
    """Counts launches inside: of our kernels by their arguments' type, of PyTorch's by operator.

    Operators of PyTorch that take several kernels on a GPU count as one.

    Args:
        computes: whether our kernels compute; if not, their results are garbage.
    """
    found: Counter[str] = Counter()
    ops: Any = torch.ops.srgan_fast
    ops.emulated_computes(computes)
    ops.emulated_launches()
    with _Calls(found):
        yield found
    for line in ops.emulated_launches().splitlines():
        name, count = line.rsplit(" ", 1)
        if not name.startswith("aten") or name in _COUNTED:
            found[name] += int(count)
    ops.emulated_computes(True)
