"""Process of one row of the GPU report: everything that touches the GPU, on request.

usage: python -m srgan_fast.bench.gpu.row (requests come from standard input; see `srgan_fast.bench.worker`)

What fails is returned as `failed`, so that running out of memory in one case loses that case only.
"""

import gc
import logging
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from srgan_fast.bench.cold_start import time_process
from srgan_fast.bench.gpu.networks import check_network, network_call
from srgan_fast.bench.gpu.steps import step_call
from srgan_fast.bench.gpu.timing import calls_per_sample, in_graph, sample, wait
from srgan_fast.bench.worker import serve, why_not
from srgan_fast.errors import BackendError
from srgan_fast.models import DEFAULT_MODEL, read_model
from srgan_fast.ops import cuda, gpu_choice
from srgan_fast.ops.layer_calls import layer_call
from srgan_fast.ops.self_test_table import kernel_rows, rows_against_cpu, self_test_rows
from srgan_fast.runtime.gpu_identity import gpu_identity, gpu_state
from srgan_fast.runtime.upscaler import Upscaler

_MOST_GEMM, _MOST_COPY = 8192, 1 << 30  # side of the matrices; bytes of source and target each


class GpuRow:
    """The device and way of `start`, and the call that `prepare` makes and `run` times."""

    _device: torch.device
    _way = ""
    _call: Callable[[], Any] | None = None
    _calls = 1

    def start(self, device: str, way: str) -> None:
        """Selects the device and the way of `comparison.WAYS`; our kernels are tested before they are timed."""
        self._device, self._way = torch.device(device), way
        torch.backends.cudnn.benchmark = True
        if self._device.type == "cuda":
            torch.cuda.set_device(self._device)
            if way.startswith("ours") and (problem := cuda.problem_of(self._device)):
                raise BackendError(problem)

    def identity(self) -> dict[str, Any]:
        """See `gpu_identity`."""
        return {"identity": gpu_identity(self._device), "state": gpu_state(self._device)}

    def state(self) -> dict[str, Any]:
        """See `gpu_state`."""
        return {"state": gpu_state(self._device)}

    def rates(self) -> dict[str, Any]:
        """Rates of GEMMs (TFLOP/s by precision) and of a copy (GB/s, read and written), sized to the free memory."""
        free = torch.cuda.mem_get_info(self._device)[0] if self._device.type == "cuda" else 1 << 24
        side, size = rate_sizes(free)
        rates: dict[str, float] = {}
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("high")  # TF32
        for name, dtype in {"bf16": torch.bfloat16, "fp16": torch.float16, "TF32": torch.float32}.items():
            a, b, c = (torch.randn(side, side, device=self._device, dtype=dtype) for _ in range(3))
            rates[f"{name} GEMM, TFLOP/s"] = 2e-12 * side**3 / _seconds(partial(torch.mm, a, b, out=c))
            del a, b, c
        torch.set_float32_matmul_precision(before)
        source = torch.zeros(size, dtype=torch.uint8, device=self._device)
        target = torch.empty_like(source)
        rates["copy, GB/s"] = 2e-9 * size / _seconds(lambda: target.copy_(source))
        return {"rates": rates, "side": side, "bytes": size}

    def self_test(self) -> dict[str, Any]:
        """See `ops.self_test_table`; networks against float64 on the CPU have a PSNR, None if they are equal."""
        checks = [*self_test_rows(self._device), *rows_against_cpu(self._device)]
        networks = [asdict(row) for row in check_network(read_model(DEFAULT_MODEL), self._device)]
        return {"checks": [asdict(row) for row in checks], "networks": networks}

    def coverage(self) -> dict[str, Any]:
        """See `ops.self_test_table`."""
        return {"kernels": [asdict(row) for row in kernel_rows(self._device)]}

    def prepare(self, kind: str, what: str, batch: int, hr: int) -> dict[str, Any]:
        """Makes the call of a case and warms it up; the one before is dropped first, with its CUDA graph."""
        self.drop()
        began = time.perf_counter()

        def prepare() -> dict[str, Any]:
            self._call = self._make(kind, what, batch, hr)
            self._calls = calls_per_sample(self._call)
            wait()
            return {"load_s": time.perf_counter() - began, "peak_mb": self._peak_mb()}

        return self._attempt(prepare)

    def _make(self, kind: str, what: str, batch: int, hr: int) -> Callable[[], Any]:
        if kind == "layer":
            fused, stock = layer_call(what, batch, hr, self._device)
            if self._way == "eager":
                return stock
            call = fused if self._way.startswith("ours") else stock
            return in_graph(torch.compile(call, dynamic=False) if self._way == "compiled" else call, self._device)
        if kind == "step":
            return step_call(what, self._way, batch, hr, self._device)
        return network_call(read_model(DEFAULT_MODEL), what, self._way, self._device)

    def _gemm(self) -> AbstractContextManager[None]:
        if self._device.type != "cuda" or not self._way.startswith("ours"):
            return nullcontext()
        return cuda.gemm("own" if self._way == "ours, own GEMMs" else "faster")

    def _peak_mb(self) -> float | None:
        """Device memory, 10^6 bytes, that PyTorch has reserved, graphs included."""
        return torch.cuda.max_memory_reserved(self._device) / 1e6 if self._device.type == "cuda" else None

    def run(self) -> dict[str, Any]:
        """Times the call."""
        return self._attempt(self._sample)

    def _sample(self) -> dict[str, Any]:
        assert self._call is not None
        return {"wall_s": sample(self._call, self._calls)}

    def _attempt(self, do: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What `do` returns; if it fails, the call is dropped, and the reason returned."""
        try:
            with self._gemm():
                return do()
        except Exception as error:  # compilers, kernels and allocators raise their own exceptions
            failed = why_not(error)
        self.drop()  # outside of the handler, which refers to the tensors
        return {"failed": failed}

    def drop(self) -> None:
        """Frees the call and its memory."""
        self._call = None
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self._device)

    def store(self, choice: dict[str, Any]) -> dict[str, Any]:
        """Stores what `auto` uses from now on."""
        path = gpu_choice.store_choice(self._device, gpu_choice.GpuChoice(**choice))
        return {"path": None if path is None else str(path)}

    def train(self, folder: str, **sizes: int) -> dict[str, Any]:
        """Steps of the trainer itself, and what it logged; see `time_trainer`."""
        from srgan_fast.training.trial import time_trainer  # noqa: PLC0415 (needs TensorBoard)

        said: list[str] = []
        listener = logging.Handler()
        listener.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
        logging.getLogger("srgan_fast").addHandler(listener)
        return {**time_trainer(Path(folder), self._device, **sizes), "said": said}

    def upscale(self, folder: str, runs: int, side: int = 256) -> dict[str, Any]:
        """Upscales a PNG with `auto`: seconds of whole processes, and from file to file in one that has started."""
        from srgan_fast.data.images import read_image, write_image  # noqa: PLC0415 (libvips, only needed here)
        from srgan_fast.training.trial import made_up_images  # noqa: PLC0415

        (source,) = made_up_images(Path(folder), 1, side)
        result = source.with_name("upscaled.png")
        command = ["-m", "srgan_fast", "upscale", str(source), "-o", str(result), "--overwrite"]
        process = time_process("upscale", command, source.parent, runs)
        if process.median_ms is None:
            raise BackendError(f"srgan-fast upscale {process.reason}")
        upscaler = Upscaler()

        def file_to_file() -> None:
            write_image(result, upscaler.upscale(read_image(source)))

        seconds = statistics.median([sample(file_to_file, 1) for _ in range(2 + runs)][2:])
        backend = f"{upscaler.backend.name} {upscaler.precision} on {upscaler.backend.device}"
        return {"side": side, "process_s": process.median_ms / 1e3, "file_to_file_s": seconds, "backend": backend}


def rate_sizes(free: int) -> tuple[int, int]:
    """Side of the matrices and bytes of a copy's source that leave most of the free memory (bytes) alone."""
    side = _MOST_GEMM
    while side > 256 and 3 * 4 * side**2 > free // 4:
        side //= 2
    return side, max(1 << 20, min(_MOST_COPY, free // 8))


def _seconds(call: Callable[[], object]) -> float:
    calls = calls_per_sample(call)
    return min(sample(call, calls) for _ in range(5))


if __name__ == "__main__":
    serve(GpuRow())
