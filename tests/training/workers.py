"""What the processes of test_distributed.py do; run by torchrun, not by pytest.

* `workers.py collectives FOLDER` checks the reductions against one process that sees everything.
* `workers.py reborn FOLDER` dies once, and then the first process comes last.
* `workers.py double ARGS` is `srgan-fast ARGS` in float64.
* `workers.py dying FOLDER ARGS` is `srgan-fast ARGS` whose second process kills itself, the first time that it was
  started, when FOLDER holds a checkpoint.
"""

import copy
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from srgan_fast.errors import TrainingError
from srgan_fast.training import distributed, losses


def check_batchnorm(rank: int, world: int) -> None:
    """Forward, backward and running statistics of shared BatchNorms are those of one over the joined batch."""
    plain = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, eps=0.8), nn.Sequential(nn.BatchNorm2d(4, momentum=0.3))
    )
    with torch.no_grad():
        for tensor in plain.state_dict().values():
            if tensor.is_floating_point():
                tensor.uniform_(0.2, 1.5)
    shared = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, eps=0.8), nn.Sequential(nn.BatchNorm2d(4, momentum=0.3))
    )
    shared.load_state_dict(plain.state_dict())
    distributed.share_batchnorm(shared)
    assert [type(m) for m in shared.modules()].count(distributed.SharedBatchNorm2d) == 2
    for _ in range(3):
        batch = (5 + torch.randn(2 * world, 3, 6, 7)).requires_grad_()
        check_part(plain, shared, batch, rank, world)
    distributed.average_gradients(shared.parameters())
    for (name, p), q in zip(plain.named_parameters(), shared.parameters(), strict=True):
        if name != "0.bias":  # 0 but for rounding
            close(q.grad, p.grad)
    for name, tensor in plain.state_dict().items():
        close(shared.state_dict()[name], tensor)
    plain.eval(), shared.eval()
    close(shared(batch), plain(batch))  # without talking to each other
    half = shared.train()[1](torch.randn(2, 4, 3, 3).bfloat16())
    assert half.dtype == torch.bfloat16


def check_part(plain: nn.Module, shared: nn.Module, batch: Tensor, rank: int, world: int) -> None:
    """This process' two images of a batch have the results and gradients that they have in the whole."""
    expected = plain(batch)
    weight = torch.randn_like(expected)
    (expected * weight).mean().backward()
    mine = slice(2 * rank, 2 * rank + 2)
    part = batch.detach()[mine].clone().requires_grad_()
    ours = shared(part)
    (ours * weight[mine]).mean().backward()
    close(ours, expected[mine])
    # Each process has the mean over its own part: the gradient of the whole's mean is that over all processes.
    close(part.grad / world, batch.grad[mine])


def check_fused_batchnorm(rank: int, world: int) -> None:
    """Fused blocks that each see half of a batch are plain ones that see all of it: statistics, gradients, results."""
    from srgan_fast.ops import ConvBNLeakyReLU, ConvBNPReLU, ResidualBlock, UpsampleBlock, use_kernels

    plain = nn.Sequential(
        ConvBNPReLU(3, 17, True, 0.8, 17),
        ResidualBlock(17, False, 1e-5, 1),
        UpsampleBlock(17, True, 1e-5, 17),
        ConvBNLeakyReLU(17, 5, 2, True),
    )
    with torch.no_grad():
        for name, tensor in plain.state_dict().items():
            if tensor.is_floating_point() and tensor.dim() == 1:
                tensor.uniform_(0.2, 1.5) if "var" in name or "weight" in name else tensor.uniform_(-0.5, 0.5)
    shared = copy.deepcopy(plain)
    distributed.share_batchnorm(shared)
    use_kernels(shared, "fused")
    assert [type(m) for m in shared.modules()].count(distributed.SharedBatchNorm2d) == 5
    for _ in range(2):
        # The second process' images are brighter, so that neither has the statistics of the whole.
        batch = torch.randn(2 * world, 3, 6, 7) + torch.arange(2 * world).view(-1, 1, 1, 1) // 2
        batch.requires_grad_()
        plain.zero_grad(), shared.zero_grad()
        check_part(plain, shared, batch, rank, world)
        distributed.average_gradients(shared.parameters())
        for (name, p), q in zip(plain.named_parameters(), shared.parameters(), strict=True):
            if "conv" not in name or not name.endswith("bias"):  # those are 0 but for rounding
                close(q.grad, p.grad)
        for name, tensor in plain.named_buffers():
            close(shared.get_buffer(name), tensor)
    plain.eval(), shared.eval()
    close(shared(batch), plain(batch))


