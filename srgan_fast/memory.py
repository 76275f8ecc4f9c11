"""Memory that this process may still use: the minimum of what machine, container and process limits allow; its peak."""

import re
import time
from contextlib import suppress
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
# Seconds for which a value is reused. Each image needs it four times within milliseconds; reading it takes 0.35 ms,
# which was an eighth of the time for a small image apart from its network.
_HOLDS = 0.02
_last: tuple[float, int | None] = (-_HOLDS, None)


def available() -> int | None:
    """Bytes that can be allocated before the process fails or is killed; None if unknown."""
    global _last  # noqa: PLW0603 (a pair, replaced as one: threads see the old or the new)
    when, value = _last
    now = time.monotonic()
    if now - when >= _HOLDS:
        value = read()
        _last = now, value
    return value


def read() -> int | None:
    """Reads `available` again."""
    found = [value for value in (_of_machine(), _of_container(), _of_process()) if value is not None]
    return max(0, min(found)) if found else None


def status_line(path: Path, name: str) -> int | None:
    """Value of a line such as `MemAvailable: 1234 kB`, in bytes."""
    with suppress(OSError):
        match = re.search(rf"^{name}:\s+(\d+) kB", path.read_text(), re.MULTILINE)
        return int(match[1]) * 1024 if match else None
    return None


def peak_rss_mib() -> float | None:
    """Peak resident memory of this process in MiB; None if the system does not report it.

    Not `getrusage`: on Linux its maximum survives exec, so a child starts with its parent's.
    """
    peak = status_line(Path("/proc/self/status"), "VmHWM")
    return None if peak is None else peak / 2**20


def _of_machine() -> int | None:
    return status_line(Path("/proc/meminfo"), "MemAvailable")


def _of_process() -> int | None:
    try:
        import resource  # noqa: PLC0415 (Unix only)
    except ImportError:
        return None
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    used = status_line(Path("/proc/self/status"), "VmSize")
    return None if limit == resource.RLIM_INFINITY or used is None else limit - used


def _of_container() -> int | None:
    """Limit of control groups, version 2 or 1; limits of outer groups apply to inner ones, too."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    found: list[int] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, names = _CGROUPS, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            root = _CGROUPS / "memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        place = root / path.lstrip("/")
        for folder in (place, *place.parents):
            left = _left_in(folder, names)
            found += [] if left is None else [left]
            if folder == root:
                break
    return min(found, default=None)


def _left_in(folder: Path, names: tuple[str, str, str]) -> int | None:
    with suppress(OSError, ValueError):  # "max" means no limit
        limit, used = (int((folder / name).read_text()) for name in names[:2])
        # Inactive page cache is reclaimed before anything is killed.
        match = re.search(rf"^{names[2]} (\d+)$", (folder / "memory.stat").read_text(), re.MULTILINE)
        return limit - used + (int(match[1]) if match else 0)
    return None
