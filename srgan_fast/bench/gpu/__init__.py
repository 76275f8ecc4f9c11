"""One report about a GPU: whether the fused kernels are right on it, and how fast, beside stock PyTorch.

Needs torch, numpy and safetensors alone, so that it runs on machines that have little else. `gpu_report` is the door.
"""

from srgan_fast.bench.gpu.report import gpu_report

__all__ = ["gpu_report"]
