"""Whether our kernels are right on a GPU, and faster than PyTorch: `srgan-fast bench gpu`, here `bench_gpu`.

docs/cuda.md, "A report of your GPU", describes it.
"""

from srgan_fast.bench.gpu.report import GpuNotMeasuredError, GpuOptions, GpuReport, bench_gpu

__all__ = ["GpuNotMeasuredError", "GpuOptions", "GpuReport", "bench_gpu"]
