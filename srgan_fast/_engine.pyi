"""The native CPU engine; csrc/engine/python.cpp."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Name, inputs, weight, bias, slope, residuals, shuffle; see srgan_fast.network.graph.Conv.
_Layer = tuple[str, Sequence[int], NDArray[Any], NDArray[Any], NDArray[Any] | None, Sequence[tuple[int, float]], int]
_ColourMap = tuple[Sequence[float], Sequence[float]]

class Engine:
    def __init__(
        self,
        *,
        layers: Sequence[_Layer],
        channels: int,
        unshuffle: int,
        skip: str,
        input_map: _ColourMap,
        output_map: _ColourMap,
        tanh: bool,
        precision: str,
        threads: int,
    ) -> None: ...
    def sibling(self, threads: int) -> Engine: ...
    @property
    def isa(self) -> str: ...
    @property
    def scale(self) -> int: ...
    @property
    def threads(self) -> int: ...
    @property
    def weight_bytes(self) -> int: ...
    def working_memory(self, height: int, width: int) -> int: ...
    def peak(self) -> float: ...
    def layer_times(self) -> list[tuple[str, float, float]]: ...
    def run(self, image: NDArray[Any], progress: Callable[[int], None] | None = None) -> NDArray[Any]: ...
    def run_rows(
        self,
        *,
        height: int,
        width: int,
        dtype: np.dtype[Any],
        read: Callable[[int, int], NDArray[Any]],
        write: Callable[[int, NDArray[Any]], None],
    ) -> None: ...
    def rows_memory(self, *, height: int, width: int, dtype: np.dtype[Any]) -> int: ...

def isas() -> list[str]: ...
def isa() -> str: ...
