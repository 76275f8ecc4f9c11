"""The script for a rented GPU runs its steps in their order, each within its time, whatever the one before did."""

import re
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "tools" / "gpu_session.sh"
STEPS = (
    *("machine", "packages", "configure", "build", "install", "self-test", "bench-gpu", "tests", "profile"),
    *(f"sanitizer-{tool}" for tool in ("racecheck", "memcheck", "synccheck", "initcheck")),
)

# Stand-ins for Python and CMake: they print what they are called with; some fail or hang.
PYTHON = r"""
case "$*" in
  *get_device_capability*) echo 90a-real; exit;;
  *"bench gpu"*) echo "the report"; exit 4;;
  *profile_step*) sleep 60;;
esac
echo "python $1 $2 $3"
"""


@pytest.fixture
def session(tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """The whole script with stand-ins, and eight seconds for all steps."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, script in {"python3": PYTHON, "cmake": 'echo "cmake $*"', "nvidia-smi": "", "nvcc": "exit 1"}.items():
        (programs / name).write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        (programs / name).chmod(0o755)
    (tmp_path / "wheels").mkdir()
    environment = {"PATH": f"{programs}:/usr/bin:/bin", "WHEELS": str(tmp_path / "wheels"), "LEFT_S": "12"}
    command = ["bash", str(SCRIPT), str(tmp_path / "out")]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=120)


def test_every_step_runs_or_says_why_not_and_its_output_stays(
    session: subprocess.CompletedProcess[str], tmp_path: Path
) -> None:
    summary = (tmp_path / "out" / "summary.txt").read_text().splitlines()
    assert tuple(line.partition(":")[0] for line in summary) == STEPS
    told = dict(line.split(": ", 1) for line in summary)
    assert told["build"].startswith("status 0, ")
    assert told["bench-gpu"].startswith("status 4, ")
    assert told["profile"].startswith("status 124, "), "it hangs, and is ended"
    assert told["sanitizer-initcheck"] == "left out, no time"
    assert (tmp_path / "out" / "bench-gpu.log").read_text() == "the report\n"
    assert "-DSRGAN_FAST_CUDA_ARCHITECTURES=90a-real" in (tmp_path / "out" / "configure.log").read_text()
    assert session.returncode == 1
    assert session.stdout.rstrip().endswith("\n".join(summary))


def test_its_programs_in_python_can_be_read_as_such() -> None:
    programs = re.findall(r"-c '([^']*)'", SCRIPT.read_text(encoding="utf-8"))
    assert len(programs) >= 4
    for program in programs:
        compile(program, str(SCRIPT), "exec")
    assert subprocess.run(["bash", "-n", str(SCRIPT)], check=False).returncode == 0
