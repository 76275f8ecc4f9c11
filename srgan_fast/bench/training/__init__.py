"""Measures one training step: this project's step and kernels beside the loops that people write with stock PyTorch.

`bench_training` is the door; README.md in the folder above explains the method and the format of the report. Needs
torch.
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
