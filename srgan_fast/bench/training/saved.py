"""How much memory a forward pass keeps for its backward pass, measured at the door that autograd keeps it behind."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NoReturn

import torch
from torch import Tensor

from srgan_fast.bench.training.rows import GENERATOR_PRESET, Trainee
from srgan_fast.models import get_preset
from srgan_fast.models.generator import Affine


def saved_by_networks(trainee: Trainee) -> dict[str, int]:
    """Bytes that one forward pass of each network saves, without its weights: of D and VGG on generated images."""
    networks, (hr, lr) = trainee.networks, trainee.images
    leaf = hr.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    to_critic = Affine(get_preset(GENERATOR_PRESET).critic_map)
    inputs = {"generator": lr, "discriminator": to_critic(leaf), "features": leaf}
    found = {}
    for name, network in networks.all().items():
        with trainee.autocast():
            besides = (*network.parameters(), *network.buffers())
            found[name] = saved_bytes(partial(network, inputs[name]), besides)
    return found


def saved_bytes(forward: Callable[[], object], besides: Iterable[Tensor] = ()) -> int:
    """Bytes of what autograd saves while something is computed; each storage counts once, and as a whole.

    What a custom function keeps elsewhere than by `save_for_backward` is not seen, nor what activation checkpointing
    saves by hooks of its own. A copy of the weights in another precision does count, since it is kept.

    Args:
        forward: computes; what it gives is dropped, nothing can be differentiated afterwards.
        besides: tensors whose storages do not count: parameters, buffers.
    """
    excluded = {tensor.untyped_storage().data_ptr() for tensor in besides}
    held: dict[int, torch.UntypedStorage] = {}  # held, so that no address comes twice

    def pack(tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in excluded:
            held[storage.data_ptr()] = storage

    with torch.autograd.graph.saved_tensors_hooks(pack, _unpack):
        result = forward()
    del result
    return sum(storage.nbytes() for storage in held.values())


def _unpack(_: Any) -> NoReturn:
    raise RuntimeError("what was saved was only counted")
