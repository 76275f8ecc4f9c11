"""The machine that a figure belongs to, and how busy others keep it."""

import importlib.metadata
import os
import platform
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import srgan_fast
from srgan_fast.bench.report import Environment
from srgan_fast.runtime.processor import describe_processor
from srgan_fast.runtime.registry import usable_cpus

PACKAGES = (
    *("numpy", "torch", "onnx", "onnxruntime", "openvino", "nncf", "MNN", "ncnn", "pnnx"),
    *("opencv-python-headless", "zentorch", "iree-base-runtime"),
)
_MEMINFO = Path("/proc/meminfo")
_VARIABLES = ("OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "ONEDNN_", "DNNL_", "SRGAN_FAST_")

FEWEST_ROUNDS_TO_QUOTE = 7
# Shares of the CPUs: above it, somebody else is at work.
BUSY_LOAD = 0.2
BUSY_SHARE = 0.05


def describe_machine() -> Environment:
    """All that is recorded, as it is now."""
    model, flags = describe_processor()
    return Environment(
        cpu=model,
        cpu_flags=flags,
        cpus=usable_cpus(),
        memory_mib=_kib_line(_MEMINFO, "MemTotal"),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        versions={"srgan_fast": srgan_fast.__version__, **_versions()},
        variables={k: v for k, v in sorted(os.environ.items()) if k.startswith(_VARIABLES)},
        load_average=list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
    )


def available_mib() -> float | None:
    """Memory that can be had without swapping, where the system tells."""
    return _kib_line(_MEMINFO, "MemAvailable")


def peak_rss_mib() -> float | None:
    """The most memory that this process ever held.

    Not `getrusage`: on Linux its maximum outlives exec, so that a child begins with its parent's.
    """
    return _kib_line(Path("/proc/self/status"), "VmHWM")


def warn_about_start(environment: Environment, threads: int) -> list[str]:
    """Why figures of a run that begins now may not be worth quoting."""
    load = (environment.load_average or [0.0])[0]
    busy = f"the machine is busy: load average {load:.2f} over the last minute; stop what else runs"
    shared = f"{threads} threads share {environment.cpus} CPUs"
    return [busy] * (load > BUSY_LOAD * environment.cpus) + [shared] * (threads > environment.cpus)


def warn_about_rounds(rounds: int) -> list[str]:
    """Whether there were too few."""
    few = f"{rounds} rounds are too few to quote; take {FEWEST_ROUNDS_TO_QUOTE} or more"
    return [few] * (rounds < FEWEST_ROUNDS_TO_QUOTE)


def warn_about_neighbours(other_cpus: float | None) -> list[str]:
    """Whether what `Neighbours` found in the rounds makes them not worth quoting."""
    busy = (other_cpus or 0.0) > BUSY_SHARE * usable_cpus()
    return [f"other processes used {other_cpus:.2f} CPUs during the rounds"] * busy


class Neighbours:
    """How many CPUs other processes kept busy until `cpus_taken`; children that run already (`workers`) are ours."""

    def __init__(self, workers: Iterable[int] = ()) -> None:
        self._workers = tuple(workers)
        self._wall, self._all, self._own = time.monotonic(), _busy_seconds(), self._our_seconds()

    def cpus_taken(self) -> float | None:
        """Busy seconds of the system that are not ours, over the time; None where the system does not tell."""
        now = _busy_seconds()
        if now is None or self._all is None:
            return None
        ours, passed = self._our_seconds() - self._own, time.monotonic() - self._wall
        return max(0.0, (now - self._all - ours) / max(passed, 1e-9))

    def _our_seconds(self) -> float:
        return _own_seconds() + sum(map(_seconds_of, self._workers))


def _own_seconds() -> float:
    """CPU seconds of this process, and of children that have ended and were waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _seconds_of(child: int) -> float:
    """The same of a child that was not waited for yet; 0 of one that was, which `_own_seconds` counts."""
    try:
        stat = Path(f"/proc/{child}/stat").read_text(encoding="utf-8")
    except OSError:
        return 0.0
    times = stat.rpartition(")")[2].split()[11:15]  # proc(5); the name before them may hold blanks
    return sum(map(int, times)) / os.sysconf("SC_CLK_TCK")


def _busy_seconds() -> float | None:
    """CPU seconds that anybody used on this machine, what a hypervisor took away included."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return None
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, stat.read_text().split(maxsplit=9)[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _kib_line(path: Path, name: str) -> float | None:
    """MiB of a line such as `MemTotal: 1024 kB`; None where the system does not tell."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{name}:")), None)


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found
