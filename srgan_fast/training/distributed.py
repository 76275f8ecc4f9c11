"""Data-parallel training by explicit reductions.

DistributedDataParallel's hooks do not support two backward passes through one forward pass of D(sr), as used here,
and torch's SyncBatchNorm rejects CPU tensors. Averaging gradients and sharing BatchNorm moments explicitly takes few
lines and works with both gloo and nccl. In a single process, no function communicates.
"""

import importlib
import os
from collections.abc import Iterable
from datetime import timedelta
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from srgan_fast.errors import TrainingError
from srgan_fast.ops.pending import SharesMoments, follow_moments

_PATIENCE = timedelta(minutes=10)  # the machines of a cluster do not start at the same time


def start() -> tuple[int, int]:
    """Joins the process group if `torchrun` started several processes.

    Returns:
        Rank of this process, and number of processes.

    Raises:
        TrainingError: the other processes cannot be reached.
    """
    if not dist.is_available() or int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return 0, 1
    if not dist.is_initialized():
        # When imported, this module stores the current group in a default argument. The optimisers import it; if the
        # group exists by then, it is never freed, and gloo's threads crash some of the processes when Python exits.
        importlib.import_module("torch.distributed.nn")
        # The import fails if torch was built without distributed.
        from torch.distributed.rendezvous import rendezvous  # noqa: PLC0415

        from srgan_fast.training.rendezvous import fresh_store  # noqa: PLC0415

        try:
            store, rank, world = next(iter(rendezvous("env://")))
            dist.init_process_group(
                "nccl" if torch.cuda.is_available() else "gloo",
                store=fresh_store(store, rank, world, _PATIENCE),
                rank=rank,
                world_size=world,
            )
        except (RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise TrainingError(f"cannot join the other processes ({reason}); start them all with torchrun") from None
    return dist.get_rank(), dist.get_world_size()


def local_rank() -> int:
    """Index of this process on its machine."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def stop() -> None:
    """Leaves the process group."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def world_size() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


class _AllReduceSum(torch.autograd.Function):
    """Sum over processes. Every process uses the sum, so its gradient is the sum of their gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.clone()
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        gradient = gradients[0].clone()
        dist.all_reduce(gradient)
        return gradient


def all_reduce_sum(x: Tensor) -> Tensor:
    """Differentiable sum of a tensor over all processes."""
    return cast(Tensor, _AllReduceSum.apply(x)) if world_size() > 1 else x


def mean_over_processes(x: Tensor) -> Tensor:
    """Differentiable mean of all elements in all processes, each of which has the same number of elements."""
    return all_reduce_sum(x.mean()) / world_size()


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replaces each gradient by its mean over the processes, in one reduction."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    if world_size() == 1 or not gradients:
        return
    flat = torch.cat([g.flatten() for g in gradients])
    dist.all_reduce(flat)
    flat /= world_size()
    offset = 0
    for gradient in gradients:
        gradient.copy_(flat[offset : offset + gradient.numel()].view_as(gradient))
        offset += gradient.numel()


def any_process(flag: bool) -> bool:
    """Whether the flag is set in any process, so that all processes take the same branch."""
    if world_size() == 1:
        return flag
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    flags = torch.tensor([float(flag)], device=device)
    dist.all_reduce(flags, dist.ReduceOp.MAX)
    return bool(flags.item())


def mean_of(values: Tensor) -> Tensor:
    """Mean of each element over the processes; not differentiable."""
    if world_size() > 1:
        dist.all_reduce(values)
    return values / world_size()


def broadcast_module(module: nn.Module) -> None:
    """Copies the first process' parameters and buffers to all others."""
    if world_size() > 1:
        for tensor in module.state_dict().values():
            dist.broadcast(tensor, 0)


class SharedBatchNorm2d(nn.BatchNorm2d, SharesMoments):
    """BatchNorm2d whose training statistics are taken over the batches of all processes.

    The mean is reduced first, then the squared deviations from it: two small reductions without cancellation. Running
    statistics are updated as in torch (`ops.pending.follow_moments`). Parameters, buffers and names are those of
    BatchNorm2d.
    """

    def forward(self, x: Tensor) -> Tensor:
        """N, C, H, W to the same shape."""
        if not self.training or world_size() == 1:
            return super().forward(x)
        wide = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
        var, mean = torch.var_mean(wide, (0, 2, 3), correction=0)
        mean, var, count = self.share_moments(mean, var, wide.numel() // wide.shape[1])
        follow_moments(self, mean.detach(), var.detach(), count)
        gain = torch.rsqrt(var + self.eps) * self.weight
        return ((wide - mean[:, None, None]) * gain[:, None, None] + self.bias[:, None, None]).to(x.dtype)

    def share_moments(self, mean: Tensor, var: Tensor, count: int) -> tuple[Tensor, Tensor, int]:
        """Combines the moments of all processes; fused convolutions call it with the moments that they computed.

        Args:
            mean: mean per channel, in this process.
            var: biased variance per channel, in this process.
            count: number of values per channel in this process; the same in every process.

        Returns:
            Mean, biased variance and number of values over all processes.
        """
        if world_size() == 1:
            return mean, var, count
        # The trainer gives every process equally many values, so the count is not reduced: that would need a tensor on
        # the group's device, and reading it would make the host wait at each BatchNorm.
        world = world_size()
        shared = all_reduce_sum(mean / world)
        # Chan, Golub and LeVeque 1979: mean of the variances plus variance of the means.
        return shared, all_reduce_sum((var + (mean - shared).square()) / world), count * world


def share_batchnorm(module: nn.Module) -> None:
    """Replaces every BatchNorm2d in a module by a `SharedBatchNorm2d` with the same state."""
    if world_size() == 1:
        return
    for name, child in module.named_children():
        if type(child) is nn.BatchNorm2d:
            shared = SharedBatchNorm2d(child.num_features, eps=child.eps, momentum=child.momentum)
            shared.to(child.weight)
            shared.load_state_dict(child.state_dict())
            shared.train(child.training)
            setattr(module, name, shared)
        else:
            share_batchnorm(child)
