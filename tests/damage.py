"""Damage to files, from seeds, and programs that read damaged files in a process of their own."""

import random
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]


class Fuzzed(NamedTuple):
    """What a program found.

    Attributes:
        accepted: number of damaged files that could be read.
        slowest: most seconds of processor time for one file.
        peak: most bytes that were resident.
    """

    accepted: int
    slowest: float
    peak: int


def fuzz(program: Path, kind: str, first: int, count: int) -> Fuzzed:
    """Runs a program that damages a file of a kind in `count` ways, and fails with its last words if it dies.

    Args:
        program: called with kind, first and count; its last line is `accepted N slowest SECONDS peak BYTES`.
        kind: kind of file.
        first: number of the first damage.
        count: how many.
    """
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); sys.argv = sys.argv[1:]; import runpy; "
    code += f"runpy.run_path({str(program)!r}, run_name='__main__')"
    command = [sys.executable, "-X", "faulthandler", "-c", code, str(program), kind, str(first), str(count)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    *_, last = ["nothing", *done.stdout.splitlines()]
    assert done.returncode == 0, f"{kind}, {last}: exit code {done.returncode}\n{done.stderr[-3000:]}"
    assert done.stderr == "", "other libraries' messages are not the user's"
    _, accepted, _, slowest, _, peak = last.split()
    return Fuzzed(int(accepted), float(slowest), int(peak))


def damaged(data: bytes, rng: random.Random) -> bytes:
    """A few bytes set, cut out, copied or added."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5))):
        at, size = rng.randrange(len(data) + 1), rng.choice((1, 1, 2, 4, 16, 200))
        match rng.randrange(5):
            case 0:
                data[at : at + size] = rng.randbytes(size)
            case 1:
                del data[at : at + size]
            case 2:
                data[at:at] = data[at : at + size]
            case 3:
                data[at : at + 1] = bytes([rng.choice((0, 1, 0x7F, 0x80, 0xFF))])
            case _:
                data[at:at] = rng.randbytes(size)
    return bytes(data)
