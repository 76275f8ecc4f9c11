"""Backend `cuda`: our CUDA kernels on an NVIDIA GPU, with images transferred as bytes; see docs/cuda.md."""

import itertools
import math
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from srgan_fast.errors import BackendError
from srgan_fast.models import ModelFile
from srgan_fast.network.analysis import receptive_radius
from srgan_fast.ops.cuda import problem_of
from srgan_fast.ops.gpu_choice import choice_of
from srgan_fast.runtime.cuda_network import CudaNetwork, on_device
from srgan_fast.runtime.protocol import FloatImages, Precision
from srgan_fast.runtime.tiling import Tile, choose_halo, plan_tiles

_Result = TypeVar("_Result")
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
_LARGEST_AREA = 2048 * 2048  # low-resolution pixels per tile; larger tiles are not faster
_LEAST_SIDE = 16  # smallest side of a tile
_MOST_ELEMENTS = 2**31 - 1  # largest map: kernels use 32-bit indices
_MOST_STAGED = 1 << 26  # bytes of pinned memory for transfers
_FREE_SHARE = 0.5  # of free device memory that the maps of one tile may use
_PATTERN_SIDE = 32  # smallest side of the image that a model is tried on


def why_not() -> str | None:
    """Why the backend cannot be used here, as the end of a sentence that starts with its name; None if it can."""
    if not torch.cuda.is_available():
        return "needs a CUDA device that PyTorch can use"
    reason = problem_of(_current_device())
    return None if reason is None else f"cannot be used: {reason}"


def measured_slower() -> bool:
    """Whether PyTorch was faster in a measurement of this device (`ops.gpu_choice`)."""
    return torch.cuda.is_available() and choice_of(_current_device()).upscaling == "torch"


