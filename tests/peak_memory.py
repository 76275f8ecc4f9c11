"""Most memory that a process had resident.

`getrusage` is of no use on Linux: it also counts what a process was before it ran its program, a copy of its parent, so
that nothing that takes less than the parent once took is ever noticed.
"""

import os
import sys
from pathlib import Path

from srgan_fast.memory import peak_rss_mib

ROOT = Path(__file__).parents[1]


def peak_memory() -> int:
    """Bytes, since the program began or since `reset_peak`."""
    peak = peak_rss_mib()
    if peak is not None:
        return round(peak * 2**20)
    import resource  # not on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def reset_peak() -> int:
    """Sets the peak to what is resident now, where the system can do that; returns the peak."""
    if sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5")
    return peak_memory()


def with_tests() -> dict[str, str]:
    """Environment for a process that imports this module as `tests.peak_memory`."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
