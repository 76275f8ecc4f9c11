"""Activation checkpointing: a block's activations are computed again in backward instead of being kept."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import cast

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def recomputed(block: nn.Module, x: Tensor) -> Tensor:
    """`block(x)`, keeping only `x` for backward.

    BatchNorm's running statistics follow the first pass only; the repetition would count every batch twice.
    """

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _untracked(block)

    return cast(Tensor, checkpoint(block, x, use_reentrant=False, context_fn=contexts))


@contextmanager
def _untracked(block: nn.Module) -> Iterator[None]:
    # Switching the tracking off is no way: BatchNorm keeps its statistics for backward, and would keep fewer tensors.
    buffers = [(buffer, buffer.clone()) for buffer in block.buffers()]
    try:
        yield
    finally:
        for buffer, before in buffers:
            buffer.copy_(before)
