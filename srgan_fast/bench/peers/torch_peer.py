"""PyTorch eager on the CPU, in its two memory layouts and under bf16 autocast."""

from typing import Any, cast

import numpy as np
import torch

from srgan_fast.bench.candidates import Job, Loaded
from srgan_fast.bench.options import BenchPrecision
from srgan_fast.network.torch_module import NetworkModule
from srgan_fast.runtime.protocol import FloatImages
from srgan_fast.runtime.torch_backend import NO_BF16, cpu_multiplies_bf16


def prepare(job: Job, precision: BenchPrecision) -> None:
    """Nothing: torch takes the weights as they are."""


def why_not_bf16() -> str | None:
    """See `Bf16Peer`."""
    return None if cpu_multiplies_bf16() else NO_BF16


def load(job: Job, row: str, lr: FloatImages) -> Loaded:
    """The network's list as a module; NCHW, or channels-last where the row's name says NHWC."""
    layout = torch.channels_last if "nhwc" in row else torch.contiguous_format
    bf16 = row.endswith("bf16")
    module = NetworkModule(job.file.network).to(memory_format=layout)
    images = torch.from_numpy(lr.copy()).to(memory_format=layout)

    def run() -> torch.Tensor:
        if torch.get_num_threads() != job.threads:
            torch.set_num_threads(job.threads)
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            return cast(torch.Tensor, module(images))

    def array(sr: Any) -> FloatImages:
        return np.array(sr.float().numpy(), np.float32, order="C")

    return Loaded(run, array, caller=lambda: run)  # reading weights is all that a forward pass does to them
