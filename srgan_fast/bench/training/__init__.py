"""Benchmark of a training step: this project's step and kernels beside the usual loops with stock PyTorch.

`bench.bench_training` is the entry point; README.md in the parent folder explains the method and the format of the
report. Needs torch.
"""
