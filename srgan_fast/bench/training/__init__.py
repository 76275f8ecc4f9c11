"""Measures one training step: this project's step and kernels beside the loops that people write with stock PyTorch.

`bench_training` is the door; README.md in the folder above tells the method and the format of the report. Needs torch.
"""

from typing import TYPE_CHECKING

from srgan_fast.lazy import on_first_use

if TYPE_CHECKING:
    from srgan_fast.bench.training.bench import bench_training
    from srgan_fast.bench.training.options import TrainingOptions
    from srgan_fast.bench.training.report import TrainingReport, training_rows_as_csv

__all__ = ["TrainingOptions", "TrainingReport", "bench_training", "training_rows_as_csv"]

__getattr__ = on_first_use(
    __name__,
    {
        "bench_training": "srgan_fast.bench.training.bench",
        "TrainingOptions": "srgan_fast.bench.training.options",
        "TrainingReport": "srgan_fast.bench.training.report",
        "training_rows_as_csv": "srgan_fast.bench.training.report",
    },
)
