"""Plain PyTorch, on a CUDA device if there is one, else on the CPU."""

import copy
from typing import Any, cast

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from srgan_fast.models import GeneratorFile, load_generator
from srgan_fast.models.generator import Generator
from srgan_fast.runtime.protocol import FloatImages, Precision

NO_BF16 = "PyTorch has no instructions for bf16 on this CPU"


def fold_batchnorm(generator: Generator) -> Generator:
    """A copy of an eval-mode generator whose BatchNorms live in the convolutions before them."""
    folded = copy.deepcopy(generator).eval()
    pairs = [(block, f"conv{k}", f"bn{k}") for block in folded.blocks for k in (1, 2)]
    pairs += [(module, "conv", "bn") for module in (folded.fuse, *folded.upsample) if module.bn is not None]
    for module, conv, bn in pairs:
        fused = fuse_conv_bn_eval(cast(nn.Conv2d, getattr(module, conv)), cast(nn.BatchNorm2d, getattr(module, bn)))
        setattr(module, conv, fused)
        setattr(module, bn, nn.Identity())
    return folded


def computes(precision: Precision) -> bool:
    """Whether it is worth asking for: in fp16 a CPU is slower than in fp32, and in bf16 without instructions for it."""
    return precision == "fp32" or torch.cuda.is_available() or (precision == "bf16" and cpu_multiplies_bf16())


def cpu_multiplies_bf16() -> bool:
    """Whether PyTorch has instructions for bf16 on this CPU, as its oneDNN answers.

    Without them, on a Zen 3 with AVX2 only, bf16 took 9 s a picture, most of the time of the whole benchmark.
    """
    onednn = cast(Any, torch.backends.mkldnn)  # without types
    return bool(onednn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported())


class TorchBackend:
    """The torch module in inference mode, BatchNorm folded, channels-last; fp32, or bf16 or fp16 by autocast."""

    name = "torch"

    def __init__(self, file: GeneratorFile, precision: Precision, threads: int) -> None:
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.device = torch.cuda.get_device_name() if self._device.type == "cuda" else "CPU"
        self._autocast = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
        self._threads = threads
        generator = fold_batchnorm(load_generator(file)).to(self._device)
        self._generator = generator.to(memory_format=torch.channels_last)

    def _precision(self) -> torch.autocast:
        return torch.autocast(self._device.type, self._autocast, enabled=self._autocast is not None)

    def run(self, lr: FloatImages) -> FloatImages:
        """See `Backend.run`."""
        if self._device.type == "cpu" and torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
        with torch.inference_mode(), self._precision():
            # torch warns about arrays that it could not write to, though it only reads them here.
            images = torch.from_numpy(lr if lr.flags.writeable else lr.copy()).to(
                self._device, memory_format=torch.channels_last
            )
            sr = self._generator(images)
        return cast(FloatImages, sr.float().contiguous().cpu().numpy())
