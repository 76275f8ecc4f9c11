"""A network through TensorRT: its engine is built on first use and kept in the cache."""

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

_CHANNELS = 3  # of engines' profiles


class CachedEngine(NamedTuple):
    """An engine, where it is kept, and whether it was there already."""

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
    anew: bool = False,
) -> CachedEngine:
    """The engine of a network, from the cache if what lies there was built from just that.

    Args:
        library: to build with.
        file: the model.
        precision: fp32 or fp16.
        device: that it is for, in words.
        options: to build with; the defaults if None.
        on_build: told how far a build is.
        anew: build it whatever the cache holds.

    Raises:
        BackendError: it cannot be built.
        FileError: the cache cannot be written, before anything is built.
    """
    options = options or BuildOptions()
    dtype = np.float16 if precision == "fp16" else np.float32
    graph = build_onnx(file.network, file.name, dtype).SerializeToString()
    key = engine_key(library, graph, precision, options, device)
    path = cache_folder() / "engines" / f"{Path(file.name).stem}-{precision}-{key.digest}.engine"
    if not anew:
        try:
            return CachedEngine(read_engine(path, key)[0], path, was_there=True)
        except BackendError:  # not there yet, or not fit to run
            pass
    check_writable(path)
    built = build_engine(library, graph, precision, options, on_build)
    try:
        write_engine(path, built, key)
    except FileError as problem:  # the disk is full: the engine is of use all the same
        _log.warning("%s; the engine will be built again the next time", problem)
    return CachedEngine(built.data, path, was_there=False)


class TensorRTBackend:
    """An engine for regions of up to 512x512, in fp32 (TF32 where the library likes) or fp16."""

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
            # What was kept no longer loads, as after a change of the driver or of the library's own files.
            found = cached_engine(library, file, wanted, self.device, options, on_build, anew=True)
            self._engine = Engine(library, found.data, options.profile, file.scale)
        self._lock = threading.Lock()  # an engine's context holds one image at a time

    def _options(self, library: Library) -> BuildOptions:
        return BuildOptions()

    def run(self, lr: FloatImages) -> FloatImages:
        """See `Backend.run`; one image at a time, sides up to `largest_side`."""
        import torch  # noqa: PLC0415

        with torch.inference_mode(), self._lock:
            parts = [self._engine(torch.from_numpy(np.array(part)).cuda()[None]).cpu() for part in lr]
            return cast(FloatImages, torch.cat(parts).numpy())


class TensorRTRtxBackend(TensorRTBackend):
    """The same through TensorRT-RTX."""

    flavour = "tensorrt-rtx"

    def _options(self, library: Library) -> BuildOptions:
        # Left alone, the library leaves older GPUs out.
        own = compute_capability()
        return BuildOptions(compute_capabilities=(own,) if own in known_capabilities(library) else ())
