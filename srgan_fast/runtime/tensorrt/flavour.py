"""TensorRT and TensorRT-RTX, two libraries with the same interface; the latter can build without a GPU.

A process has only one logger per library, even if later builders are given another one. So there is one here, and it
stores messages, from which error messages are made.
"""

import functools
import importlib
from collections import deque
from dataclasses import dataclass
from typing import Any

from srgan_fast.errors import BackendError
from srgan_fast.runtime.installed import is_installed

_LINES_KEPT = 200


@dataclass(frozen=True, slots=True)
class Flavour:
    """TensorRT or TensorRT-RTX.

    Attributes:
        name: name on the command line and of this package's extra.
        module: Python module.
        needs_gpu: whether building needs a GPU: TensorRT times its kernels, TensorRT-RTX compiles them on the first
            run.
    """

    name: str
    module: str
    needs_gpu: bool


# In order of preference for `auto`: engines built for exactly this GPU first.
FLAVOURS: dict[str, Flavour] = {
    flavour.name: flavour
    for flavour in (
        Flavour("tensorrt", "tensorrt", needs_gpu=True),
        Flavour("tensorrt-rtx", "tensorrt_rtx", needs_gpu=False),
    )
}


@dataclass(frozen=True, slots=True)
class Library:
    """An imported flavour.

    Attributes:
        flavour: the flavour.
        api: its module; typed with TensorRT's stubs where it is used.
        log: its logger; `lines` holds the last relevant messages, `count` the number of all so far.
    """

    flavour: Flavour
    api: Any
    log: Any

    @property
    def version(self) -> str:
        """Version that the library reports."""
        return str(self.api.__version__)

    @property
    def mark(self) -> int:
        """Number of messages so far, for `said_since`."""
        return int(self.log.count)

    def said_since(self, mark: int) -> str:
        """The first error logged after a mark, else the first warning, on one line."""
        lines = list(self.log.lines)[-(self.log.count - mark) :] if self.log.count > mark else []
        errors = [text for severe, text in lines if severe]
        text = (errors or [text for _, text in lines] or ["no reason given"])[0]
        return " ".join(text.split())


def installed_flavours() -> list[Flavour]:
    """Flavours that can be imported, in order of preference."""
    return [flavour for flavour in FLAVOURS.values() if is_installed(flavour.module)]


def load_library(name: str = "auto") -> Library:
    """Imports a flavour.

    Args:
        name: one of `FLAVOURS`, or `auto` for the first installed.

    Raises:
        BackendError: unknown, not installed, or not importable.
    """
    if name == "auto":
        found = installed_flavours()
        if not found:
            extras = " or ".join(f"'srgan_fast[{flavour}]'" for flavour in FLAVOURS)
            raise BackendError(f"neither TensorRT nor TensorRT-RTX is installed: pip install {extras}")
        name = found[0].name
    if name not in FLAVOURS:
        raise BackendError(f"unknown library {name!r}; choose from auto, {', '.join(FLAVOURS)}")
    flavour = FLAVOURS[name]
    if not is_installed(flavour.module):
        raise BackendError(f"{name} is not installed: pip install 'srgan_fast[{name}]'")
    return _load(name)


@functools.cache
def _load(name: str) -> Library:
    flavour = FLAVOURS[name]
    try:
        api = importlib.import_module(flavour.module)
    except (ImportError, OSError, RuntimeError) as error:  # missing CUDA libraries
        raise BackendError(f"{name} is installed but cannot be imported ({error})") from None
    return Library(flavour, api, _logger(api))


def _logger(api: Any) -> Any:
    class Log(api.ILogger):  # type: ignore[misc]
        """Stores warnings and errors."""

        def __init__(self) -> None:
            api.ILogger.__init__(self)
            self.lines: deque[tuple[bool, str]] = deque(maxlen=_LINES_KEPT)
            self.count = 0

        def log(self, severity: Any, text: str) -> None:
            """Called by the library, from any thread."""
            if severity <= api.ILogger.WARNING:
                self.lines.append((severity <= api.ILogger.ERROR, text))
                self.count += 1

    return Log()
