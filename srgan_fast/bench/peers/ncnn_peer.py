"""ncnn on the CPU, which runs 3x3 convolutions by Winograd's algorithm; pnnx writes its files from the torch module."""

from typing import Any

import numpy as np

from srgan_fast.bench.candidates import Job, Loaded
from srgan_fast.bench.options import BenchPrecision
from srgan_fast.errors import BackendError
from srgan_fast.runtime.protocol import FloatImages

_TRACED = (64, 64)


def prepare(job: Job, precision: BenchPrecision) -> None:
    """Traces the network's module and converts it; weights stay fp32, which pnnx would halve if left alone.

    Nothing in the network depends on the size of the picture; pnnx fails on larger ones, without a word.
    """
    import pnnx  # noqa: PLC0415 (the process that measures needs neither)
    import torch  # noqa: PLC0415

    from srgan_fast.network.torch_module import NetworkModule  # noqa: PLC0415

    module = NetworkModule(job.file.network)
    pnnx.export(module, str(job.shape_folder / "net.pt"), (torch.rand(1, job.file.channels, *_TRACED),), fp16=False)


def load(job: Job, row: str, lr: FloatImages) -> Loaded:
    """A net in fp32 throughout."""
    import ncnn  # noqa: PLC0415 (not in the process that only converts)

    net = ncnn.Net()
    net.opt.num_threads = job.threads
    for reduced in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage"):
        setattr(net.opt, reduced, False)
    net.opt.use_vulkan_compute = False
    folder = job.shape_folder
    if net.load_param(str(folder / "net.ncnn.param")) or net.load_model(str(folder / "net.ncnn.bin")):
        raise BackendError("ncnn cannot read what pnnx wrote")
    images = [ncnn.Mat(image).clone() for image in lr]  # a Mat over an array does not keep the array alive

    def run() -> Any:
        results = []
        for image in images:  # ncnn knows no batches
            with net.create_extractor() as extractor:
                extractor.input("in0", image)
                failed, result = extractor.extract("out0")
            if failed:
                raise BackendError(f"ncnn failed with code {failed}")
            results.append(result)
        return results

    # An extractor is the state of one call; the net is only read.
    return Loaded(run, lambda results: np.stack([np.array(sr, np.float32) for sr in results]), caller=lambda: run)
