"""SRGAN super-resolution that is fast enough for everyday use.

`Upscaler` and `load_generator` are the main entry points; they are imported on first use.
"""

from typing import TYPE_CHECKING

from srgan_fast.lazy import on_first_use

if TYPE_CHECKING:
    from srgan_fast.models import load_generator
    from srgan_fast.runtime.upscaler import Upscaler

__version__ = "0.1.0"
__all__ = ["Upscaler", "__version__", "load_generator"]


__getattr__ = on_first_use(__name__, {"Upscaler": "srgan_fast.runtime.upscaler", "load_generator": "srgan_fast.models"})
