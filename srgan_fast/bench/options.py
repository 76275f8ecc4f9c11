"""What is to be measured, checked before anything slow begins."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from srgan_fast.errors import UsageError
from srgan_fast.models import DEFAULT_MODEL

BenchPrecision = Literal["fp32", "bf16", "fp16", "int8"]
PRECISIONS: tuple[BenchPrecision, ...] = get_args(BenchPrecision)

LARGEST_SIDE = 32768
FEWEST_ROUNDS_TO_QUOTE = 7


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
        backends: of this package's registry; `all`, `none`, or empty for those that wrap no peer.
        peers: names of rows or of runtimes; `all`, `none`, or empty for all.
        precisions: rows of others are not measured; empty for all.
        threads: for every row; all CPUs that this process may use if None.
        rounds: timed runs of each row.
        baseline: row that ratios refer to; the first of our own in fp32 if None, else the fastest.
        picture: that is upscaled; a sample of this project if None.
        calibration: folder of pictures for int8; this project's samples if None.
        cold_start: also time whole processes, and the import of each runtime.
        memory: also run each row in a process of its own: peak memory, and its time with nothing else loaded.

    Raises:
        UsageError: values out of range.
    """

    model: str | Path = DEFAULT_MODEL
    sizes: tuple[Size, ...] = (Size(128, 128),)
    backends: tuple[str, ...] = ()
    peers: tuple[str, ...] = ()
    precisions: tuple[BenchPrecision, ...] = ()
    threads: int | None = None
    rounds: int = 9
    baseline: str | None = None
    picture: Path | None = None
    calibration: Path | None = None
    cold_start: bool = False
    memory: bool = False

    def __post_init__(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise UsageError(f"threads is {self.threads}; it must be at least 1")
        if self.rounds < 1:
            raise UsageError(f"rounds is {self.rounds}; it must be at least 1")
        if not self.sizes:
            raise UsageError("no size is given; it must be at least one, as in 128x128")
        for size in self.sizes:
            if min(size) < 1 or max(size) > LARGEST_SIDE:
                raise UsageError(f"size is {size}; sides must lie between 1 and {LARGEST_SIDE}")
        for precision in self.precisions:
            if precision not in PRECISIONS:
                raise UsageError(f"precision is {precision!r}; there are {', '.join(PRECISIONS)}")
