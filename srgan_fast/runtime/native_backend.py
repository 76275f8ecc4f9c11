"""Our own engine on the CPU: Winograd kernels, AMX's tiles in bf16, no framework; see docs/engine.md."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srgan_fast import _engine
from srgan_fast.models import GeneratorFile
from srgan_fast.models.config import AffineMap
from srgan_fast.models.folding import Array, FoldedConv, fold_generator
from srgan_fast.runtime.protocol import FloatImages, Precision

_Layer = tuple[Array, Array, Array | None]


class NativeBackend:
    """The generator in the native engine; fp32, or bf16 where the processor multiplies it.

    Images of any size are computed in one piece: the engine's memory grows with their width only.

    Attributes:
        isa: the instruction set in use; the environment variable SRGAN_FAST_ISA names a lower one.
    """

    name = "native"

    def __init__(self, file: GeneratorFile, precision: Precision, threads: int) -> None:
        folded = fold_generator(file)
        conventions = folded.config.conventions
        trunk = [_layer(conv) for block in folded.blocks for conv in block]
        self._engine = _engine.Engine(
            head=_layer(folded.head),
            trunk=[*trunk, _layer(folded.fuse)],
            upsample=[_layer(conv) for conv in folded.upsample],
            tail=_layer(folded.tail),
            input_map=_map(conventions.lr_map),
            output_map=_map(folded.hr_map),
            tanh=conventions.output == "tanh",
            precision=precision,
            threads=threads,
        )
        self.isa: str = self._engine.isa
        self.device = f"CPU, {self.isa}"

    def run(self, lr: FloatImages) -> FloatImages:
        """See `Backend.run`."""
        images = [self._engine.run(image) for image in lr]
        return images[0][None] if len(images) == 1 else np.stack(images)

    def upscale(self, image: NDArray[Any], on_rows: Callable[[int], None] | None = None) -> NDArray[Any]:
        """See `PixelBackend.upscale`."""
        result: NDArray[Any] = self._engine.run(image, on_rows)
        return result

    def working_memory(self, height: int, width: int) -> int:
        """See `PixelBackend.working_memory`."""
        return int(self._engine.working_memory(height, width))

    def peak(self) -> float:
        """Multiply-adds a second in fp32 that its threads reach together when they do nothing else."""
        return self._engine.peak()

    def layer_times(self) -> list[tuple[str, float, float]]:
        """Of the last run: layers, seconds, and the multiply-adds that the direct convolution would take."""
        return list(self._engine.layer_times())


def computes(precision: Precision) -> bool:
    """Whether the instruction set in use can compute in that precision."""
    return precision == "fp32" or _engine.isa() in ("avx512_bf16", "amx")


def _layer(conv: FoldedConv) -> _Layer:
    slope = None if conv.slope is None else np.ascontiguousarray(conv.slope.reshape(-1))
    return np.ascontiguousarray(conv.weight), np.ascontiguousarray(conv.bias), slope


def _map(values: AffineMap) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    return values.gain, values.offset
