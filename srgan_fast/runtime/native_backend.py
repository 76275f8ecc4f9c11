"""The native CPU engine: Winograd kernels, AMX tiles for bf16, no framework; see docs/engine.md."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from srgan_fast import _engine
from srgan_fast.models import ModelFile
from srgan_fast.network.graph import Conv, Network
from srgan_fast.runtime.protocol import FloatImages, Pixel, Precision

if TYPE_CHECKING:
    from srgan_fast.data.images import Pixels


class NativeBackend:
    """A network in the native engine; in fp32, or in bf16 if the CPU has bf16 instructions.

    Images of any size are computed without tiling, since the engine's memory grows with their width only.

    Attributes:
        isa: instruction set in use; the environment variable SRGAN_FAST_ISA selects a lower one.
    """

    name = "native"

    def __init__(self, file: ModelFile, precision: Precision, threads: int) -> None:
        self._engine = create_engine(file.network, precision, threads)
        self.isa: str = self._engine.isa
        self.device = f"CPU, {self.isa}"

    def sibling(self, threads: int) -> "NativeBackend":
        """See `SharingBackend.sibling`."""
        other = object.__new__(NativeBackend)
        other._engine = self._engine.sibling(threads)
        other.isa, other.device = self.isa, self.device
        return other

    @property
    def threads(self) -> int:
        """See `SharingBackend.threads`."""
        return self._engine.threads

    def run(self, lr: FloatImages) -> FloatImages:
        """See `Backend.run`."""
        images = [self._engine.run(image) for image in lr]
        return images[0][None] if len(images) == 1 else np.stack(images)

    def upscale(self, image: NDArray[Pixel], on_rows: Callable[[int], None] | None = None) -> NDArray[Pixel]:
        """See `PixelBackend.upscale`."""
        result: NDArray[Pixel] = self._engine.run(image, on_rows)
        return result

    def working_memory(self, height: int, width: int) -> int:
        """See `PixelBackend.working_memory`."""
        return int(self._engine.working_memory(height, width))

    def upscale_rows(
        self,
        height: int,
        width: int,
        dtype: np.dtype[np.uint8 | np.uint16],
        read: "Callable[[int, int], Pixels]",
        write: "Callable[[int, Pixels], None]",
    ) -> None:
        """See `RowsBackend.upscale_rows`."""
        self._engine.run_rows(height=height, width=width, dtype=dtype, read=read, write=write)

    def rows_memory(self, height: int, width: int, dtype: np.dtype[np.uint8 | np.uint16]) -> int:
        """See `RowsBackend.rows_memory`."""
        return int(self._engine.rows_memory(height=height, width=width, dtype=dtype))

    def peak(self) -> float:
        """Peak fp32 multiply-adds per second of all its threads together."""
        return self._engine.peak()

    def layer_times(self) -> list[tuple[str, float, float]]:
        """Name, seconds and multiply-adds (of a direct convolution) of each layer in the last run."""
        return list(self._engine.layer_times())


def create_engine(network: Network, precision: Precision, threads: int) -> _engine.Engine:
    """Creates the native engine for a network.

    Raises:
        ValueError: the engine has no kernel for a layer (the message names it), or the CPU does not support the
            precision.
    """
    return _engine.Engine(
        layers=[_layer(conv) for conv in network.convs],
        channels=network.channels,
        unshuffle=network.unshuffle,
        skip=network.skip,
        input_map=(network.input_map.gain, network.input_map.offset),
        output_map=(network.output_map.gain, network.output_map.offset),
        tanh=network.tanh,
        precision=precision,
        threads=threads,
    )


def computes(precision: Precision) -> bool:
    """Whether the instruction set in use supports a precision."""
    return precision == "fp32" or _engine.isa() in ("avx512_bf16", "amx")


def _layer(conv: Conv) -> "_engine._Layer":
    slope = None if conv.slope is None else np.ascontiguousarray(conv.slope.reshape(-1))
    residuals = [(residual.value, residual.scale) for residual in conv.residuals]
    weight, bias = np.ascontiguousarray(conv.weight), np.ascontiguousarray(conv.bias)
    return conv.name, conv.inputs, weight, bias, slope, residuals, conv.shuffle