class CudaBackend:
    """Runs a network with our tensor-core kernels; fp16 or bf16 with float32 accumulation.

    Images of any size are split into tiles on the device, as large as its memory allows.

    Attributes:
        halo: see `TilingBackend`.
    """

    name = "cuda"

    def __init__(self, file: ModelFile, precision: Precision, threads: int) -> None:
        self._device = _current_device()
        self.device = torch.cuda.get_device_name(self._device)
        self._scale, self._multiple = file.scale, file.network.unshuffle
        self.halo = choose_halo(receptive_radius(file.network))
        self._what = f"the maps of {file.name} exceed the range of {precision}"
        self._remedy = f"use {'--precision bf16, or ' if precision == 'fp16' else ''}--precision fp32"
        self._network = CudaNetwork(file.network, _DTYPES[precision], self._device)
        self._fitted = 0  # pixels of the largest image whose maps have fitted so far
        self._staging = torch.empty(0, dtype=torch.uint8)
        self._lock = threading.Lock()  # a captured graph has one input and one output
        side = math.ceil(_PATTERN_SIDE / self._multiple) * self._multiple
        pattern = np.random.default_rng(0).random((1, file.channels, side, side), np.float32)
        self.run(pattern)  # fails early if the model overflows

    def run(self, lr: FloatImages) -> FloatImages:
        """See `Backend.run`.

        Raises:
            BackendError: maps exceed the range of the precision.
        """
        with torch.inference_mode(), self._lock, on_device(self._device):
            return self._with_memory(lambda: self._run(lr))

    def _run(self, lr: FloatImages) -> FloatImages:
        count, channels, height, width = lr.shape
        s = self._scale
        result = np.empty((count, channels, height * s, width * s), np.float32)
        given = _tensor(lr).to(self._device)
        if self._fits(count * height * width):
            sr = self._network(given)
            self._check(torch.isfinite(sr).all())
            self._fetch(sr, result)
            self._fitted = max(self._fitted, count * height * width)
            return result
        for n in range(count):
            for tile in self._tiles(height, width):
                sr = self._network(given[n : n + 1, :, *tile.region])
                self._check(torch.isfinite(sr).all())
                self._fetch(sr[0, :, *tile.core_in_region(s)].contiguous(), result[n, :, *tile.core(s)])
        return result

    def upscale(self, image: NDArray[Any], on_rows: Callable[[int], None] | None = None) -> NDArray[Any]:
        """See `PixelBackend.upscale`.

        Raises:
            BackendError: maps exceed the range of the precision.
        """
        done = 0

        def report(rows: int) -> None:
            nonlocal done
            if on_rows is not None and rows > done:  # rows that are computed again were already reported
                done = rows
                on_rows(rows)

        with torch.inference_mode(), self._lock, on_device(self._device):
            return self._with_memory(lambda: self._upscale(image, report))

    def _upscale(self, image: NDArray[Any], on_rows: Callable[[int], None]) -> NDArray[Any]:
        height, width, colours = image.shape
        s = self._scale
        dtype = torch.uint8 if image.dtype == np.uint8 else torch.uint16
        white = float(np.iinfo(image.dtype).max)
        result = np.empty((height * s, width * s, colours), image.dtype)
        given = _tensor(image).to(self._device)
        tiles = self._tiles(height, width)
        for row in _rows_of(tiles):
            top, bottom = row[0].top, row[0].bottom
            band = torch.empty(((bottom - top) * s, width * s, colours), dtype=dtype, device=self._device)
            finite = torch.ones((), dtype=torch.bool, device=self._device)
            for tile in row:
                region = given[*tile.region].permute(2, 0, 1)[None].float() / white
                sr = self._network(region)[0, :, *tile.core_in_region(s)].permute(1, 2, 0)
                finite &= torch.isfinite(sr).all()
                # Clamped before the multiplication, so that values out of range cannot overflow.
                band[:, tile.left * s : tile.right * s] = (sr.clamp(0.0, 1.0) * white).round_()
            self._check(finite)
            self._fetch(band, result[top * s : bottom * s])
            on_rows(bottom * s)
        if len(tiles) == 1:
            self._fitted = max(self._fitted, height * width)
        return result

    def working_memory(self, height: int, width: int) -> int:
        """See `PixelBackend.working_memory`; the maps are in device memory."""
        return 0

    def _with_memory(self, compute: Callable[[], _Result]) -> _Result:
        """Runs a computation; if memory runs out because others took some, once more with what is left."""
        try:
            return compute()
        except torch.OutOfMemoryError:
            pass  # leaving the handler frees the tensors that the exception refers to
        self._fitted = 0
        self._network.forget()
        torch.cuda.empty_cache()
        return compute()

    def _tiles(self, height: int, width: int) -> list[Tile]:
        """Tiles as large as memory and kernels allow; a single one if the whole image fits."""
        side = 0
        if not self._fits(height * width):
            reach = self.halo + self._multiple - 1
            side = max(_LEAST_SIDE, math.isqrt(self._largest_area()) - 2 * reach)
        return plan_tiles(height, width, self.halo, side, self._multiple)

    def _fits(self, area: int) -> bool:
        """Whether so many pixels fit at once; the device is only queried beyond the size that has fitted before."""
        return area <= self._fitted or area <= self._largest_area()

    def _largest_area(self) -> int:
        """Low-resolution pixels whose maps fit into device memory and the kernels' index range."""
        free = torch.cuda.mem_get_info(self._device)[0]
        # Plus what PyTorch's allocator has reserved but not allocated.
        free += torch.cuda.memory_reserved(self._device) - torch.cuda.memory_allocated(self._device)
        plan = self._network.plan
        by_memory = free * _FREE_SHARE / float(plan.bytes_per_pixel)
        by_kernels = _MOST_ELEMENTS / float(plan.elements_per_pixel)
        return int(min(_LARGEST_AREA, by_memory, by_kernels))

    def _check(self, finite: Tensor) -> None:
        if not bool(finite):
            raise BackendError(f"backend cuda: {self._what}; {self._remedy}")

    def _fetch(self, values: Tensor, to: NDArray[Any]) -> None:
        """Copies from the device, through pinned memory if the size permits."""
        count = values.numel() * values.element_size()
        if values.device.type != "cuda" or count > _MOST_STAGED:
            to[...] = values.cpu().numpy()
            return
        if self._staging.numel() < count:
            self._staging = torch.empty(count, dtype=torch.uint8, pin_memory=True)
        staged = self._staging[:count].view(values.dtype).view(values.shape)
        to[...] = staged.copy_(values).numpy()


def _rows_of(tiles: list[Tile]) -> Iterator[list[Tile]]:
    """Groups the tiles of an image by row."""
    for _, row in itertools.groupby(tiles, key=lambda tile: tile.top):
        yield list(row)


def _tensor(values: NDArray[Any]) -> Tensor:
    """A tensor on the same memory; copied only if the array is not contiguous or not writable, as PyTorch requires."""
    values = np.ascontiguousarray(values)
    return torch.from_numpy(values if values.flags.writeable else values.copy())


def _current_device() -> torch.device:
    return torch.device("cuda", torch.cuda.current_device())
