"""Which tiles, grids and memory the CUDA kernels take for a call: asked of csrc/kernels/cuda/plan.h itself.

A small C++ program (csrc/tests/print_plan.cpp) is compiled with the kernels' headers, so that nothing is written down
twice: whoever changes a tile changes the prediction.
"""

import json
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from srgan_fast.bench.gpu.roofline.calls import HALF, Call, InferCall
from srgan_fast.bench.gpu.roofline.ceilings import KIB, Ceiling
from srgan_fast.errors import UsageError

COMPILER = "g++"
_RESERVED = KIB  # bytes of shared memory that CUDA takes of each block on these GPUs ("CUDA C++ Programming Guide")


@dataclass(frozen=True, slots=True)
class Plan:
    """How a call is launched.

    Attributes:
        rows: of a tile: pixels of the computed map; of a weight gradient output channels.
        columns: the same; of a weight gradient input channels.
        threads: of a block.
        resident: blocks of a multiprocessor for which the registers suffice at least.
        shared: bytes of a block.
        grid: blocks in the three directions.
        weight_rows: computed channels (of a weight gradient output channels) up to whole blocks.
        weight_columns: input channels up to whole blocks.
        channels: of a block.
        depth: input channels of a chunk.
        step: input pixels from one computed pixel to the next.
        spread: computed pixels from one of a phase to the next.
        reach: input pixels that taps reach: the first row and column, from the pixel, and how many of each.
        taps: of each phase.
        window: bytes of a tile's input in shared memory.
        tiles: of pixels; more than the grid has blocks where those keep their weights.
        halo: columns of a tile that are other tiles' results.
        keeps: whether blocks keep the weights of all taps in shared memory and go from tile to tile.
        inner: of a residual block in one kernel: pixels of the map between that are computed for a tile.
        tap_rows: rows of taps of a block of a weight gradient.
        side: of a weight gradient's tiles.
        splits: shares of a weight gradient's tiles.
        stages: of a weight gradient, tiles in shared memory at once.
    """

    rows: int
    columns: int
    threads: int
    resident: int
    shared: int
    grid: tuple[int, int, int]
    weight_rows: int
    weight_columns: int
    channels: int = 0
    depth: int = 0
    step: int = 0
    spread: int = 0
    reach: tuple[int, int, int, int] = (0, 0, 0, 0)
    taps: tuple[int, ...] = ()
    window: int = 0
    tiles: int = 0
    halo: int = 0
    keeps: bool = False
    inner: int = 0
    tap_rows: int = 0
    side: int = 0
    splits: int = 0
    stages: int = 0

    @property
    def blocks(self) -> int:
        """Of the launch."""
        return self.grid[0] * self.grid[1] * self.grid[2]

    @property
    def packed(self) -> int:
        """Bytes of weights in the order of fetching, of all taps."""
        return sum(self.taps) * self.weight_rows * self.weight_columns * HALF

    def at_once(self, ceiling: Ceiling) -> int:
        """Blocks that a multiprocessor has at once, at least."""
        by_memory = ceiling.shared_all // (self.shared + _RESERVED)
        return max(1, min(by_memory, self.resident, ceiling.threads // self.threads))

    def waves(self, ceiling: Ceiling) -> float:
        """How often the grid fills the device."""
        return self.blocks / (self.at_once(ceiling) * ceiling.multiprocessors)

    def rounds(self, ceiling: Ceiling) -> int:
        """Blocks of the multiprocessor that has most; of blocks that go from tile to tile their tiles, at least."""
        work = (self.tiles or self.grid[0]) * self.grid[1] * self.grid[2]
        return -(-work // ceiling.multiprocessors)


@dataclass(frozen=True, slots=True)
class LibraryPlan:
    """A call whose products torch's library computes, with our passes around them.

    Attributes:
        z_blocks: of a pass over z.
        y_blocks: of one over y.
    """

    z_blocks: int
    y_blocks: int


class Planner:
    """Asks plan.h; compiled when it is made.

    Args:
        csrc: the folder of the C++ sources.

    Raises:
        UsageError: there is no compiler, no such folder, or the program does not compile.
    """

    def __init__(self, csrc: Path) -> None:
        source = csrc / "tests" / "print_plan.cpp"
        if not source.is_file():
            raise UsageError(f"{source} is not there; predictions need a checkout of the sources")
        compiler = shutil.which(COMPILER)
        if compiler is None:
            raise UsageError(f"predictions ask the kernels' own headers, which needs {COMPILER}; install it")
        self._folder = TemporaryDirectory()
        self._program = Path(self._folder.name) / "print_plan"
        command = [compiler, "-std=c++20", "-Wno-unknown-pragmas", f"-I{csrc}", str(source), "-o", str(self._program)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            errors = [line for line in done.stderr.splitlines() if "error" in line] or [f"{COMPILER} failed"]
            raise UsageError(f"{source} does not compile: {errors[0]}")

    def plan(self, calls: Iterable[Call | InferCall], ceiling: Ceiling) -> dict[Call | InferCall, Plan | LibraryPlan]:
        """The plan of each call on a device.

        Raises:
            UsageError: plan.h has no answer.
        """
        calls = list(dict.fromkeys(calls))
        command = [str(self._program), str(ceiling.multiprocessors), str(ceiling.shared_block)]
        text = "".join(_line(call) + "\n" for call in calls)
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
        answers = [_plan(json.loads(line)) for line in done.stdout.splitlines()]
        if done.returncode != 0 or len(answers) != len(calls):
            raise UsageError(f"print_plan answered {len(answers)} of {len(calls)} convolutions")
        return dict(zip(calls, answers, strict=True))


def _line(call: Call | InferCall) -> str:
    numbers = [call.batch, call.channels, call.out, call.height, call.width]
    if isinstance(call, Call):
        numbers += [call.taps, call.stride, call.transforms, call.residual, call.two_gradients]
    return " ".join([call.direction, *(str(int(number)) for number in numbers)])


def _plan(values: dict[str, Any]) -> Plan | LibraryPlan:
    if values.pop("library", False):
        return LibraryPlan(**values)
    lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
    return Plan(**{**values, **lists})
