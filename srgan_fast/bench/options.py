"""What is to be measured, checked before anything slow begins."""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from srgan_fast.errors import UsageError
from srgan_fast.models import DEFAULT_MODEL

BenchPrecision = Literal["fp32", "bf16", "fp16", "int8"]
PRECISIONS: tuple[BenchPrecision, ...] = get_args(BenchPrecision)

LARGEST_SIDE = 32768
LARGEST_BATCH = 4096
FEWEST_ROUNDS_TO_QUOTE = 7
PERCENTILES = (50.0, 90.0, 99.0)


class Size(NamedTuple):
    """Of a low-resolution picture, in pixels."""

    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.height}x{self.width}"

    @property
    def area(self) -> int:
        """Pixels."""
        return self.height * self.width


class Case(NamedTuple):
    """What all rows of one table have in common."""

    batch: int
    size: Size
    threads: int

    def __str__(self) -> str:
        batch = f", batch {self.batch}" if self.batch != 1 else ""
        return f"{self.size}{batch}, {self.threads} thread{'s' if self.threads != 1 else ''}"


def parse_size(text: str) -> Size:
    """`HxW`, or one number for a square.

    Raises:
        UsageError: anything else, 0, or a side that no picture here has.
    """
    match = re.fullmatch(r"(\d+)(?:x(\d+))?", text.strip().lower(), re.ASCII)
    if not match:
        raise UsageError(f"size is {text!r}; it must be HEIGHTxWIDTH in pixels, as in 180x320")
    # Python refuses to read numbers of thousands of digits; none that is too long to be a side is read.
    sides = [int(side) if len(side) < 10 else LARGEST_SIDE + 1 for side in match.groups() if side]
    if min(sides) < 1 or max(sides) > LARGEST_SIDE:
        raise UsageError(f"size is {text!r}; sides must lie between 1 and {LARGEST_SIDE}")
    return Size(sides[0], sides[-1])


@dataclass(frozen=True, slots=True)
class InferenceOptions:
    """What `bench_inference` measures.

    Attributes:
        model: a shipped model's name or a generator file; every runtime gets its weights.
        sizes: of the low-resolution picture.
        backends: of this package's registry; `all`, `none`, or empty for native and others that wrap no peer and can
            compute here.
        peers: names of rows or of runtimes; `all`, `none`, or empty for all.
        precisions: rows of others are not measured; empty for all.
        threads: for every row; all CPUs that this process may use if empty. Every size is measured with every batch
            and every number of threads.
        rounds: timed runs of each row, at least.
        baseline: row that ratios refer to; the first of our own in fp32 if None, else the fastest.
        picture: that is upscaled; a sample of this project if None.
        calibration: folder of pictures for int8; this project's samples if None.
        cold_start: also time whole processes, and the import of each runtime.
        memory: also run each row in a process of its own: peak memory, and its time with nothing else loaded.
        batches: pictures of a run.
        duration_s: seconds that the rounds of a case take, at least.
        warm_up_ms: milliseconds that each row runs before the rounds, at least; never less than two runs.
        percentiles: of the rounds, to show beside the least, the mean and the most.
        streams: threads that call one loaded runtime at the same time after the rounds; nothing for 1.

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
    picture: Path | None = None
    calibration: Path | None = None
    cold_start: bool = False
    memory: bool = False
    batches: tuple[int, ...] = (1,)
    duration_s: float = 0.0
    warm_up_ms: float = 200.0
    percentiles: tuple[float, ...] = PERCENTILES
    streams: int = 1

    def __post_init__(self) -> None:
        self._check_axes()
        counts = {"threads": self.threads, "rounds": (self.rounds,), "streams": (self.streams,)}
        for name, values in counts.items():
            for value in values:
                if value < 1:
                    raise UsageError(f"{name} is {value}; it must be at least 1")
        for name, least in (("duration", self.duration_s), ("warm-up", self.warm_up_ms)):
            if not 0 <= least < math.inf:
                raise UsageError(f"{name} is {least:g}; it must be 0 or more")
        for percent in self.percentiles:
            if not 0 < percent < 100:
                raise UsageError(f"percentile is {percent:g}; it must lie between 0 and 100, as 99 does")
        for precision in self.precisions:
            if precision not in PRECISIONS:
                raise UsageError(f"precision is {precision!r}; there are {', '.join(PRECISIONS)}")

    def _check_axes(self) -> None:
        if not self.batches:
            raise UsageError("no batch is given; it must be at least one, as in 1")
        for batch in self.batches:
            if not 1 <= batch <= LARGEST_BATCH:
                raise UsageError(f"batch is {batch}; it must lie between 1 and {LARGEST_BATCH}")
        if not self.sizes:
            raise UsageError("no size is given; it must be at least one, as in 128x128")
        for size in self.sizes:
            if min(size) < 1 or max(size) > LARGEST_SIDE:
                raise UsageError(f"size is {size}; sides must lie between 1 and {LARGEST_SIDE}")
