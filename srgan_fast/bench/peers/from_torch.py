"""Peers that take the network as a torch module: PyTorch itself, compilers for it, and ncnn by way of pnnx."""

import os
from typing import Any, cast

import numpy as np
import torch

from srgan_fast.bench.candidates import Job, Loaded
from srgan_fast.errors import BackendError
from srgan_fast.network.torch_module import NetworkModule
from srgan_fast.runtime.protocol import FloatImages
from srgan_fast.runtime.torch_backend import NO_BF16, cpu_multiplies_bf16


def torch_lacks_bf16() -> str | None:
    """Why its bf16 is of no use on this CPU."""
    return None if cpu_multiplies_bf16() else NO_BF16


def load_torch(job: Job, row: str, lr: FloatImages) -> Loaded:
    """Eager in NCHW, or channels-last where the row's name says NHWC; compiled; bf16 is autocast."""
    compiled, bf16 = "compile" in row or "zentorch" in row, row.endswith("bf16")
    layout = torch.channels_last if "nhwc" in row or "compile" in row else torch.contiguous_format
    torch.set_num_threads(job.workload.threads)
    module: Any = NetworkModule(job.file.network).to(memory_format=layout)
    if compiled:
        import torch._inductor.config as inductor  # noqa: PLC0415 (the eager rows need no compiler)

        # Into the benchmark's folder, so that no time depends on what an earlier run left in a cache.
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(job.folder / "inductor")
        inductor.freezing = True  # weights become constants
        how: dict[str, Any] = {"mode": "max-autotune"}
        if "zentorch" in row:
            import zentorch  # noqa: F401, PLC0415 (AMD's ZenDNN, which registers itself as a backend)

            how = {"backend": "zentorch"}
        module = torch.compile(module.eval(), dynamic=False, **how)
    images = torch.from_numpy(lr.copy()).to(memory_format=layout)

    def run() -> torch.Tensor:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            return cast(torch.Tensor, module(images))

    def array(sr: Any) -> FloatImages:
        return np.array(sr.float().numpy(), np.float32, order="C")

    return Loaded(run, array, caller=lambda: run)  # reading weights is all that a forward pass does to them


def convert_to_ncnn(job: Job) -> None:
    """Traces the network's module and converts it; weights stay fp32, which pnnx would halve by default.

    Nothing in the network depends on the image's size; pnnx fails on larger ones without a message. There is no row in
    int8: it takes ncnn2table and ncnn2int8, which neither PyPI's ncnn nor pnnx contains.
    """
    if (job.shape_folder / "net.ncnn.bin").exists():
        return
    import pnnx  # noqa: PLC0415

    image = torch.rand(1, job.file.channels, 64, 64)
    pnnx.export(NetworkModule(job.file.network), str(job.shape_folder / "net.pt"), (image,), fp16=False)


def load_ncnn(job: Job, row: str, lr: FloatImages) -> Loaded:
    """A net in fp32 throughout, or with maps and weights stored in bf16."""
    import ncnn  # noqa: PLC0415

    net = ncnn.Net()
    net.opt.num_threads = job.workload.threads
    for reduced in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic"):
        setattr(net.opt, reduced, False)
    net.opt.use_bf16_storage = row.endswith("bf16")
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
