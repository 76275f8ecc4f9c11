"""Cache of packed weights, valid while the weights do not change.

Each fused convolution packs its weights (Winograd transform, or tiles), which for wide layers takes as long as the
convolution itself. Weights change once per step. Where they are used several times per step, as in the discriminator,
or never change, as in VGG, `PackedWeights` packs them once.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from srgan_fast.ops.conv import conv_pack
from srgan_fast.ops.native import on_cuda
from srgan_fast.ops.prologue import UNIT

_active: ContextVar["PackedWeights | None"] = ContextVar("packed_weights", default=None)


@dataclass
class _Entry:
    weight: Tensor  # keeps the tensor alive, so that its id is not reused
    version: int
    address: int
    packed: dict[tuple[bool, torch.dtype] | torch.dtype, Tensor] = field(default_factory=dict)


def cast_weights(weights: Sequence[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """Weights for cuDNN: in the maps' dtype, channels_last, without gradient; several in one launch."""
    if len(weights) == 1:
        return [weights[0].detach().to(dtype, memory_format=torch.channels_last)]
    results = [torch.empty_like(w, dtype=dtype, memory_format=torch.channels_last) for w in weights]
    with torch.no_grad():
        torch._foreach_copy_(results, list(weights))
    return results


class PackedWeights:
    """Packed weights of the fused convolutions that run inside `active`.

    An entry is valid while its weights are the same tensor at the same address with the same version counter. Fused
    optimisers and writes through `.data` do not increase the version counter: the owner must `clear` the cache after
    those, for example after each step. Weights that were cast before the cache was cleared are all cast again as soon
    as one is asked for, in one launch.

    Args:
        casts_only: on CPUs, do not keep packed weights, which are larger than the weights: for networks that use each
            only once between two changes.
        most: on CPUs, keep packed weights of at most so many elements; larger ones are packed in each call.
    """

    def __init__(self, casts_only: bool = False, most: int | None = None) -> None:
        self._entries: dict[int, _Entry] = {}
        self._cast: dict[torch.dtype, dict[int, Tensor]] = {}
        self._most = 0 if casts_only else most

    @contextmanager
    def active(self) -> Iterator[None]:
        """Fused convolutions inside store and reuse their packed weights here."""
        token = _active.set(self)
        try:
            yield
        finally:
            _active.reset(token)

    def clear(self) -> None:
        """Drops all entries."""
        self._entries.clear()

    def drop_forward(self) -> None:
        """Frees what is packed for forward passes: where only backward passes follow, it is half of the cache."""
        for entry in self._entries.values():
            entry.packed = {key: t for key, t in entry.packed.items() if not isinstance(key, tuple) or key[0]}

    def get(self, weight: Tensor, stride: int, backward: bool, dtype: torch.dtype) -> Tensor:
        """Weights packed for the kernels of a map dtype."""
        packed, key = self._of(weight), (backward, dtype)
        if key not in packed:
            packed[key] = conv_pack(weight, stride, backward, dtype)
        return packed[key]

    def keeps(self, weight: Tensor) -> bool:
        """Whether weights are kept packed on a CPU."""
        return self._most is None or weight.numel() <= self._most

    def cast(self, weight: Tensor, dtype: torch.dtype) -> Tensor:
        """Weights in a map's dtype."""
        packed = self._of(weight)
        if dtype not in packed:
            known = self._cast.setdefault(dtype, {})
            known[id(weight)] = weight
            missing = [w for w in known.values() if dtype not in self._of(w)]
            for each, result in zip(missing, cast_weights(missing, dtype), strict=True):
                self._of(each)[dtype] = result
        return packed[dtype]

    def _of(self, weight: Tensor) -> dict[tuple[bool, torch.dtype] | torch.dtype, Tensor]:
        entry = self._entries.get(id(weight))
        if entry is None or entry.version != weight._version or entry.address != weight.data_ptr():
            entry = self._entries[id(weight)] = _Entry(weight, weight._version, weight.data_ptr())
        return entry.packed


def packed_for(
    weight: Tensor, stride: int, differentiates: bool, dtype: torch.dtype
) -> tuple[Tensor | None, Tensor | None]:
    """Packed weights to pass to a convolution, for forward and, if it is differentiated, for backward.

    On CPUs they come from the active cache. On CUDA both are the weights in the maps' dtype, for cuDNN; our own kernels
    pack weights by the map's size, which takes microseconds.
    """
    if torch.compiler.is_compiling():
        return None, None
    store = _active.get() if isinstance(weight, nn.Parameter) else None
    if on_cuda(weight):
        if dtype == weight.dtype or weight.shape[0] % UNIT or weight.shape[1] % UNIT or weight.shape[-1] > 5:
            return None, None
        cast = cast_weights([weight], dtype)[0] if store is None else store.cast(weight, dtype)
        return cast, cast
    if store is None or not store.keeps(weight):
        return None, None
    forward = store.get(weight, stride, False, dtype)
    return forward, store.get(weight, stride, True, dtype) if differentiates else None
