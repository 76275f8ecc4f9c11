"""Options of the inference benchmark, checked before anything slow begins."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from srgan_fast.bench.workload import LARGEST_SIDE, ImageSize
from srgan_fast.errors import UsageError
from srgan_fast.models import DEFAULT_MODEL

BenchPrecision = Literal["fp32", "bf16", "fp16", "int8"]
PRECISIONS: tuple[BenchPrecision, ...] = get_args(BenchPrecision)

LARGEST_BATCH = 4096
PERCENTILES = (50.0, 90.0, 99.0)


@dataclass(frozen=True, slots=True)
class InferenceOptions:
    """Options of `bench_inference`.

    Attributes:
        model: name or file of any supported network; every runtime gets its weights.
        sizes: sizes of the low-resolution image; each is measured with every batch and every number of threads.
        backends: names of backends; `all`, `none`, or empty for native and those that wrap no peer.
        peers: names of rows or runtimes; `all`, `none`, or empty for all.
        precisions: precisions to measure; empty for all.
        threads: CPU threads of every row; empty for all CPUs that this process may use.
        rounds: minimum number of timed runs of each row; they continue until `duration_s` seconds have passed.
        baseline: row that ratios refer to; None for our first fp32 row, or else the fastest.
        image: image to upscale; None for a sample of this project.
        calibration: folder of images for int8; None for this project's samples.
        cold_start: also time whole processes and the import of each runtime.
        batches: batch sizes.
        warm_up_ms: minimum warm-up of each row; at least two runs.
        percentiles: percentiles to report if there are enough rounds.
        streams: number of threads that call one loaded runtime concurrently after the rounds; 1 to skip.

    Raises:
        UsageError: values out of range.
    """

    model: str | Path = DEFAULT_MODEL
    sizes: tuple[ImageSize, ...] = (ImageSize(128, 128),)
    backends: tuple[str, ...] = ()
    peers: tuple[str, ...] = ()
    precisions: tuple[BenchPrecision, ...] = ()
    threads: tuple[int, ...] = ()
    rounds: int = 9
    baseline: str | None = None
    image: Path | None = None
    calibration: Path | None = None
    cold_start: bool = False
    batches: tuple[int, ...] = (1,)
    duration_s: float = 0.0
    warm_up_ms: float = 200.0
    percentiles: tuple[float, ...] = PERCENTILES
    streams: int = 1

    def __post_init__(self) -> None:
        if not self.batches or not self.sizes:
            raise UsageError("no batch or no size is given; there must be at least one, as in 1 and 128x128")
        for batch in self.batches:
            if not 1 <= batch <= LARGEST_BATCH:
                raise UsageError(f"batch is {batch}; it must lie between 1 and {LARGEST_BATCH}")
        for size in self.sizes:
            if min(size) < 1 or max(size) > LARGEST_SIDE:
                raise UsageError(f"size is {size}; sides must lie between 1 and {LARGEST_SIDE}")
        for name, values in {"threads": self.threads, "rounds": (self.rounds,), "streams": (self.streams,)}.items():
            if min(values, default=1) < 1:
                raise UsageError(f"{name} is {min(values)}; it must be at least 1")
        for name, least in {"duration": self.duration_s, "warm-up": self.warm_up_ms}.items():
            if not 0 <= least < math.inf:
                raise UsageError(f"{name} is {least:g}; it must be 0 or more")
        for percent in self.percentiles:
            if not 0 < percent < 100:
                raise UsageError(f"percentile is {percent:g}; it must lie between 0 and 100, as 99 does")
        if unknown := [precision for precision in self.precisions if precision not in PRECISIONS]:
            raise UsageError(f"precision is {unknown[0]!r}; there are {', '.join(PRECISIONS)}")
