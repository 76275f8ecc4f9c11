"""The C++ tests pass in a build of their own, under the address and undefined-behaviour sanitizers."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_cpp_tests_pass_under_sanitizers(tmp_path: Path) -> None:
    # CMake and Ninja are installed beside Python, whether or not the environment is active.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    tools = {name: shutil.which(name, path=path) for name in ("cmake", "ninja", "ctest")}
    if missing := [name for name, tool in tools.items() if tool is None]:
        pytest.skip(f"not installed: {', '.join(missing)}")

    def run(*command: str) -> str:
        result = subprocess.run(command, env=os.environ | {"PATH": path}, capture_output=True, text=True, check=False)
        assert result.returncode == 0, f"{' '.join(command)}\n{result.stdout}{result.stderr}"
        return result.stdout

    run(
        *(str(tools["cmake"]), "-S", str(ROOT), "-B", str(tmp_path), "-G", "Ninja"),
        *("-DSRGAN_FAST_PYTHON=OFF", "-DSRGAN_FAST_TESTS=ON", "-DSRGAN_FAST_SANITIZE=address,undefined"),
    )
    run(str(tools["cmake"]), "--build", str(tmp_path))
    report = run(str(tools["ctest"]), "--test-dir", str(tmp_path), "--output-on-failure", "--no-tests=error")
    assert "100% tests passed" in report
