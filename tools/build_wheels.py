"""Builds wheels of the committed state for Linux on x86-64 and 64-bit ARM: all instruction sets, this Python, no torch.

    pip install 'srgan_fast[wheels]'
    python tools/build_wheels.py --output dist [--machine x86_64] [--machine aarch64]

One compiler makes both: clang as PyPI's `ziglang` carries it, with the headers and symbols of every version of glibc,
so the wheels run on systems that are older than this one (`GLIBC`). A wheel is named after the oldest manylinux policy
that its libraries fulfil, as auditwheel finds it, and refused where that is newer than intended.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import tomllib
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GLIBC = "2.17"  # manylinux2014: what pip accepts on every distribution since 2014
MACHINES = ("x86_64", "aarch64")


def build_wheel(machine: str, output: Path) -> Path:
    """Builds the wheel for a machine and moves it into a folder.

    Raises:
        subprocess.CalledProcessError: The build failed.
        ValueError: The wheel needs a newer glibc than intended, or its modules are named for another machine.
    """
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        environment = {
            **os.environ,
            **_cross_compiling(machine, work),
            "SRGAN_FAST_ISAS": "all",
            "CUDACXX": "",
        }
        source = work / "source"
        subprocess.run(["git", "clone", "--quiet", "--depth=1", ROOT.as_uri(), str(source)], check=True)
        # An environment of this machine's tools, without PyTorch, so that setup.py builds the two modules without it.
        # pip would make one itself, but for the target: with a CMake that does not run here.
        venv.create(work / "tools", with_pip=True)
        python = str(work / "tools" / "bin" / "python")
        requirements = tomllib.loads((source / "pyproject.toml").read_text(encoding="utf-8"))["build-system"][
            "requires"
        ]
        subprocess.run([python, "-m", "pip", "install", "--quiet", *requirements], check=True)
        environment["PATH"] = os.pathsep.join([str(work / "tools" / "bin"), os.environ.get("PATH", os.defpath)])
        options = ["--no-deps", "--no-build-isolation", "--wheel-dir", str(work)]
        _run([python, "-m", "pip", "wheel", *options, str(source)], environment)
        (raw,) = work.glob("*.whl")
        policy = oldest_policy(raw)
        if policy != f"manylinux_{GLIBC.replace('.', '_')}_{machine}":
            raise ValueError(f"{raw.name} fulfils {policy}, not glibc {GLIBC} on {machine}")
        with zipfile.ZipFile(raw) as content:
            modules = [name for name in content.namelist() if name.endswith(".so")]
        if not modules or not all(name.endswith(module_ending(machine)) for name in modules):
            raise ValueError(
                f"{raw.name} holds {', '.join(modules) or 'no modules'}, which Python would not find there"
            )
        tag = f"{policy}.manylinux2014_{machine}"
        _run([sys.executable, "-m", "wheel", "tags", "--remove", "--platform-tag", tag, str(raw)], environment)
        (tagged,) = work.glob("*.whl")
        output.mkdir(parents=True, exist_ok=True)
        return tagged.replace(output / tagged.name)


def module_ending(machine: str) -> str:
    """What the file names of extension modules end in there, for this version of Python."""
    return f".cpython-{sys.version_info.major}{sys.version_info.minor}-{machine}-linux-gnu.so"


def oldest_policy(wheel: Path) -> str:
    """The oldest manylinux policy that a wheel's libraries fulfil, e.g. `manylinux_2_17_x86_64`."""
    command = [sys.executable, "-m", "auditwheel", "show", str(wheel)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r'platform tag:\s+"?(\w+)"?', " ".join(said.split()))
    if found is None:
        raise ValueError(f"auditwheel says nothing about {wheel.name}: {said}")
    return found.group(1)


def _cross_compiling(machine: str, work: Path) -> dict[str, str]:
    """Environment of a build for a machine; writes the compiler and CMake's description of the target."""
    import ziglang  # noqa: PLC0415 (a hundred megabytes that only building needs)

    # The program itself: the environment of the build does not have `python -m ziglang`.
    zig = Path(ziglang.__file__).parent / "zig"
    compiler, archiver, toolchain = work / "c++", work / "ar", work / "toolchain.cmake"
    compiler.write_text(f'#!/bin/sh\nexec "{zig}" c++ -target {machine}-linux-gnu.{GLIBC} "$@"\n')
    archiver.write_text(f'#!/bin/sh\nexec "{zig}" ar "$@"\n')
    for tool in (compiler, archiver):
        tool.chmod(0o755)
    toolchain.write_text(
        f"set(CMAKE_SYSTEM_NAME Linux)\nset(CMAKE_SYSTEM_PROCESSOR {machine})\n"
        f"set(CMAKE_CXX_COMPILER {compiler})\nset(CMAKE_AR {archiver})\nset(CMAKE_RANLIB /bin/true)\n"
        # pybind11 would take the ending that modules have for the Python that runs the build.
        f"set(PYTHON_MODULE_EXTENSION {module_ending(machine)})\n"
    )
    return {
        "CMAKE_TOOLCHAIN_FILE": str(toolchain),
        # Where the interpreter that runs the build says what it runs on, the target is put in its place.
        "_PYTHON_HOST_PLATFORM": f"linux-{machine}",
        "ZIG_GLOBAL_CACHE_DIR": os.environ.get("ZIG_GLOBAL_CACHE_DIR", str(work / "zig")),
    }


def _run(command: list[str], environment: dict[str, str]) -> None:
    subprocess.run(command, env=environment, check=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("dist"), help="Folder for the wheels.")
    parser.add_argument(
        "--machine", action="append", choices=MACHINES, help="Target machine; repeatable, default both."
    )
    options = parser.parse_args()
    for machine in options.machine or MACHINES:
        print(build_wheel(machine, options.output))


if __name__ == "__main__":
    main()
