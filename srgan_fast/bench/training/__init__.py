"""Benchmark of a training step: this project's step and kernels beside the usual loops with stock PyTorch.

`bench_training` is the entry point; README.md in the parent folder explains the method and the format of the report.
Needs torch.
"""

from typing import TYPE_CHECKING

from srgan_fast.lazy import on_first_use

if TYPE_CHECKING:
    from srgan_fast.bench.training.bench import bench_training
    from srgan_fast.bench.training.options import TrainingOptions

__all__ = ["TrainingOptions", "bench_training"]

__getattr__ = on_first_use(
    __name__,
    {"bench_training": "srgan_fast.bench.training.bench", "TrainingOptions": "srgan_fast.bench.training.options"},
)
