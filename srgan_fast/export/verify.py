"""Verifies that an exported graph computes the same as the model, by running it in ONNX Runtime."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from srgan_fast.errors import ModelError
from srgan_fast.export.quantize import as_input
from srgan_fast.models import ModelFile
from srgan_fast.network import Network, interpreter, macs_per_image_pixel

ExportPrecision = Literal["fp32", "fp16", "int8"]

# Shapes (N, H, W) to verify, times the network's pixel-unshuffle: smallest, odd, a batch, larger.
CHECKED_SHAPES = ((1, 1, 1), (1, 7, 13), (2, 24, 32), (1, 65, 48))
_MOST_MACS = 1e10  # largest cost of one image
_HALF_A_LEVEL = 0.5 / 255  # error of rounding to 8 bits


@dataclass(frozen=True, slots=True)
class ExportTolerance:
    """Required accuracy of a precision.

    Attributes:
        max_error: largest error on noise of `CHECKED_SHAPES` and on images, for values in 0..1; None if rounding is so
            coarse that single values say little.
        psnr_db: smallest PSNR of an image.
        remedy: what to do if it is not reached.
    """

    max_error: float | None
    psnr_db: float
    remedy: str


TOLERANCES: dict[ExportPrecision, ExportTolerance] = {
    "fp32": ExportTolerance(1e-4, 80, "report it"),
    "fp16": ExportTolerance(2e-2, 60, "take fp32"),
    "int8": ExportTolerance(None, 40, "calibrate on more images like those to be upscaled, or use fp16"),
}


@dataclass(frozen=True, slots=True)
class Agreement:
    """Agreement of a graph with the network in float64.

    Attributes:
        max_error: largest difference over shapes and images, for values in 0..1.
        psnr_db: PSNR of the worst image, clamped to 0..1; infinite if equal.
    """

    max_error: float
    psnr_db: float

    def problem(self, precision: ExportPrecision, pixels: bool) -> str | None:
        """Describes how the precision's tolerance is exceeded and what to do; None if it is not."""
        tolerance = TOLERANCES[precision]
        # 8-bit results have errors up to half a level, which gives 58.9 dB if they are uniformly distributed.
        floor = min(tolerance.psnr_db, 55) if pixels else tolerance.psnr_db
        bound = None if tolerance.max_error is None else tolerance.max_error + (_HALF_A_LEVEL if pixels else 0)
        if not np.isfinite(self.max_error):
            return f"gives values that are not finite; {tolerance.remedy}"
        if bound is not None and not self.max_error <= bound:
            return f"differs from the network by {self.max_error:.1e}, more than {bound:.0e}; {tolerance.remedy}"
        if not self.psnr_db >= floor:
            return (
                f"has a PSNR of {self.psnr_db:.1f} dB against the network, less than {floor:g} dB; {tolerance.remedy}"
            )
        return None


def verify(file: ModelFile, data: bytes, pixels: bool, images: Sequence[NDArray[np.float32]]) -> Agreement:
    """Runs a graph in ONNX Runtime and compares it with the network in float64.

    Args:
        file: the model.
        data: serialised graph.
        pixels: whether its input and output are uint8.
        images: 1, C, H, W in 0..1, with sides that are multiples of the network's pixel-unshuffle.

    Raises:
        ModelError: the results have another shape.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])

    def both(lr: NDArray[np.float32]) -> tuple[NDArray[Any], NDArray[Any]]:
        given = as_input(lr, pixels)
        seen = given.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255) if pixels else given
        expected = interpreter.run(file.network, np.ascontiguousarray(seen))
        got = session.run(None, {"lr": given})[0]
        if pixels:
            expected = expected.clip(0, 1)
            got = got.transpose(0, 3, 1, 2) / np.float32(255)
        if got.shape != expected.shape:
            raise ModelError(f"{file.name}: the exported graph gives {got.shape} instead of {expected.shape}")
        return got, expected

    rng = np.random.default_rng(0)
    c, u = file.channels, file.network.unshuffle
    noise = [rng.random((count, c, height * u, width * u), np.float32) for count, height, width in CHECKED_SHAPES]
    worst, psnr = 0.0, float("inf")
    for lr in noise:
        got, expected = both(lr)
        worst = max(worst, _largest(got, expected))
    for image in images:
        lr = _middle(image, file.network)
        got, expected = both(lr)
        worst = max(worst, _largest(got, expected))
        psnr = min(psnr, _psnr(got.clip(0, 1), expected.clip(0, 1)))
    return Agreement(worst, psnr)


def _middle(image: NDArray[np.float32], network: Network) -> NDArray[np.float32]:
    """Centre crop of an image, as large as the interpreter computes in about a second."""
    multiple = network.unshuffle
    side = max(1, math.isqrt(int(_MOST_MACS / macs_per_image_pixel(network))) // multiple) * multiple
    height, width = (min(side, length) for length in image.shape[2:])
    top, left = ((length - side) // 2 for length, side in zip(image.shape[2:], (height, width), strict=True))
    return np.ascontiguousarray(image[:, :, top : top + height, left : left + width])


def _largest(got: NDArray[Any], expected: NDArray[Any]) -> float:
    finite = np.isfinite(got).all() and np.isfinite(expected).all()
    return float(np.abs(got - expected).max()) if finite else float("inf")


def _psnr(got: NDArray[Any], expected: NDArray[Any]) -> float:
    mean = float(np.mean(np.square(got - expected, dtype=np.float64)))
    return float("inf") if mean == 0 else -10 * float(np.log10(mean))
