"""The machine that figures belong to, and how busy other processes keep it."""

import os
import platform
import time
from collections.abc import Iterable
from pathlib import Path

import srgan_fast
from srgan_fast.bench.report import Environment
from srgan_fast.memory import status_line
from srgan_fast.runtime.installed import version_of
from srgan_fast.runtime.processor import describe_processor
from srgan_fast.runtime.registry import usable_cpus

PACKAGES = (
    *("numpy", "torch", "onnx", "onnxruntime", "openvino", "nncf", "MNN", "ncnn", "pnnx"),
    *("opencv-python-headless", "zentorch", "iree-base-runtime"),
)
_VARIABLES = ("OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "ONEDNN_", "DNNL_", "SRGAN_FAST_")

FEWEST_ROUNDS_TO_QUOTE = 7
# Fraction of the CPUs; above it, other processes are running.
BUSY_LOAD = 0.2
BUSY_SHARE = 0.05


def describe_machine() -> Environment:
    """Describes the machine in its current state."""
    model, flags = describe_processor()
    memory = status_line(Path("/proc/meminfo"), "MemTotal")
    versions = {package: version for package in PACKAGES if (version := version_of(package))}
    return Environment(
        cpu=model,
        cpu_flags=flags,
        cpus=usable_cpus(),
        memory_mib=None if memory is None else memory / 2**20,
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        versions={"srgan_fast": srgan_fast.__version__, **versions},
        variables={k: v for k, v in sorted(os.environ.items()) if k.startswith(_VARIABLES)},
        load_average=list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
    )


def warn_about_start(environment: Environment, threads: int) -> list[str]:
    """Reasons why figures of a run that starts now may not be worth quoting."""
    load = (environment.load_average or [0.0])[0]
    busy = f"the machine is busy: load average {load:.2f} over the last minute; stop what else runs"
    shared = f"{threads} threads share {environment.cpus} CPUs"
    return [busy] * (load > BUSY_LOAD * environment.cpus) + [shared] * (threads > environment.cpus)


def warn_about_rounds(rounds: int) -> list[str]:
    """A warning if there were too few rounds."""
    few = f"{rounds} rounds are too few to quote; take {FEWEST_ROUNDS_TO_QUOTE} or more"
    return [few] * (rounds < FEWEST_ROUNDS_TO_QUOTE)


def warn_about_neighbours(other_cpus: float | None) -> list[str]:
    """A warning if `Neighbours` found other processes during the rounds."""
    busy = (other_cpus or 0.0) > BUSY_SHARE * usable_cpus()
    return [f"other processes used {other_cpus:.2f} CPUs during the rounds"] * busy


class Neighbours:
    """Measures how many CPUs other processes use; children that run already (`workers`) count as ours."""

    def __init__(self, workers: Iterable[int] = ()) -> None:
        self._workers = tuple(workers)
        self._wall, self._all, self._own = time.monotonic(), _busy_seconds(), self._our_seconds()

    def cpus_taken(self) -> float | None:
        """CPUs that other processes used on average; None if the system does not report it."""
        now = _busy_seconds()
        if now is None or self._all is None:
            return None
        ours, passed = self._our_seconds() - self._own, time.monotonic() - self._wall
        return max(0.0, (now - self._all - ours) / max(passed, 1e-9))

    def _our_seconds(self) -> float:
        return _own_seconds() + sum(map(_seconds_of, self._workers))


def _own_seconds() -> float:
    """CPU seconds of this process and of children that have been waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _seconds_of(child: int) -> float:
    """CPU seconds of a child that was not waited for yet; otherwise 0, since `_own_seconds` counts it."""
    try:
        stat = Path(f"/proc/{child}/stat").read_text(encoding="utf-8")
    except OSError:
        return 0.0
    times = stat.rpartition(")")[2].split()[11:15]  # proc(5); the name before them may contain blanks
    return sum(map(int, times)) / os.sysconf("SC_CLK_TCK")


def _busy_seconds() -> float | None:
    """CPU seconds used by all processes, including time stolen by a hypervisor."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return None
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, stat.read_text().split(maxsplit=9)[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
