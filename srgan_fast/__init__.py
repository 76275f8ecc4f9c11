"""SRGAN super-resolution that is fast enough to be used every day.

`Upscaler` and `load_generator` are the front doors; they are imported on first use.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from srgan_fast.models import load_generator
    from srgan_fast.runtime.upscaler import Upscaler

__version__ = "0.1.0"
__all__ = ["Upscaler", "__version__", "load_generator"]


def __getattr__(name: str) -> Any:
    homes = {"Upscaler": "srgan_fast.runtime.upscaler", "load_generator": "srgan_fast.models"}
    if name not in homes:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib  # noqa: PLC0415 (first use only)

    return getattr(importlib.import_module(homes[name]), name)
