"""Activation checkpointing: a block's activations are recomputed in the backward pass instead of being stored."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import cast

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def recomputed(block: nn.Module, x: Tensor) -> Tensor:
    """Computes `block(x)`; stores only `x` for the backward pass.

    BatchNorm's running statistics are updated in the first pass only; otherwise every batch would count twice.
    """

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _untracked(block)

    return cast(Tensor, checkpoint(block, x, use_reentrant=False, context_fn=contexts))


@contextmanager
def _untracked(block: nn.Module) -> Iterator[None]:
    # Disabling the tracking is not possible: the checkpoint requires the same saved tensors in both passes.
    buffers = [(buffer, buffer.clone()) for buffer in block.buffers()]
    try:
        yield
    finally:
        for buffer, before in buffers:
            buffer.copy_(before)
