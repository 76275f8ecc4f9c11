"""Report on a GPU: device, correctness of the kernels, compute-sanitizer, layers, whole steps."""

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

import torch

from srgan_fast.bench.gpu.inference import time_inference
from srgan_fast.bench.gpu.layers import time_layers
from srgan_fast.bench.gpu.steps import time_generators, time_steps
from srgan_fast.bench.gpu.timing import time_calls
from srgan_fast.bench.worker import why_not
from srgan_fast.errors import UsageError
from srgan_fast.ops import coverage, cuda
from srgan_fast.ops.native import why_not_on_cuda
from srgan_fast.ops.sanitizer import sanitize
from srgan_fast.ops.self_test_cache import driver_version


def gpu_report(
    batches: tuple[int, ...] = (16, 64),
    hr: int = 96,
    on_step: Callable[[str], None] = lambda what: None,
    sanitizer: bool = True,
) -> dict[str, Any]:
    """Tests and measures the current CUDA device.

    `batches` are the batch sizes of the measured training steps, `hr` the side of the crops. compute-sanitizer takes
    minutes. Returns `environment`, `inference`, `checks` (errors and tolerances), `sanitizer`, `layers`, `steps` and
    `problems`, ready for JSON.

    Raises:
        UsageError: there is no CUDA device.
    """
    if not torch.cuda.is_available():
        raise UsageError("this machine has no CUDA device that PyTorch can use")
    device = torch.device("cuda", torch.cuda.current_device())
    torch.backends.cudnn.benchmark = True
    report: dict[str, Any] = {"problems": []}

    def part(name: str, measure: Callable[[], Any]) -> None:
        on_step(name)
        try:
            report[name] = measure()
        except Exception as error:  # the rest of the report is still useful
            report["problems"].append(f"{name}: {why_not(error)}")
        torch.cuda.empty_cache()

    part("environment", lambda: _environment(device))
    part("inference", lambda: time_inference(device))
    problem = why_not_on_cuda()
    if problem is not None:
        report["problems"].append(problem)
        return report
    part("checks", lambda: _checks(device))
    if sanitizer:
        part("sanitizer", lambda: [asdict(found) for found in sanitize(device)])
    for batch in batches:
        part(f"layers, batch {batch}", partial(time_layers, batch, hr, device))
        part(f"generator, batch {batch}", partial(time_generators, batch, hr, device))
        part(f"steps, batch {batch}", partial(time_steps, batch, hr, device))
    return report


def _environment(device: torch.device) -> dict[str, Any]:
    properties = torch.cuda.get_device_properties(device)
    return {
        "device": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "memory_gb": properties.total_memory / 1e9,
        "driver": driver_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        "bf16_tflops": _gemm_rate(device),
        "copy_gb_s": _copy_rate(device),
    }


def _gemm_rate(device: torch.device) -> float:
    """TFLOP/s of a large bfloat16 GEMM: the attainable peak."""
    a, b = (torch.randn(8192, 8192, device=device).bfloat16() for _ in range(2))
    return 2e-12 * 8192**3 / time_calls(lambda: a @ b).median


def _copy_rate(device: torch.device) -> float:
    """GB/s of a large copy, bytes read and written."""
    source = torch.empty(1 << 30, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2e-9 * source.numel() / time_calls(lambda: target.copy_(source)).median


def _checks(device: torch.device) -> list[dict[str, Any]]:
    """The worst error of each self-test case, for every dtype."""
    found = []
    index = torch.cuda.current_device() if device.index is None else device.index
    for case in cuda.self_test_cases(coverage.gpu_of(index)):
        worst = max(case.run(device), key=lambda error: error.excess)
        found.append({"dtype": str(case.dtype), "right": worst.excess <= 1.0, **asdict(worst)})
    return found
