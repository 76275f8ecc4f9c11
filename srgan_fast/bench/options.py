"""What is to be measured, checked before anything slow begins."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from srgan_fast.bench.workload import LARGEST_SIDE, Size
from srgan_fast.errors import UsageError
from srgan_fast.models import DEFAULT_MODEL

BenchPrecision = Literal["fp32", "bf16", "fp16", "int8"]
PRECISIONS: tuple[BenchPrecision, ...] = get_args(BenchPrecision)

LARGEST_BATCH = 4096
PERCENTILES = (50.0, 90.0, 99.0)


@dataclass(frozen=True, slots=True)
class InferenceOptions:
    """What `bench_inference` measures.

    Attributes:
        model: name or file of any network that the engine runs; every runtime gets its weights.
        sizes: of the low-resolution image; each is measured with every batch and every number of threads.
        backends: of this package's registry; `all`, `none`, or empty for native and others that wrap no peer.
        peers: names of rows or of runtimes; `all`, `none`, or empty for all.
        precisions: rows of others are not measured; empty for all.
        threads: CPU threads of every row; all CPUs that this process may use if empty.
        rounds: least number of timed runs of each row, which go on for `duration_s` seconds at least.
        baseline: row that ratios refer to; the first of our own in fp32 if None, else the fastest.
        image: image to upscale; a sample of this project if None.
        calibration: folder of images for int8; this project's samples if None.
        cold_start: also time whole processes, and the import of each runtime.
        batches: images of a run.
        warm_up_ms: least milliseconds that each row runs before the rounds; never fewer than two runs.
        percentiles: of the rounds, where they are enough for them.
        streams: threads that call one loaded runtime at the same time after the rounds; not measured for 1.

    Raises:
        UsageError: values out of range.
    """

    model: str | Path = DEFAULT_MODEL
    sizes: tuple[Size, ...] = (Size(128, 128),)
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
