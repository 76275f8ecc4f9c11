"""The GPU self-test in full, for reports: every case's error, which kernels are tested, and float64 on the CPU.

The self-test itself (`ops.cuda`) ends with one word, and lets the GPU compute its own references in float64.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import torch

from srgan_fast.ops import coverage, cuda, gpu_choice, infer_checks
from srgan_fast.ops.check_cases import CHECKS
from srgan_fast.ops.coverage import KernelCoverage

_CPU_WORK = 1 << 26  # multiply-adds of the largest case whose reference a CPU computes


@dataclass(frozen=True, slots=True)
class SelfTestRow:
    """The worst error of a case.

    Attributes:
        group: operators and GEMM implementation.
        dtype: of the maps.
        what: case and tensor.
        excess: error divided by tolerance.
        right: whether it is at most 1.
    """

    group: str
    dtype: str
    what: str
    excess: float
    right: bool


def self_test_rows(device: torch.device) -> Iterator[SelfTestRow]:
    """Runs all cases of the self-test of a CUDA device with an index."""
    for case in cuda.self_test_cases(coverage.gpu_of(device.index), _own(device)):
        group = case.what
        if group.startswith("CheckCase"):
            group = f"training convolutions, GEMM: {group.rpartition(' ')[2]}"
        elif group.startswith("InferCase"):
            group = "upscaling layers"
        worst = max(case.run(device), key=lambda error: error.excess)
        dtype = str(case.dtype).removeprefix("torch.")
        yield SelfTestRow(group, dtype, worst.what, worst.excess, worst.excess <= 1.0)


def kernel_rows(device: torch.device) -> list[KernelCoverage]:
    """Which kernels real sizes select on a CUDA device with an index, and which of them the self-test runs."""
    gpu = coverage.gpu_of(device.index)
    training = [*CHECKS, *coverage.training_cases(gpu, CHECKS, _own(device))]
    layers = [*infer_checks.CASES, *coverage.inference_cases(gpu, infer_checks.CASES)]
    return coverage.coverage_of(gpu, training, layers, _own(device))


def rows_against_cpu(device: torch.device) -> Iterator[SelfTestRow]:
    """Convolutions forward and backward in bfloat16, against float64 on the CPU: small cases of the self-test."""
    for case in CHECKS:
        if prod(case.size) * case.side**2 <= _CPU_WORK:
            errors = cuda.check(case, device, reference=torch.device("cpu"))
            worst = max(errors, key=lambda error: error.excess)
            yield SelfTestRow("against float64 on the CPU", "bfloat16", worst.what, worst.excess, worst.excess <= 1.0)


def _own(device: torch.device) -> bool:
    return gpu_choice.choice_of(device).gemm == "own"
