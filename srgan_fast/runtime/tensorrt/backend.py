"""Backend for TensorRT: the engine is built on first use and cached."""

import logging
import threading
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np

from srgan_fast.errors import BackendError, FileError
from srgan_fast.files import cache_folder, check_writable
from srgan_fast.models import ModelFile
from srgan_fast.network.onnx_graph import build_onnx
from srgan_fast.runtime.protocol import FloatImages, OnBuild, Precision
from srgan_fast.runtime.tensorrt.builder import BuildOptions, EnginePrecision, build_engine, known_capabilities
from srgan_fast.runtime.tensorrt.engine import Engine
from srgan_fast.runtime.tensorrt.engine_file import engine_key, read_engine, write_engine
from srgan_fast.runtime.tensorrt.flavour import Library, load_library
from srgan_fast.runtime.tensorrt.gpu import compute_capability, describe_gpu, why_no_gpu

_log = logging.getLogger(__name__)

_CHANNELS = 3  # of all engines


class CachedEngine(NamedTuple):
    """An engine, its path in the cache, and whether it was already there."""

    data: bytes
    path: Path
    was_there: bool


def cached_engine(
    library: Library,
    file: ModelFile,
    precision: EnginePrecision,
    device: str,
    options: BuildOptions | None = None,
    on_build: OnBuild = lambda phase, done, of: None,
    rebuild: bool = False,
) -> CachedEngine:
    """The engine of a network, from the cache if one was built from exactly these inputs.

    Args:
        library: library to build with.
        file: the model.
        precision: fp32 or fp16.
        device: target GPU, in words.
        options: build options; the defaults if None.
        on_build: called with the progress of a build.
        rebuild: rebuild even if the cache has it.

    Raises:
        BackendError: the engine cannot be built.
        FileError: the cache is not writable; raised before building.
    """
    options = options or BuildOptions()
    dtype = np.float16 if precision == "fp16" else np.float32
    graph = build_onnx(file.network, file.name, dtype).SerializeToString()
    key = engine_key(library, graph, precision, options, device)
    path = cache_folder() / "engines" / f"{Path(file.name).stem}-{precision}-{key.digest}.engine"
    if not rebuild:
        try:
            return CachedEngine(read_engine(path, key)[0], path, was_there=True)
        except BackendError:  # missing, or not valid
            pass
    check_writable(path)
    built = build_engine(library, graph, precision, options, on_build)
    try:
        write_engine(path, built, key)
    except FileError as problem:  # the disk is full; the engine can still be used
        _log.warning("%s; the engine will be rebuilt next time", problem)
    return CachedEngine(built.data, path, was_there=False)


class TensorRTBackend:
    """An engine for regions of up to 512x512, in fp32 (TF32 where TensorRT chooses it) or fp16."""

    flavour = "tensorrt"

    def __init__(
        self, file: ModelFile, precision: Precision, threads: int, on_build: OnBuild = lambda phase, done, of: None
    ) -> None:
        if reason := why_no_gpu():
            raise BackendError(f"backend {self.flavour} {reason}")
        self.name = self.flavour
        self.device = describe_gpu()
        if file.channels != _CHANNELS:
            raise BackendError(f"backend {self.flavour} takes networks of 3 channels; {file.name} has {file.channels}")
        library = load_library(self.flavour)
        options = self._options(library)
        self.largest_side = options.profile.largest.height
        wanted = cast(EnginePrecision, precision)
        found = cached_engine(library, file, wanted, self.device, options, on_build)
        try:
            self._engine = Engine(library, found.data, options.profile, file.scale)
        except BackendError:
            if not found.was_there:
                raise
            # A cached engine may no longer load, e.g. after a driver update or changed library files.
            found = cached_engine(library, file, wanted, self.device, options, on_build, rebuild=True)
            self._engine = Engine(library, found.data, options.profile, file.scale)
        self._lock = threading.Lock()  # an execution context holds one image at a time

    def _options(self, library: Library) -> BuildOptions:
        return BuildOptions()

    def run(self, lr: FloatImages) -> FloatImages:
        """See `Backend.run`; one image at a time, sides up to `largest_side`."""
        import torch  # noqa: PLC0415

        with torch.inference_mode(), self._lock:
            parts = [self._engine(torch.from_numpy(np.array(part)).cuda()[None]).cpu() for part in lr]
            return cast(FloatImages, torch.cat(parts).numpy())


class TensorRTRtxBackend(TensorRTBackend):
    """The same with TensorRT-RTX."""

    flavour = "tensorrt-rtx"

    def _options(self, library: Library) -> BuildOptions:
        # By default the library excludes older GPUs.
        own = compute_capability()
        return BuildOptions(compute_capabilities=(own,) if own in known_capabilities(library) else ())
