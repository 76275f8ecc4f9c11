"""The wheels that tools/build_wheels.py makes: what they are named after is what they need, and they upscale."""

import importlib.util
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path
from typing import Any

import pytest

from srgan_fast import _engine

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "docs" / "samples" / "cat.png"
# What a Python of the other machine consists of on Debian, and what it needs.
FOREIGN = ("libpython3.11-minimal", "libpython3.11-stdlib", "python3.11-minimal", "libc6", "libstdc++6", "libgcc-s1",
           "zlib1g", "libexpat1", "libffi8", "libssl3", "libbz2-1.0", "liblzma5")  # fmt: skip


@pytest.fixture(scope="module")
def tool() -> Any:
    """tools/build_wheels.py as a module."""
    spec = importlib.util.spec_from_file_location("build_wheels", ROOT / "tools" / "build_wheels.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _needs(*modules: str) -> None:
    for module in modules:
        pytest.importorskip(module, reason="the extra wheels is not installed")


def _upscales(command: list[str], folder: Path, environment: dict[str, str] | None = None) -> None:
    target = folder / "cat_x4.png"
    options = ["upscale", str(SAMPLE), "-o", str(target), "--backend", "native", "--json"]
    subprocess.run([*command, *options], check=True, env=environment, cwd=folder)
    assert target.stat().st_size > 10_000


@pytest.mark.fuzz
def test_the_wheel_for_x86_64_installs_and_upscales(tool: Any, tmp_path: Path) -> None:
    _needs("ziglang", "auditwheel", "wheel")
    wheel = tool.build_wheel("x86_64", tmp_path / "dist")
    assert wheel.name.endswith("manylinux2014_x86_64.manylinux_2_17_x86_64.whl")
    venv.create(tmp_path / "venv", with_pip=True)
    subprocess.run([tmp_path / "venv/bin/python", "-m", "pip", "install", "-q", str(wheel)], check=True)
    _upscales([str(tmp_path / "venv/bin/srgan-fast")], tmp_path)
    code = "from srgan_fast import _engine; print(*_engine.isas())"
    said = subprocess.run([tmp_path / "venv/bin/python", "-c", code], capture_output=True, text=True, check=True).stdout
    assert set(said.split()) >= {"baseline", *_engine.isas()}, "all that this processor runs"


@pytest.mark.fuzz
def test_the_wheel_for_aarch64_upscales_under_emulation(tool: Any, tmp_path: Path) -> None:
    _needs("ziglang", "auditwheel", "wheel")
    if sys.version_info[:2] != (3, 11) or not all(map(shutil.which, ("qemu-aarch64", "apt-get", "dpkg"))):
        pytest.skip("needs Debian 12's Python 3.11, apt-get and qemu-aarch64")
    wheel = tool.build_wheel("aarch64", tmp_path / "dist")
    root, packages = tmp_path / "root", tmp_path / "packages"
    packages.mkdir()
    known = subprocess.run(["dpkg", "--print-foreign-architectures"], capture_output=True, text=True, check=True)
    if "arm64" not in known.stdout:
        subprocess.run(["dpkg", "--add-architecture", "arm64"], check=True)
        subprocess.run(["apt-get", "update", "-qq"], check=True)
    subprocess.run(["apt-get", "download", "-qq", *(f"{name}:arm64" for name in FOREIGN)], cwd=packages, check=True)
    for package in packages.glob("*.deb"):
        subprocess.run(["dpkg", "-x", str(package), str(root)], check=True)
    site = tmp_path / "site"
    platforms = [f"--platform=manylinux{policy}_aarch64" for policy in ("2014", "_2_17", "_2_28")]
    # pyvips has no wheel of its own; it is Python alone, its library comes from pyvips-binary.
    wheels = ["-m", "pip", "wheel", "-q", "--no-deps", "-w", str(packages), "pyvips>=3"]
    subprocess.run([sys.executable, *wheels], check=True)
    command = [sys.executable, "-m", "pip", "install", "-q", "--target", str(site), "--only-binary=:all:", *platforms]
    subprocess.run(
        [
            *command,
            "--find-links",
            str(packages),
            "--python-version=3.11",
            "--implementation=cp",
            "--abi=cp311",
            str(wheel),
        ],
        check=True,
    )
    python = ["qemu-aarch64", "-L", str(root), str(root / "usr/bin/python3.11")]
    home = {**os.environ, "PYTHONPATH": str(site), "PYTHONHOME": str(root / "usr")}
    _upscales([*python, "-m", "srgan_fast"], tmp_path, home)


def test_a_wheel_that_needs_a_newer_glibc_is_named_after_it(tool: Any, tmp_path: Path) -> None:
    _needs("auditwheel")
    wheel = tmp_path / f"x-1-cp{sys.version_info[0]}{sys.version_info[1]}-none-linux_x86_64.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        file.write(_engine.__file__, "x/" + Path(_engine.__file__).name)
        file.writestr("x-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: x\nVersion: 1\n")
        tag = "Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: cp311-none-linux_x86_64\n"
        file.writestr("x-1.dist-info/WHEEL", tag)
        file.writestr("x-1.dist-info/RECORD", f"x/{Path(_engine.__file__).name},,\n")
    # This machine's compiler takes this machine's glibc.
    assert tool.oldest_policy(wheel) not in ("manylinux_2_17_x86_64", "manylinux_2_12_x86_64")
