"""Peers that take the network as a torch module: PyTorch, its compilers, and ncnn through pnnx."""

import os
from typing import Any, cast

import numpy as np
import torch

from srgan_fast.bench.candidates import Loaded, RowJob
from srgan_fast.errors import BackendError
from srgan_fast.network.torch_module import NetworkModule
from srgan_fast.runtime.protocol import FloatImages
from srgan_fast.runtime.torch_backend import NO_BF16, cpu_multiplies_bf16


def torch_lacks_bf16() -> str | None:
    """Why its bf16 is not worth measuring on this CPU; None if it is."""
    return None if cpu_multiplies_bf16() else NO_BF16


def load_torch(job: RowJob, row: str, lr: FloatImages) -> Loaded:
    """Eager in NCHW, or in channels_last for rows with NHWC in their name; compiled; bf16 by autocast."""
    compiled, bf16 = "compile" in row or "zentorch" in row, row.endswith("bf16")
    layout = torch.channels_last if "nhwc" in row or "compile" in row else torch.contiguous_format
    torch.set_num_threads(job.workload.threads)
    module: Any = NetworkModule(job.file.network).to(memory_format=layout)
    if compiled:
        import torch._inductor.config as inductor  # noqa: PLC0415 (the eager rows need no compiler)

        # In the benchmark's folder, so that times do not depend on caches of earlier runs.
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

    return Loaded(run, array, caller=lambda: run)  # a forward pass only reads the weights


def convert_to_ncnn(job: RowJob) -> None:
    """Traces the network and converts it; weights stay fp32, which pnnx converts to fp16 by default.

    The network does not depend on the image's size; pnnx fails on larger ones without a message. There is no int8 row:
    it needs ncnn2table and ncnn2int8, which neither PyPI's ncnn nor pnnx contains.
    """
    if (job.shape_folder / "net.ncnn.bin").exists():
        return
    import pnnx  # noqa: PLC0415

    image = torch.rand(1, job.file.channels, 64, 64)
    pnnx.export(NetworkModule(job.file.network), str(job.shape_folder / "net.pt"), (image,), fp16=False)


def load_ncnn(job: RowJob, row: str, lr: FloatImages) -> Loaded:
    """A net in fp32, or with maps and weights stored in bf16."""
    import ncnn  # noqa: PLC0415

    net = ncnn.Net()
    net.opt.num_threads = job.workload.threads
    for reduced in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic"):
        setattr(net.opt, reduced, False)
    net.opt.use_bf16_storage = row.endswith("bf16")
    net.opt.use_vulkan_compute = False
    folder = job.shape_folder
    if net.load_param(str(folder / "net.ncnn.param")) or net.load_model(str(folder / "net.ncnn.bin")):
        raise BackendError("ncnn cannot read pnnx's output")
    images = [ncnn.Mat(image).clone() for image in lr]  # a Mat does not keep its array alive

    def run() -> Any:
        results = []
        for image in images:  # ncnn has no batches
            with net.create_extractor() as extractor:
                extractor.input("in0", image)
                failed, result = extractor.extract("out0")
            if failed:
                raise BackendError(f"ncnn failed with code {failed}")
            results.append(result)
        return results

    # An extractor holds the state of one call; the net is only read.
    return Loaded(run, lambda results: np.stack([np.array(sr, np.float32) for sr in results]), caller=lambda: run)
