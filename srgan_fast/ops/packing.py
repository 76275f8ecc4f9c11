"""Keeps weights in the form that kernels read as long as they do not change.

Each fused convolution transforms its weights (into Winograd's domain, or tiles), which for wide layers takes as
long as the convolution. Weights change once in a step; where they are used more often, as a discriminator's, or never
change, as a VGG's, `PackedWeights` does it once.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from srgan_fast.ops.conv import UNIT, conv_pack

_active: ContextVar["PackedWeights | None"] = ContextVar("packed_weights", default=None)


@dataclass
class _Entry:
    weight: Tensor  # kept, so that no other tensor can take its identity
    version: int
    address: int
    packed: dict[tuple[bool, torch.dtype] | torch.dtype, Tensor] = field(default_factory=dict)


def cast_weights(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Weights as torch's library multiplies them: in a map's type, channels last; without gradient."""
    return weight.detach().to(dtype, memory_format=torch.channels_last)


class PackedWeights:
    """Transformed weights of the fused convolutions that run inside `active`.

    An entry is used only while its weights are the same tensor, at the same place, changed by no operation that torch
    counts. Torch does not count changes by its fused optimisers or through `.data`: whoever keeps a store `clear`s it
    where those may have come between, as after each step.
    """

    def __init__(self) -> None:
        self._entries: dict[int, _Entry] = {}

    @contextmanager
    def active(self) -> Iterator[None]:
        """Fused convolutions inside keep and use their weights here."""
        token = _active.set(self)
        try:
            yield
        finally:
            _active.reset(token)

    def clear(self) -> None:
        """Forgets all."""
        self._entries.clear()

    def get(self, weight: Tensor, stride: int, backward: bool, dtype: torch.dtype) -> Tensor:
        """The weights of a parameter as kernels for maps of a type read them."""
        packed, key = self._of(weight), (backward, dtype)
        if key not in packed:
            packed[key] = conv_pack(weight, stride, backward, dtype)
        return packed[key]

    def cast(self, weight: Tensor, dtype: torch.dtype) -> Tensor:
        """The weights in a map's type."""
        packed = self._of(weight)
        if dtype not in packed:
            packed[dtype] = cast_weights(weight, dtype)
        return packed[dtype]

    def _of(self, weight: Tensor) -> dict[tuple[bool, torch.dtype] | torch.dtype, Tensor]:
        entry = self._entries.get(id(weight))
        if entry is None or entry.version != weight._version or entry.address != weight.data_ptr():
            entry = self._entries[id(weight)] = _Entry(weight, weight._version, weight.data_ptr())
        return entry.packed


def packed_for(
    weight: Tensor, stride: int, differentiates: bool, dtype: torch.dtype
) -> tuple[Tensor | None, Tensor | None]:
    """What a convolution of maps of a type gets besides its weights: for forward, and for backward if it needs that.

    On a CPU it is what the active store has; on CUDA the weights in the maps' type, for torch's library, which both
    directions share. Our own kernels there order weights by the map's size, in microseconds.
    """
    if torch.compiler.is_compiling():
        return None, None
    store = _active.get() if isinstance(weight, nn.Parameter) else None
    if weight.is_cuda:
        if dtype == weight.dtype or weight.shape[0] % UNIT or weight.shape[1] % UNIT or weight.shape[-1] > 5:
            return None, None
        cast = cast_weights(weight, dtype) if store is None else store.cast(weight, dtype)
        return cast, cast
    if store is None:
        return None, None
    forward = store.get(weight, stride, False, dtype)
    return forward, store.get(weight, stride, True, dtype) if differentiates else None
