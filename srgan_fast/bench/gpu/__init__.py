"""Report on a GPU: whether the fused kernels are correct on it, and how fast, beside stock PyTorch.

Needs only torch, numpy and safetensors, so that it runs on minimal installations. `gpu_report` is the entry point.
"""

from srgan_fast.bench.gpu.report import gpu_report

__all__ = ["gpu_report"]
