"""What the tests of the native engine share: layers as it takes them, and Python processes that may crash or hang.

Children import this file by its path, so it imports nothing of the tests and no torch.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from srgan_fast import _engine

Layer = tuple[Any, ...]  # name, inputs, weight, bias, slope, residuals, shuffle

# Far longer than any of them takes, as machines can be busy; a process that hangs fails by it.
TIMEOUT = 120


def layers(
    channels: int = 16, blocks: int = 1, stages: int = 2, slopes: int | None = None, seed: int = 0
) -> dict[str, Any]:
    """All arguments of an engine but `precision` and `threads`: an SRGAN generator of that size, random weights."""
    rng = np.random.default_rng(seed)
    made: list[Layer] = []

    def conv(
        name: str, out: int, into: int, size: int, count: int, residual: int | None = None, shuffle: int = 1
    ) -> int:
        weight = rng.normal(0, 1 / np.sqrt(into * size * size), (out, into, size, size)).astype(np.float32)
        bias = rng.uniform(-0.1, 0.1, out).astype(np.float32)
        slope = rng.uniform(0.05, 0.4, count).astype(np.float32) if count else None
        residuals = [] if residual is None else [(residual, 1.0)]
        made.append((name, (len(made),), weight, bias, slope, residuals, shuffle))
        return len(made)  # the number of the result

    c = channels
    x = head = conv("head", c, 3, 9, c if slopes is None else slopes)
    for i in range(blocks):
        conv(f"block {i}, first", c, c, 3, c if slopes is None else slopes)
        x = conv(f"block {i}, second", c, c, 3, 0, residual=x)
    conv("fuse", c, c, 3, 0, residual=head)
    for i in range(stages):
        conv(f"upsample {i}", 4 * c, c, 3, 4 * c if slopes is None else slopes, shuffle=2)
    conv("tail", 3, c, 9, 0)
    same = ((1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    return {
        "layers": made,
        "channels": 3,
        "unshuffle": 1,
        "skip": "none",
        "input_map": same,
        "output_map": same,
        "tanh": False,
    }


def engine(threads: int = 1, precision: str = "fp32", **size: Any) -> _engine.Engine:
    """An engine with the random weights of `layers`."""
    return _engine.Engine(**layers(**size), threads=threads, precision=precision)


def noise(height: int, width: int, dtype: Any = np.float32, seed: int = 0) -> np.ndarray:
    """An image as an engine takes it: (3, H, W) in 0..1 if float, else (H, W, 3)."""
    rng = np.random.default_rng(seed)
    if dtype == np.float32:
        return rng.random((3, height, width), np.float32)
    return rng.integers(0, np.iinfo(dtype).max, (height, width, 3), dtype, endpoint=True)


def in_new_python(code: str, *arguments: object, timeout: float = TIMEOUT, **environment: str) -> str:
    """What a Python process prints; it fails by any exit but 0, so by every crash, and by hanging."""
    start = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", start + code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout
