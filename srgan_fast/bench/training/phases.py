"""Where a step's time goes, how much work each phase needs, and what forward passes save for the backward pass."""

import os
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from srgan_fast.bench.training.rows import GENERATOR_PRESET, Trainee, Work, make_networks
from srgan_fast.models import get_preset
from srgan_fast.models.generator import Affine
from srgan_fast.ops import use_kernels

# Names used by `srgan_fast.training.step` and `loops`, in the order of a step.
PHASES = (
    *("G forward", "VGG forward", "VGG(HR) forward", "VGG(SR) forward", "VGG backward, to SR", "D forward"),
    "D backward, to SR",
    *("G backward", "D backward, to its weights", "optimisers"),
)
REST = "rest"  # losses, checks, zeroing
_WHOLE = "whole"


def measure_phases(step: Callable[[], object], steps: int) -> tuple[dict[str, float], float]:
    """Seconds of each phase and of a whole step: medians of some steps, each under the profiler."""
    taken = [_profile(step) for _ in range(steps)]
    median = {name: statistics.median(times[name] for times in taken) for name in taken[0]}
    return median, median.pop(_WHOLE)


def _profile(step: Callable[[], object]) -> dict[str, float]:
    # Kineto logs to standard error when it starts and stops, and if it finds no GPU; level 6 is silent.
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        began = time.perf_counter()
        step()
        whole = time.perf_counter() - began
    totals = {event.key: event.cpu_time_total * 1e-6 for event in profiler.key_averages()}
    parts = {name: totals[name] for name in PHASES if name in totals}
    return {**parts, REST: whole - sum(parts.values()), _WHOLE: whole}


def count_flops(work: Work) -> dict[str, int]:
    """Floating-point operations of the convolutions in each phase of a step without redundant work.

    Two per multiply-add of direct convolution; the reference networks are run on meta tensors. Which gradients are
    needed follows `GanStep`: none of VGG's weights, D's once for real and generated images, D(SR) forward once. Raises
    ModelError if there is no such layer of VGG19, or if images are too small for it.
    """
    # This imports half of PyTorch's compiler, which would count as memory in the rows' processes; they do not need it.
    from torch.utils.flop_counter import FlopCounterMode  # noqa: PLC0415

    flops: dict[str, int] = {}

    def counted(name: str, compute: Callable[[], Any]) -> Any:
        with FlopCounterMode(display=False) as counter:
            result = compute()
        flops[name] = flops.get(name, 0) + counter.get_total_flops()
        return result

    with torch.device("meta"):
        networks = make_networks(work)
    for network in networks.all().values():
        use_kernels(network, "reference")
    hr, lr = (images.to("meta") for images in work.images())
    generator, discriminator, features = networks.generator, networks.discriminator, networks.features
    sr = counted("G forward", partial(generator, lr))
    counted("G backward", lambda: torch.autograd.grad(sr.sum(), list(generator.parameters())))
    if discriminator is None or features is None:
        return flops
    leaf = sr.detach().requires_grad_()
    with torch.no_grad():
        counted("VGG(HR) forward", partial(features, hr))
    sr_features = counted("VGG(SR) forward", partial(features, leaf))
    counted("VGG backward, to SR", lambda: torch.autograd.grad(sr_features.sum(), leaf))
    fake, real = (counted("D forward", partial(discriminator, image)) for image in (leaf, hr))
    counted("D backward, to SR", lambda: torch.autograd.grad(fake.sum(), leaf, retain_graph=True))
    weights = list(discriminator.parameters())
    counted("D backward, to its weights", lambda: torch.autograd.grad(fake.sum() + real.sum(), weights))
    return flops


def flops_of(phase: str, flops: Mapping[str, int]) -> int | None:
    """The work of a phase by `count_flops`; both halves of one that computes them together."""
    if phase == "VGG forward" and "VGG(HR) forward" in flops:
        return flops["VGG(HR) forward"] + flops["VGG(SR) forward"]
    return flops.get(phase)


def saved_by_networks(trainee: Trainee) -> dict[str, int]:
    """Bytes that a forward pass of each network saves, without weights; of D and VGG on generated images."""
    networks, (hr, lr) = trainee.networks, trainee.images
    leaf = hr.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    to_critic = Affine(get_preset(GENERATOR_PRESET).discriminator_map)
    inputs = {"generator": lr, "discriminator": to_critic(leaf), "features": leaf}
    found = {}
    for name, network in networks.all().items():
        with trainee.autocast():
            besides = (*network.parameters(), *network.buffers())
            found[name] = saved_bytes(partial(network, inputs[name]), besides)
    return found


def saved_bytes(forward: Callable[[], object], besides: Iterable[Tensor] = ()) -> int:
    """Bytes that autograd saves during a computation; each storage counts once and entirely.

    Memory that a custom function saves without `save_for_backward`, or that activation checkpointing saves with its own
    hooks, is not included. A copy of the weights in another precision is, since it is stored. The result cannot be
    differentiated; storages of the tensors `besides` (parameters, buffers) do not count.
    """
    excluded = {tensor.untyped_storage().data_ptr() for tensor in besides}
    held: dict[int, torch.UntypedStorage] = {}  # keeps storages alive, so that addresses are not reused

    def pack(tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in excluded:
            held[storage.data_ptr()] = storage

    with torch.autograd.graph.saved_tensors_hooks(pack, _unpack):
        result = forward()
    del result
    return sum(storage.nbytes() for storage in held.values())


def _unpack(_: Any) -> NoReturn:
    raise RuntimeError("saved tensors were only counted")
