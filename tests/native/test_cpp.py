"""The C++ tests pass in builds of their own: under sanitizers, and on another processor under emulation."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# CMake and Ninja are installed beside Python, whether or not the environment is active.
PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
LEVELS = ("baseline", "avx2", "avx512", "avx512_bf16", "amx")

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


@pytest.fixture(scope="module")
def address_build(build: Build) -> Path:
    return build(
        "address", "-DSRGAN_FAST_SANITIZE=address,undefined,float-cast-overflow", "-DSRGAN_FAST_EMULATE_AMX=ON"
    )


def passes(folder: Path, *options: str) -> None:
    jobs = str(os.cpu_count() or 1)
    report = run("ctest", "--test-dir", str(folder), "-j", jobs, "--output-on-failure", "--no-tests=error", *options)
    assert "100% tests passed" in report


def test_cpp_tests_pass_under_the_address_and_undefined_behaviour_sanitizers(address_build: Path) -> None:
    passes(address_build)


def test_threads_pass_under_the_thread_sanitizer(build: Build) -> None:
    folder = build(
        "thread",
        "-DSRGAN_FAST_SANITIZE=thread",
        "-DSRGAN_FAST_EMULATE_AMX=ON",
        targets=("test_pool", "test_engine", "test_networks", "test_training"),
    )
    passes(folder, "-R", "pool|engine|networks|training")


def test_cpp_tests_pass_on_aarch64_under_emulation(build: Build) -> None:
    need("aarch64-linux-gnu-g++", "qemu-aarch64")
    passes(build("aarch64", f"-DCMAKE_TOOLCHAIN_FILE={ROOT}/cmake/aarch64.cmake"))


def test_levels_share_no_function_that_the_linker_might_take_from_the_wrong_one(address_build: Path) -> None:
    # Of an inline function that several objects hold, such as one of the standard library, the linker keeps any: one
    # compiled for AVX-512 would run on processors without it. Barely optimised, as here, hardly anything is inlined.
    need("nm")
    found = 0
    for level in LEVELS:
        for compiled in (address_build / "CMakeFiles" / f"srgan_fast_cpu_{level}.dir").rglob("*.o"):
            symbols = run("nm", "--defined-only", str(compiled)).splitlines()
            shared = [line.split()[-1] for line in symbols if re.search(r" [Wu] ", line)]
            own = re.compile(rf"_ZZ?NK?10srgan_fast3cpu{len(level)}{level}")
            strangers = [name for name in shared if not own.match(name)]
            assert not strangers, f"{compiled.name} for {level}: {strangers}"
            found += 1
    if found == 0:
        pytest.skip("this processor has one level")
