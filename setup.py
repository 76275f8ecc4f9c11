"""Builds the native modules through CMake and Ninja; everything else is in pyproject.toml.

What is built depends on what the build environment offers, and the build says so:

* always: the torch-free modules (`srgan_fast._imaging`, `srgan_fast._engine`);
* the torch libraries only where torch can be imported (`pip install --no-build-isolation '.[train]'`), since an
  isolated build must not drag in gigabytes of torch to upscale an image;
* CPU kernels for the instruction sets that this machine runs; `SRGAN_FAST_ISAS=all` for packages that are to run
  elsewhere, or a list such as `baseline,avx2`;
* the CUDA kernels where nvcc is found, too, and torch was built with CUDA; a GPU is not asked for.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pybind11
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent.resolve()
TORCH = importlib.util.find_spec("torch")  # found, not imported: its headers and libraries are all that is needed
TORCH_FOLDER = Path(TORCH.origin).parent if TORCH and TORCH.origin else None


def find_nvcc() -> str:
    """The CUDA compiler: of `CUDACXX`, `CUDA_HOME`, or the path; empty where there is none or torch has no CUDA."""
    if TORCH_FOLDER is None or not (TORCH_FOLDER / "lib" / "libtorch_cuda.so").exists():
        return ""
    places = [
        os.environ.get("CUDACXX"),
        *(f"{home}/bin/nvcc" for home in [os.environ.get("CUDA_HOME")] if home),
        "nvcc",
    ]
    return next((found for place in places if place and (found := shutil.which(place))), "")


NVCC = find_nvcc()


def cuda_architectures() -> list[str]:
    """CMake's option for the GPUs to compile for; an empty list for all that CMakeLists.txt names.

    `SRGAN_FAST_CUDA_ARCHITECTURES` says which, in CMake's notation, or `all`. Otherwise this machine's GPUs, where the
    driver names them, or else compute capability 8.0; the last one also as PTX, from which the driver makes code for
    every GPU to come.
    """
    asked = os.environ.get("SRGAN_FAST_CUDA_ARCHITECTURES", "")
    if not asked:
        query = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
        try:
            found = subprocess.run(query, capture_output=True, text=True, check=True, timeout=60).stdout.split()
        except (OSError, subprocess.SubprocessError):
            found = []
        capabilities = sorted({int(capability.replace(".", "")) for capability in found} - set(range(80)))
        # Hopper's own instructions are not in the PTX of 9.0, which all GPUs after it run.
        names = ["90a-real;90-virtual" if capability == 90 else str(capability) for capability in capabilities]
        names = [name if name == names[-1] or ";" in name else f"{name}-real" for name in names]
        asked = ";".join(names) or "80"
    return [] if asked == "all" else [f"-DSRGAN_FAST_CUDA_ARCHITECTURES={asked}"]


class CMakeExtension(Extension):
    """A module that CMake builds and installs; it has no sources that setuptools should know about."""

    def __init__(self, name: str) -> None:
        super().__init__(name, sources=[])


class CMakeBuild(build_ext):
    """Configures once, builds, and lets CMake's install step put every module where setuptools wants it."""

    def run(self) -> None:
        build = Path(self.build_temp).resolve()
        build.mkdir(parents=True, exist_ok=True)
        # In an editable install the modules belong beside the sources.
        prefix = ROOT if self.inplace or self.editable_mode else Path(self.build_lib).resolve()
        configure = [
            "cmake",
            "-S", str(ROOT),
            "-B", str(build),
            "-G", "Ninja",
            f"-DCMAKE_BUILD_TYPE={os.environ.get('SRGAN_FAST_BUILD_TYPE', 'Release')}",
            f"-DCMAKE_INSTALL_PREFIX={prefix}",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
            f"-DSRGAN_FAST_TORCH={TORCH_FOLDER or ''}",
            f"-DSRGAN_FAST_CUDA={NVCC}",
            f"-DSRGAN_FAST_ISAS={os.environ.get('SRGAN_FAST_ISAS', 'native')}",
            *cuda_architectures(),
        ]  # fmt: skip
        subprocess.run(configure, check=True)
        subprocess.run(["cmake", "--build", str(build)], check=True)
        subprocess.run(["cmake", "--install", str(build)], check=True)


MODULES = [
    "srgan_fast._imaging",
    "srgan_fast._engine",
    *(["srgan_fast._C"] if TORCH else []),
    *(["srgan_fast._C_cuda"] if NVCC else []),
]
setup(ext_modules=[CMakeExtension(name) for name in MODULES], cmdclass={"build_ext": CMakeBuild})
