"""Benchmarks of this project's runtimes beside those that a user could choose instead.

`bench_inference` is the entry point; README.md beside this file explains the method and the format of the report.
"""

from typing import TYPE_CHECKING

from srgan_fast.lazy import on_first_use

if TYPE_CHECKING:
    from srgan_fast.bench.inference import bench_inference
    from srgan_fast.bench.options import InferenceOptions
    from srgan_fast.bench.report import InferenceReport
    from srgan_fast.bench.workload import ImageSize, parse_size

__all__ = ["ImageSize", "InferenceOptions", "InferenceReport", "bench_inference", "parse_size"]

__getattr__ = on_first_use(
    __name__,
    {
        "bench_inference": "srgan_fast.bench.inference",
        "InferenceOptions": "srgan_fast.bench.options",
        "ImageSize": "srgan_fast.bench.workload",
        "parse_size": "srgan_fast.bench.workload",
        "InferenceReport": "srgan_fast.bench.report",
    },
)
