"""What may still be allocated: the smallest of the machine, the container and the process."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from srgan_fast import memory


def test_it_is_less_than_the_machine_has_and_more_than_nothing() -> None:
    found = memory.available()
    assert found is None or 0 < found < 2**46


def _cgroup(root: Path, path: str, limit: str, used: int, inactive: int = 0) -> None:
    place = root / path
    place.mkdir(parents=True, exist_ok=True)
    (place / "memory.max").write_text(f"{limit}\n")
    (place / "memory.current").write_text(f"{used}\n")
    (place / "memory.stat").write_text(f"anon 5\ninactive_file {inactive}\n")


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree of control groups, this process in a/b."""
    read = Path.read_text

    def of_a_container(self: Path, *rest: Any, **more: Any) -> str:
        return "0::/a/b\n" if str(self) == "/proc/self/cgroup" else read(self, *rest, **more)

    monkeypatch.setattr(Path, "read_text", of_a_container)
    monkeypatch.setattr(memory, "_CGROUPS", tmp_path)
    monkeypatch.setattr(memory, "_last", (-1.0, None))
    return tmp_path


def test_a_container_limits_it_without_what_could_be_given_up(groups: Path) -> None:
    _cgroup(groups, "a/b", "1000", 700, 100)
    assert memory.available() == 400


def test_the_limit_of_an_outer_group_holds(groups: Path) -> None:
    _cgroup(groups, "a/b", "max", 700)
    _cgroup(groups, "a", "900", 850)
    assert memory.available() == 50


def test_without_limits_the_machine_decides(groups: Path) -> None:
    _cgroup(groups, "a/b", "max", 700)
    assert memory.available() == pytest.approx(memory._of_machine(), rel=0.5)


def test_an_answer_holds_for_some_milliseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, left = iter([0.0, 0.01, 0.03]), iter([5, 4])
    monkeypatch.setattr(memory, "_last", (-1.0, None))
    monkeypatch.setattr(memory, "read", lambda: next(left))
    monkeypatch.setattr(memory.time, "monotonic", lambda: next(clock))
    assert [memory.available() for _ in range(3)] == [5, 5, 4]


LIMITED = """
import resource
from pathlib import Path
import numpy as np
from srgan_fast.data.images import Image, write_image
from srgan_fast.memory import status_line
from srgan_fast.upscale import OutputOptions, Upscaler, plan_jobs, run_jobs

upscaler = Upscaler(backend="native")
write_image(Path("large.png"), Image(np.zeros((4000, 4000, 1), np.uint8)))
write_image(Path("small.png"), Image(np.zeros((9, 9, 1), np.uint8)))
list(run_jobs(plan_jobs(["small.png"], "warm", OutputOptions()).jobs, upscaler, OutputOptions()))
used = status_line(Path("/proc/self/status"), "VmSize")
resource.setrlimit(resource.RLIMIT_AS, (used + (400 << 20), resource.RLIM_INFINITY))
thrice = OutputOptions(outscale=3)  # resized results are computed as a whole
for result in run_jobs(plan_jobs(["large.png", "small.png"], "out", thrice).jobs, upscaler, thrice):
    print(result.status, result.message)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="address space is limited there only")
def test_a_real_limit_of_the_process_refuses_the_large_image_and_not_the_small_one(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    large, small = done.stdout.splitlines()
    assert large.startswith("failed large.png: an image of 4000x4000 pixels"), done
    assert "GiB are available; cut it into parts" in large
    assert small == "done "


def test_memory_that_was_used_once_is_in_the_peak_and_is_not_inherited() -> None:
    code = """
import numpy as np
from srgan_fast.memory import peak_rss_mib as peak
before = peak()
np.ones(2**28, np.uint8)
print(before, peak())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    before, after = map(float, done.stdout.split())
    assert before < 150, "this process, with torch, is larger"
    assert after > before + 200
