"""The C++ tests pass in builds of their own: under sanitizers, and on another processor under emulation."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from srgan_fast import _engine

ROOT = Path(__file__).parents[2]
# CMake and Ninja are installed beside Python, whether or not the environment is active.
PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
# The sanitizers' builds compile all levels in a quarter of an hour, so usually only the highest that runs here, and AMX
# in emulation where AVX-512 does the rest of its work.
HIGHEST = [level for level in _engine.isas() if level != "amx"][-1]
FEW_LEVELS = ["avx512_bf16", "amx"] if HIGHEST == "avx512_bf16" else [HIGHEST]
# Minutes to compile under sanitizers; tests/native/test_cuda.py runs it without.
LONG = "cuda"
# Most of the time under the address sanitizer, so only where all levels are tested.
NIGHTLY = (LONG, "conv3x3", "conv9x9", "cuda_infer", "networks", "simt", "training")
ADDRESS = "address,undefined,float-cast-overflow"

Build = Callable[..., Path]


def need(*tools: str) -> None:
    if missing := [tool for tool in tools if shutil.which(tool, path=PATH) is None]:
        pytest.skip(f"not installed: {', '.join(missing)}")


def run(*command: str) -> str:
    result = subprocess.run(command, env=os.environ | {"PATH": PATH}, capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"{' '.join(command)}\n{result.stdout}{result.stderr}"
    return result.stdout


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    def configure_and_build(name: str, *options: str, targets: tuple[str, ...] = ("all",)) -> Path:
        need("cmake", "ninja", "ctest")
        folder = tmp_path_factory.mktemp(name)
        generic = ("-DSRGAN_FAST_PYTHON=OFF", "-DSRGAN_FAST_TESTS=ON")
        run("cmake", "-S", str(ROOT), "-B", str(folder), "-G", "Ninja", *generic, *options)
        run("cmake", "--build", str(folder), "--target", *targets)
        return folder

    return configure_and_build


def sanitized(build: Build, sanitizers: str, levels: Sequence[str], *options: str, **keywords: tuple[str, ...]) -> Path:
    chosen = ";".join(levels)
    return build(
        sanitizers.split(",", maxsplit=1)[0],
        f"-DSRGAN_FAST_SANITIZE={sanitizers}",
        f"-DSRGAN_FAST_ISAS={chosen}",
        "-DSRGAN_FAST_EMULATE_AMX=ON",
        *options,
        **keywords,
    )


@pytest.fixture(scope="module")
def address_build(build: Build) -> Path:
    tests = re.findall(r"^ *add_cpp_test\((\w+)", (ROOT / "csrc" / "tests" / "CMakeLists.txt").read_text("utf-8"), re.M)
    targets = tuple(f"test_{name}" for name in tests if name not in NIGHTLY)
    return sanitized(build, ADDRESS, FEW_LEVELS, "-DSRGAN_FAST_FEW_CASES=ON", targets=targets)


def passes(folder: Path, *options: str) -> None:
    jobs = str(os.cpu_count() or 1)
    report = run("ctest", "--test-dir", str(folder), "-j", jobs, "--output-on-failure", "--no-tests=error", *options)
    assert "100% tests passed" in report


def share_no_function(folder: Path) -> None:
    # Of an inline function that several objects hold, such as one of the standard library, the linker keeps any: one
    # compiled for AVX-512 would run on processors without it. Barely optimised, as here, hardly anything is inlined.
    need("nm")
    found = 0
    for objects in (folder / "CMakeFiles").glob("srgan_fast_cpu_*.dir"):
        level = re.sub(r"^srgan_fast_cpu_(training_(?=.))?", "", objects.stem)
        if level == "training":  # the library around the levels' objects, compiled for any processor
            continue
        for compiled in objects.rglob("*.o"):
            symbols = run("nm", "--defined-only", str(compiled)).splitlines()
            shared = [line.split()[-1] for line in symbols if re.search(r" [Wu] ", line)]
            own = re.compile(rf"_ZZ?NK?10srgan_fast3cpu{len(level)}{level}")
            strangers = [name for name in shared if not own.match(name)]
            assert not strangers, f"{compiled.name} for {level}: {strangers}"
            found += 1
    assert found


def test_cpp_tests_pass_under_the_address_and_undefined_behaviour_sanitizers(address_build: Path) -> None:
    passes(address_build, "-E", f"^({'|'.join(NIGHTLY)})$")


@pytest.mark.fuzz
def test_all_levels_pass_under_the_address_and_undefined_behaviour_sanitizers(build: Build) -> None:
    folder = sanitized(build, ADDRESS, ["all"])
    passes(folder)
    share_no_function(folder)


# What shares memory between threads; the others hand out tasks through the pool alone, and take minutes to compile.
THREADED = ("pool", "turns", "engine")


@pytest.mark.parametrize(
    ("levels", "tests"),
    [
        pytest.param(FEW_LEVELS, THREADED, id="few"),
        pytest.param(["all"], (*THREADED, "networks", "training"), id="all", marks=pytest.mark.fuzz),
    ],
)
def test_threads_pass_under_the_thread_sanitizer(build: Build, levels: list[str], tests: tuple[str, ...]) -> None:
    folder = sanitized(build, "thread", levels, targets=tuple(f"test_{name}" for name in tests))
    passes(folder, "-R", "|".join(f"^{name}$" for name in tests))


def test_cpp_tests_pass_on_aarch64_under_emulation(build: Build) -> None:
    need("aarch64-linux-gnu-g++", "qemu-aarch64")
    passes(build("aarch64", f"-DCMAKE_TOOLCHAIN_FILE={ROOT}/cmake/aarch64.cmake"))


def test_levels_share_no_function_that_the_linker_might_take_from_the_wrong_one(address_build: Path) -> None:
    share_no_function(address_build)
