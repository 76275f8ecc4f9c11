"""What a wheel holds follows from what the build finds: torch or none, nvcc or none, and which architectures.

setup.py and CMake decide as always, but only the configuration is run: building takes minutes for each answer. With
`-m fuzz` whole wheels are built, with nvcc and without.
"""

import os
import platform
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from srgan_fast import _engine

ROOT = Path(__file__).parents[2]
BESIDE_PYTHON = str(Path(sys.executable).parent)  # CMake and Ninja, whether or not the environment is active
PATH = [BESIDE_PYTHON, *os.environ.get("PATH", os.defpath).split(os.pathsep)]
ALL = {"sm_80", "sm_86", "sm_89", "sm_90a", "sm_100", "sm_120", "compute_120"}  # the last one is PTX
OF_THE_BUILD = (
    "CUDACXX",
    "CUDA_HOME",
    "SRGAN_FAST_CUDA_ARCHITECTURES",
    "SRGAN_FAST_BUILD_TYPE",
    "SRGAN_FAST_ISAS",
    "PYTHONPATH",
)

WITHOUT_TORCH = """
import importlib.util, runpy, sys
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "torch" else find(name, *rest)
runpy.run_path("setup.py", run_name="__main__")
"""

Environment = dict[str, str]
Configure = Callable[..., Path]


def environment(nvcc: bool, **variables: str) -> Environment:
    """Of a build that finds nvcc or does not."""
    path = [place for place in PATH if nvcc or not (Path(place) / "nvcc").exists()]
    for tool in ("cmake", "ninja", "c++", *(["nvcc"] if nvcc else [])):
        if shutil.which(tool, path=os.pathsep.join(path)) is None:
            pytest.skip(f"not installed{'' if nvcc else ' beside nvcc'}: {tool}")
    kept = {name: value for name, value in os.environ.items() if name not in OF_THE_BUILD}
    return {**kept, "PATH": os.pathsep.join(path), **variables}


@pytest.fixture
def configure(tmp_path: Path) -> Configure:
    """Runs setup.py with a CMake that configures, and neither builds nor installs; gives the build's folder."""

    def run(environment: Environment, python: tuple[str, ...] = ("setup.py",)) -> Path:
        stand_in, build = tmp_path / "bin" / "cmake", tmp_path / "build"
        stand_in.parent.mkdir(exist_ok=True)
        real = shutil.which("cmake", path=environment["PATH"])
        stand_in.write_text(
            f'#!/bin/sh\ncase "$1" in --build|--install) ;; *) exec {real} "$@" ;; esac\n', encoding="utf-8"
        )
        stand_in.chmod(0o755)
        path = f"{stand_in.parent}{os.pathsep}{environment['PATH']}"
        command = [sys.executable, *python, "build_ext", "--build-temp", str(build), "--build-lib", str(tmp_path)]
        done = subprocess.run(
            command, cwd=ROOT, env={**environment, "PATH": path}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return build

    return run


def modules(build: Path) -> set[str]:
    """Names of the Python modules that would be built and installed."""
    rules = (build / "build.ninja").read_text(encoding="utf-8")
    built = set(re.findall(r"^build (_\w+): phony ", rules, re.MULTILINE))
    installed = set(
        re.findall(r"/(_[A-Za-z_]+)\.[^/\"]*so\"", (build / "cmake_install.cmake").read_text(encoding="utf-8"))
    )
    assert built == installed
    return built


def architectures(build: Path) -> set[str]:
    """What the kernels would be compiled for: machine code (`sm_`) and PTX (`compute_`)."""
    rules = (build / "build.ninja").read_text(encoding="utf-8")
    flags = re.findall(r"conv_fwd\.cu\.o:.*?FLAGS = (.*?)$", rules, re.MULTILINE | re.DOTALL)
    assert len(flags) == 1
    codes = re.findall(r",code=\[?([\w,]+)", flags[0])
    return {code for group in codes for code in group.split(",")}


def test_without_nvcc_there_are_no_cuda_kernels(configure: Configure) -> None:
    assert modules(configure(environment(nvcc=False))) == {"_imaging", "_engine", "_C"}


def test_without_torch_there_are_no_operators(configure: Configure) -> None:
    build = configure(environment(nvcc=False), ("-c", WITHOUT_TORCH))
    assert modules(build) == {"_imaging", "_engine"}


def levels(build: Path) -> list[str]:
    """Instruction sets that the CPU kernels would be compiled for."""
    header = (build / "generated" / "levels.h").read_text(encoding="utf-8")
    return re.findall(r"X\(k\w+, (\w+)\)", header)


def with_gpus(tmp_path: Path, found: Environment, reply: str) -> Environment:
    """The environment of a machine whose driver replies this when it is asked for GPUs."""
    folder = tmp_path / "driver"
    folder.mkdir()
    driver = folder / "nvidia-smi"
    driver.write_text(f"#!/bin/sh\n{reply}\n", encoding="utf-8")
    driver.chmod(0o755)
    return {**found, "PATH": f"{folder}{os.pathsep}{found['PATH']}"}


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("exit 9", {"sm_80", "compute_80"}),
        ("echo 9.0; echo 9.0", {"sm_90a", "compute_90"}),
        ("echo 8.9; echo 12.0", {"sm_89", "sm_120", "compute_120"}),
        ("echo 7.5", {"sm_80", "compute_80"}),
    ],
)
def test_with_nvcc_there_are_kernels_for_the_gpus_of_this_machine(
    configure: Configure, tmp_path: Path, reply: str, expected: set[str]
) -> None:
    build = configure(with_gpus(tmp_path, environment(nvcc=True), reply))
    assert modules(build) == {"_imaging", "_engine", "_C", "_C_cuda"}
    assert architectures(build) == expected


