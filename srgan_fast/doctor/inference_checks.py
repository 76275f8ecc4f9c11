"""Self-tests of upscaling: reading and writing images, resizing, and every installed backend."""

from collections.abc import Iterator
from functools import partial
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from srgan_fast.doctor import reference
from srgan_fast.doctor.checks import Measured, check
from srgan_fast.doctor.report import BackendState, SelfTest
from srgan_fast.models import ModelFile, read_model
from srgan_fast.network import interpreter
from srgan_fast.runtime import Precision, create_backend
from srgan_fast.runtime.protocol import PixelBackend

# Relative to the output's range. The engine's tests require 2e-5 in fp32, too; other runtimes may use TF32 on a GPU,
# hence the benchmark's 1e-3. bf16 rounds operands by 2^-9 in 37 layers; the largest error measured is 1.2e-2.
ENGINE_FP32, OTHERS_FP32, BF16 = 2e-5, 1e-3, 5e-2
TIE = 1e-6  # this close to the middle between two integers either is accepted
_STEPS = "a step of 8 bits, beyond rounding"
_LR_SIZE = (7, 9)  # odd, and not multiples of a Winograd tile


def check_resize() -> Iterator[SelfTest]:
    """Compares the resize with its definition: 8 bits rounded to nearest, floats to their precision."""
    image = np.random.default_rng(0).integers(0, 256, (23, 31, 3)).astype(np.uint8)

    def bytes_at_each_axis() -> list[Measured]:
        from srgan_fast.data.resize import resize_bicubic  # noqa: PLC0415 (native)

        found = []
        for axis, size in ((0, 9), (0, 50), (1, 7), (1, 64)):
            shape = (size, 31) if axis == 0 else (23, size)
            exact = np.clip(reference.resize(image, axis, size, "mirror"), 0, 255)
            found.append(Measured(_beyond_rounding(resize_bicubic(image, *shape), exact), TIE, _STEPS))
        return found

    def floats() -> list[Measured]:
        from srgan_fast.data.resize import resize_bicubic  # noqa: PLC0415 (native)

        values = image.astype(np.float32) / np.float32(255)
        found = []
        edges: Literal["mirror", "replicate"]
        for edges in ("mirror", "replicate"):
            exact = reference.resize(reference.resize(values, 0, 11, edges), 1, 40, edges)
            error = _largest(resize_bicubic(values, 11, 40, edges), exact)
            found.append(Measured(error, 2e-6, "values in 0..1"))
        return found

    yield check("imaging", "resize uint8", bytes_at_each_axis)
    yield check("imaging", "resize float32", floats)


def check_pictures() -> Iterator[SelfTest]:
    """Checks that an image written as PNG and read again is unchanged."""

    def there_and_back() -> list[Measured]:
        from srgan_fast.data.images import Image, encode_image, read_image  # noqa: PLC0415 (libvips)

        pixels = np.random.default_rng(1).integers(0, 2**16, (5, 7, 3)).astype(np.uint16)
        found = read_image(encode_image(Image(pixels), "png")).pixels
        return [Measured(_largest(found, pixels.astype(np.float64)), 0.0, "a step of 16 bits")]

    yield check("pictures", "PNG, 16 bits", there_and_back)


def check_backends(backends: list[BackendState], model: str) -> Iterator[SelfTest]:
    """Runs a shipped model on a small image with every usable backend.

    Args:
        backends: states of the backends.
        model: name of a shipped model.

    Raises:
        ModelError: the model cannot be read.
    """
    file = read_model(model)
    lr = np.random.default_rng(2).random((1, 3, *_LR_SIZE), np.float32)
    exact = interpreter.run(file.network, lr[0])
    for backend in backends:
        for precision in backend.precisions:
            yield check(
                "backend",
                f"{backend.name} {precision}",
                partial(_check_floats, file, backend.name, precision, lr, exact),
            )
        if backend.name == "native" and "fp32" in backend.precisions:
            yield check("backend", "native fp32, 8 bits", partial(_check_pixels, file, backend.name))


def _check_floats(
    file: ModelFile, name: str, precision: Precision, lr: NDArray[np.float32], exact: reference.Exact
) -> list[Measured]:
    bound = BF16 if precision != "fp32" else ENGINE_FP32 if name == "native" else OTHERS_FP32
    extent = float(max(np.ptp(exact), np.abs(exact).max()))
    error = _largest(create_backend(file, name, precision).run(lr)[0], exact) / extent
    return [Measured(error, bound, "the output's range")]


def _check_pixels(file: ModelFile, name: str) -> list[Measured]:
    backend = cast(PixelBackend, create_backend(file, name))
    pixels = np.random.default_rng(3).integers(0, 256, (*_LR_SIZE, 3)).astype(np.uint8)
    lr = np.ascontiguousarray(pixels.transpose(2, 0, 1), np.float32) / np.float32(255)
    exact = np.clip(interpreter.run(file.network, lr), 0, 1).transpose(1, 2, 0) * 255
    return [Measured(_beyond_rounding(backend.upscale(pixels), exact), 255 * ENGINE_FP32, _STEPS)]


def _beyond_rounding(found: NDArray[np.generic], exact: reference.Exact) -> float:
    """Distance of integers from the nearest ones, or from the middle between two that are equally near."""
    return float(np.maximum(0.0, _largest(found, exact) - 0.5))  # unlike max, it keeps NaN


def _largest(found: NDArray[np.generic], exact: reference.Exact) -> float:
    """Largest absolute difference.

    Raises:
        ValueError: the shapes differ.
    """
    if found.shape != exact.shape:
        raise ValueError(f"the result has shape {found.shape}, expected {exact.shape}")
    return float(np.abs(found.astype(np.float64) - exact).max())
