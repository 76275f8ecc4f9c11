"""Plain PyTorch, on a CUDA device if there is one, else on the CPU."""

from typing import Any, cast

import torch

from srgan_fast.models import ModelFile
from srgan_fast.network.torch_module import NetworkModule
from srgan_fast.runtime.forks import SPAWN, Home
from srgan_fast.runtime.protocol import FloatImages, Precision

NO_BF16 = "PyTorch has no instructions for bf16 on this CPU"


def computes(precision: Precision) -> bool:
    """Whether a precision pays: on CPUs fp16 is slower than fp32, and so is bf16 without native instructions."""
    return precision == "fp32" or torch.cuda.is_available() or (precision == "bf16" and cpu_multiplies_bf16())


def cpu_multiplies_bf16() -> bool:
    """Whether PyTorch has bf16 instructions on this CPU, according to its oneDNN.

    Without them, bf16 took 9 s per image on a Zen 3 with AVX2 only, most of the time of the whole benchmark.
    """
    onednn = cast(Any, torch.backends.mkldnn)  # without types
    return bool(onednn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported())


class TorchBackend:
    """The network as a PyTorch module in channels_last; fp32, or bf16 or fp16 by autocast."""

    name = "torch"

    # OpenMP's threads are the process', not a module's: loading another one in a child does not help.
    _home: Home | None = None

    def __init__(self, file: ModelFile, precision: Precision, threads: int) -> None:
        TorchBackend._home = TorchBackend._home or Home(self.name, SPAWN)
        TorchBackend._home.check()
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.device = torch.cuda.get_device_name() if self._device.type == "cuda" else "CPU"
        self._autocast = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
        self._threads = threads
        module = NetworkModule(file.network).to(self._device)
        self._module = module.to(memory_format=torch.channels_last)

    def _precision(self) -> torch.autocast:
        return torch.autocast(self._device.type, self._autocast, enabled=self._autocast is not None)

    def run(self, lr: FloatImages) -> FloatImages:
        """See `Backend.run`."""
        if TorchBackend._home is not None:
            TorchBackend._home.check()
        if self._device.type == "cpu" and torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
        with torch.inference_mode(), self._precision():
            # torch warns about read-only arrays, although it only reads them here.
            images = torch.from_numpy(lr if lr.flags.writeable else lr.copy()).to(
                self._device, memory_format=torch.channels_last
            )
            sr = self._module(images)
        return cast(FloatImages, sr.float().contiguous().cpu().numpy())
