"""Keeps weights in the Winograd domain as long as they do not change.

Each fused convolution transforms its weights, which for wide layers takes as long as the convolution. Weights change
once in a step; where they are used more often, as a discriminator's, or never change, as a VGG's, `PackedWeights` does
it once.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from srgan_fast.ops.conv import conv_pack

_active: ContextVar["PackedWeights | None"] = ContextVar("packed_weights", default=None)


@dataclass
class _Entry:
    weight: Tensor  # kept, so that no other tensor can take its identity
    version: int
    address: int
    packed: dict[bool, Tensor] = field(default_factory=dict)


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

    def get(self, weight: Tensor, stride: int, backward: bool) -> Tensor:
        """The transformed weights of a parameter."""
        entry = self._entries.get(id(weight))
        if entry is None or entry.version != weight._version or entry.address != weight.data_ptr():
            entry = self._entries[id(weight)] = _Entry(weight, weight._version, weight.data_ptr())
        if backward not in entry.packed:
            entry.packed[backward] = conv_pack(weight, stride, backward)
        return entry.packed[backward]


def packed_for(weight: Tensor, stride: int, differentiates: bool) -> tuple[Tensor | None, Tensor | None]:
    """What the active store has for a convolution: for forward, and if it will be differentiated, for backward."""
    store = None if torch.compiler.is_compiling() else _active.get()
    if store is None or not isinstance(weight, nn.Parameter) or weight.device.type != "cpu":
        return None, None  # on CUDA the order of weights depends on the map's size, too, and takes microseconds
    return store.get(weight, stride, False), store.get(weight, stride, True) if differentiates else None
