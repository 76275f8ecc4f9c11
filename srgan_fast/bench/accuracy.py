"""Checks results: every row is compared with the network in float64 in the same run that times it."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from srgan_fast.bench.options import BenchPrecision
from srgan_fast.bench.workload import ImageSize
from srgan_fast.errors import BackendError
from srgan_fast.models import ModelFile
from srgan_fast.network import interpreter
from srgan_fast.network.analysis import receptive_radius
from srgan_fast.runtime.protocol import FloatImages
from srgan_fast.runtime.tiling import EXACT_HALO, plan_tiles

# Up to this many low-resolution pixels per batch the reference is computed in float64; more would take minutes.
LARGEST_FLOAT64_AREA = 256 * 256

Reference = NDArray[np.float64] | NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class AccuracyTolerance:
    """Allowed error of a precision: a largest error or a smallest PSNR, relative to the output's range."""

    max_error: float | None = None
    psnr_db: float | None = None

    def __str__(self) -> str:
        return f"max error <= {self.max_error:.0e}" if self.max_error is not None else f"PSNR >= {self.psnr_db:g} dB"


TOLERANCES: dict[BenchPrecision, AccuracyTolerance] = {
    "fp32": AccuracyTolerance(max_error=1e-3),
    "bf16": AccuracyTolerance(psnr_db=40.0),
    "fp16": AccuracyTolerance(psnr_db=50.0),
    "int8": AccuracyTolerance(psnr_db=30.0),
}


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Error of a result relative to the reference's range; equal results have infinite PSNR."""

    max_error: float
    psnr_db: float

    def problem(self, tolerance: AccuracyTolerance) -> str | None:
        """What is wrong with it, in words; None if it is within the tolerance."""
        if not math.isfinite(self.max_error):
            return "values that are not finite"
        if tolerance.max_error is not None and not self.max_error <= tolerance.max_error:
            return f"max error {self.max_error:.1e} is beyond {tolerance.max_error:.0e} of the range"
        if tolerance.psnr_db is not None and not self.psnr_db >= tolerance.psnr_db:
            return f"PSNR {self.psnr_db:.1f} dB is below {tolerance.psnr_db:g} dB"
        return None


def compute_reference(
    file: ModelFile, lr: FloatImages, threads: int
) -> tuple[Reference, Literal["float64", "float32"]]:
    """Computes the network with the interpreter in float64, or with PyTorch in float32 if that would take minutes.

    Large images are split into tiles with the whole receptive field around each, unless it is too large. Raises
    BackendError if torch is needed but not installed.
    """
    exact = len(lr) * ImageSize(*lr.shape[2:]).area <= LARGEST_FLOAT64_AREA
    compute = partial(interpreter.run, file.network) if exact else _in_torch(file, threads)
    s = file.scale
    count, channels, height, width = lr.shape
    sr = np.empty((count, channels, height * s, width * s), np.float64 if exact else np.float32)
    radius = receptive_radius(file.network)
    for tile in plan_tiles(height, width, radius, None if radius <= EXACT_HALO else 0, file.network.unshuffle):
        sr[:, :, *tile.core(s)] = compute(lr[:, :, *tile.region])[:, :, *tile.core_in_region(s)]
    return sr, "float64" if exact else "float32"


def _in_torch(file: ModelFile, threads: int) -> Callable[[FloatImages], Reference]:
    """The network in PyTorch, float32."""
    try:
        import torch  # noqa: PLC0415 (heavy)
    except ImportError:
        raise BackendError("checking results needs torch: pip install 'srgan_fast[bench]'") from None
    from srgan_fast.network.torch_module import NetworkModule  # noqa: PLC0415 (torch)

    module = NetworkModule(file.network)
    torch.set_num_threads(threads)

    @torch.inference_mode()
    def compute(lr: FloatImages) -> Reference:
        return cast(FloatImages, module(torch.from_numpy(lr.copy())).numpy())

    return compute


def compare(sr: FloatImages, reference: Reference) -> Accuracy:
    """Measures the error of a result.

    Raises:
        BackendError: its shape is wrong.
    """
    if sr.shape != reference.shape:
        raise BackendError(f"the result has shape {sr.shape}, it must have {reference.shape}")
    largest, squares = 0.0, 0.0
    channels = (-1, *sr.shape[2:])  # one at a time, for memory's sake
    for got, expected in zip(sr.reshape(channels), reference.reshape(channels), strict=True):
        difference = got.astype(np.float64) - expected
        if not np.isfinite(difference).all():
            return Accuracy(math.inf, -math.inf)
        largest = max(largest, float(np.abs(difference).max()))
        squares += float(np.square(difference).sum())
    extent = float(np.ptp(reference)) or 1.0  # a constant output has no range: errors are absolute
    mean = squares / reference.size
    return Accuracy(largest / extent, 10 * math.log10(extent**2 / mean) if mean else math.inf)
