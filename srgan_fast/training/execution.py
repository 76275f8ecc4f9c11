"""Device and processes of a run, and how networks are computed there."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import nn

from srgan_fast.errors import TrainingError
from srgan_fast.ops import use_kernels
from srgan_fast.training import distributed
from srgan_fast.training.config import RunSection
from srgan_fast.training.memory import keep_freed_memory
from srgan_fast.training.step import StepOptions

_Network = TypeVar("_Network", bound=nn.Module)
OnNetwork = Callable[[nn.Module], None]


@dataclass(frozen=True, slots=True)
class Execution:
    """Where and how a run is computed.

    Attributes:
        run: section `run` of the configuration.
        device: device of this process.
        rank: rank of this process.
        processes: number of processes.
        on_network: called with each network after it was placed; for tools that watch or change the weights.
    """

    run: RunSection
    device: torch.device
    rank: int
    processes: int
    on_network: OnNetwork | None = None

    @classmethod
    def start(cls, run: RunSection, batch: int, on_network: OnNetwork | None = None) -> "Execution":
        """Joins the other processes, and prepares the device.

        Args:
            run: section `run` of the configuration.
            batch: batch size over all processes.
            on_network: see the class.

        Raises:
            TrainingError: the other processes or the device cannot be used, or the batch cannot be divided.
        """
        rank, processes = distributed.start()
        if batch % (parts := processes * run.accumulate):
            raise TrainingError(
                f"data.batch is {batch}; it must be a multiple of {parts}, the number of processes times run.accumulate"
            )
        if run.threads:
            torch.set_num_threads(run.threads)
        device = _device(run.device)
        if device.type == "cpu":
            keep_freed_memory()
        return cls(run, device, rank, processes, on_network)

    def place(self, network: _Network) -> _Network:
        """Moves a network to the device, in channels-last layout for the convolutions, and sets its kernels."""
        network.to(self.device)
        network.to(memory_format=torch.channels_last)
        use_kernels(network, self.run.kernels)
        if self.on_network is not None:
            self.on_network(network)
        return network

    def place_for_training(self, network: _Network) -> _Network:
        """Places a network in training mode, with the same weights and BatchNorm statistics in all processes."""
        self.place(network).train()
        distributed.broadcast_module(network)
        distributed.share_batchnorm(network)
        return network

    def step_options(self) -> StepOptions:
        """Precision and clipping of a step."""
        fp32 = self.run.precision == "fp32"
        autocast = nullcontext if fp32 else partial(torch.autocast, self.device.type, torch.bfloat16)
        return StepOptions(autocast, self.run.clip or None)


def _device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise TrainingError("run.device is cuda, but PyTorch finds no CUDA device")
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", distributed.local_rank() % torch.cuda.device_count())
    torch.cuda.set_device(device)
    return device
