"""The two libraries that share one interface: TensorRT, and TensorRT-RTX, which builds without a GPU.

A process has one logger for each library, whatever is handed to later builders; so there is one here, and it keeps what
was said for those who have to explain a failure.
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
    """One of the libraries.

    Attributes:
        name: what the user types, and the extra of this package that brings it.
        module: that is imported.
        needs_gpu: whether building needs one: it times its kernels, where the other compiles them on the first run.
    """

    name: str
    module: str
    needs_gpu: bool


# In the order in which they are preferred where nobody asks for one: an engine for the very GPU first.
FLAVOURS: dict[str, Flavour] = {
    flavour.name: flavour
    for flavour in (
        Flavour("tensorrt", "tensorrt", needs_gpu=True),
        Flavour("tensorrt-rtx", "tensorrt_rtx", needs_gpu=False),
    )
}


@dataclass(frozen=True, slots=True)
class Library:
    """A flavour, imported.

    Attributes:
        flavour: which.
        api: its module; typed by the stubs of TensorRT where it is used.
        log: its logger, with the last `lines` that matter and the `count` of all there were.
    """

    flavour: Flavour
    api: Any
    log: Any

    @property
    def version(self) -> str:
        """As the library tells it."""
        return str(self.api.__version__)

    @property
    def mark(self) -> int:
        """Lines said so far, for `said_since`."""
        return int(self.log.count)

    def said_since(self, mark: int) -> str:
        """The first error logged after a mark, else the first warning, on one line."""
        lines = list(self.log.lines)[-(self.log.count - mark) :] if self.log.count > mark else []
        errors = [text for severe, text in lines if severe]
        text = (errors or [text for _, text in lines] or ["it gives no reason"])[0]
        return " ".join(text.split())


def installed_flavours() -> list[Flavour]:
    """Those that can be imported, preferred ones first."""
    return [flavour for flavour in FLAVOURS.values() if is_installed(flavour.module)]


def load_library(name: str = "auto") -> Library:
    """Imports a flavour.

    Args:
        name: of `FLAVOURS`, or `auto` for the first that is installed.

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
        raise BackendError(f"no TensorRT is called {name!r}; there are auto, {', '.join(FLAVOURS)}")
    flavour = FLAVOURS[name]
    if not is_installed(flavour.module):
        raise BackendError(f"{name} is not installed: pip install 'srgan_fast[{name}]'")
    return _load(name)


@functools.cache
def _load(name: str) -> Library:
    flavour = FLAVOURS[name]
    try:
        api = importlib.import_module(flavour.module)
    except (ImportError, OSError, RuntimeError) as error:  # libraries of CUDA that it cannot find
        raise BackendError(f"{name} is installed but cannot be imported ({error})") from None
    return Library(flavour, api, _logger(api))


def _logger(api: Any) -> Any:
    class Log(api.ILogger):  # type: ignore[misc]
        """Keeps warnings and errors."""

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
