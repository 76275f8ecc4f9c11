"""The engine and its C++ tests compile for Windows and macOS with zig's clang; Windows' pass under wine.

Nothing here can run a program for macOS, and nothing has run on Windows itself: docs/releasing.md.
"""

import os
import re
import subprocess
import sys
from pathlib import Path
from shutil import which

import pytest

from srgan_fast import _engine

ROOT = Path(__file__).parents[2]
WINDOWS, MACS = "x86_64-windows-gnu", ("x86_64-macos", "aarch64-macos")
# CMake and Ninja are installed beside Python, whether or not the environment is active.
PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
# Everything but CUDA's kernels on the host, which switch stacks in ways of Linux's.
TESTS = ("resize", "conv3x3", "conv9x9", "training", "pool", "turns", "model", "networks", "engine")
# AMX's tiles are asked for on Linux alone.
WINDOWS_LEVELS = [level for level in _engine.isas() if level != "amx"]
# macOS saves the registers of AVX-512 only where a thread has used them, so nothing above AVX2 is chosen there.
MACS_LEVELS = ["baseline", "avx2"]


def zig() -> str:
    ziglang = pytest.importorskip("ziglang", reason="the extra wheels, which has ziglang, is not installed")
    return str(Path(ziglang.__file__).parent / "zig")


def run(*command: str, **variables: str) -> str:
    environment = {**os.environ, "PATH": PATH, **variables}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"{' '.join(command)}\n{result.stdout}{result.stderr}"
    return result.stdout


def build(target: str, levels: list[str], folder: Path) -> None:
    """Compiles and links the C++ tests."""
    compiler = zig()
    if missing := [tool for tool in ("cmake", "ninja", "ctest") if which(tool, path=PATH) is None]:
        pytest.skip(f"not installed: {', '.join(missing)}")
    cross = (f"-DCMAKE_TOOLCHAIN_FILE={ROOT}/cmake/zig.cmake", f"-DSRGAN_FAST_TARGET={target}")
    own = ("-DSRGAN_FAST_PYTHON=OFF", "-DSRGAN_FAST_TESTS=ON", f"-DSRGAN_FAST_ISAS={';'.join(levels)}")
    run("cmake", "-S", str(ROOT), "-B", str(folder), "-G", "Ninja", *cross, f"-DSRGAN_FAST_ZIG={compiler}", *own)
    run("cmake", "--build", str(folder), "--target", *(f"test_{name}" for name in TESTS))


def share_no_function(folder: Path, levels: list[str]) -> None:
    """Fails where two levels' objects define the same function, of which the linker would take any."""
    for level in levels:
        libraries = [folder / "CMakeFiles" / f"srgan_fast_cpu{of}_{level}.dir" for of in ("", "_training")]
        objects = [path for library in libraries for path in library.rglob("*.obj")]
        assert len(objects) > len(libraries)
        for compiled in objects:
            symbols = run("nm", "--defined-only", "--extern-only", str(compiled)).split("\n")
            names = [line.split()[-1] for line in symbols if line]
            own = f"10srgan_fast3cpu{len(level)}{level}"
            assert [name for name in names if own not in name] == [], f"{compiled.name} for {level}"


@pytest.mark.parametrize("target", [WINDOWS, *MACS])
def test_what_differs_between_systems_compiles_for_each(target: str, tmp_path: Path) -> None:
    compiler = zig()
    for source in ("processor", "system"):
        options = ["-target", target, "-std=c++20", "-Wall", "-Wextra", "-Werror", f"-I{ROOT}/csrc"]
        run(compiler, "c++", *options, "-c", f"{ROOT}/csrc/platform/{source}.cpp", "-o", str(tmp_path / "object"))


def test_only_platform_asks_which_system_it_is_compiled_for() -> None:
    system = re.compile(
        r"\b(_WIN32|__linux__|__APPLE__)\b|#include <(sys/|unistd|pthread|windows|malloc|process|cpuid)"
    )
    folders = [ROOT / "csrc" / name for name in ("engine", "imaging", "kernels/cpu", "kernels/reference", "torch")]
    sources = [path for folder in folders for path in folder.rglob("*") if path.suffix in (".h", ".cpp")]
    assert len(sources) > 50
    assert [path.name for path in sources if system.search(path.read_text(encoding="utf-8"))] == []


@pytest.mark.fuzz
def test_cpp_tests_pass_on_windows_under_wine(tmp_path: Path) -> None:
    if missing := [tool for tool in ("wine", "wineboot", "nm") if which(tool) is None]:
        pytest.skip(f"not installed: {', '.join(missing)} (Debian's packages wine, wine64 and binutils)")
    build(WINDOWS, WINDOWS_LEVELS, tmp_path / "build")
    share_no_function(tmp_path / "build", WINDOWS_LEVELS)
    variables = {"WINEPREFIX": str(tmp_path / "wine"), "WINEDEBUG": "-all"}
    run("wineboot", "--init", **variables)
    report = run(
        "ctest",
        "--test-dir",
        str(tmp_path / "build"),
        "--output-on-failure",
        "--no-tests=error",
        "-R",
        "|".join(f"^{name}$" for name in TESTS),
        **variables,
    )
    # CTest 4.4 no longer says how many failed.
    assert re.search(rf"^100% tests passed(, 0 tests failed)? out of {len(TESTS)}$", report, re.M)


@pytest.mark.fuzz
@pytest.mark.parametrize("target", MACS)
def test_cpp_tests_compile_and_link_for_macos(target: str, tmp_path: Path) -> None:
    build(target, MACS_LEVELS, tmp_path / "build")
    magic, processor = b"\xcf\xfa\xed\xfe", {"x86_64-macos": 0x01000007, "aarch64-macos": 0x0100000C}[target]
    for name in TESTS:
        header = (tmp_path / "build" / "csrc" / "tests" / f"test_{name}").read_bytes()[:8]
        assert header == magic + processor.to_bytes(4, "little"), "a 64-bit Mach-O file for that processor"
