"""Backends that execute a network through one protocol, and the tiling that bounds their memory."""

from srgan_fast.runtime.protocol import Backend, Precision, RequestedPrecision
from srgan_fast.runtime.registry import (
    BACKENDS,
    choose_backend,
    choose_precision,
    create_backend,
    usable_backends,
)

__all__ = [
    "BACKENDS",
    "Backend",
    "Precision",
    "RequestedPrecision",
    "choose_backend",
    "choose_precision",
    "create_backend",
    "usable_backends",
]
