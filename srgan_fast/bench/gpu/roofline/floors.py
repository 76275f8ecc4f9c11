"""From passes to floors: no less time than the products take at a GPU's peak, nor than the bytes take on their way.

The roofline of Williams, Waterman and Patterson 2009, "Roofline: an insightful visual performance model", for one
kernel after another; starting them costs nothing here.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from srgan_fast.bench.gpu.roofline.calls import Pass
from srgan_fast.bench.gpu.roofline.ceilings import Ceiling


@dataclass(frozen=True, slots=True)
class Floor:
    """What some passes take at least.

    Attributes:
        launches: kernels.
        flops: on tensor cores, what is computed outside of images and channels included.
        bytes: each read and written once in a pass.
        moved: bytes that blocks ask for.
        seconds: if what blocks read again comes from a cache.
        uncached: seconds if all of it comes from memory.
    """

    launches: int
    flops: int
    bytes: int
    moved: int
    seconds: float
    uncached: float


def floor_of(passes: Iterable[Pass], ceiling: Ceiling) -> Floor:
    """Adds up passes that run one after another.

    A pass whose blocks are known takes as long as the multiprocessor that has most to do; the peak belongs to all of
    them together.
    """
    passes = list(passes)
    return Floor(
        len(passes),
        sum(p.flops for p in passes),
        sum(p.bytes for p in passes),
        sum(_moved(p) for p in passes),
        sum(_seconds(p, p.bytes, ceiling) for p in passes),
        sum(_seconds(p, _moved(p), ceiling) for p in passes),
    )


def _moved(p: Pass) -> int:
    return p.bytes if p.moved is None else max(p.bytes, p.moved)


def _seconds(p: Pass, size: int, ceiling: Ceiling) -> float:
    flops = max(p.flops, (p.busiest or 0) * ceiling.multiprocessors)
    return max(flops / (1e12 * ceiling.tflops), size / (1e9 * ceiling.gb_s))
