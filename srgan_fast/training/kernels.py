"""Which kernels `run.kernels = auto` means for each network: what was measured to be faster."""

import torch
from torch import nn

from srgan_fast.models.generator import Generator
from srgan_fast.ops import Kernels
from srgan_fast.runtime.processor import describe_processor


def kernels_for(network: nn.Module, asked: Kernels, precision: str, device: torch.device) -> Kernels:
    """The switch of one network; see `srgan_fast.ops.use_kernels`.

    Processors with AMX multiply bfloat16 many times as fast as the floats that the fused kernels multiply, which
    decides for wide layers on large maps, a discriminator's and a VGG's. A generator's trunk is bound by what the fused
    kernels spare. A step of 16 crops of 96x96 in bf16 on an Intel Xeon with AMX took 1.55 s with PyTorch's kernels,
    1.53 s with the fused ones, and 1.36 s with these for G alone.

    Args:
        network: that is to be computed.
        asked: `run.kernels`.
        precision: `run.precision`.
        device: where it is.
    """
    if asked != "auto" or device.type != "cpu" or precision != "bf16" or isinstance(network, Generator):
        return asked
    return "reference" if "amx_bf16" in describe_processor()[1] else asked
