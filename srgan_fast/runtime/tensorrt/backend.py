"""The generator through TensorRT: its engine is built on first use and kept in the cache."""

import threading
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from srgan_fast.errors import BackendError
from srgan_fast.models import GeneratorFile
from srgan_fast.runtime.onnx_graph import build_onnx
from srgan_fast.runtime.protocol import FloatImages, OnBuild, Precision
from srgan_fast.runtime.tensorrt.builder import BuildOptions, EnginePrecision, build_engine
from srgan_fast.runtime.tensorrt.engine import Engine
from srgan_fast.runtime.tensorrt.engine_file import cache_folder, engine_key, read_engine, write_engine
from srgan_fast.runtime.tensorrt.flavour import Library, load_library

if TYPE_CHECKING:
    import torch


def why_not() -> str | None:
    """Why no engine can run here; None if one can."""
    import torch  # noqa: PLC0415 (heavy extra)

    return None if torch.cuda.is_available() else "needs an NVIDIA GPU that torch can use"


def describe_gpu(device: "torch.device | None" = None) -> str:
    """A CUDA device as engines are labelled with it; the current one if None."""
    import torch  # noqa: PLC0415

    major, minor = torch.cuda.get_device_capability(device)
    return f"{torch.cuda.get_device_name(device)}, compute capability {major}.{minor}"


def cached_engine(
    library: Library,
    file: GeneratorFile,
    precision: EnginePrecision,
    device: str,
    options: BuildOptions | None = None,
    on_build: OnBuild = lambda phase, done, of: None,
) -> tuple[bytes, Path]:
    """The engine of a generator, from the cache if what lies there was built from just that.

    Args:
        library: to build with.
        file: the generator.
        precision: fp32 or fp16.
        device: that it is for, in words.
        options: to build with; the defaults if None.
        on_build: told how far a build is.

    Returns:
        The engine, and where it is kept.

    Raises:
        BackendError: it cannot be built.
        FileError: the cache cannot be written.
    """
    options = options or BuildOptions()
    dtype = np.float16 if precision == "fp16" else np.float32
    graph = build_onnx(file, dtype).SerializeToString()
    key = engine_key(library, graph, precision, options, device)
    path = cache_folder() / "engines" / f"{Path(file.name).stem}-{precision}-{key.digest}.engine"
    try:
        data, _ = read_engine(path, key)
    except BackendError:  # not there yet, or not fit to run
        built = build_engine(library, graph, precision, options, on_build)
        write_engine(path, built, key)
        data = built.data
    return data, path


class TensorRTBackend:
    """An engine for regions of up to 512x512, in fp32 (TF32 where the library likes) or fp16."""

    flavour = "tensorrt"

    def __init__(
        self, file: GeneratorFile, precision: Precision, threads: int, on_build: OnBuild = lambda phase, done, of: None
    ) -> None:
        import torch  # noqa: PLC0415

        if reason := why_not():
            raise BackendError(f"backend {self.flavour} {reason}")
        library = load_library(self.flavour)
        self.name = self.flavour
        self.device = torch.cuda.get_device_name()
        options = BuildOptions()
        data, _ = cached_engine(
            library,
            file,
            cast(EnginePrecision, precision),
            describe_gpu(),
            options,
            on_build,
        )
        self.largest_side = options.profile.largest.height
        self._engine = Engine(library, data, options.profile, file.config.scale)
        self._lock = threading.Lock()  # an engine's context holds one picture at a time

    def run(self, lr: FloatImages) -> FloatImages:
        """See `Backend.run`; one picture at a time, sides up to `largest_side`."""
        import torch  # noqa: PLC0415

        with torch.inference_mode(), self._lock:
            parts = [self._engine(torch.from_numpy(np.array(part)).cuda()[None]).cpu() for part in lr]
            return cast(FloatImages, torch.cat(parts).numpy())


class TensorRTRtxBackend(TensorRTBackend):
    """The same through TensorRT-RTX."""

    flavour = "tensorrt-rtx"