def test_packages_hold_kernels_for_all_gpus_and_those_to_come(configure: Configure) -> None:
    assert architectures(configure(environment(nvcc=True, SRGAN_FAST_CUDA_ARCHITECTURES="all"))) == ALL


@pytest.mark.skipif(platform.machine() != "x86_64", reason="there is one level elsewhere")
def test_cpu_kernels_are_compiled_for_this_machine_for_all_or_for_a_list(configure: Configure) -> None:
    every = ["baseline", "avx2", "avx512", "avx512_bf16", "amx"]
    native = levels(configure(environment(nvcc=False)))
    assert native == every[: len(native)]
    assert set(_engine.isas()) <= set(native)
    assert levels(configure(environment(nvcc=False, SRGAN_FAST_ISAS="all"))) == every
    assert levels(configure(environment(nvcc=False, SRGAN_FAST_ISAS="avx2,baseline"))) == ["baseline", "avx2"]


@pytest.mark.parametrize("asked", ["sse", "amx"])
def test_levels_that_cannot_be_compiled_are_refused(configure: Configure, asked: str) -> None:
    with pytest.raises(AssertionError, match=f"SRGAN_FAST_ISAS is '{asked}'"):
        configure(environment(nvcc=False, SRGAN_FAST_ISAS=asked))


@pytest.mark.parametrize("variable", ["CUDACXX", "CUDA_HOME"])
def test_nvcc_is_found_off_the_path_and_builds_for_what_is_asked(configure: Configure, variable: str) -> None:
    nvcc = Path(shutil.which("nvcc", path=environment(nvcc=True)["PATH"]) or "").resolve()
    if variable == "CUDA_HOME" and nvcc.parent.name != "bin":
        pytest.skip(f"{nvcc} is in no folder called bin")
    where = str(nvcc) if variable == "CUDACXX" else str(nvcc.parents[1])
    build = configure(environment(nvcc=False, **{variable: where, "SRGAN_FAST_CUDA_ARCHITECTURES": "90a-real;80"}))
    assert modules(build) == {"_imaging", "_engine", "_C", "_C_cuda"}
    assert architectures(build) == {"sm_90a", "sm_80", "compute_80"}


@pytest.mark.fuzz
@pytest.mark.parametrize("nvcc", [False, True], ids=["without nvcc", "with nvcc"])
def test_whole_wheels_hold_what_was_found(nvcc: bool, tmp_path: Path) -> None:
    found = environment(nvcc)
    source, wheels = tmp_path / "source", tmp_path / "wheels"
    # Without what other builds left there.
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".git", ".venv*", "build", "*.so", "*.egg-info"))
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-build-isolation",
        "--no-deps",
        "-w",
        str(wheels),
        str(source),
    ]
    done = subprocess.run(command, env=found, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = wheels.iterdir()
    names = zipfile.ZipFile(wheel).namelist()
    native = {Path(name).name.partition(".")[0] for name in names if name.endswith(".so")}
    assert native == {"_imaging", "_engine", "_C", *(["_C_cuda"] if nvcc else [])}
    data = {"py.typed", "weights/srresnet-x4.safetensors", "weights/fast-x4.safetensors", "models/catalogue.toml"}
    assert {f"srgan_fast/{name}" for name in data} <= set(names)
    assert not [name for name in names if name.startswith(("tests/", "csrc/", "tools/"))]