def check_reductions(rank: int, world: int) -> None:
    """Sums, means and flags."""
    x = torch.tensor([1.0 + rank, 10.0 * (1 + rank)], requires_grad=True)
    mean = distributed.mean_over_processes(x)
    close(mean, torch.tensor((1.0 + 10.0 + 2.0 + 20.0) / 4))
    # Each process' loss is a multiple of the mean; an element is a quarter of it in all of them.
    (mean * (rank + 1)).backward()
    close(x.grad, torch.full((2,), (1.0 + 2.0) / 4))
    close(distributed.mean_of(torch.tensor([rank, 5.0])), torch.tensor([0.5, 5.0]))
    assert [distributed.any_process(rank == who) for who in (0, 1, 7)] == [True, True, False]
    a, b, unused = (nn.Parameter(torch.zeros(shape)) for shape in ((2, 3), (4,), (1,)))
    a.grad = torch.arange(6.0).view(2, 3).t().contiguous().t() * (1 + 2 * rank)  # strides of its own
    b.grad = torch.full((4,), float(rank))
    distributed.average_gradients([a, unused, b])
    close(a.grad, torch.arange(6.0).view(2, 3) * 2)
    close(b.grad, torch.full((4,), 0.5))
    assert unused.grad is None
    module = nn.BatchNorm2d(2)
    nn.init.constant_(module.weight, float(rank + 1))
    module.running_mean.fill_(float(rank))
    module.to(memory_format=torch.channels_last)
    distributed.broadcast_module(module)
    assert (module.weight[0].item(), module.running_mean[0].item()) == (1.0, 0.0)


def check_relativistic(rank: int, world: int) -> None:
    """The relativistic loss looks at the mean verdict on the images of all processes."""
    real, fake = torch.randn(4, 1), torch.randn(4, 1).requires_grad_()
    mine = slice(2 * rank, 2 * rank + 2)
    leaf = fake.detach()[mine].clone().requires_grad_()
    ours = losses.generator_loss("ragan", leaf, real[mine])
    ours.backward()
    close(distributed.mean_of(ours.detach().clone()), alone(real, fake))
    alone(real, fake).backward()
    close(leaf.grad / world, fake.grad[mine])


def alone(real: Tensor, fake: Tensor) -> Tensor:
    bce = nn.functional.binary_cross_entropy_with_logits
    on_real = bce(real - fake.mean(), torch.zeros_like(real))
    return (on_real + bce(fake - real.mean(), torch.ones_like(fake))) / 2


def check_refusals(rank: int, world: int) -> None:
    """All processes stop where one meets a loss that is not finite."""
    from srgan_fast.models import Generator, generator_config
    from srgan_fast.training.figures import NonFiniteLossError
    from srgan_fast.training.step import PretrainStep

    generator = Generator(generator_config("paper", channels=4, blocks=0))
    distributed.share_batchnorm(generator)
    before = generator.tail.bias.detach().clone()
    step = PretrainStep(generator, torch.optim.Adam(generator.parameters(), lr=0.1))
    with pytest.raises(TrainingError, match="pixel loss") as caught:
        step([(torch.full((1, 3, 8, 8), float("nan") if rank else 0.5), torch.rand(1, 3, 2, 2))])
    assert isinstance(caught.value, NonFiniteLossError)
    assert caught.value.name == "pixel loss"
    assert torch.equal(generator.tail.bias, before)


def close(ours: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-13)


def collectives() -> None:
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    rank, world = distributed.start()
    assert (rank, world) == (int(os.environ["RANK"]), 2)
    for check in (check_batchnorm, check_fused_batchnorm, check_reductions, check_relativistic, check_refusals):
        check(rank, world)
    parameter = nn.Parameter(torch.ones(1))
    parameter.grad = torch.ones(1)
    torch.optim.Adam([parameter]).step()  # the optimisers import much of torch.distributed
    distributed.stop()
    check_nothing_lives_on()
    Path(sys.argv[2], f"passed-{rank}").touch()


def check_nothing_lives_on() -> None:
    """Once a process has left the group, gloo's threads are gone: Python may not end while they hold tensors."""
    if sys.platform == "linux":
        threads = [(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
        assert not [name for name in threads if "gloo" in name], threads


def reborn() -> None:
    """Both join; the first life ends at once, with the addresses of both still in the store."""
    rank, life = int(os.environ["RANK"]), int(os.environ["TORCHELASTIC_RESTART_COUNT"])
    if life and rank == 0:
        time.sleep(2)  # the other one is looking for it already
    assert distributed.start() == (rank, 2)
    assert distributed.any_process(rank == 1)
    if not life:
        os.kill(os.getpid(), signal.SIGKILL)
    distributed.stop()
    Path(sys.argv[2], f"reborn-{rank}").touch()


def compute_in_float64() -> None:
    """Everything that is built from now on; images come as float64, too."""
    from srgan_fast.training import batches

    to_batch = batches.to_batch
    torch.set_default_dtype(torch.float64)
    batches.to_batch = lambda images, device: to_batch(images, device).double()


def dying(folder: Path) -> None:
    """Kills this process as soon as there is a checkpoint."""
    while not any(folder.glob("checkpoints/*.pt")):
        time.sleep(0.002)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    if sys.argv[1] == "collectives":
        collectives()
    elif sys.argv[1] == "reborn":
        reborn()
    else:
        from srgan_fast.cli import main

        if sys.argv[1] == "double":
            compute_in_float64()
            sys.argv[1:2] = []
        else:
            if os.environ["RANK"] == "1" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
                threading.Thread(target=dying, args=(Path(sys.argv[2]),), daemon=True).start()
            sys.argv[1:3] = []
        main()
