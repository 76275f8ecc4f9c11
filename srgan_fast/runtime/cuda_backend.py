"""Our CUDA kernels on an NVIDIA GPU: pictures go there as bytes and come back as bytes; see docs/cuda.md."""

import math
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from srgan_fast.errors import BackendError
from srgan_fast.models import GeneratorFile
from srgan_fast.models.folding import fold_generator
from srgan_fast.ops.cuda import problem_of
from srgan_fast.runtime.cuda_generator import CudaGenerator
from srgan_fast.runtime.protocol import FloatImages, Precision
from srgan_fast.runtime.tiling import plan_tiles

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
_LARGEST_AREA = 2048 * 2048  # low-resolution pixels at once; more gain nothing
_FREE_SHARE = 0.5  # of the device's free memory, for the maps of one tile


def why_not() -> str | None:
    """Why it cannot be used here, behind its name in a sentence; None if it can."""
    if not torch.cuda.is_available():
        return "needs a CUDA device that PyTorch can use"
    reason = problem_of(_current_device())
    return None if reason is None else f"cannot be used: {reason}"


class CudaBackend:
    """The generator in our kernels for tensor cores; fp16 or bf16, sums in float32.

    Pictures of any size are computed in tiles on the device, as large as its memory allows.
    """

    name = "cuda"

    def __init__(self, file: GeneratorFile, precision: Precision, threads: int) -> None:
        self._device = _current_device()
        self.device = torch.cuda.get_device_name(self._device)
        self._config = file.config
        self._generator = CudaGenerator(fold_generator(file), _DTYPES[precision], self._device)
        self._lock = threading.Lock()  # a recorded graph has one input and one result
        self._check(file.name, precision)

    def run(self, lr: FloatImages) -> FloatImages:
        """See `Backend.run`."""
        with torch.inference_mode(), self._lock:
            given = _tensor(lr).to(self._device)
            result: FloatImages = self._generator(given).cpu().numpy()
            return result

    def upscale(self, image: NDArray[Any], on_rows: Callable[[int], None] | None = None) -> NDArray[Any]:
        """See `PixelBackend.upscale`."""
        height, width, colours = image.shape
        s = self._config.scale
        dtype = torch.uint8 if image.dtype == np.uint8 else torch.uint16
        with torch.inference_mode(), self._lock:
            given = _tensor(image).to(self._device)
            result = _host_memory((height * s, width * s, colours), dtype)
            tiles = plan_tiles(height, width, self._config.receptive_radius, self._tile_side(height, width))
            white = float(np.iinfo(image.dtype).max)
            band = given[:0]
            for tile in tiles:
                if tile.left == 0:
                    band = torch.empty(
                        ((tile.bottom - tile.top) * s, width * s, colours), dtype=dtype, device=self._device
                    )
                region = given[tile.region_top : tile.region_bottom, tile.region_left : tile.region_right]
                sr = self._generator(region.permute(2, 0, 1)[None].float() / white)[0]
                top, left = (tile.top - tile.region_top) * s, (tile.left - tile.region_left) * s
                rows, columns = (tile.bottom - tile.top) * s, (tile.right - tile.left) * s
                core = sr[:, top : top + rows, left : left + columns].permute(1, 2, 0)
                # Clipped before the multiplication, so that what overshoots cannot overflow.
                band[:, tile.left * s : tile.right * s] = (core.clamp(0.0, 1.0) * white).round_()
                if tile.right == width:
                    result[tile.top * s : tile.bottom * s].copy_(band)  # waits for the device
                    if on_rows:
                        on_rows(tile.bottom * s)
        pixels: NDArray[Any] = result.numpy()
        return pixels

    def working_memory(self, height: int, width: int) -> int:
        """See `PixelBackend.working_memory`: maps are in the device's memory."""
        return 0

    def _tile_side(self, height: int, width: int) -> int:
        """Side of a tile so that its region's maps fit into the device's memory; 0 for the picture in one piece."""
        free = torch.cuda.mem_get_info(self._device)[0]
        area = min(_LARGEST_AREA, int(free * _FREE_SHARE) // self._bytes_per_pixel())
        radius = self._config.receptive_radius
        return 0 if height * width <= area else max(16, math.isqrt(area) - 2 * radius)

    def _bytes_per_pixel(self) -> int:
        """Device memory that a low-resolution pixel takes at most: the last stage's maps and the result's planes."""
        fine = (self._config.scale // 2) ** 2
        channels = self._config.channels
        return fine * (2 * channels + 2 * 4 * channels) + 2 * 3 * channels + self._config.scale**2 * 3 * (4 + 4 + 4)

    def _check(self, name: str, precision: str) -> None:
        """A model may leave the range of 16-bit floats, which no test of the kernels sees."""
        lr = np.random.default_rng(0).random((1, 3, 32, 32), np.float32)
        if not np.isfinite(self.run(lr)).all():
            raise BackendError(
                f"backend cuda: the maps of {name} leave the range of {precision}; take "
                f"{'--precision bf16, or ' if precision == 'fp16' else ''}--precision fp32"
            )


def _tensor(values: NDArray[Any]) -> Tensor:
    """The same memory where torch takes it: without gaps, and writable, though it is only read."""
    values = np.ascontiguousarray(values)
    return torch.from_numpy(values if values.flags.writeable else values.copy())


def _current_device() -> torch.device:
    return torch.device("cuda", torch.cuda.current_device())


def _host_memory(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Memory that the device copies to fast, if the system gives any."""
    try:
        return torch.empty(shape, dtype=dtype, pin_memory=True)
    except RuntimeError:
        return torch.empty(shape, dtype=dtype)
