"""Backends that execute a network through one protocol, and the tiling that bounds their memory."""

from srgan_fast.runtime.protocol import AskedPrecision, Backend, Precision
from srgan_fast.runtime.registry import (
    BACKENDS,
    choose_backend,
    choose_precision,
    create_backend,
    usable_backends,
)

__all__ = [
    "BACKENDS",
    "AskedPrecision",
    "Backend",
    "Precision",
    "choose_backend",
    "choose_precision",
    "create_backend",
    "usable_backends",
]
