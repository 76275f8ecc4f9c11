"""Whether an exported graph computes what the model computes, as a program that reads the file would find out."""

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

# Shapes (N, H, W) that the file must get right, times the network's pixel-unshuffle: smallest, odd, a batch, larger.
CHECKED_SHAPES = ((1, 1, 1), (1, 7, 13), (2, 24, 32), (1, 65, 48))
_MOST_MACS = 1e10  # for an image
_HALF_A_LEVEL = 0.5 / 255  # what rounding to 8 bits costs


@dataclass(frozen=True, slots=True)
class Tolerance:
    """What is asked of a precision.

    Attributes:
        max_error: on noise of `CHECKED_SHAPES` and on images, in the 0..1 range of images; None where rounding is
            coarse and single values say little.
        psnr_db: least over the images.
        remedy: what to do where it is missed.
    """

    max_error: float | None
    psnr_db: float
    remedy: str


TOLERANCES: dict[ExportPrecision, Tolerance] = {
    "fp32": Tolerance(1e-4, 80, "report it"),
    "fp16": Tolerance(2e-2, 60, "take fp32"),
    "int8": Tolerance(None, 40, "calibrate on more images like those to be upscaled, or take fp16"),
}


@dataclass(frozen=True, slots=True)
class Agreement:
    """How well a graph agrees with the network in float64.

    Attributes:
        max_error: largest difference, over shapes and images, in the 0..1 range of images.
        psnr_db: of the worst image, both sides clamped to 0..1; infinite where they are equal.
    """

    max_error: float
    psnr_db: float

    def problem(self, precision: ExportPrecision, pixels: bool) -> str | None:
        """What is beyond the precision's tolerance, and what to do; None if nothing is."""
        tolerance = TOLERANCES[precision]
        # Results of 8 bits are off by half a level at best, which is 58.9 dB where all errors are equally likely.
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
    """Runs a graph in ONNX Runtime beside the network in float64.

    Args:
        file: the model.
        data: the graph, serialised.
        pixels: whether it takes and gives uint8.
        images: 1, C, H, W in 0..1, with sides that are multiples of the network's pixel-unshuffle.

    Raises:
        ModelError: results of another shape.
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
    """The middle of an image, as much as the interpreter computes in a second or so."""
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
