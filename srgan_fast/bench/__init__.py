"""Measurements that people can trust: this project's runtimes beside those that a user could take instead.

`bench_inference` is the door; README.md beside this file tells the method and the format of the report.
"""

from srgan_fast.bench.inference import bench_inference
from srgan_fast.bench.options import InferenceOptions, Size, parse_size
from srgan_fast.bench.report import InferenceReport, rows_as_csv

__all__ = ["InferenceOptions", "InferenceReport", "Size", "bench_inference", "parse_size", "rows_as_csv"]
